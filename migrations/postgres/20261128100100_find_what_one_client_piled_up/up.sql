-- How many requests a link has, and whether a log is held, is asked whatever the number of those that are over.
CREATE INDEX extension_requests_by_link ON extension_requests (magic_link_id, id);
CREATE INDEX legal_holds_standing ON legal_holds (tenant_id, until) WHERE released_at IS NULL;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128100100', '20261128020000');
