DROP INDEX link_keys_by_link;
DELETE FROM tolerated_migrations WHERE version = '20261128120000';
