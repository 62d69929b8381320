DELETE FROM tolerated_migrations WHERE version = '20261129030000';
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'audit_logs_begin_once', 'audit_logs_refuse_shrinking', 'audit_payloads_refuse', 'audit_refuse',
        'close_open_grant', 'mail_jobs_note_key', 'move_open_grant', 'raise_access_epoch', 'raise_key_epoch',
        'refuse_fall_of_epoch', 'refuse_moving_back'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I.%I() RESET search_path', current_schema(), name);
    END LOOP;
END
$$;
