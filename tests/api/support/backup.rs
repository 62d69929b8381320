//! A backup of the world's database, and its restore under a service that goes on running.

use super::{Database, Sql, World, folder};

/// The database as it was.
pub struct Backup {
    /// A file, or the name of a database.
    place: String,
    of: Database,
    control: Option<String>,
}

impl Backup {
    /// Takes a backup.
    pub fn of(world: &World) -> Self {
        match world.database {
            Database::Sqlite => {
                let file = folder(&format!("backup-{}", Self::number())).join("magic-link.db");
                let place = file.display().to_string();
                Sql::of(world).run(&format!("VACUUM INTO '{place}'")).expect("a backup");
                Self { place, of: Database::Sqlite, control: None }
            }
            Database::Postgres => {
                let (name, place) = (Sql::name(world), format!("backup_{}_{}", Sql::name(world), Self::number()));
                copy(world, &name, &place);
                let control = world.database_url.replace(&format!("/{name}?"), "/postgres?");
                Self { place, of: Database::Postgres, control: Some(control) }
            }
        }
    }

    /// Puts it in the place of the world's database, whoever is connected.
    pub fn restore(&self, world: &World) {
        match self.of {
            Database::Sqlite => {
                let file = world.database_url.strip_prefix("sqlite://").expect("a file");
                let fresh = format!("{file}.restored");
                std::fs::copy(&self.place, &fresh).expect("the backup can be copied");
                for rest in ["-wal", "-shm"] {
                    drop(std::fs::remove_file(format!("{file}{rest}")));
                }
                std::fs::rename(&fresh, file).expect("the backup takes its place");
            }
            Database::Postgres => {
                let name = Sql::name(world);
                let mut control = Sql::control(world);
                control.run(&format!("DROP DATABASE {name} WITH (FORCE)")).expect("the owner may");
                copy(world, &self.place, &name);
            }
        }
    }

    fn number() -> u32 {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        NUMBER.fetch_add(1, Ordering::SeqCst)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        if let Some(control) = &self.control {
            let dropped = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.place);
            drop(Sql::open(control).run(&dropped));
        }
    }
}

/// Copies a PostgreSQL database; who is connected to it has to connect again.
fn copy(world: &World, from: &str, to: &str) {
    let mut control = Sql::control(world);
    let statements = [
        format!("ALTER DATABASE {from} WITH ALLOW_CONNECTIONS false"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'"),
        format!("CREATE DATABASE {to} TEMPLATE {from} STRATEGY FILE_COPY"),
        format!("ALTER DATABASE {from} WITH ALLOW_CONNECTIONS true"),
        format!("ALTER DATABASE {to} WITH ALLOW_CONNECTIONS true"),
    ];
    for statement in statements {
        control.run(&statement).expect(&statement);
    }
}
