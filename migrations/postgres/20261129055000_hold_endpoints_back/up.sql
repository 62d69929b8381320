-- Until when a receiver asked that nothing be posted to it (`Retry-After`), whatever it is about.
ALTER TABLE webhook_endpoints ADD COLUMN held_until TIMESTAMP;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129055000', '20261128020000');
