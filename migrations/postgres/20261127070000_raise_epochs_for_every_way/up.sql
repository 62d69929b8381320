-- Whatever takes access away raises an epoch, however it is done: by the service or by hand, by UPDATE, DELETE or
-- TRUNCATE, and by an INSERT that replaces a row. Of the busy tables, only the columns that a cached snapshot was made
-- of count, and an INSERT does where it takes away.
DROP TRIGGER sessions_raise_access_epoch ON sessions;
DROP TRIGGER magic_links_raise_access_epoch ON magic_links;
DROP TRIGGER revocations_raise_access_epoch ON revocations;
DROP TRIGGER consultants_raise_access_epoch ON consultants;
DROP TRIGGER clients_raise_access_epoch ON clients;

-- ALWAYS: also where `session_replication_role` is `replica`, as it is for logical replication.

CREATE CONSTRAINT TRIGGER sessions_delete_raises_access_epoch AFTER DELETE ON sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_delete_raises_access_epoch;
CREATE CONSTRAINT TRIGGER sessions_update_raises_access_epoch AFTER UPDATE OF id, magic_link_id, generation, consultant_id, profile_name, expires_at, ended_at, status_list, status_index, kid, link_kid, code_kid ON sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.id IS DISTINCT FROM OLD.id
        OR NEW.magic_link_id IS DISTINCT FROM OLD.magic_link_id
        OR NEW.generation IS DISTINCT FROM OLD.generation
        OR NEW.consultant_id IS DISTINCT FROM OLD.consultant_id
        OR NEW.profile_name IS DISTINCT FROM OLD.profile_name
        OR NEW.expires_at IS DISTINCT FROM OLD.expires_at
        OR NEW.ended_at IS DISTINCT FROM OLD.ended_at
        OR NEW.status_list IS DISTINCT FROM OLD.status_list
        OR NEW.status_index IS DISTINCT FROM OLD.status_index
        OR NEW.kid IS DISTINCT FROM OLD.kid
        OR NEW.link_kid IS DISTINCT FROM OLD.link_kid
        OR NEW.code_kid IS DISTINCT FROM OLD.code_kid
    ) EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_update_raises_access_epoch;
CREATE TRIGGER sessions_truncate_raises_access_epoch AFTER TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_truncate_raises_access_epoch;

CREATE CONSTRAINT TRIGGER magic_links_delete_raises_access_epoch AFTER DELETE ON magic_links
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE magic_links ENABLE ALWAYS TRIGGER magic_links_delete_raises_access_epoch;
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
CREATE TRIGGER magic_links_truncate_raises_access_epoch AFTER TRUNCATE ON magic_links
    FOR EACH STATEMENT EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE magic_links ENABLE ALWAYS TRIGGER magic_links_truncate_raises_access_epoch;

CREATE CONSTRAINT TRIGGER revocations_change_raises_access_epoch AFTER INSERT OR DELETE ON revocations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE revocations ENABLE ALWAYS TRIGGER revocations_change_raises_access_epoch;
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
CREATE TRIGGER revocations_truncate_raises_access_epoch AFTER TRUNCATE ON revocations
    FOR EACH STATEMENT EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE revocations ENABLE ALWAYS TRIGGER revocations_truncate_raises_access_epoch;

CREATE CONSTRAINT TRIGGER revocation_tenants_change_raises_access_epoch AFTER INSERT OR UPDATE OR DELETE ON revocation_tenants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE revocation_tenants ENABLE ALWAYS TRIGGER revocation_tenants_change_raises_access_epoch;
CREATE TRIGGER revocation_tenants_truncate_raises_access_epoch AFTER TRUNCATE ON revocation_tenants
    FOR EACH STATEMENT EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE revocation_tenants ENABLE ALWAYS TRIGGER revocation_tenants_truncate_raises_access_epoch;

CREATE CONSTRAINT TRIGGER key_revocations_change_raises_access_epoch AFTER INSERT OR UPDATE OR DELETE ON key_revocations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE key_revocations ENABLE ALWAYS TRIGGER key_revocations_change_raises_access_epoch;
CREATE TRIGGER key_revocations_truncate_raises_access_epoch AFTER TRUNCATE ON key_revocations
    FOR EACH STATEMENT EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE key_revocations ENABLE ALWAYS TRIGGER key_revocations_truncate_raises_access_epoch;

CREATE CONSTRAINT TRIGGER consultants_change_raises_access_epoch AFTER INSERT OR UPDATE OR DELETE ON consultants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE consultants ENABLE ALWAYS TRIGGER consultants_change_raises_access_epoch;
CREATE TRIGGER consultants_truncate_raises_access_epoch AFTER TRUNCATE ON consultants
    FOR EACH STATEMENT EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE consultants ENABLE ALWAYS TRIGGER consultants_truncate_raises_access_epoch;

CREATE CONSTRAINT TRIGGER clients_change_raises_access_epoch AFTER INSERT OR UPDATE OR DELETE ON clients
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE clients ENABLE ALWAYS TRIGGER clients_change_raises_access_epoch;
CREATE TRIGGER clients_truncate_raises_access_epoch AFTER TRUNCATE ON clients
    FOR EACH STATEMENT EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE clients ENABLE ALWAYS TRIGGER clients_truncate_raises_access_epoch;

-- The signing keys are kept in memory, too, and read again when their own epoch rises. At once, as the service does it:
-- the row is locked before the heads of the audit logs.
CREATE FUNCTION raise_key_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE service_state SET key_epoch = key_epoch + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER signing_keys_change_raises_key_epoch AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION raise_key_epoch();
ALTER TABLE signing_keys ENABLE ALWAYS TRIGGER signing_keys_change_raises_key_epoch;

-- An epoch that fell would come again, and with it what was cached at it.
CREATE FUNCTION refuse_fall_of_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an epoch can only grow';
END
$$;
CREATE TRIGGER access_epoch_refuse_fall BEFORE UPDATE OF epoch ON access_epoch
    FOR EACH ROW WHEN (NEW.epoch < OLD.epoch) EXECUTE FUNCTION refuse_fall_of_epoch();
CREATE TRIGGER service_state_refuse_fall BEFORE UPDATE OF key_epoch ON service_state
    FOR EACH ROW WHEN (NEW.key_epoch < OLD.key_epoch) EXECUTE FUNCTION refuse_fall_of_epoch();
