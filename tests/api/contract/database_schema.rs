//! Both databases and `src/db/schema.rs`, with its folder, tell the same story, and the trail cannot be rewritten.

use crate::support::{Database, Settings, Sql, World, apply, on_both_databases};

/// `table column Type`, in order; `Nullable<Type>` where there may be nothing.
fn declared() -> Vec<String> {
    let mut columns = Vec::new();
    let mut table = "";
    let text = concat!(
        include_str!("../../../src/db/schema.rs"),
        include_str!("../../../src/db/schema/audit.rs"),
        include_str!("../../../src/db/schema/links.rs"),
    );
    for line in text.lines().map(str::trim) {
        if let Some((column, kind)) = line.split_once(" -> ").filter(|_| line.ends_with(',')) {
            columns.push(format!("{table} {column} {}", kind.trim_end_matches(',')));
        } else if let Some((name, _)) = line.strip_suffix(") {").and_then(|head| head.split_once(" (")) {
            table = name;
        }
    }
    columns
}

/// The same as the database has it.
fn found(database: Database, sql: &mut Sql) -> Vec<String> {
    let query = match database {
        Database::Sqlite => {
            "SELECT t.name || ' ' || c.name || ' ' \
             || CASE WHEN c.pk = 1 AND t.sql LIKE '%AUTOINCREMENT%' THEN 'BIGINT' ELSE c.type END \
             || ' ' || CASE c.\"notnull\" WHEN 1 THEN 'NO' ELSE 'YES' END \
             AS text FROM sqlite_schema t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '\\_\\_diesel%' ESCAPE '\\' \
             ORDER BY t.name, c.cid"
        }
        Database::Postgres => {
            "SELECT table_name || ' ' || column_name || ' ' || upper(replace(data_type, ' without time zone', '')) \
             || ' ' || is_nullable AS text FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_diesel%' ORDER BY table_name, ordinal_position"
        }
    };
    let columns = sql.texts(query).into_iter().map(|line| {
        let [table, column, kind, nullable] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        let kind = match kind {
            "TEXT" => "Text",
            "TIMESTAMP" => "Timestamp",
            "INTEGER" => "Integer",
            "BIGINT" => "BigInt",
            "BOOLEAN" => "Bool",
            "BLOB" | "BYTEA" => "Binary",
            other => panic!("{table}.{column} is {other}, which the two databases do not share"),
        };
        let kind = if nullable == "YES" { format!("Nullable<{kind}>") } else { kind.to_owned() };
        format!("{table} {column} {kind}")
    });
    columns.collect()
}

/// In order of table, and within a table as declared.
fn by_table(mut columns: Vec<String>) -> Vec<String> {
    columns.sort_by(|one, other| one.split(' ').next().cmp(&other.split(' ').next()));
    columns
}

/// Index definitions without what the two databases write differently.
fn plainly<'a>(definitions: impl Iterator<Item = &'a str>) -> Vec<String> {
    let plain = |text: &str| {
        let text = text
            .to_lowercase()
            .replace("public.", "")
            .replace("using btree ", "")
            .replace("::text", "")
            .replace(['(', ')', ';'], " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut plain: Vec<String> = definitions.map(plain).collect();
    plain.sort();
    plain
}

#[track_caller]
fn refused(sql: &mut Sql, statement: &str) {
    let error = sql.run(statement).expect_err(statement).to_string();
    assert!(error.contains("audit events cannot be"), "{statement}: {error}");
}

#[apply(on_both_databases)]
async fn the_migrated_database_has_the_tables_that_the_code_knows(world: &World) {
    let declared = declared();
    assert!(declared.contains(&"magic_links spent_at Nullable<Timestamp>".to_owned()), "the file was not understood");
    assert_eq!(by_table(found(world.database, &mut Sql::of(world))), by_table(declared));
}

#[apply(on_both_databases)]
async fn the_same_indexes_guard_both_databases(world: &World) {
    // Unique ones decide races: one that is missing on one side would be a hole.
    let query = match world.database {
        Database::Sqlite => {
            "SELECT sql AS text FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND name NOT LIKE '\\_\\_%' ESCAPE '\\'"
        }
        Database::Postgres => {
            "SELECT indexdef AS text FROM pg_indexes WHERE schemaname = 'public' \
             AND indexname NOT LIKE '%\\_pkey' AND indexname NOT LIKE '%\\_key'"
        }
    };
    let found = Sql::of(world).texts(query);
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
    let migrations = std::fs::read_dir(migrations).unwrap().map(|folder| folder.unwrap().path().join("up.sql"));
    let statements: String = migrations.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let dropped: Vec<String> = statements
        .lines()
        .filter_map(|line| line.strip_prefix("DROP INDEX "))
        .map(|name| name.replace(';', " ON"))
        .collect();
    let written = statements.lines().filter(|line| line.starts_with("CREATE") && line.contains("INDEX"));
    let written = written.filter(|line| !dropped.iter().any(|name| line.contains(&format!(" {name} "))));
    let (found, written) = (plainly(found.iter().map(String::as_str)), plainly(written));
    assert!(found.iter().filter(|index| index.starts_with("create unique")).count() >= 4);
    assert_eq!(found, written);
}

/// Where a text is compared by the language of the database, an index does not help a join with one that is not, and the
/// two databases do not have one order.
#[apply(on_both_databases)]
async fn every_text_is_compared_by_its_bytes(world: &World) {
    if world.database == Database::Sqlite {
        return;
    }
    let mut sql = Sql::of(world);
    let others = "SELECT attrelid::regclass || '.' || attname AS text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid \
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT LIKE '\\_\\_diesel%' \
         AND attcollation <> 0 AND attcollation <> '\"C\"'::regcollation";
    assert_eq!(sql.texts(others), [""; 0]);
}

#[apply(on_both_databases)]
async fn the_trail_refuses_to_be_changed(world: &World) {
    // The world's administrator is in it already.
    let mut sql = Sql::of(world);
    let events = "SELECT id || actor_id AS text FROM audit_events ORDER BY id";
    let before = sql.texts(events);
    assert!(!before.is_empty());
    refused(&mut sql, "UPDATE audit_events SET actor_id = 'somebody else'");
    refused(&mut sql, "UPDATE audit_events SET source = source");
    refused(&mut sql, "DELETE FROM audit_events");
    sql.run("INSERT INTO audit_event_principals (principal_id, event_id) VALUES ('emp-9', 'evt_1')").unwrap();
    refused(&mut sql, "UPDATE audit_event_principals SET principal_id = 'emp-8'");
    refused(&mut sql, "DELETE FROM audit_event_principals");
    match world.database {
        Database::Sqlite => {
            refused(&mut sql, "INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events");
            refused(&mut sql, "REPLACE INTO audit_events SELECT * FROM audit_events");
            refused(&mut sql, "UPDATE OR REPLACE audit_events SET id = id");
        }
        Database::Postgres => {
            refused(&mut sql, "TRUNCATE audit_events");
            refused(&mut sql, "TRUNCATE audit_events CASCADE");
            refused(
                &mut sql,
                "INSERT INTO audit_events SELECT * FROM audit_events ON CONFLICT (id) DO UPDATE SET actor_id = 'x'",
            );
        }
    }
    assert_eq!(sql.texts(events), before);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn the_migration_can_be_taken_back(world: &World) {
    let name = match world.database {
        Database::Sqlite => "sqlite",
        Database::Postgres => "postgres",
    };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(name);
    let text = |file: &str| {
        let mut folders: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|one| one.unwrap().path()).collect();
        folders.sort();
        let texts = folders.iter().map(|folder| std::fs::read_to_string(folder.join(file)).unwrap());
        if file == "down.sql" { texts.rev().collect::<String>() } else { texts.collect() }
    };
    let mut sql = Sql::of(world);
    sql.run(&text("down.sql")).unwrap();
    assert_eq!(found(world.database, &mut sql), [""; 0]);
    sql.run(&text("up.sql")).unwrap();
    assert_eq!(by_table(found(world.database, &mut sql)), by_table(declared()));
}
