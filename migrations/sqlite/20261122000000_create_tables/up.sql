-- Tables of the service. Ids are text, times are UTC, JSON is text.

CREATE TABLE tenants (
    id          TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL,
    time_zone   TEXT NOT NULL,
    contacts    TEXT NOT NULL,
    -- Notices that the tenant has muted, separated by spaces.
    muted_notices  TEXT NOT NULL DEFAULT '',
    created_at  TIMESTAMP NOT NULL,
    updated_at  TIMESTAMP NOT NULL,
    -- Storage of the values of reported changes.
    change_values   TEXT NOT NULL DEFAULT 'masked',
    -- Retention of audit payloads; the service's default if absent.
    retention_days  INTEGER
);

CREATE TABLE consultants (
    id              TEXT PRIMARY KEY NOT NULL,
    name            TEXT NOT NULL,
    email           TEXT NOT NULL,
    -- The address in lower case: one mailbox, one consultant.
    email_key       TEXT NOT NULL UNIQUE,
    created_at      TIMESTAMP NOT NULL,
    updated_at      TIMESTAMP NOT NULL,
    suspended_at    TIMESTAMP,
    suspend_reason  TEXT
);

CREATE TABLE clients (
    id                       TEXT PRIMARY KEY NOT NULL,
    name                     TEXT NOT NULL,
    portal                   TEXT,
    -- Ids separated by spaces; `*` is every tenant.
    tenants                  TEXT NOT NULL,
    scopes                   TEXT NOT NULL,
    key_sha256               TEXT NOT NULL,
    previous_key_sha256      TEXT,
    previous_key_expires_at  TIMESTAMP,
    created_at               TIMESTAMP NOT NULL,
    rotated_at               TIMESTAMP,
    disabled_at              TIMESTAMP
);

CREATE TABLE magic_links (
    id               TEXT PRIMARY KEY NOT NULL,
    tenant_id        TEXT NOT NULL,
    portal           TEXT NOT NULL,
    consultant_id    TEXT NOT NULL REFERENCES consultants (id),
    profile_id       TEXT NOT NULL,
    profile_name     TEXT NOT NULL,
    profile_email    TEXT,
    reason           TEXT NOT NULL,
    ticket           TEXT,
    access           TEXT NOT NULL,
    starts_at        TIMESTAMP NOT NULL,
    expires_at       TIMESTAMP NOT NULL,
    issued_by_id     TEXT NOT NULL,
    issued_by_name   TEXT NOT NULL,
    issued_by_email  TEXT,
    -- Absent when the link was issued at the command line.
    client_id        TEXT REFERENCES clients (id),
    created_at       TIMESTAMP NOT NULL,
    generation       INTEGER NOT NULL,
    resent_at        TIMESTAMP,
    spent_at         TIMESTAMP,
    revoked_at       TIMESTAMP,
    revoke_reason    TEXT,
    revoked_by_type  TEXT,
    revoked_by_id    TEXT,
    revoked_by_name  TEXT,
    -- Number of the newest bulk revocation at the time of issue: that one and earlier ones do not apply to the link.
    issued_after     BIGINT,
    CHECK (starts_at < expires_at)
);
CREATE INDEX magic_links_by_tenant ON magic_links (tenant_id, id);
CREATE INDEX magic_links_by_consultant ON magic_links (consultant_id, id);
CREATE INDEX magic_links_by_profile ON magic_links (profile_id, id);
CREATE INDEX magic_links_by_expiry ON magic_links (expires_at, id);

-- Bulk revocations. A row is in force once it is committed; its links are marked as revoked later, in ranges.
CREATE TABLE revocations (
    id             TEXT PRIMARY KEY NOT NULL,
    -- Links whose `issued_after` is this number or a later one were issued after it.
    seq            BIGINT NOT NULL,
    -- If false, it applies only to the tenants in `revocation_tenants`.
    every_tenant   BOOLEAN NOT NULL,
    portal         TEXT,
    consultant_id  TEXT,
    profile_id     TEXT,
    issued_by_id   TEXT,
    reason         TEXT NOT NULL,
    dry_run        BOOLEAN NOT NULL,
    links          BIGINT NOT NULL,
    sessions       BIGINT NOT NULL,
    actor_type     TEXT NOT NULL,
    actor_id       TEXT NOT NULL,
    actor_name     TEXT,
    client_id      TEXT,
    created_at     TIMESTAMP NOT NULL,
    -- Once every transaction with a lower number has ended, so has every one that did not see this row.
    xid_watermark BIGINT,
    -- The last link that was processed.
    done_to        TEXT,
    lease_until    TIMESTAMP,
    done_at        TIMESTAMP
);
CREATE UNIQUE INDEX revocations_by_seq ON revocations (seq);
CREATE INDEX revocations_open ON revocations (seq) WHERE done_at IS NULL;

CREATE TABLE revocation_tenants (
    revocation_id  TEXT NOT NULL REFERENCES revocations (id),
    tenant_id      TEXT NOT NULL,
    PRIMARY KEY (revocation_id, tenant_id)
);

-- Status lists, which tell portals which sessions have ended. The indexes are stored with the sessions.
CREATE TABLE status_lists (
    id          BIGINT PRIMARY KEY NOT NULL,
    created_at  TIMESTAMP NOT NULL
);

CREATE TABLE sessions (
    id                  TEXT PRIMARY KEY NOT NULL,
    magic_link_id       TEXT NOT NULL REFERENCES magic_links (id),
    generation          INTEGER NOT NULL,
    tenant_id           TEXT NOT NULL,
    portal              TEXT NOT NULL,
    -- Copied from the link; no reference, which would lock the consultant after the link.
    consultant_id       TEXT NOT NULL,
    profile_id          TEXT NOT NULL,
    profile_name        TEXT NOT NULL,
    access              TEXT NOT NULL,
    -- Copied from the link, so that every event of the session can state it.
    reason              TEXT NOT NULL,
    ticket              TEXT,
    client_id           TEXT REFERENCES clients (id),
    started_at          TIMESTAMP NOT NULL,
    expires_at          TIMESTAMP NOT NULL,
    ended_at            TIMESTAMP,
    end_cause           TEXT,
    -- When the portal sent the closing counts of activity events.
    closed_at           TIMESTAMP,
    visitor_address     TEXT,
    visitor_user_agent  TEXT,
    -- The key that signed the newest access token.
    kid                 TEXT NOT NULL,
    -- An index in a status list, never reused.
    status_list         BIGINT NOT NULL REFERENCES status_lists (id),
    status_index        INTEGER NOT NULL
);
-- A link has at most one session that has not ended, and one session for each generation.
CREATE UNIQUE INDEX sessions_one_live_per_link ON sessions (magic_link_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX sessions_one_per_generation ON sessions (magic_link_id, generation);
CREATE UNIQUE INDEX sessions_one_per_place ON sessions (status_list, status_index);
CREATE INDEX sessions_by_tenant ON sessions (tenant_id, id);
CREATE INDEX sessions_by_consultant ON sessions (consultant_id, id);

CREATE TABLE session_sources (
    session_id   TEXT NOT NULL REFERENCES sessions (id),
    source       TEXT NOT NULL,
    event_count  BIGINT NOT NULL,
    last_seq     BIGINT NOT NULL,
    closing_seq  BIGINT,
    PRIMARY KEY (session_id, source)
);

-- One audit log (a Merkle tree) per tenant: its number of events, and the hashes at its right edge.
CREATE TABLE audit_logs (
    -- `_system` holds events of no tenant.
    tenant_id  TEXT PRIMARY KEY NOT NULL,
    size       BIGINT NOT NULL,
    frontier   BLOB NOT NULL
);

-- The part of an event that the audit log commits to: opaque ids and times. Rows are never changed or removed.
CREATE TABLE audit_events (
    id                  TEXT PRIMARY KEY NOT NULL,
    tenant_id           TEXT NOT NULL,
    log_index           BIGINT NOT NULL,
    event_type          TEXT NOT NULL,
    occurred_at         TIMESTAMP NOT NULL,
    recorded_at         TIMESTAMP NOT NULL,
    actor_type          TEXT NOT NULL,
    actor_id            TEXT NOT NULL,
    client_id           TEXT,
    portal              TEXT,
    magic_link_id       TEXT,
    session_id          TEXT,
    consultant_id       TEXT,
    profile_id          TEXT,
    principal_id        TEXT,
    source              TEXT,
    seq                 BIGINT,
    late                BOOLEAN NOT NULL,
    policy_violation    BOOLEAN NOT NULL,
    trace_id            TEXT,
    payload_commitment  BLOB NOT NULL,
    -- The hashes that this event completed in its tree: its own first, then its ancestors'.
    hashes              BLOB NOT NULL
);
CREATE UNIQUE INDEX audit_events_by_position ON audit_events (tenant_id, log_index);
CREATE UNIQUE INDEX audit_events_one_per_act ON audit_events (session_id, source, seq) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_by_tenant ON audit_events (tenant_id, id);
CREATE INDEX audit_events_by_type ON audit_events (tenant_id, event_type, id);
CREATE INDEX audit_events_by_link ON audit_events (magic_link_id, id) WHERE magic_link_id IS NOT NULL;
CREATE INDEX audit_events_by_session ON audit_events (session_id, id) WHERE session_id IS NOT NULL;
CREATE INDEX audit_events_by_consultant ON audit_events (consultant_id, id) WHERE consultant_id IS NOT NULL;
CREATE INDEX audit_events_by_principal ON audit_events (principal_id, id) WHERE principal_id IS NOT NULL;
CREATE INDEX audit_events_late ON audit_events (tenant_id, id) WHERE late;
CREATE INDEX audit_events_violations ON audit_events (tenant_id, id) WHERE policy_violation;

-- The part that can be erased after its retention: names, reasons, values, and the salt of the commitment to them.
CREATE TABLE audit_payloads (
    tenant_id    TEXT NOT NULL,
    log_index    BIGINT NOT NULL,
    salt         BLOB NOT NULL,
    payload      TEXT NOT NULL,
    -- Distinguishes a repeated activity event from another one with the same number.
    fingerprint  BLOB,
    PRIMARY KEY (tenant_id, log_index)
);

-- Erasures of payloads: a payload cannot be removed before its erasure is recorded here.
CREATE TABLE audit_erasures (
    tenant_id   TEXT NOT NULL,
    from_index  BIGINT NOT NULL,
    -- The first index that was kept.
    to_index    BIGINT NOT NULL,
    erased_at   TIMESTAMP NOT NULL,
    actor_type  TEXT NOT NULL,
    actor_id    TEXT NOT NULL,
    actor_name  TEXT,
    reason      TEXT NOT NULL,
    PRIMARY KEY (tenant_id, from_index),
    CHECK (from_index < to_index)
);

-- Signed checkpoints (size and root), as they were published.
CREATE TABLE audit_checkpoints (
    tenant_id  TEXT NOT NULL,
    size       BIGINT NOT NULL,
    root       BLOB NOT NULL,
    note       TEXT NOT NULL,
    signed_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, size)
);
CREATE INDEX audit_checkpoints_by_time ON audit_checkpoints (tenant_id, signed_at);

-- The newest checkpoint that each outside receiver has.
CREATE TABLE checkpoint_deliveries (
    tenant_id        TEXT NOT NULL,
    channel          TEXT NOT NULL,
    size             BIGINT NOT NULL,
    attempts         INTEGER NOT NULL,
    next_attempt_at  TIMESTAMP NOT NULL,
    delivered_at     TIMESTAMP,
    last_error       TEXT,
    PRIMARY KEY (tenant_id, channel)
);

CREATE TABLE audit_keys (
    id                  TEXT PRIMARY KEY NOT NULL,
    -- Start of the names of the logs, which stays the same when the service's URL changes.
    origin              TEXT NOT NULL,
    public_key          TEXT NOT NULL,
    sealed_private_key  TEXT NOT NULL,
    created_at          TIMESTAMP NOT NULL
);

CREATE TABLE legal_holds (
    id                TEXT PRIMARY KEY NOT NULL,
    tenant_id         TEXT NOT NULL,
    reason            TEXT NOT NULL,
    until             TIMESTAMP,
    placed_at         TIMESTAMP NOT NULL,
    placed_by_type    TEXT NOT NULL,
    placed_by_id      TEXT NOT NULL,
    placed_by_name    TEXT,
    released_at       TIMESTAMP,
    release_reason    TEXT,
    released_by_type  TEXT,
    released_by_id    TEXT,
    released_by_name  TEXT
);
CREATE INDEX legal_holds_by_tenant ON legal_holds (tenant_id, id);

CREATE TABLE mail_jobs (
    id                   TEXT PRIMARY KEY NOT NULL,
    template             TEXT NOT NULL,
    -- Identifies the reason of the mail, so that it is sent once.
    dedup_key            TEXT NOT NULL,
    -- No reference, as in `sessions`.
    consultant_id        TEXT NOT NULL,
    -- Tenant and portal whose lists show the mail: `_system` and empty if it belongs to none.
    tenant_id            TEXT NOT NULL,
    portal               TEXT NOT NULL,
    magic_link_id        TEXT REFERENCES magic_links (id),
    -- Set if the mail is cancelled when its link gets another generation.
    generation           INTEGER,
    -- The session that the mail summarises.
    session_id           TEXT,
    -- Only if it is not the consultant's registered address.
    recipient            TEXT,
    state                TEXT NOT NULL,
    attempts             INTEGER NOT NULL,
    -- Attempts with an unknown outcome, and retries that were requested by an operator.
    unknown_attempts     INTEGER NOT NULL,
    retry_round          INTEGER NOT NULL,
    next_attempt_at      TIMESTAMP NOT NULL,
    lease_until          TIMESTAMP,
    provider             TEXT,
    provider_message_id  TEXT,
    last_error           TEXT,
    created_at           TIMESTAMP NOT NULL,
    finished_at          TIMESTAMP,
    -- The key that signed the token of the last attempt.
    kid                  TEXT
);
CREATE UNIQUE INDEX mail_jobs_one_per_dedup ON mail_jobs (template, dedup_key);
CREATE INDEX mail_jobs_open ON mail_jobs (id) WHERE finished_at IS NULL;
CREATE INDEX mail_jobs_by_link ON mail_jobs (magic_link_id, id) WHERE magic_link_id IS NOT NULL;
CREATE INDEX mail_jobs_by_session ON mail_jobs (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX mail_jobs_by_consultant ON mail_jobs (consultant_id, id);
CREATE INDEX mail_jobs_by_message ON mail_jobs (provider_message_id) WHERE provider_message_id IS NOT NULL;
CREATE INDEX mail_jobs_by_tenant ON mail_jobs (tenant_id, id);

-- Requested step-up codes. The code itself is not stored.
CREATE TABLE step_ups (
    id             TEXT PRIMARY KEY NOT NULL,
    magic_link_id  TEXT NOT NULL REFERENCES magic_links (id),
    generation     INTEGER NOT NULL,
    page_sha256    TEXT NOT NULL,
    tries          INTEGER NOT NULL,
    created_at     TIMESTAMP NOT NULL,
    expires_at     TIMESTAMP NOT NULL,
    passed_at      TIMESTAMP
);
CREATE INDEX step_ups_by_link ON step_ups (magic_link_id, id);

CREATE TABLE mail_suppressions (
    id            TEXT PRIMARY KEY NOT NULL,
    address       TEXT NOT NULL,
    -- In lower case: one mailbox.
    address_key   TEXT NOT NULL,
    cause         TEXT NOT NULL,
    provider      TEXT NOT NULL,
    mail_job_id   TEXT NOT NULL REFERENCES mail_jobs (id),
    created_at    TIMESTAMP NOT NULL,
    cleared_at    TIMESTAMP,
    clear_reason  TEXT
);
CREATE UNIQUE INDEX mail_suppressions_one_per_address ON mail_suppressions (address_key) WHERE cleared_at IS NULL;

-- Webhook endpoints of clients.
CREATE TABLE webhook_endpoints (
    id                          TEXT PRIMARY KEY NOT NULL,
    client_id                   TEXT NOT NULL REFERENCES clients (id),
    url                         TEXT NOT NULL,
    description                 TEXT,
    -- Event types separated by spaces.
    events                      TEXT NOT NULL,
    format                      TEXT NOT NULL,
    audience                    TEXT,
    sealed_secret               TEXT NOT NULL,
    -- Signs beside the new secret until it expires.
    previous_sealed_secret      TEXT,
    previous_secret_expires_at  TIMESTAMP,
    created_at                  TIMESTAMP NOT NULL,
    updated_at                  TIMESTAMP NOT NULL,
    disabled_at                 TIMESTAMP,
    disable_cause               TEXT,
    -- Its secrets are erased then, and its undelivered messages soon after.
    deleted_at                  TIMESTAMP
);
CREATE INDEX webhook_endpoints_by_client ON webhook_endpoints (client_id, id);
CREATE INDEX webhook_endpoints_deleted ON webhook_endpoints (id) WHERE deleted_at IS NOT NULL;

-- The tenants of the client that owns an endpoint, one row each; `*` is every tenant.
CREATE TABLE webhook_endpoint_tenants (
    tenant_id    TEXT NOT NULL,
    endpoint_id  TEXT NOT NULL,
    PRIMARY KEY (tenant_id, endpoint_id)
);

-- Messages to endpoints, and their states. No references: a row is written while other locks are held.
CREATE TABLE webhook_deliveries (
    id               TEXT PRIMARY KEY NOT NULL,
    endpoint_id      TEXT NOT NULL,
    -- The audit event; absent for a test message.
    event_id         TEXT,
    event_type       TEXT NOT NULL,
    -- Messages about a link are sent one after the other, in the order of the tenant's audit log.
    magic_link_id    TEXT,
    log_index        BIGINT NOT NULL,
    data             TEXT NOT NULL,
    state            TEXT NOT NULL,
    attempts         INTEGER NOT NULL,
    next_attempt_at  TIMESTAMP NOT NULL,
    lease_until      TIMESTAMP,
    last_attempt_at  TIMESTAMP,
    last_error       TEXT,
    created_at       TIMESTAMP NOT NULL,
    finished_at      TIMESTAMP
);
CREATE INDEX webhook_deliveries_by_endpoint ON webhook_deliveries (endpoint_id, id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_attempt_at) WHERE finished_at IS NULL;
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (endpoint_id, magic_link_id, log_index) WHERE finished_at IS NULL;
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;

-- One row: the last link, in order of expiry, whose expiry is recorded.
CREATE TABLE link_expiry (
    id          INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    expires_at  TIMESTAMP NOT NULL,
    link_id     TEXT NOT NULL
);
INSERT INTO link_expiry (id, expires_at, link_id) VALUES (1, '1970-01-01 00:00:00', '');

-- When to check whether a session's activity reports are complete.
CREATE TABLE report_checks (
    id          TEXT PRIMARY KEY NOT NULL,
    session_id  TEXT NOT NULL,
    due_at      TIMESTAMP NOT NULL
);
CREATE INDEX report_checks_by_time ON report_checks (due_at);

-- Sessions whose activity reports are recorded as incomplete, once for each state.
CREATE TABLE report_gaps (
    session_id   TEXT NOT NULL,
    audit_state  TEXT NOT NULL,
    told_at      TIMESTAMP NOT NULL,
    PRIMARY KEY (session_id, audit_state)
);

CREATE TABLE idempotency_keys (
    client_id        TEXT NOT NULL,
    route            TEXT NOT NULL,
    idempotency_key  TEXT NOT NULL,
    fingerprint      TEXT NOT NULL,
    resource_id      TEXT NOT NULL,
    created_at       TIMESTAMP NOT NULL,
    PRIMARY KEY (client_id, route, idempotency_key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE signing_keys (
    kid                 TEXT PRIMARY KEY NOT NULL,
    algorithm           TEXT NOT NULL,
    public_jwk          TEXT NOT NULL,
    sealed_private_key  TEXT NOT NULL,
    created_at          TIMESTAMP NOT NULL,
    active_from         TIMESTAMP NOT NULL,
    expires_at          TIMESTAMP,
    retired_at          TIMESTAMP,
    -- The private key is erased then, too.
    revoked_at          TIMESTAMP
);

-- One row, which every request reads.
CREATE TABLE service_state (
    id             INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    -- Grows with every change of the signing keys.
    key_epoch      BIGINT NOT NULL,
    -- While it is set, no link is issued.
    frozen_at      TIMESTAMP,
    freeze_reason  TEXT
);
INSERT INTO service_state (id, key_epoch) VALUES (1, 0);

-- One row, which every request reads. It grows in every transaction that may take access away or change what a client
-- may do: what was read at an epoch is valid while the epoch lasts.
CREATE TABLE access_epoch (
    id     INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    epoch  BIGINT NOT NULL
);
INSERT INTO access_epoch (id, epoch) VALUES (1, 0);

CREATE TRIGGER sessions_raise_access_epoch AFTER UPDATE OF ended_at ON sessions
WHEN NEW.ended_at IS NOT OLD.ended_at
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER magic_links_raise_access_epoch AFTER UPDATE OF revoked_at ON magic_links
WHEN NEW.revoked_at IS NOT OLD.revoked_at
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER revocations_raise_access_epoch AFTER INSERT ON revocations
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER consultants_raise_access_epoch AFTER UPDATE ON consultants
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER clients_raise_access_epoch AFTER UPDATE ON clients
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

-- The audit log is append-only, except for payloads whose erasure is recorded.
CREATE TRIGGER audit_events_refuse_update BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit events cannot be changed');
END;
CREATE TRIGGER audit_events_refuse_delete BEFORE DELETE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit events cannot be removed');
END;
CREATE TRIGGER audit_checkpoints_refuse_update BEFORE UPDATE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints cannot be changed');
END;
CREATE TRIGGER audit_checkpoints_refuse_delete BEFORE DELETE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints cannot be removed');
END;
CREATE TRIGGER audit_erasures_refuse_update BEFORE UPDATE ON audit_erasures
BEGIN
    SELECT RAISE(ABORT, 'erasures cannot be changed');
END;
CREATE TRIGGER audit_erasures_refuse_delete BEFORE DELETE ON audit_erasures
BEGIN
    SELECT RAISE(ABORT, 'erasures cannot be removed');
END;
CREATE TRIGGER audit_payloads_refuse_update BEFORE UPDATE ON audit_payloads
BEGIN
    SELECT RAISE(ABORT, 'payloads cannot be changed');
END;
CREATE TRIGGER audit_payloads_refuse_delete BEFORE DELETE ON audit_payloads
WHEN NOT EXISTS (
    SELECT 1 FROM audit_erasures
    WHERE tenant_id = OLD.tenant_id AND from_index <= OLD.log_index AND to_index > OLD.log_index
)
BEGIN
    SELECT RAISE(ABORT, 'payloads cannot be removed before their erasure is on record');
END;
CREATE TRIGGER audit_logs_refuse_shrinking BEFORE UPDATE ON audit_logs
WHEN NEW.size <= OLD.size OR NEW.tenant_id <> OLD.tenant_id
BEGIN
    SELECT RAISE(ABORT, 'a log can only grow');
END;
CREATE TRIGGER audit_logs_refuse_delete BEFORE DELETE ON audit_logs
BEGIN
    SELECT RAISE(ABORT, 'logs cannot be removed');
END;
