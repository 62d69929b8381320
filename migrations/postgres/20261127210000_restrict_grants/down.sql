ALTER TABLE sessions DROP COLUMN restrictions;
ALTER TABLE link_requests DROP COLUMN restrictions;
ALTER TABLE magic_links DROP COLUMN restrictions;
