-- Which keys signed for a link is asked when it is erased: beside those of all links that are kept.
CREATE INDEX link_keys_by_link ON link_keys (magic_link_id, generation);
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128120000', '20261128020000');
