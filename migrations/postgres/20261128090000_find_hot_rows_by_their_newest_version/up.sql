-- The rows that change most: the epoch, and the heads of the logs. While somebody holds an old snapshot open (a backup, a
-- report, a standby's reader), PostgreSQL keeps every version of them, and who looks for the row by what never changes
-- has to read them all. The keys lead to the newest version: its number is in them, and numbers only grow.
ALTER TABLE access_epoch DROP CONSTRAINT access_epoch_pkey, ADD PRIMARY KEY (epoch);
ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_pkey, ADD PRIMARY KEY (tenant_id, size);

-- Still one row for each log, whoever begins it first.
CREATE FUNCTION audit_logs_begin_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.tenant_id, 7304826152));
    PERFORM FROM audit_logs WHERE tenant_id = NEW.tenant_id ORDER BY size DESC LIMIT 1;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_logs_begin_once BEFORE INSERT ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION audit_logs_begin_once();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_begin_once;

CREATE OR REPLACE FUNCTION raise_access_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newest BIGINT;
BEGIN
    IF current_setting('magic_link.epoch_raised_in', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        -- Who waited for the row gets the version that was committed meanwhile.
        SELECT epoch INTO newest FROM access_epoch ORDER BY epoch DESC LIMIT 1 FOR NO KEY UPDATE;
        UPDATE access_epoch SET epoch = epoch + 1 WHERE epoch = newest;
        PERFORM set_config('magic_link.epoch_raised_in', pg_current_xact_id()::text, true);
    END IF;
    RETURN NULL;
END
$$;

INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128090000', '20261128020000');
