DROP TRIGGER service_state_refuse_fall;
DROP TRIGGER access_epoch_refuse_fall;
DROP TRIGGER signing_keys_delete_raises_key_epoch;
DROP TRIGGER signing_keys_update_raises_key_epoch;
DROP TRIGGER signing_keys_insert_raises_key_epoch;
DROP TRIGGER clients_insert_raises_access_epoch;
DROP TRIGGER clients_delete_raises_access_epoch;
DROP TRIGGER clients_update_raises_access_epoch;
DROP TRIGGER consultants_insert_raises_access_epoch;
DROP TRIGGER consultants_delete_raises_access_epoch;
DROP TRIGGER consultants_update_raises_access_epoch;
DROP TRIGGER key_revocations_update_raises_access_epoch;
DROP TRIGGER key_revocations_delete_raises_access_epoch;
DROP TRIGGER key_revocations_insert_raises_access_epoch;
DROP TRIGGER revocation_tenants_insert_raises_access_epoch;
DROP TRIGGER revocation_tenants_delete_raises_access_epoch;
DROP TRIGGER revocation_tenants_update_raises_access_epoch;
DROP TRIGGER revocations_insert_raises_access_epoch;
DROP TRIGGER revocations_delete_raises_access_epoch;
DROP TRIGGER revocations_update_raises_access_epoch;
DROP TRIGGER magic_links_insert_raises_access_epoch;
DROP TRIGGER magic_links_delete_raises_access_epoch;
DROP TRIGGER magic_links_update_raises_access_epoch;
DROP TRIGGER sessions_insert_raises_access_epoch;
DROP TRIGGER sessions_delete_raises_access_epoch;
DROP TRIGGER sessions_update_raises_access_epoch;
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
