-- A function finds its tables and operators by the search_path of whoever calls it, and that begins with the caller's own
-- temporary tables: with one named audit_erasures the role of the service removed payloads that were never erased. Each
-- looks into this schema alone from now on, after pg_catalog and before what is temporary. It costs some 5 µs a call.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'audit_logs_begin_once', 'audit_logs_refuse_shrinking', 'audit_payloads_refuse', 'audit_refuse',
        'close_open_grant', 'mail_jobs_note_key', 'move_open_grant', 'raise_access_epoch', 'raise_key_epoch',
        'refuse_fall_of_epoch', 'refuse_moving_back'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %1$I.%2$I() SET search_path = %1$I, pg_temp', current_schema(), name);
    END LOOP;
END
$$;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129030000', '20261128020000');
