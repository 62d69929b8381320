-- Names, addresses and reasons end with the tenant's retention; ids, times and states stay. Set when that was done.
ALTER TABLE magic_links ADD COLUMN erased_at TIMESTAMP;
ALTER TABLE sessions ADD COLUMN erased_at TIMESTAMP;
ALTER TABLE link_requests ADD COLUMN erased_at TIMESTAMP;
ALTER TABLE consultants ADD COLUMN erased_at TIMESTAMP;
-- What has not been erased, in the order in which it comes to its end. By an expression, so that no other index seems as
-- good: in one that holds what is erased, too, each run would read all of that again.
CREATE INDEX magic_links_kept ON magic_links (tenant_id, coalesce(erased_at, expires_at), id) WHERE erased_at IS NULL;
CREATE INDEX link_requests_kept ON link_requests (tenant_id, coalesce(erased_at, lapses_at), id) WHERE erased_at IS NULL;
CREATE INDEX link_requests_kept_by_consultant ON link_requests (consultant_id) WHERE erased_at IS NULL;

-- A suppressed address outlives the mail that came back: no reference to it any more.
ALTER TABLE mail_suppressions DROP CONSTRAINT mail_suppressions_mail_job_id_fkey;
ALTER INDEX mail_suppressions_one_per_address RENAME TO mail_suppressions_one_for_each_address;

-- What a row loses when it is erased gives nobody less access: the epoch stays, and so does what is cached.
DROP TRIGGER sessions_update_raises_access_epoch ON sessions;
CREATE CONSTRAINT TRIGGER sessions_update_raises_access_epoch AFTER UPDATE OF id, magic_link_id, generation, consultant_id, profile_name, expires_at, ended_at, status_list, status_index, kid, link_kid, code_kid ON sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.id IS DISTINCT FROM OLD.id
        OR NEW.magic_link_id IS DISTINCT FROM OLD.magic_link_id
        OR NEW.generation IS DISTINCT FROM OLD.generation
        OR NEW.consultant_id IS DISTINCT FROM OLD.consultant_id
        OR (NEW.profile_name IS DISTINCT FROM OLD.profile_name AND (NEW.erased_at IS NULL OR NEW.ended_at IS NULL))
        OR NEW.expires_at IS DISTINCT FROM OLD.expires_at
        OR NEW.ended_at IS DISTINCT FROM OLD.ended_at
        OR NEW.status_list IS DISTINCT FROM OLD.status_list
        OR NEW.status_index IS DISTINCT FROM OLD.status_index
        OR NEW.kid IS DISTINCT FROM OLD.kid
        OR NEW.link_kid IS DISTINCT FROM OLD.link_kid
        OR NEW.code_kid IS DISTINCT FROM OLD.code_kid
    ) EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_update_raises_access_epoch;
DROP TRIGGER magic_links_update_raises_access_epoch ON magic_links;
CREATE CONSTRAINT TRIGGER magic_links_update_raises_access_epoch AFTER UPDATE OF id, client_id, tenant_id, portal, consultant_id, profile_id, reason, ticket, issued_by_id, issued_after, expires_at, revoked_at ON magic_links
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.id IS DISTINCT FROM OLD.id
        OR NEW.client_id IS DISTINCT FROM OLD.client_id
        OR NEW.tenant_id IS DISTINCT FROM OLD.tenant_id
        OR NEW.portal IS DISTINCT FROM OLD.portal
        OR NEW.consultant_id IS DISTINCT FROM OLD.consultant_id
        OR NEW.profile_id IS DISTINCT FROM OLD.profile_id
        OR (NEW.reason IS DISTINCT FROM OLD.reason AND (NEW.erased_at IS NULL OR NEW.expires_at > NEW.erased_at))
        OR (NEW.ticket IS DISTINCT FROM OLD.ticket AND (NEW.erased_at IS NULL OR NEW.expires_at > NEW.erased_at))
        OR NEW.issued_by_id IS DISTINCT FROM OLD.issued_by_id
        OR NEW.issued_after IS DISTINCT FROM OLD.issued_after
        OR NEW.expires_at IS DISTINCT FROM OLD.expires_at
        OR NEW.revoked_at IS DISTINCT FROM OLD.revoked_at
    ) EXECUTE FUNCTION raise_access_epoch();
ALTER TABLE magic_links ENABLE ALWAYS TRIGGER magic_links_update_raises_access_epoch;

-- Of the large tables some hundredth is erased or removed in a week: vacuum at a fiftieth, not at a fifth of years.
ALTER TABLE magic_links SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE sessions SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE mail_jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE audit_payloads SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE webhook_deliveries SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- Small ones whose rows change all the time: after so many changes, however large the table is.
ALTER TABLE access_epoch SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE audit_logs SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE idempotency_keys SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE open_grants SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE webhook_events SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128070000', '20261128020000');
