-- Who sent the request for an emergency cannot review it.
ALTER TABLE link_reviews ADD COLUMN requested_by_id TEXT COLLATE "C";
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128035000', '20261128020000');
