//! What the trail costs: taking reports in, exporting, proving, and how that grows with the log.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use serde_json::{Value, json};

use crate::databases::Database;
use crate::load::{self, Request};
use crate::server::Server;
use crate::{mail_sink, pgbench};

/// Acts in a report.
const BATCH: usize = 100;
/// Who reports at the same time, each into a session of its own, all into one log.
const REPORTERS: usize = 16;
/// Log sizes at which appending is measured.
const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
/// Reports of which an append is the mean.
const REPORTS: usize = 200;
/// Proofs that are asked for.
const PROOFS: usize = 2_000;

/// The same rows without a log: as many inserts as an act takes, a hundred acts a transaction.
const PLAIN_ROWS: &str = "
INSERT INTO plain_events SELECT 'evt_' || :key || '_' || n, 'acme', :key * 100 + n, 'data.changed',
    '2026-11-22 10:00:00', '2026-11-22 10:00:00', 'consultant', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z',
    'cli_01kaq3v9e8fwmvd2x7n0c5hb4z', 'cloud', 'mlk_01kaq3v9e8fwmvd2x7n0c5hb1z', 'ses_' || :key,
    'con_01kaq3v9e8fwmvd2x7n0c5hb3z', 'emp-1042', 'emp-9', 'portal', n, false, false, NULL, :hash, :hash FROM :numbers;
INSERT INTO plain_payloads SELECT 'acme', :key * 100 + n, :hash, '{}', :hash FROM :numbers;
";

/// Grows a log to a million events, and measures on the way.
pub async fn measure(database: Database, url: &str, key: &str, notes: &mut Vec<String>) {
    let name = format!("{database:?}");
    let sink = mail_sink::start().await;
    let server = Server::magic_link(url, &sink.url(), &[]);
    let sessions = open_sessions(&server, &sink, key).await;
    let mut next = [1_usize; REPORTERS];
    let mut reported = 0;
    let mut report = |number: usize| {
        let session = number % REPORTERS;
        let first = next[session];
        next[session] += BATCH;
        let act = |seq: usize| {
            json!({
                "seq": seq, "occurred_at": "2026-11-22T10:00:00Z", "action": "employee.salary.updated",
                "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9",
                "changes": [{ "field": "basic", "before": "50000", "after": "52000" }],
            })
        };
        let body = json!({ "events": (first..first + BATCH).map(act).collect::<Vec<Value>>() });
        Request::post(key, &format!("/v1/sessions/{}/events", sessions[session]), &body)
    };
    let mut at_first = 0.0;
    for size in SIZES {
        while reported + REPORTS * BATCH < size {
            let requests: Vec<Request> = (0..REPORTS).map(&mut report).collect();
            send(&server, requests).await;
            reported += REPORTS * BATCH;
        }
        let requests: Vec<Request> = (0..REPORTS).map(&mut report).collect();
        let (cpu, started) = (server.cpu(), Instant::now());
        send(&server, requests).await;
        reported += REPORTS * BATCH;
        let events = (REPORTS * BATCH) as f64;
        let cpu = server.cpu().saturating_sub(cpu).as_micros() as f64 / events;
        let per_second = events / started.elapsed().as_secs_f64();
        if at_first == 0.0 {
            at_first = cpu;
            let plain = plain_inserts(database, url);
            notes.push(format!(
                "{name}: {per_second:.0} acts a second in reports of {BATCH}, {REPORTERS} reporters, one log; a plain \
                 INSERT of the same rows, {BATCH} acts a transaction: {plain:.0} a second; ratio {:.2}",
                per_second / plain
            ));
        }
        notes.push(format!(
            "{name}: at {size} events an act costs {cpu:.0} µs of server CPU ({:.2} of what it cost at first)",
            cpu / at_first
        ));
    }

    let idle = server.memory_mib();
    let started = Instant::now();
    let bytes = server.download(key, "/v1/audit-events/export?tenant_id=acme").await;
    let mib = bytes as f64 / f64::from(1 << 20);
    notes.push(format!(
        "{name}: the export of {reported} acts: {mib:.0} MiB at {:.0} MiB/s; the server had {idle} MiB before and {} MiB \
         at its peak",
        mib / started.elapsed().as_secs_f64(),
        server.peak_memory_mib()
    ));
    let proof = |number: usize| {
        let index = number * 499 % reported;
        Request::get_with(key, &format!("/v1/audit-log/acme/proofs/inclusion?index={index}&size={reported}"))
    };
    let proofs = load::each(&server, 1, PROOFS, proof).await.figures;
    notes.push(format!(
        "{name}: an inclusion proof among {reported}: p50 {:.2} ms, p99 {:.2} ms, a lone caller",
        proofs.percentile(50),
        proofs.percentile(99)
    ));
}

async fn send(server: &Server, requests: Vec<Request>) {
    let answers = load::each(server, REPORTERS, requests.len(), |number| requests[number].clone()).await.answers;
    assert!(answers.iter().all(|answer| answer.contains("\"recorded\":100")), "{:?}", answers.first());
}

/// One session for each reporter, of the same tenant.
async fn open_sessions(server: &Server, sink: &mail_sink::MailSink, key: &str) -> Vec<String> {
    let consultant =
        server.post(key, "/v1/consultants", &json!({ "name": "Ravi", "email": "ravi@support.example" })).await;
    let mut issue = json!({
        "tenant_id": "acme", "portal": "cloud", "consultant_id": consultant["id"],
        "reason": "Payroll run for November stops at step 3", "duration": { "value": 4, "unit": "hours" },
        "profile": { "id": "emp-1042", "name": "Asha Rao" }, "issued_by": { "id": "emp-7", "name": "Meera Iyer" }
    });
    for reporter in 0..REPORTERS {
        issue["profile"]["id"] = format!("emp-{reporter}").into();
        server.post(key, "/v1/magic-links", &issue).await;
    }
    let mut sessions = Vec::new();
    for token in sink.tokens(REPORTERS).await {
        let answer = server.post(key, "/l/continue", &json!({ "token": token })).await;
        let address = answer["redirect_url"].as_str().expect("a press of the button leads on").to_owned();
        let code = address.split_once("code=").unwrap().1;
        let session = server.post(key, "/v1/sessions", &json!({ "token": code })).await;
        sessions.push(session["id"].as_str().expect("a session").to_owned());
    }
    sessions
}

/// How many acts a second a plain INSERT of the same rows takes in, into tables with the same indexes.
fn plain_inserts(database: Database, url: &str) -> f64 {
    match database {
        Database::Postgres => {
            let tables = "CREATE TABLE plain_events (LIKE audit_events INCLUDING ALL); \
                CREATE TABLE plain_payloads (LIKE audit_payloads INCLUDING ALL);";
            let script = PLAIN_ROWS
                .replace(":key", ":key::bigint")
                .replace(":hash", "sha256('x'::bytea)")
                .replace(":numbers", "generate_series(1, 100) AS n")
                .replace("'2026-11-22 10:00:00'", "timestamp '2026-11-22 10:00:00'");
            let script = format!("\\set key random(1, 2000000000)\nBEGIN;{script}COMMIT;\n");
            diesel::PgConnection::establish(url).unwrap().batch_execute(tables).unwrap();
            let transactions = pgbench::run(url, &script, REPORTERS, 5).expect("pgbench is installed");
            transactions * BATCH as f64
        }
        Database::Sqlite => {
            let mut conn = SqliteConnection::establish(url.strip_prefix("sqlite://").unwrap()).unwrap();
            conn.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL;").unwrap();
            conn.batch_execute(&plain_tables()).unwrap();
            let (mut key, started) = (0_u32, Instant::now());
            while started.elapsed() < Duration::from_secs(5) {
                key += 1;
                let numbers =
                    "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 100) SELECT n FROM r)";
                let script = PLAIN_ROWS
                    .replace(":key", &key.to_string())
                    .replace(":hash", "randomblob(32)")
                    .replace(":numbers", numbers);
                conn.batch_execute(&format!("BEGIN IMMEDIATE;{script}COMMIT;")).unwrap();
            }
            f64::from(key) * BATCH as f64 / started.elapsed().as_secs_f64()
        }
    }
}

/// The tables and indexes of the trail under other names, as the migration has them.
fn plain_tables() -> String {
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
    let files = std::fs::read_dir(migrations).unwrap().map(|folder| folder.unwrap().path().join("up.sql"));
    let statements: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let of_the_trail = |statement: &&str| {
        let create = statement.trim_start().trim_start_matches(|c| c != 'C');
        create.starts_with("CREATE")
            && !create.starts_with("CREATE TRIGGER")
            && ["TABLE audit_events ", "TABLE audit_payloads ", "ON audit_events "]
                .iter()
                .any(|name| create.contains(name))
    };
    let plain = statements.split_inclusive(";\n").filter(of_the_trail);
    plain
        .map(|statement| statement.replace("audit_events", "plain_events").replace("audit_payloads", "plain_payloads"))
        .collect()
}
