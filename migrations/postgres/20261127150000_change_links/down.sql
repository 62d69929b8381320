DROP TRIGGER magic_links_update_raises_access_epoch ON magic_links;
CREATE CONSTRAINT TRIGGER magic_links_update_raises_access_epoch AFTER UPDATE OF id, client_id, tenant_id, portal, consultant_id, profile_id, reason, issued_by_id, issued_after, expires_at, revoked_at ON magic_links
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.id IS DISTINCT FROM OLD.id
        OR NEW.client_id IS DISTINCT FROM OLD.client_id
        OR NEW.tenant_id IS DISTINCT FROM OLD.tenant_id
        OR NEW.portal IS DISTINCT FROM OLD.portal
        OR NEW.consultant_id IS DISTINCT FROM OLD.consultant_id
        OR NEW.profile_id IS DISTINCT FROM OLD.profile_id
        OR NEW.reason IS DISTINCT FROM OLD.reason
        OR NEW.issued_by_id IS DISTINCT FROM OLD.issued_by_id
        OR NEW.issued_after IS DISTINCT FROM OLD.issued_after
        OR NEW.expires_at IS DISTINCT FROM OLD.expires_at
        OR NEW.revoked_at IS DISTINCT FROM OLD.revoked_at
    ) EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE magic_links ENABLE ALWAYS TRIGGER magic_links_update_raises_access_epoch;
DROP TRIGGER revocations_update_raises_access_epoch ON revocations;
CREATE CONSTRAINT TRIGGER revocations_update_raises_access_epoch AFTER UPDATE OF id, seq, every_tenant, portal, consultant_id, profile_id, issued_by_id, issued_by_client_id, created_at, done_at ON revocations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.id IS DISTINCT FROM OLD.id
        OR NEW.seq IS DISTINCT FROM OLD.seq
        OR NEW.every_tenant IS DISTINCT FROM OLD.every_tenant
        OR NEW.portal IS DISTINCT FROM OLD.portal
        OR NEW.consultant_id IS DISTINCT FROM OLD.consultant_id
        OR NEW.profile_id IS DISTINCT FROM OLD.profile_id
        OR NEW.issued_by_id IS DISTINCT FROM OLD.issued_by_id
        OR NEW.issued_by_client_id IS DISTINCT FROM OLD.issued_by_client_id
        OR NEW.created_at IS DISTINCT FROM OLD.created_at
        OR NEW.done_at IS DISTINCT FROM OLD.done_at
    ) EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE revocations ENABLE ALWAYS TRIGGER revocations_update_raises_access_epoch;
ALTER TABLE revocations DROP COLUMN ticket;
DROP INDEX magic_links_by_ticket;
DROP TABLE link_corrections;
DROP TABLE link_extensions;
