//! Who checks the trail, with nothing but the program and what they kept: no configuration, no database.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::world::folder;
use super::{Api, World};

/// An auditor of one tenant's log.
pub struct Auditor {
    pub folder: PathBuf,
    pub log: String,
    pub key: String,
    /// Public keys with which the customer signs approvals.
    pub approval_keys: Vec<String>,
}

impl Auditor {
    /// Learns the log's key.
    pub async fn of(tenant_id: &str, api: &Api) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = folder(&format!("auditor-{}", NUMBER.fetch_add(1, Ordering::SeqCst)));
        let log = format!("/v1/audit-log/{tenant_id}");
        let key = api.get(&format!("{log}/verifier-key")).await;
        assert_eq!(key.status, 200, "{key:?}");
        Self { folder, key: key.text.trim().to_owned(), log, approval_keys: Vec::new() }
    }

    /// The log's checkpoint as of now.
    pub async fn checkpoint(&self, api: &Api) -> String {
        let checkpoint = api.get(&format!("{}/checkpoint", self.log)).await;
        assert_eq!(checkpoint.status, 200, "{checkpoint:?}");
        checkpoint.text
    }

    /// The whole log.
    pub async fn export(&self, api: &Api) -> String {
        let tenant_id = self.log.rsplit('/').next().expect("a tenant");
        let export = api.get(&format!("/v1/audit-events/export?tenant_id={tenant_id}")).await;
        assert_eq!(export.status, 200, "{export:?}");
        assert_eq!(export.header("content-type"), "application/x-ndjson");
        export.text
    }

    /// Checks a file against checkpoints, the newest first.
    pub fn verify(&self, file: &str, checkpoints: &[&str]) -> Output {
        let save = |name: String, text: &str| {
            let path = self.folder.join(name);
            std::fs::write(&path, text).expect("the file can be written");
            path
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
        // Not even its environment: nothing of the service is needed.
        command.env_clear().current_dir(&self.folder).args(["audit", "verify"]);
        command.arg(save("export".to_owned(), file)).args(["--key", &self.key]);
        for (number, text) in checkpoints.iter().enumerate() {
            command.arg(if number == 0 { "--checkpoint" } else { "--since" });
            command.arg(save(format!("checkpoint-{number}"), text));
        }
        for (number, text) in self.approval_keys.iter().enumerate() {
            command.arg("--approval-key").arg(save(format!("approval-key-{number}"), text));
        }
        command.output().expect("the command runs")
    }

    /// Checks that it verifies; tells what was said.
    #[track_caller]
    pub fn accepts(&self, file: &str, checkpoints: &[&str]) -> String {
        let output = self.verify(file, checkpoints);
        assert!(output.status.success(), "{}\n{file}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Checks that it does not, and that the reason holds a text.
    #[track_caller]
    pub fn refuses(&self, file: &str, checkpoints: &[&str], why: &str) {
        let output = self.verify(file, checkpoints);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "it was taken: {said}");
        assert!(said.contains(why), "{said}");
    }

    /// Fetches the log with a fresh checkpoint, and checks it; tells how many events it has.
    pub async fn audit(&self, api: &Api) -> usize {
        let checkpoint = self.checkpoint(api).await;
        let export = self.export(api).await;
        self.accepts(&export, &[&checkpoint]);
        export.lines().count() - 1
    }
}

/// Lets the database be changed as somebody would who owns it: without the triggers that refuse.
pub fn unguarded(world: &World, table: &str, statements: &str) {
    let mut sql = super::Sql::of(world);
    match world.database {
        super::Database::Postgres => {
            sql.run(&format!("ALTER TABLE {table} DISABLE TRIGGER USER; {statements}")).expect("the owner may");
        }
        super::Database::Sqlite => {
            let triggers =
                format!("SELECT name AS text FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = '{table}'");
            for trigger in sql.texts(&triggers) {
                sql.run(&format!("DROP TRIGGER {trigger}")).expect("the owner may");
            }
            sql.run(statements).expect("the owner may");
        }
    }
}
