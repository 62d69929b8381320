//! Migrations: one tree for each database, with the same names, built into the binary.

use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::Conn;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Runs pending migrations. Several processes may do so at once: one does it, the others wait for it.
pub(crate) fn run(conn: &mut Conn) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match conn {
        Conn::Postgres(conn) => {
            use diesel::connection::SimpleConnection;
            // A migration of a large table takes a while, and the others wait as long.
            conn.batch_execute("SET statement_timeout = '1h'; SET lock_timeout = '1h'")?;
            // Held until it is released or the connection closes; the number has no other use.
            conn.batch_execute("SELECT pg_advisory_lock(7304826150)")?;
            let outcome = conn.run_pending_migrations(POSTGRES).map(drop);
            conn.batch_execute("SELECT pg_advisory_unlock(7304826150)")?;
            outcome
        }
        Conn::Sqlite(conn) => {
            if !conn.has_pending_migration(SQLITE)? {
                return Ok(());
            }
            // What is pending is asked again under the write lock.
            let mut failure = None;
            let outcome = conn.immediate_transaction(|conn| {
                conn.run_pending_migrations(SQLITE).map(drop).map_err(|error| {
                    failure = Some(error);
                    diesel::result::Error::RollbackTransaction
                })
            });
            match failure {
                Some(failure) => Err(failure),
                None => Ok(outcome?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::migration::MigrationSource;
    use diesel::pg::Pg;
    use diesel::sqlite::Sqlite;

    #[test]
    fn both_trees_have_the_same_names() {
        let postgres = MigrationSource::<Pg>::migrations(&POSTGRES).unwrap();
        let sqlite = MigrationSource::<Sqlite>::migrations(&SQLITE).unwrap();
        let postgres: Vec<String> = postgres.iter().map(|one| one.name().to_string()).collect();
        let sqlite: Vec<String> = sqlite.iter().map(|one| one.name().to_string()).collect();
        assert_eq!(postgres, sqlite);
    }
}
