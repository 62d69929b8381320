-- Not tolerated: a copy that knows nothing of approval keys would let approvals pass that nobody has signed.
-- The keys with which a tenant's approvers sign. Each change is a row; the newest one that is in effect counts, and one
-- without a key means that nothing has to be signed.
CREATE TABLE tenant_approval_keys (
    tenant_id     TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
    seq           BIGINT NOT NULL,
    public_key    TEXT COLLATE "C",
    effective_at  TIMESTAMP NOT NULL,
    signed_change TEXT COLLATE "C",
    actor_type    TEXT COLLATE "C" NOT NULL,
    actor_id      TEXT COLLATE "C" NOT NULL,
    actor_name    TEXT COLLATE "C",
    client_id     TEXT COLLATE "C",
    created_at    TIMESTAMP NOT NULL,
    cancelled_at  TIMESTAMP,
    told          TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
-- The proof that a customer signed an approval is a part of the event's leaf.
ALTER TABLE audit_events ADD COLUMN approval TEXT COLLATE "C";
