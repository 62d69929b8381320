-- What a tenant lets be granted. Each change is a row, and the newest one is in force.
CREATE TABLE tenant_policies (
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
    seq         BIGINT NOT NULL,
    policy      TEXT NOT NULL,
    actor_type  TEXT NOT NULL,
    actor_id    TEXT NOT NULL,
    actor_name  TEXT,
    client_id   TEXT,
    created_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
-- How long a session of the link lives, where the policy said so when it was issued.
ALTER TABLE magic_links ADD COLUMN session_hours INTEGER;
-- Mails to the contacts of a tenant are about no consultant.
ALTER TABLE mail_jobs ALTER COLUMN consultant_id DROP NOT NULL;
