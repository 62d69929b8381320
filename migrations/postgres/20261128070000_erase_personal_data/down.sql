ALTER TABLE webhook_events RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE open_grants RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE idempotency_keys RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE audit_logs RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE access_epoch RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE webhook_deliveries RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE audit_payloads RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE mail_jobs RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE sessions RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE magic_links RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
DROP TRIGGER magic_links_update_raises_access_epoch ON magic_links;
CREATE CONSTRAINT TRIGGER magic_links_update_raises_access_epoch AFTER UPDATE OF id, client_id, tenant_id, portal, consultant_id, profile_id, reason, ticket, issued_by_id, issued_after, expires_at, revoked_at ON magic_links
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.id IS DISTINCT FROM OLD.id
        OR NEW.client_id IS DISTINCT FROM OLD.client_id
        OR NEW.tenant_id IS DISTINCT FROM OLD.tenant_id
        OR NEW.portal IS DISTINCT FROM OLD.portal
        OR NEW.consultant_id IS DISTINCT FROM OLD.consultant_id
        OR NEW.profile_id IS DISTINCT FROM OLD.profile_id
        OR NEW.reason IS DISTINCT FROM OLD.reason
        OR NEW.ticket IS DISTINCT FROM OLD.ticket
        OR NEW.issued_by_id IS DISTINCT FROM OLD.issued_by_id
        OR NEW.issued_after IS DISTINCT FROM OLD.issued_after
        OR NEW.expires_at IS DISTINCT FROM OLD.expires_at
        OR NEW.revoked_at IS DISTINCT FROM OLD.revoked_at
    ) EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE magic_links ENABLE ALWAYS TRIGGER magic_links_update_raises_access_epoch;
DROP TRIGGER sessions_update_raises_access_epoch ON sessions;
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
ALTER INDEX mail_suppressions_one_for_each_address RENAME TO mail_suppressions_one_per_address;
DELETE FROM mail_suppressions WHERE mail_job_id NOT IN (SELECT id FROM mail_jobs);
ALTER TABLE mail_suppressions ADD CONSTRAINT mail_suppressions_mail_job_id_fkey FOREIGN KEY (mail_job_id) REFERENCES mail_jobs (id);
DROP INDEX link_requests_kept_by_consultant;
DROP INDEX link_requests_kept;
DROP INDEX magic_links_kept;
ALTER TABLE consultants DROP COLUMN erased_at;
ALTER TABLE link_requests DROP COLUMN erased_at;
ALTER TABLE sessions DROP COLUMN erased_at;
ALTER TABLE magic_links DROP COLUMN erased_at;
DELETE FROM tolerated_migrations WHERE version = '20261128070000';
