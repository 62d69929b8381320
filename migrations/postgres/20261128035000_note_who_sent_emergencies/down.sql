ALTER TABLE link_reviews DROP COLUMN requested_by_id;
DELETE FROM tolerated_migrations WHERE version = '20261128035000';
