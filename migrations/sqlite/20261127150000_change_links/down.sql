DROP TRIGGER magic_links_update_raises_access_epoch;
CREATE TRIGGER magic_links_update_raises_access_epoch AFTER UPDATE OF id, client_id, tenant_id, portal, consultant_id, profile_id, reason, issued_by_id, issued_after, expires_at, revoked_at ON magic_links
WHEN NEW.id IS NOT OLD.id
    OR NEW.client_id IS NOT OLD.client_id
    OR NEW.tenant_id IS NOT OLD.tenant_id
    OR NEW.portal IS NOT OLD.portal
    OR NEW.consultant_id IS NOT OLD.consultant_id
    OR NEW.profile_id IS NOT OLD.profile_id
    OR NEW.reason IS NOT OLD.reason
    OR NEW.issued_by_id IS NOT OLD.issued_by_id
    OR NEW.issued_after IS NOT OLD.issued_after
    OR NEW.expires_at IS NOT OLD.expires_at
    OR NEW.revoked_at IS NOT OLD.revoked_at
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
DROP TRIGGER revocations_update_raises_access_epoch;
CREATE TRIGGER revocations_update_raises_access_epoch AFTER UPDATE OF id, seq, every_tenant, portal, consultant_id, profile_id, issued_by_id, issued_by_client_id, created_at, done_at ON revocations
WHEN NEW.id IS NOT OLD.id
    OR NEW.seq IS NOT OLD.seq
    OR NEW.every_tenant IS NOT OLD.every_tenant
    OR NEW.portal IS NOT OLD.portal
    OR NEW.consultant_id IS NOT OLD.consultant_id
    OR NEW.profile_id IS NOT OLD.profile_id
    OR NEW.issued_by_id IS NOT OLD.issued_by_id
    OR NEW.issued_by_client_id IS NOT OLD.issued_by_client_id
    OR NEW.created_at IS NOT OLD.created_at
    OR NEW.done_at IS NOT OLD.done_at
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
ALTER TABLE revocations DROP COLUMN ticket;
DROP INDEX magic_links_by_ticket;
DROP TABLE link_corrections;
DROP TABLE link_extensions;
