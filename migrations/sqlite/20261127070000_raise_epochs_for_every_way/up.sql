-- Whatever takes access away raises an epoch, however it is done: by the service or by hand, by UPDATE, DELETE or
-- TRUNCATE, and by an INSERT that replaces a row. Of the busy tables, only the columns that a cached snapshot was made
-- of count, and an INSERT does where it takes away.
DROP TRIGGER sessions_raise_access_epoch;
DROP TRIGGER magic_links_raise_access_epoch;
DROP TRIGGER revocations_raise_access_epoch;
DROP TRIGGER consultants_raise_access_epoch;
DROP TRIGGER clients_raise_access_epoch;

CREATE TRIGGER sessions_update_raises_access_epoch AFTER UPDATE OF id, magic_link_id, generation, consultant_id, profile_name, expires_at, ended_at, status_list, status_index, kid, link_kid, code_kid ON sessions
WHEN NEW.id IS NOT OLD.id
    OR NEW.magic_link_id IS NOT OLD.magic_link_id
    OR NEW.generation IS NOT OLD.generation
    OR NEW.consultant_id IS NOT OLD.consultant_id
    OR NEW.profile_name IS NOT OLD.profile_name
    OR NEW.expires_at IS NOT OLD.expires_at
    OR NEW.ended_at IS NOT OLD.ended_at
    OR NEW.status_list IS NOT OLD.status_list
    OR NEW.status_index IS NOT OLD.status_index
    OR NEW.kid IS NOT OLD.kid
    OR NEW.link_kid IS NOT OLD.link_kid
    OR NEW.code_kid IS NOT OLD.code_kid
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER sessions_delete_raises_access_epoch AFTER DELETE ON sessions
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
-- REPLACE removes the row that is in its way, and fires no delete trigger unless `recursive_triggers` is on.
CREATE TRIGGER sessions_insert_raises_access_epoch BEFORE INSERT ON sessions
WHEN EXISTS (
    SELECT 1 FROM sessions WHERE id = NEW.id OR (magic_link_id = NEW.magic_link_id AND generation = NEW.generation)
        OR (status_list = NEW.status_list AND status_index = NEW.status_index)
        OR (magic_link_id = NEW.magic_link_id AND ended_at IS NULL AND NEW.ended_at IS NULL)
)
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

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
CREATE TRIGGER magic_links_delete_raises_access_epoch AFTER DELETE ON magic_links
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
-- REPLACE removes the row that is in its way, and fires no delete trigger unless `recursive_triggers` is on.
CREATE TRIGGER magic_links_insert_raises_access_epoch BEFORE INSERT ON magic_links
WHEN EXISTS (
    SELECT 1 FROM magic_links WHERE id = NEW.id
)
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

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
CREATE TRIGGER revocations_delete_raises_access_epoch AFTER DELETE ON revocations
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER revocations_insert_raises_access_epoch AFTER INSERT ON revocations
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

CREATE TRIGGER revocation_tenants_update_raises_access_epoch AFTER UPDATE ON revocation_tenants
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER revocation_tenants_delete_raises_access_epoch AFTER DELETE ON revocation_tenants
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER revocation_tenants_insert_raises_access_epoch AFTER INSERT ON revocation_tenants
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

CREATE TRIGGER key_revocations_insert_raises_access_epoch AFTER INSERT ON key_revocations
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER key_revocations_update_raises_access_epoch AFTER UPDATE ON key_revocations
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER key_revocations_delete_raises_access_epoch AFTER DELETE ON key_revocations
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

CREATE TRIGGER consultants_update_raises_access_epoch AFTER UPDATE ON consultants
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER consultants_delete_raises_access_epoch AFTER DELETE ON consultants
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER consultants_insert_raises_access_epoch AFTER INSERT ON consultants
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

CREATE TRIGGER clients_update_raises_access_epoch AFTER UPDATE ON clients
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER clients_delete_raises_access_epoch AFTER DELETE ON clients
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;
CREATE TRIGGER clients_insert_raises_access_epoch AFTER INSERT ON clients
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

-- The signing keys are kept in memory, too, and read again when their own epoch rises.
CREATE TRIGGER signing_keys_insert_raises_key_epoch AFTER INSERT ON signing_keys
BEGIN
    UPDATE service_state SET key_epoch = key_epoch + 1;
END;
CREATE TRIGGER signing_keys_update_raises_key_epoch AFTER UPDATE ON signing_keys
BEGIN
    UPDATE service_state SET key_epoch = key_epoch + 1;
END;
CREATE TRIGGER signing_keys_delete_raises_key_epoch AFTER DELETE ON signing_keys
BEGIN
    UPDATE service_state SET key_epoch = key_epoch + 1;
END;

-- An epoch that fell would come again, and with it what was cached at it.
CREATE TRIGGER access_epoch_refuse_fall BEFORE UPDATE OF epoch ON access_epoch
WHEN NEW.epoch < OLD.epoch
BEGIN
    SELECT RAISE(ABORT, 'an epoch can only grow');
END;
CREATE TRIGGER service_state_refuse_fall BEFORE UPDATE OF key_epoch ON service_state
WHEN NEW.key_epoch < OLD.key_epoch
BEGIN
    SELECT RAISE(ABORT, 'an epoch can only grow');
END;
