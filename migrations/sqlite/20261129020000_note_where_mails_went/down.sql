DELETE FROM tolerated_migrations WHERE version = '20261129020000';
ALTER TABLE mail_jobs DROP COLUMN left_at;
ALTER TABLE mail_jobs DROP COLUMN sent_to;
