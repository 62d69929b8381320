DROP INDEX mail_jobs_open_with_links;
DROP INDEX mail_jobs_open_by_tenant;
DELETE FROM tolerated_migrations WHERE version = '20261128040000';
