DROP INDEX webhook_endpoint_tenants_by_endpoint;
ALTER TABLE webhook_endpoints DROP COLUMN heard_since;
DROP TABLE webhook_events;
