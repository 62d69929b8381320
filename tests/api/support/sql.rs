//! The database itself, behind the service's back.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};
use diesel::{PgConnection, QueryResult, SqliteConnection};

use super::{Database, ROLE, World};

/// A connection of the test's own, with the settings that the service uses.
pub enum Sql {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    told: String,
}

#[derive(QueryableByName)]
struct Detail {
    #[diesel(sql_type = Text)]
    detail: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Text>)]
    text: Option<String>,
}

impl Sql {
    /// Connects to the world's database.
    pub fn of(world: &World) -> Self {
        Self::open(&world.database_url)
    }

    /// Connects to the database that a server always has.
    pub fn control(world: &World) -> Self {
        Self::open(&world.database_url.replace(&format!("/{}?", Self::name(world)), "/postgres?"))
    }

    /// The name of the world's PostgreSQL database.
    pub fn name(world: &World) -> String {
        let path = world.database_url.split_once("@/").expect("an address without a host").1;
        path.split_once('?').expect("an address with a folder").0.to_owned()
    }

    /// Connects to any database.
    pub fn open(url: &str) -> Self {
        match url.strip_prefix("sqlite://") {
            None => Self::Postgres(PgConnection::establish(url).expect("PostgreSQL answers")),
            Some(path) => {
                let mut conn = SqliteConnection::establish(path).expect("the file opens");
                conn.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA recursive_triggers = ON;").expect("settings");
                Self::Sqlite(conn)
            }
        }
    }

    /// Runs statements.
    pub fn run(&mut self, statements: &str) -> QueryResult<()> {
        match self {
            Self::Postgres(conn) => conn.batch_execute(statements),
            Self::Sqlite(conn) => conn.batch_execute(statements),
        }
    }

    /// The column called `text` of every row; NULL is empty.
    pub fn texts(&mut self, query: &str) -> Vec<String> {
        let query = diesel::sql_query(query);
        let rows: QueryResult<Vec<Row>> = match self {
            Self::Postgres(conn) => query.load(conn),
            Self::Sqlite(conn) => query.load(conn),
        };
        rows.expect("a query that works").into_iter().map(|row| row.text.unwrap_or_default()).collect()
    }

    /// A query for the numbers `i` from 0 on, and the 26 characters of an id made from each: for many rows at once.
    pub fn numbers(database: Database, count: usize) -> (String, &'static str) {
        match database {
            Database::Sqlite => (
                format!(
                    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count} - 1) SELECT i FROM n"
                ),
                "printf('%026d', i)",
            ),
            Database::Postgres => (format!("SELECT generate_series(0, {count} - 1) AS i"), "lpad(i::text, 26, '0')"),
        }
    }

    /// Notes from now on how many events each transaction appends to a log: ranges are seen by it.
    pub fn note_appends(&mut self) {
        let noted = "CREATE TABLE appends (tenant_id TEXT NOT NULL, events BIGINT NOT NULL)";
        let insert = "INSERT INTO appends VALUES (NEW.tenant_id, NEW.size - OLD.size)";
        let trigger = "CREATE TRIGGER note_appends AFTER UPDATE ON audit_logs FOR EACH ROW";
        let statements = match self {
            Self::Sqlite(_) => format!("{noted}; {trigger} BEGIN {insert}; END"),
            Self::Postgres(_) => format!(
                "{noted}; GRANT INSERT ON appends TO {ROLE}; CREATE FUNCTION note_appends() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN {insert}; RETURN NULL; END $$; {trigger} EXECUTE FUNCTION note_appends()"
            ),
        };
        self.run(&statements).expect("the owner may");
    }

    /// The largest number of events that a transaction has appended to a log since they are noted.
    pub fn largest_append(&mut self, tenant_id: &str) -> usize {
        let largest = "SELECT CAST(max(events) AS TEXT) AS text FROM appends";
        self.texts(&format!("{largest} WHERE tenant_id = '{tenant_id}'"))[0].parse().expect("events were appended")
    }

    /// How a statement finds its rows, whatever its values are and however few there are; PostgreSQL needs the types of its
    /// parameters.
    pub fn plan(&mut self, statement: &str, types: &[&str]) -> Vec<String> {
        match self {
            Self::Postgres(conn) => {
                let prepared = format!("PREPARE it ({}) AS {statement}", types.join(", "));
                let prepared = conn.batch_execute(&format!(
                    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; {prepared}"
                ));
                prepared.expect("the statement and its types");
                let values = vec!["NULL"; types.len()].join(", ");
                let steps = diesel::sql_query(format!("EXPLAIN EXECUTE it ({values})")).load(conn);
                conn.batch_execute("DEALLOCATE it").expect("it was prepared");
                steps.expect("a plan").into_iter().map(|Step { told }| told).collect()
            }
            Self::Sqlite(conn) => {
                let steps = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}")).load(conn);
                steps.expect("a plan").into_iter().map(|Detail { detail }| detail).collect()
            }
        }
    }

    /// How many rows `from …` has.
    pub fn count(&mut self, from: &str) -> usize {
        let rows = self.texts(&format!("SELECT CAST(count(*) AS TEXT) AS text {from}"));
        rows.first().and_then(|number| number.parse().ok()).expect("a number")
    }
}
