-- Changes of a link's end, each with who asked for it and why. Later, one that waits for an approval.
CREATE TABLE link_extensions (
    id                   TEXT PRIMARY KEY NOT NULL,
    magic_link_id        TEXT NOT NULL REFERENCES magic_links (id),
    previous_expires_at  TIMESTAMP NOT NULL,
    expires_at           TIMESTAMP NOT NULL,
    reason               TEXT NOT NULL,
    actor_type           TEXT NOT NULL,
    actor_id             TEXT NOT NULL,
    actor_name           TEXT,
    client_id            TEXT,
    created_at           TIMESTAMP NOT NULL
);
CREATE INDEX link_extensions_by_link ON link_extensions (magic_link_id, id);

-- Corrections of a link's reason and ticket: what stood there before is kept.
CREATE TABLE link_corrections (
    id               TEXT PRIMARY KEY NOT NULL,
    magic_link_id    TEXT NOT NULL REFERENCES magic_links (id),
    previous_reason  TEXT NOT NULL,
    previous_ticket  TEXT,
    reason           TEXT NOT NULL,
    ticket           TEXT,
    actor_type       TEXT NOT NULL,
    actor_id         TEXT NOT NULL,
    actor_name       TEXT,
    client_id        TEXT,
    created_at       TIMESTAMP NOT NULL
);
CREATE INDEX link_corrections_by_link ON link_corrections (magic_link_id, id);

-- Tickets are compared without the blanks around them.
UPDATE magic_links SET ticket = TRIM(ticket) WHERE ticket <> TRIM(ticket);
CREATE INDEX magic_links_by_ticket ON magic_links (ticket, id) WHERE ticket IS NOT NULL;
-- Selects links with this ticket.
ALTER TABLE revocations ADD COLUMN ticket TEXT;

-- The condition of pending bulk revocations reads both columns.
DROP TRIGGER magic_links_update_raises_access_epoch;
CREATE TRIGGER magic_links_update_raises_access_epoch AFTER UPDATE OF id, client_id, tenant_id, portal, consultant_id, profile_id, reason, ticket, issued_by_id, issued_after, expires_at, revoked_at ON magic_links
WHEN NEW.id IS NOT OLD.id
    OR NEW.client_id IS NOT OLD.client_id
    OR NEW.tenant_id IS NOT OLD.tenant_id
    OR NEW.portal IS NOT OLD.portal
    OR NEW.consultant_id IS NOT OLD.consultant_id
    OR NEW.profile_id IS NOT OLD.profile_id
    OR NEW.reason IS NOT OLD.reason
    OR NEW.ticket IS NOT OLD.ticket
    OR NEW.issued_by_id IS NOT OLD.issued_by_id
    OR NEW.issued_after IS NOT OLD.issued_after
    OR NEW.expires_at IS NOT OLD.expires_at
    OR NEW.revoked_at IS NOT OLD.revoked_at
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
DROP TRIGGER revocations_update_raises_access_epoch;
CREATE TRIGGER revocations_update_raises_access_epoch AFTER UPDATE OF id, seq, every_tenant, portal, consultant_id, profile_id, issued_by_id, issued_by_client_id, ticket, created_at, done_at ON revocations
WHEN NEW.id IS NOT OLD.id
    OR NEW.seq IS NOT OLD.seq
    OR NEW.every_tenant IS NOT OLD.every_tenant
    OR NEW.portal IS NOT OLD.portal
    OR NEW.consultant_id IS NOT OLD.consultant_id
    OR NEW.profile_id IS NOT OLD.profile_id
    OR NEW.issued_by_id IS NOT OLD.issued_by_id
    OR NEW.issued_by_client_id IS NOT OLD.issued_by_client_id
    OR NEW.ticket IS NOT OLD.ticket
    OR NEW.created_at IS NOT OLD.created_at
    OR NEW.done_at IS NOT OLD.done_at
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
