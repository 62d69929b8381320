-- Which link gives a consultant an access, and until when: one access, one link. A row counts until its time is over.
CREATE TABLE open_grants (
    tenant_id      TEXT COLLATE "C" NOT NULL,
    portal         TEXT COLLATE "C" NOT NULL,
    consultant_id  TEXT COLLATE "C" NOT NULL,
    profile_id     TEXT COLLATE "C" NOT NULL,
    magic_link_id  TEXT NOT NULL,
    until          TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, portal, consultant_id, profile_id)
);
CREATE INDEX open_grants_by_end ON open_grants (until);
-- Of links that gave the same access until now, the one that ends last.
INSERT INTO open_grants (tenant_id, portal, consultant_id, profile_id, magic_link_id, until)
SELECT tenant_id, portal, consultant_id, profile_id, id, expires_at FROM (
    SELECT tenant_id, portal, consultant_id, profile_id, id, expires_at, ROW_NUMBER() OVER (
        PARTITION BY tenant_id, portal, consultant_id, profile_id ORDER BY expires_at DESC, id DESC) AS place
    FROM magic_links WHERE revoked_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM link_expiry WHERE link_expiry.expires_at >= magic_links.expires_at)) AS open
WHERE place = 1;
-- The link that took the place of this one.
ALTER TABLE magic_links ADD COLUMN replaced_by TEXT;

-- No statement can forget it: a link that is revoked gives the access back, and one whose end is moved keeps it until then.
CREATE FUNCTION close_open_grant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM open_grants WHERE tenant_id = NEW.tenant_id AND portal = NEW.portal AND consultant_id = NEW.consultant_id
        AND profile_id = NEW.profile_id AND magic_link_id = NEW.id;
    RETURN NULL;
END $$;
CREATE FUNCTION move_open_grant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE open_grants SET until = NEW.expires_at WHERE tenant_id = NEW.tenant_id AND portal = NEW.portal AND consultant_id = NEW.consultant_id
        AND profile_id = NEW.profile_id AND magic_link_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER magic_links_revoked_closes_grant AFTER UPDATE OF revoked_at ON magic_links
    FOR EACH ROW WHEN (NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION close_open_grant();
CREATE TRIGGER magic_links_moved_moves_grant AFTER UPDATE OF expires_at ON magic_links
    FOR EACH ROW WHEN (NEW.revoked_at IS NULL AND NEW.expires_at IS DISTINCT FROM OLD.expires_at) EXECUTE FUNCTION move_open_grant();
