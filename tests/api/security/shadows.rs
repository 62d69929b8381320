//! The role of the service puts tables and operators of its own before those that the guards of the database ask.

use crate::support::{Database, Settings, Sql, World, for_a_service};

/// Temporary tables come first where a name stands without a schema.
const SHADOWS: &str = "\
    CREATE TEMP TABLE audit_erasures (tenant_id TEXT, from_index BIGINT, to_index BIGINT); \
    INSERT INTO audit_erasures SELECT DISTINCT tenant_id, 0, 1000000 FROM audit_payloads; \
    CREATE TEMP TABLE audit_logs (tenant_id TEXT, size BIGINT); \
    CREATE TEMP TABLE access_epoch (epoch BIGINT); \
    CREATE TEMP TABLE service_state (key_epoch BIGINT); \
    CREATE TEMP TABLE link_keys (kid TEXT UNIQUE, magic_link_id TEXT, generation INTEGER); \
    CREATE TEMP TABLE open_grants (tenant_id TEXT, portal TEXT, consultant_id TEXT, profile_id TEXT, \
        magic_link_id TEXT, until TIMESTAMP)";

/// A world on PostgreSQL with a link that was mailed; its owner's connection, and one of the service's role.
fn with_a_link(story: impl FnOnce(Sql, Sql)) {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let link = world.admin.issue(&world.consultant().await).await;
        world.token(&link, 1).await;
        story(Sql::of(world), Sql::open(&for_a_service(&world.database_url)));
    });
}

#[test]
fn every_function_of_ours_looks_into_its_own_schema_alone() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let mut sql = Sql::of(world);
        let ours = "FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
        assert!(sql.count(ours) >= 11);
        let open = format!(
            "SELECT proname::text AS text {ours} AND 'search_path=public, pg_temp' <> ALL (coalesce(proconfig, '{{}}'))"
        );
        assert_eq!(sql.texts(&open), [""; 0], "set it in the migration that makes the function, or makes it anew");
    });
}

#[test]
fn a_temporary_table_hides_no_table_from_a_guard() {
    with_a_link(|mut owner, mut role| {
        role.run(SHADOWS).unwrap();
        let payloads = owner.count("FROM audit_payloads");
        let error = role.run("DELETE FROM audit_payloads WHERE tenant_id = 'acme'").unwrap_err().to_string();
        assert!(error.contains("before their erasure is on record"), "{error}");
        assert_eq!(owner.count("FROM audit_payloads"), payloads);

        let logs = owner.count("FROM audit_logs");
        let second = "SELECT tenant_id, size + 1000, frontier, suffix, key_id FROM public.audit_logs";
        role.run(&format!("INSERT INTO public.audit_logs {second}")).unwrap();
        assert_eq!(owner.count("FROM audit_logs"), logs, "a log has one head");

        for (change, epoch) in [
            ("UPDATE clients SET name = name", "SELECT epoch::text AS text FROM access_epoch"),
            ("UPDATE signing_keys SET kid = kid", "SELECT key_epoch::text AS text FROM service_state"),
        ] {
            let before = owner.texts(epoch);
            role.run(change).unwrap();
            assert_ne!(owner.texts(epoch), before, "{change}");
        }

        role.run("UPDATE mail_jobs SET kid = 'hidden' WHERE template = 'magic_link'").unwrap();
        assert_eq!(owner.count("FROM link_keys WHERE kid = 'hidden'"), 1);
        role.run("UPDATE magic_links SET expires_at = expires_at + INTERVAL '1 minute'").unwrap();
        let moved = "FROM open_grants g JOIN magic_links l ON l.id = g.magic_link_id AND l.expires_at = g.until";
        assert_eq!(owner.count(moved), 1);
        role.run("UPDATE magic_links SET revoked_at = expires_at").unwrap();
        assert_eq!(owner.count("FROM open_grants"), 0);
    });
}

#[test]
fn an_operator_of_ones_own_answers_for_none_of_the_databases() {
    with_a_link(|mut owner, mut role| {
        owner.run(&format!("CREATE SCHEMA shadows AUTHORIZATION {}", crate::support::ROLE)).unwrap();
        role.run(
            "CREATE FUNCTION shadows.never(BIGINT, BIGINT) RETURNS BOOLEAN LANGUAGE sql AS 'SELECT false'; \
             CREATE OPERATOR shadows.<= (LEFTARG = BIGINT, RIGHTARG = BIGINT, FUNCTION = shadows.never); \
             SET search_path = shadows, pg_catalog, public",
        )
        .unwrap();
        let error = role.run("UPDATE audit_logs SET size = size - 1").unwrap_err().to_string();
        assert!(error.contains("a log can only grow"), "{error}");
    });
}
