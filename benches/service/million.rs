//! The same work beside a million links and sessions, and after a million tokens.

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, RunQueryDsl, SqliteConnection};

use crate::databases::Database;
use crate::load::{self, Request, drive};
use crate::server::Server;
use crate::{CALLERS, FRESH_TOKENS, LENGTH, SESSIONS, Sessions, issue_another, median};

/// Links, and as many sessions.
const MANY: usize = 1_000_000;

/// Measures against the sizes that every installation begins with, and then against a million of each.
pub async fn measure(database: Database, url: &str, key: &str, notes: &mut Vec<String>) {
    let name = format!("{database:?}");
    let sink = crate::mail_sink::start().await;
    let server = Server::magic_link(url, &sink.url(), &[]);
    let sessions = Sessions::open(&server, &sink, key).await;
    let few = costs(&server, key, &sessions).await;
    plant(database, url);
    // What was issued is being mailed, which costs the same process.
    drained(database, url).await;
    let many = costs(&server, key, &sessions).await;
    for ((what, few), (_, many)) in few.iter().zip(&many) {
        notes.push(format!(
            "{name}: {what} beside {MANY} links and {MANY} live sessions costs {:.2} of the CPU and reaches {:.2} of the \
             requests/s that it has beside {SESSIONS}",
            many.0 / few.0,
            many.1 / few.1,
        ));
    }
    if database == Database::Sqlite {
        notes.push(million_tokens(&server, url, key, &sessions).await);
    }
}

/// Server CPU in microseconds and requests a second, by what was asked.
async fn costs(server: &Server, key: &str, sessions: &Sessions) -> Vec<(&'static str, (f64, f64))> {
    let ask = async || {
        let token = |number: usize| &sessions.tokens[number % sessions.tokens.len()];
        drive(server, CALLERS, LENGTH, |number| Request::introspect(key, token(number))).await
    };
    let read = async || {
        let path = |number: usize| format!("/v1/sessions/{}", sessions.ids[number % sessions.ids.len()]);
        drive(server, CALLERS, LENGTH, |number| Request::get_with(key, &path(number))).await
    };
    let list = async || {
        let path = "/v1/magic-links?tenant_id=acme&state=active&page_size=20";
        drive(server, CALLERS, LENGTH, |_| Request::get_with(key, path)).await
    };
    let issue = async || drive(server, CALLERS, LENGTH, |_| issue_another(key, &sessions.issue)).await;
    let mut costs = Vec::new();
    for (what, figures) in [
        ("introspection", median(ask).await),
        ("reading a session", median(read).await),
        ("listing active links", median(list).await),
        ("issuing", median(issue).await),
    ] {
        costs.push((what, (figures.cpu_micros(), figures.per_second())));
    }
    costs
}

/// Puts the links and sessions beside those that are there, all of them live and of tenants of their own.
fn plant(database: Database, url: &str) {
    let (numbers, id) = match database {
        Database::Sqlite => (
            format!(
                "(WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY} - 1) SELECT i FROM n)"
            ),
            "printf('%026d', i)",
        ),
        Database::Postgres => (format!("(SELECT generate_series(0, {MANY} - 1) AS i)"), "lpad(i::text, 26, '0')"),
    };
    let link = "portal, consultant_id, profile_id, profile_name, reason, access, starts_at, expires_at, issued_by_id,
        issued_by_name, created_at, generation";
    let session =
        "generation, portal, consultant_id, profile_id, profile_name, access, reason, started_at, expires_at, kid";
    let statements = format!(
        "INSERT INTO status_lists (id, created_at) SELECT 1000 + i, created_at FROM status_lists, {numbers} numbers
            WHERE i < 100 AND id = 1;
         INSERT INTO magic_links (id, tenant_id, {link})
            SELECT 'mlk_' || {id}, 'tenant-' || (i % 1000), {link} FROM magic_links, {numbers} numbers
            WHERE id = (SELECT min(magic_link_id) FROM sessions);
         INSERT INTO sessions (id, magic_link_id, tenant_id, {session}, status_list, status_index)
            SELECT 'ses_' || {id}, 'mlk_' || {id}, 'tenant-' || (i % 1000), {session}, 1000 + i / 50000, i % 50000
            FROM sessions, {numbers} numbers WHERE id = (SELECT min(id) FROM sessions);
         ANALYZE;"
    );
    match database {
        Database::Sqlite => {
            let mut conn = SqliteConnection::establish(url.strip_prefix("sqlite://").unwrap()).unwrap();
            conn.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA synchronous = OFF;").unwrap();
            conn.batch_execute(&format!("BEGIN; {statements} COMMIT;")).unwrap();
        }
        Database::Postgres => PgConnection::establish(url).unwrap().batch_execute(&statements).unwrap(),
    }
}

/// Waits until every mail has left.
async fn drained(database: Database, url: &str) {
    let waiting = "SELECT count(*) FROM mail_jobs WHERE finished_at IS NULL";
    let count = || -> i64 {
        let query = diesel::dsl::sql::<diesel::sql_types::BigInt>(waiting);
        match database {
            Database::Sqlite => {
                query.get_result(&mut SqliteConnection::establish(url.strip_prefix("sqlite://").unwrap()).unwrap())
            }
            Database::Postgres => query.get_result(&mut PgConnection::establish(url).unwrap()),
        }
        .unwrap()
    };
    while count() > 0 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// Introspects a million tokens that were never seen before, at a process that has done nothing else.
async fn million_tokens(signer: &Server, url: &str, key: &str, sessions: &Sessions) -> String {
    let server = Server::magic_link(url, "http://127.0.0.1:9", &[]);
    for _ in 0..MANY / FRESH_TOKENS {
        let fresh = sessions.sign_again(signer, key, FRESH_TOKENS).await;
        load::each(&server, CALLERS, fresh.len(), |number| Request::introspect(key, &fresh[number])).await;
    }
    format!(
        "Sqlite: {} MiB resident after {MANY} tokens of their own were introspected, {} MiB at the peak",
        server.memory_mib(),
        server.peak_memory_mib()
    )
}
