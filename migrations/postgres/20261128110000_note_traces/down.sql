DELETE FROM tolerated_migrations WHERE version = '20261128110000';
ALTER TABLE webhook_deliveries DROP COLUMN traceparent;
ALTER TABLE webhook_events DROP COLUMN traceparent;
ALTER TABLE mail_jobs DROP COLUMN traceparent;
