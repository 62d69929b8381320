-- Texts are compared by their bytes, as on SQLite. A column of ids that was compared by the language of the database could
-- not be found by its index where it was joined with one that was not: each redemption read every session.
DO $$
DECLARE
    trigger_of RECORD;
    columns_of RECORD;
    triggers   TEXT[] := '{}';
    statement  TEXT;
BEGIN
    -- No column's type can be changed while a trigger looks at it.
    FOR trigger_of IN
        SELECT tgname, tgrelid::regclass AS relation, tgenabled, pg_get_triggerdef(oid) AS definition FROM pg_trigger
        WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
    LOOP
        triggers := triggers || trigger_of.definition;
        IF trigger_of.tgenabled = 'A' THEN
            triggers := triggers || format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', trigger_of.relation, trigger_of.tgname);
        END IF;
        EXECUTE format('DROP TRIGGER %I ON %s', trigger_of.tgname, trigger_of.relation);
    END LOOP;
    FOR columns_of IN
        SELECT a.attrelid::regclass AS relation,
            string_agg(format('ALTER COLUMN %I TYPE TEXT COLLATE "C"', a.attname), ', ' ORDER BY a.attnum) AS changes
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
            AND a.atttypid = 'text'::regtype AND a.attcollation <> '"C"'::regcollation
        GROUP BY a.attrelid
    LOOP
        EXECUTE format('ALTER TABLE %s %s', columns_of.relation, columns_of.changes);
    END LOOP;
    FOREACH statement IN ARRAY triggers LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
