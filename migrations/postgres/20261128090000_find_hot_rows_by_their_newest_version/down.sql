CREATE OR REPLACE FUNCTION raise_access_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('magic_link.epoch_raised_in', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        UPDATE access_epoch SET epoch = epoch + 1;
        PERFORM set_config('magic_link.epoch_raised_in', pg_current_xact_id()::text, true);
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER audit_logs_begin_once ON audit_logs;
DROP FUNCTION audit_logs_begin_once();
ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_pkey, ADD PRIMARY KEY (tenant_id);
ALTER TABLE access_epoch DROP CONSTRAINT access_epoch_pkey, ADD PRIMARY KEY (id);
DELETE FROM tolerated_migrations WHERE version = '20261128090000';
