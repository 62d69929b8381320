//! Holds the service in the middle of a transaction: the database does not come back from a statement.
//!
//! It stands in the database, and so the program that is killed there is the one that ships.

use super::{Database, Sql, World, eventually};

/// Where a transaction stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A link and its mail job are written, and their event is not: nothing is committed.
    Issuing,
    /// The job is committed, and the worker's claim is not.
    Claiming,
    /// The provider has taken the mail, and that is not committed.
    Storing,
}

/// Stands until it is opened; by then whoever stood there has to be dead.
pub struct Gate {
    database: Database,
    sql: Sql,
    table: &'static str,
}

impl Gate {
    /// From now on everybody who gets there stands still.
    pub fn shut(world: &World, moment: Moment) -> Self {
        let (event, table, when) = match moment {
            Moment::Issuing => ("INSERT", "audit_events", "NEW.event_type = 'magic_link.issued'"),
            Moment::Claiming => ("UPDATE", "mail_jobs", "NEW.template = 'magic_link' AND NEW.state = 'sending'"),
            Moment::Storing => ("UPDATE", "mail_jobs", "NEW.template = 'magic_link' AND NEW.state = 'accepted'"),
        };
        let mut sql = Sql::of(world);
        let statements = match world.database {
            Database::Sqlite => format!(
                "CREATE VIEW ages AS WITH RECURSIVE age(n) AS \
                 (SELECT 1 UNION ALL SELECT n + 1 FROM age LIMIT 1000000000) SELECT n FROM age; \
                 CREATE TRIGGER gate BEFORE {event} ON {table} WHEN {when} BEGIN SELECT count(*) FROM ages; END"
            ),
            Database::Postgres => format!(
                "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_sleep(25); RETURN NEW; END $$; \
                 CREATE TRIGGER gate BEFORE {event} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION gate()"
            ),
        };
        sql.run(&statements).expect("the owner may");
        Self { database: world.database, sql, table }
    }

    /// Waits until somebody stands there.
    pub async fn reached(&mut self) {
        let database = self.database;
        let sql = &mut self.sql;
        eventually("a transaction stands still", async || {
            let stands = match database {
                // Nobody else writes for that long.
                Database::Sqlite => sql.run("PRAGMA busy_timeout = 200; BEGIN IMMEDIATE; ROLLBACK").is_err(),
                Database::Postgres => sql.count(&format!("FROM {SLEEPERS}")) > 0,
            };
            stands.then_some(())
        })
        .await;
    }

    /// Takes it away.
    pub fn open(mut self) {
        let table = self.table;
        let statements = match self.database {
            Database::Sqlite => "PRAGMA busy_timeout = 10000; DROP TRIGGER gate; DROP VIEW ages".to_owned(),
            // The server does not notice by itself that nobody waits for it any more.
            Database::Postgres => format!(
                "SELECT pg_terminate_backend(pid) FROM {SLEEPERS}; DROP TRIGGER gate ON {table}; DROP FUNCTION gate()"
            ),
        };
        self.sql.run(&statements).expect("the owner may");
    }
}

/// Whom a gate holds on PostgreSQL.
const SLEEPERS: &str = "pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
