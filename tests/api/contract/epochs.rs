//! Whatever takes access away raises an epoch, whoever does it and by which statement: no copy answers from before.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Api, Database, Settings, Sql, World, apply, on_both_databases};

/// What a cached answer is made of: the statements that read it.
const READ: &[&str] =
    &[include_str!("../../../src/access/statements.rs"), include_str!("../../../src/records/revocations.rs")];

/// A trigger that raises an epoch, as the database has it.
struct Trigger {
    table: String,
    verb: &'static str,
    /// Its definition, in lower case.
    text: String,
}

/// Every trigger that raises an epoch; one that acts on two verbs counts twice.
fn triggers(database: Database, sql: &mut Sql) -> Vec<Trigger> {
    let definitions = sql.texts(match database {
        Database::Sqlite => "SELECT sql AS text FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%epoch + 1%'",
        // Those that fire whatever the `session_replication_role` is.
        Database::Postgres => {
            "SELECT pg_get_triggerdef(t.oid) AS text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid \
             WHERE p.prosrc LIKE '%epoch + 1%' AND t.tgenabled = 'A'"
        }
    });
    let mut found = Vec::new();
    for definition in definitions {
        let text = definition.to_lowercase().replace(" on public.", " on ");
        let (head, rest) = text.split_once(" on ").expect("a table");
        let table = rest.split_whitespace().next().expect("a table").to_owned();
        for verb in ["insert", "update", "delete", "truncate"] {
            if head.split_whitespace().any(|word| word == verb) {
                found.push(Trigger { table: table.clone(), verb, text: text.clone() });
            }
        }
    }
    found
}

/// The words of a text that follow one of these.
fn words_after<'a>(text: &'a str, before: &[&str]) -> BTreeSet<&'a str> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    words.windows(2).filter(|pair| before.contains(&pair[0])).map(|pair| pair[1]).collect()
}

/// A caller who introspects and does nothing else, a session, and whether it is active.
async fn visited(world: &World) -> (Api, Value) {
    let session = world.open_session(&world.portal("cloud", "acme").await).await;
    let asker = world.client(Some("cloud"), &["acme"], &["sessions:introspect"]).await;
    assert!(asker.is_active(session["access_token"].as_str().unwrap()).await);
    (asker, session)
}

/// A connection as an operator in need has it: nothing is switched on, and references do not hold.
fn by_hand(world: &World) -> Sql {
    let mut sql = Sql::of(world);
    sql.run(match world.database {
        Database::Sqlite => "PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = OFF",
        Database::Postgres => "SET session_replication_role = replica",
    })
    .unwrap();
    sql
}

#[apply(on_both_databases)]
async fn every_table_that_a_cached_answer_is_made_of_is_watched_for_every_verb(world: &World) {
    let found = triggers(world.database, &mut Sql::of(world));
    let found: BTreeSet<(&str, &str)> = found.iter().map(|one| (one.table.as_str(), one.verb)).collect();
    let mut expected = BTreeSet::new();
    let watched_for_inserts =
        ["clients", "consultants", "key_revocations", "revocation_tenants", "revocations", "signing_keys"];
    for table in watched_for_inserts.into_iter().chain(["magic_links", "sessions"]) {
        expected.extend([(table, "update"), (table, "delete")]);
        match world.database {
            // An INSERT may replace a row.
            Database::Sqlite => expected.insert((table, "insert")),
            Database::Postgres => expected.insert((table, "truncate")),
        };
    }
    if world.database == Database::Postgres {
        expected.extend(watched_for_inserts.map(|table| (table, "insert")));
    }
    assert_eq!(found, expected);

    // The list is whole: what the statements read is on it, but for the row that they read afresh each time.
    let known = concat!(
        include_str!("../../../src/db/schema.rs"),
        include_str!("../../../src/db/schema/audit.rs"),
        include_str!("../../../src/db/schema/links.rs"),
    );
    let read = READ.iter().flat_map(|text| words_after(text, &["FROM", "JOIN"]));
    let read = read.filter(|table| known.contains(&format!("    {table} (")));
    let read: BTreeSet<&str> = read.filter(|table| !["service_state", "access_epoch"].contains(table)).collect();
    assert!(read.contains("revocation_tenants") && read.contains("clients"), "the statements were not understood");
    for table in read {
        assert!(expected.contains(&(table, "update")), "{table} is read and cached, and not watched");
    }
}

#[apply(on_both_databases)]
async fn every_column_that_a_cached_answer_is_made_of_is_watched(world: &World) {
    let found = triggers(world.database, &mut Sql::of(world));
    let mut seen = 0;
    for (table, called) in [
        ("sessions", "s"),
        ("magic_links", "magic_links"),
        ("consultants", "p"),
        ("clients", "c"),
        ("revocations", "revocations"),
        ("revocation_tenants", "t"),
    ] {
        let update = found.iter().find(|one| one.table == table && one.verb == "update").expect(table);
        let columns =
            READ.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && !"_.".contains(c)));
        let columns = columns.filter_map(|word| word.strip_prefix(&format!("{called}.")));
        for column in columns.filter(|column| column.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
            let watched = !update.text.contains(" of ") || update.text.contains(&format!("new.{column} "));
            assert!(watched, "{table}.{column} is read and cached, and not watched: {}", update.text);
            seen += 1;
        }
    }
    assert!(seen > 30, "the statements were not understood");
}

#[apply(on_both_databases)]
async fn what_takes_access_away_by_hand_is_seen_at_once(world: &World) {
    let moment = "'2026-11-22 10:00:00.000000'";
    let mut statements = vec![
        format!("UPDATE sessions SET ended_at = {moment} WHERE id = '<session>'"),
        format!("UPDATE sessions SET expires_at = {moment} WHERE id = '<session>'"),
        "UPDATE sessions SET consultant_id = 'nobody' WHERE id = '<session>'".to_owned(),
        "DELETE FROM sessions WHERE id = '<session>'".to_owned(),
        format!("UPDATE magic_links SET revoked_at = {moment} WHERE id = '<link>'"),
        "DELETE FROM magic_links WHERE id = '<link>'".to_owned(),
        format!("UPDATE consultants SET suspended_at = {moment} WHERE id = '<consultant>'"),
        "DELETE FROM consultants WHERE id = '<consultant>'".to_owned(),
        format!("UPDATE clients SET disabled_at = {moment} WHERE id = '<client>'"),
        "UPDATE clients SET key_sha256 = 'another' WHERE id = '<client>'".to_owned(),
        "UPDATE clients SET scopes = 'links:read' WHERE id = '<client>'".to_owned(),
        "UPDATE clients SET tenants = 'globex' WHERE id = '<client>'".to_owned(),
        "DELETE FROM clients WHERE id = '<client>'".to_owned(),
    ];
    if world.database == Database::Sqlite {
        for (table, id, change) in [
            ("sessions", "<session>", "ended_at"),
            ("magic_links", "<link>", "revoked_at"),
            ("consultants", "<consultant>", "suspended_at"),
            ("clients", "<client>", "disabled_at"),
        ] {
            statements.push(format!(
                "CREATE TEMP TABLE aside AS SELECT * FROM {table} WHERE id = '{id}'; \
                 UPDATE aside SET {change} = {moment}; REPLACE INTO {table} SELECT * FROM aside; DROP TABLE aside"
            ));
        }
    }
    let mut sql = by_hand(world);
    for statement in statements {
        let (asker, session) = visited(world).await;
        let text = |name: &str| session[name].as_str().unwrap();
        let consultant = session["consultant"]["id"].as_str().unwrap();
        let statement = statement.replace("<session>", text("id")).replace("<link>", text("magic_link_id"));
        let statement = statement.replace("<client>", &asker.client_id).replace("<consultant>", consultant);
        sql.run(&statement).unwrap();
        let reply = asker.form("/v1/introspect", &[("token", text("access_token"))]).await;
        assert_ne!(reply.body["active"], true, "{statement}");
    }
}

#[apply(on_both_databases)]
async fn a_signing_key_that_is_taken_away_by_hand_verifies_nothing_more(world: &World) {
    let (asker, session) = visited(world).await;
    let token = session["access_token"].as_str().unwrap();
    let mut sql = by_hand(world);
    sql.run("UPDATE signing_keys SET expires_at = '2026-11-22 10:00:00.000000'").unwrap();
    assert!(!asker.is_active(token).await);
    sql.run("UPDATE signing_keys SET expires_at = NULL").unwrap();
    assert!(asker.is_active(token).await);
    sql.run("DELETE FROM signing_keys").unwrap();
    assert!(!asker.is_active(token).await);
}

#[test]
fn a_table_that_is_emptied_at_one_stroke_is_seen_empty_at_once() {
    for table in ["clients", "consultants", "magic_links", "sessions", "signing_keys"] {
        World::run(Database::Postgres, &Settings::default(), async |world| {
            let (asker, session) = visited(world).await;
            by_hand(world).run(&format!("TRUNCATE {table} CASCADE")).unwrap();
            let reply = asker.form("/v1/introspect", &[("token", session["access_token"].as_str().unwrap())]).await;
            assert_ne!(reply.body["active"], true, "{table}");
        });
    }
}

#[apply(on_both_databases)]
async fn an_epoch_never_falls(world: &World) {
    let mut sql = Sql::of(world);
    for statement in ["UPDATE access_epoch SET epoch = epoch - 1", "UPDATE service_state SET key_epoch = key_epoch - 1"]
    {
        let error = sql.run(statement).expect_err(statement).to_string();
        assert!(error.contains("an epoch can only grow"), "{statement}: {error}");
    }
}
