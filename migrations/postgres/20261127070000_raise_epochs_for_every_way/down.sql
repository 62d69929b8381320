DROP TRIGGER service_state_refuse_fall ON service_state;
DROP TRIGGER access_epoch_refuse_fall ON access_epoch;
DROP TRIGGER signing_keys_change_raises_key_epoch ON signing_keys;
DROP TRIGGER clients_truncate_raises_access_epoch ON clients;
DROP TRIGGER clients_change_raises_access_epoch ON clients;
DROP TRIGGER consultants_truncate_raises_access_epoch ON consultants;
DROP TRIGGER consultants_change_raises_access_epoch ON consultants;
DROP TRIGGER key_revocations_truncate_raises_access_epoch ON key_revocations;
DROP TRIGGER key_revocations_change_raises_access_epoch ON key_revocations;
DROP TRIGGER revocation_tenants_truncate_raises_access_epoch ON revocation_tenants;
DROP TRIGGER revocation_tenants_change_raises_access_epoch ON revocation_tenants;
DROP TRIGGER revocations_truncate_raises_access_epoch ON revocations;
DROP TRIGGER revocations_update_raises_access_epoch ON revocations;
DROP TRIGGER revocations_change_raises_access_epoch ON revocations;
DROP TRIGGER magic_links_truncate_raises_access_epoch ON magic_links;
DROP TRIGGER magic_links_update_raises_access_epoch ON magic_links;
DROP TRIGGER magic_links_delete_raises_access_epoch ON magic_links;
DROP TRIGGER sessions_truncate_raises_access_epoch ON sessions;
DROP TRIGGER sessions_update_raises_access_epoch ON sessions;
DROP TRIGGER sessions_delete_raises_access_epoch ON sessions;
DROP FUNCTION refuse_fall_of_epoch();
DROP FUNCTION raise_key_epoch();
CREATE CONSTRAINT TRIGGER sessions_raise_access_epoch AFTER UPDATE OF ended_at ON sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.ended_at IS DISTINCT FROM OLD.ended_at)
    EXECUTE FUNCTION raise_access_epoch();
CREATE CONSTRAINT TRIGGER magic_links_raise_access_epoch AFTER UPDATE OF revoked_at ON magic_links
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
    EXECUTE FUNCTION raise_access_epoch();
CREATE CONSTRAINT TRIGGER revocations_raise_access_epoch AFTER INSERT ON revocations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
CREATE CONSTRAINT TRIGGER consultants_raise_access_epoch AFTER UPDATE ON consultants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
CREATE CONSTRAINT TRIGGER clients_raise_access_epoch AFTER UPDATE ON clients
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
