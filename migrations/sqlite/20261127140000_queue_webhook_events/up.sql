-- Events that webhook endpoints may hear, one row each, until a worker has written the message for every endpoint. The
-- positions rise, and within a tenant they are in the order of its audit log.
CREATE TABLE webhook_events (
    position       INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    tenant_id      TEXT NOT NULL,
    log_index      BIGINT NOT NULL,
    event_id       TEXT NOT NULL,
    event_type     TEXT NOT NULL,
    portal         TEXT NOT NULL,
    magic_link_id  TEXT,
    data           TEXT NOT NULL,
    recorded_at    TIMESTAMP NOT NULL,
    -- The last endpoint, in order of id, whose message is written.
    done_up_to     TEXT
);
CREATE INDEX webhook_events_by_tenant ON webhook_events (tenant_id, position);

-- For each event type the position after which the endpoint hears it, as JSON.
ALTER TABLE webhook_endpoints ADD COLUMN heard_since TEXT NOT NULL DEFAULT '{}';

-- Only endpoints that can hear something have rows.
CREATE INDEX webhook_endpoint_tenants_by_endpoint ON webhook_endpoint_tenants (endpoint_id);
DELETE FROM webhook_endpoint_tenants WHERE endpoint_id IN (
    SELECT webhook_endpoints.id FROM webhook_endpoints JOIN clients ON clients.id = webhook_endpoints.client_id
    WHERE webhook_endpoints.deleted_at IS NOT NULL
       OR (clients.disabled_at IS NOT NULL AND clients.unconfirmed_since IS NULL));
