DROP TRIGGER magic_links_moved_moves_grant;
DROP TRIGGER magic_links_revoked_closes_grant;
ALTER TABLE magic_links DROP COLUMN replaced_by;
DROP TABLE open_grants;
