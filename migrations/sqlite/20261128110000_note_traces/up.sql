-- The place in the trace of the act that a mail or a message follows from (W3C Trace Context).
ALTER TABLE mail_jobs ADD COLUMN traceparent TEXT;
ALTER TABLE webhook_events ADD COLUMN traceparent TEXT;
ALTER TABLE webhook_deliveries ADD COLUMN traceparent TEXT;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128110000', '20261128020000');
