DROP TRIGGER magic_links_moved_moves_grant ON magic_links;
DROP TRIGGER magic_links_revoked_closes_grant ON magic_links;
DROP FUNCTION move_open_grant();
DROP FUNCTION close_open_grant();
ALTER TABLE magic_links DROP COLUMN replaced_by;
DROP TABLE open_grants;
