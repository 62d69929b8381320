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
DROP TRIGGER sessions_update_raises_access_epoch;
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
DROP INDEX mail_suppressions_one_for_each_address;
CREATE TABLE mail_suppressions_with_reference (
    id            TEXT PRIMARY KEY NOT NULL,
    address       TEXT NOT NULL,
    address_key   TEXT NOT NULL,
    cause         TEXT NOT NULL,
    provider      TEXT NOT NULL,
    mail_job_id   TEXT NOT NULL REFERENCES mail_jobs (id),
    created_at    TIMESTAMP NOT NULL,
    cleared_at    TIMESTAMP,
    clear_reason  TEXT
);
INSERT INTO mail_suppressions_with_reference SELECT * FROM mail_suppressions WHERE mail_job_id IN (SELECT id FROM mail_jobs);
DROP TABLE mail_suppressions;
ALTER TABLE mail_suppressions_with_reference RENAME TO mail_suppressions;
CREATE UNIQUE INDEX mail_suppressions_one_per_address ON mail_suppressions (address_key) WHERE cleared_at IS NULL;
DROP INDEX link_requests_kept_by_consultant;
DROP INDEX link_requests_kept;
DROP INDEX magic_links_kept;
ALTER TABLE consultants DROP COLUMN erased_at;
ALTER TABLE link_requests DROP COLUMN erased_at;
ALTER TABLE sessions DROP COLUMN erased_at;
ALTER TABLE magic_links DROP COLUMN erased_at;
DELETE FROM tolerated_migrations WHERE version = '20261128070000';
