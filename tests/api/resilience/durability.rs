//! Every acknowledgement comes after a sync: seen in the system calls. `make trace` runs it; it needs strace.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::support::{
    Api, DURABLE, Database, MASTER_KEY, Settings, Sql, World, apply, eventually, folder, on_both_databases,
};

/// Acts of a lone caller, one after the other.
const ACTS: usize = 50;

/// What the calls say, with the second at which each of them was over.
fn calls(trace: &Path) -> Vec<(f64, String)> {
    let text = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();
    let call = |line: &str| {
        let (_process, rest) = line.trim_start().split_once(' ')?;
        let (began, call) = rest.trim_start().split_once(' ')?;
        let began: f64 = began.parse().ok()?;
        let took = call.rsplit_once(" <").and_then(|(_, took)| took.strip_suffix('>')?.parse::<f64>().ok());
        // A call that others interrupted is told again when it is over, at that time.
        let over = if call.starts_with("<...") { began } else { began + took.unwrap_or(0.0) };
        Some((over, call.to_owned()))
    };
    text.lines().filter_map(call).collect()
}

/// `strace`, with what it takes to see requests, answers and syncs.
fn strace(output: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-q",
        "-ttt",
        "-T",
        "-s",
        "32",
        "-e",
        "trace=fsync,fdatasync,recvfrom,sendto,read,write,writev",
    ]);
    command.arg("-o").arg(output).stderr(Stdio::null());
    command
}

/// The process that every PostgreSQL connection is forked from.
fn postmaster(world: &World) -> String {
    let data = Sql::of(world).texts("SELECT current_setting('data_directory') AS text").remove(0);
    let file = std::fs::read_to_string(Path::new(&data).join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

/// Whoever is traced, until this is dropped.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        drop(Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status());
        drop(self.0.wait());
    }
}

/// PostgreSQL syncs its commits: said before its first use in this process.
fn durable() -> Settings {
    DURABLE.store(true, Ordering::SeqCst);
    Settings::no_service()
}

#[apply(on_both_databases)]
#[settings(durable())]
#[ignore = "needs strace: make trace"]
async fn no_act_is_acknowledged_before_a_sync(world: &World) {
    let files = folder("traces");
    let [service, database] = ["service", "database"].map(|name| files.join(format!("{name}-{:?}", world.database)));
    let _database = match world.database {
        Database::Sqlite => None,
        Database::Postgres => {
            let traced = Traced(strace(&database).args(["-p", &postmaster(world)]).spawn().unwrap());
            // It is attached once it sees a connection come and go.
            eventually("PostgreSQL is traced", async || {
                Sql::of(world).texts("SELECT 'x' AS text");
                std::fs::metadata(&database).is_ok_and(|file| file.len() > 0).then_some(())
            })
            .await;
            Some(traced)
        }
    };
    let nobody = "http://127.0.0.1:9";
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base = format!("http://127.0.0.1:{port}");
    let mut command = strace(&service);
    command
        // The service is the child itself, and the tracer its grandchild: what stops the one ends the other.
        .args(["-D", env!("CARGO_BIN_EXE_magic-link"), "serve"])
        .env("MAGIC_LINK_LISTEN", format!("127.0.0.1:{port}"))
        .env("MAGIC_LINK_PUBLIC_URL", "http://127.0.0.1:8080")
        .env("MAGIC_LINK_DATABASE_URL", &world.database_url)
        .env("MAGIC_LINK_MASTER_KEY", MASTER_KEY)
        .env("MAGIC_LINK_MAIL__PROVIDER", "mailpit")
        .env("MAGIC_LINK_MAIL__MAILPIT_URL", nobody)
        .env("MAGIC_LINK_LOG__LEVEL", "error")
        .current_dir(&files)
        .stdout(Stdio::null());
    let serving = Traced(command.spawn().unwrap());
    eventually("the service listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).ok()).await;
    let caller: Api = world.admin.at(&base);
    let consultant = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant: Value = caller.post("/v1/consultants", &consultant).await.ok();
    for _ in 0..ACTS {
        caller.issue(consultant["id"].as_str().unwrap()).await;
    }
    let own = format!("{} ", serving.0.id());
    drop(serving);
    eventually("the trace is written", async || {
        let ends = |line: &str| line.starts_with(&own) && line.contains("+++ exited");
        String::from_utf8_lossy(&std::fs::read(&service).unwrap()).lines().any(ends).then_some(())
    })
    .await;

    let seen = calls(&service);
    let of = |wanted: &str, seen: &[(f64, String)]| -> Vec<f64> {
        seen.iter().filter(|(_, call)| call.contains(wanted)).map(|(over, _)| *over).collect()
    };
    let (asked, answered) = (of("\"POST /v1/magic-links", &seen), of("\"HTTP/1.1 201", &seen));
    // The first answer is that about the consultant.
    let answered = &answered[1..];
    assert_eq!((asked.len(), answered.len()), (ACTS, ACTS));
    let traced = if world.database == Database::Sqlite { seen } else { calls(&database) };
    let synced: Vec<f64> = traced
        .iter()
        .filter(|(_, call)| call.contains("sync") && call.contains("= 0"))
        .map(|(over, _)| *over)
        .collect();
    for (number, (asked, answered)) in asked.iter().zip(answered).enumerate() {
        let before = synced.iter().any(|synced| asked < synced && synced < answered);
        assert!(before, "act {number} was asked for at {asked:.6} and acknowledged at {answered:.6} without a sync");
    }
    eprintln!(
        "{:?}: {ACTS} acknowledgements, each after a sync of its own; {} syncs in all",
        world.database,
        synced.len()
    );
}
