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
CREATE TABLE mail_suppressions_without_reference (
    id            TEXT PRIMARY KEY NOT NULL,
    address       TEXT NOT NULL,
    -- In lower case: one mailbox.
    address_key   TEXT NOT NULL,
    cause         TEXT NOT NULL,
    provider      TEXT NOT NULL,
    mail_job_id   TEXT NOT NULL,
    created_at    TIMESTAMP NOT NULL,
    cleared_at    TIMESTAMP,
    clear_reason  TEXT
);
INSERT INTO mail_suppressions_without_reference SELECT * FROM mail_suppressions;
DROP INDEX mail_suppressions_one_per_address;
DROP TABLE mail_suppressions;
ALTER TABLE mail_suppressions_without_reference RENAME TO mail_suppressions;
CREATE UNIQUE INDEX mail_suppressions_one_for_each_address ON mail_suppressions (address_key) WHERE cleared_at IS NULL;

-- What a row loses when it is erased gives nobody less access: the epoch stays, and so does what is cached.
DROP TRIGGER sessions_update_raises_access_epoch;
CREATE TRIGGER sessions_update_raises_access_epoch AFTER UPDATE OF id, magic_link_id, generation, consultant_id, profile_name, expires_at, ended_at, status_list, status_index, kid, link_kid, code_kid ON sessions
WHEN NEW.id IS NOT OLD.id
    OR NEW.magic_link_id IS NOT OLD.magic_link_id
    OR NEW.generation IS NOT OLD.generation
    OR NEW.consultant_id IS NOT OLD.consultant_id
    OR (NEW.profile_name IS NOT OLD.profile_name AND (NEW.erased_at IS NULL OR NEW.ended_at IS NULL))
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
DROP TRIGGER magic_links_update_raises_access_epoch;
CREATE TRIGGER magic_links_update_raises_access_epoch AFTER UPDATE OF id, client_id, tenant_id, portal, consultant_id, profile_id, reason, ticket, issued_by_id, issued_after, expires_at, revoked_at ON magic_links
WHEN NEW.id IS NOT OLD.id
    OR NEW.client_id IS NOT OLD.client_id
    OR NEW.tenant_id IS NOT OLD.tenant_id
    OR NEW.portal IS NOT OLD.portal
    OR NEW.consultant_id IS NOT OLD.consultant_id
    OR NEW.profile_id IS NOT OLD.profile_id
    OR (NEW.reason IS NOT OLD.reason AND (NEW.erased_at IS NULL OR NEW.expires_at > NEW.erased_at))
    OR (NEW.ticket IS NOT OLD.ticket AND (NEW.erased_at IS NULL OR NEW.expires_at > NEW.erased_at))
    OR NEW.issued_by_id IS NOT OLD.issued_by_id
    OR NEW.issued_after IS NOT OLD.issued_after
    OR NEW.expires_at IS NOT OLD.expires_at
    OR NEW.revoked_at IS NOT OLD.revoked_at
BEGIN
    UPDATE access_epoch SET epoch = epoch + 1;
END;

INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128070000', '20261128020000');
