DROP INDEX legal_holds_standing;
DROP INDEX extension_requests_by_link;
DELETE FROM tolerated_migrations WHERE version = '20261128100100';
