//! What the service costs, beside a bare actix answer, in one run on one machine.
//!
//! The servers are processes of their own, so that their CPU time is theirs. The
//! load comes from this process, on the same cores: trust ratios and CPU time
//! more than requests a second.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a measurement that meets what it did not expect should stop right there"
)]

mod audit;
#[path = "../../tests/api/support/databases.rs"]
mod databases;
mod issuing;
mod life;
mod load;
mod mail_sink;
mod million;
mod pgbench;
mod server;

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use databases::Database;
use load::{Figures, Request, drive};
use server::Server;

/// That of the service: the bare server is not to be slower by another one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Callers at once.
const CALLERS: usize = 64;
/// Live sessions that are asked about.
const SESSIONS: usize = 1_000;
/// Tokens that are asked about once each.
const FRESH_TOKENS: usize = 20_000;
/// How long one measurement takes.
const LENGTH: Duration = Duration::from_secs(3);
/// Measurements of which the median is told.
const ROUNDS: usize = 3;

/// What the other part of the file begins with.
const YEAR: &str = "\n# A simulated year";

fn main() {
    // The same program is the bare server.
    if std::env::args().any(|argument| argument == "bare") {
        return server::serve_bare();
    }
    let asked = |part: &str| std::env::args().any(|argument| argument == part);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // `requests` and these measure a part alone, and leave the file as it is.
    let parts = [
        ("introspection", Part::Introspection),
        ("issuing", Part::Issuing),
        ("life", Part::Life),
        ("million", Part::Million),
        ("audit", Part::Audit),
    ];
    if let Some((_, part)) = parts.into_iter().find(|(name, _)| asked(name)) {
        return println!("- {}", runtime.block_on(measure_part(part)).join("\n- "));
    }
    let report = runtime.block_on(measure(!asked("requests")));
    println!("{report}");
    if asked("requests") {
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");
    // What `make year` has measured stays.
    let before = std::fs::read_to_string(file).unwrap();
    let year = before.split_once(YEAR).map_or_else(String::new, |(_, year)| format!("{YEAR}{year}"));
    std::fs::write(file, report + &year).unwrap();
}

/// What is measured by itself.
#[derive(Clone, Copy)]
enum Part {
    /// Introspection beside the bare answer, in turns.
    Introspection,
    /// Group commit beside a transaction for each act, in turns.
    Issuing,
    /// A link's whole life with its mail, for one tenant and for many, the database's CPU included.
    Life,
    /// A million links, sessions and tokens; takes minutes, and room.
    Million,
    /// The trail; takes minutes.
    Audit,
}

async fn measure_part(part: Part) -> Vec<String> {
    databases::DURABLE.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut notes = Vec::new();
    for database in [Database::Sqlite, Database::Postgres] {
        let Some((copy, key)) = database.copy() else { continue };
        let told = notes.len();
        match part {
            Part::Introspection => notes.push(introspection(database, &copy.url, key).await),
            Part::Issuing => issuing::measure(database, &copy.url, key, &mut notes).await,
            Part::Life => life::measure(database, &copy.url, key, &mut notes).await,
            Part::Million => million::measure(database, &copy.url, key, &mut notes).await,
            Part::Audit => audit::measure(database, &copy.url, key, &mut notes).await,
        }
        // It takes minutes until everything is told.
        notes[told..].iter().for_each(|note| eprintln!("{note}"));
    }
    notes
}

/// Asks the bare server and the service in turns: what disturbs the one disturbs the other.
async fn introspection(database: Database, url: &str, key: &str) -> String {
    let (bare, sink) = (Server::bare(), mail_sink::start().await);
    let server = Server::magic_link(url, &sink.url(), &[]);
    let sessions = Sessions::open(&server, &sink, key).await;
    let tokens = &sessions.tokens;
    let (mut ratios, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..=2 * ROUNDS {
        let empty = drive(&bare, CALLERS, LENGTH, |_| Request::get("/")).await;
        let token = |number: usize| &tokens[number % tokens.len()];
        let asked = drive(&server, CALLERS, LENGTH, |number| Request::introspect(key, token(number))).await;
        costs.push(asked.cpu_micros());
        ratios.push(asked.per_second() / empty.per_second());
        eprintln!("{database:?}: {:.0} of {:.0} requests/s", asked.per_second(), empty.per_second());
    }
    let mut new = Vec::new();
    for _ in 0..ROUNDS {
        let fresh = sessions.sign_again(&server, key, FRESH_TOKENS).await;
        let verified = drive(&bare, CALLERS, LENGTH, |_| Request::introspect("", &bare.token)).await;
        let token = |number: usize| Request::introspect(key, &fresh[number]);
        let asked = load::each(&server, CALLERS, fresh.len(), token).await.figures;
        new.push(asked.per_second() / verified.per_second());
    }
    for figures in [&mut ratios, &mut costs, &mut new] {
        figures.sort_by(f64::total_cmp);
    }
    format!(
        "{database:?}: introspection reaches {:.3} of the bare answer's requests/s ({:.3} to {:.3}), with {:.1} µs of \
         server CPU; every token new {:.3} of a bare verification's ({:.3} to {:.3})",
        ratios[ROUNDS],
        ratios[0],
        ratios[2 * ROUNDS],
        costs[ROUNDS],
        new[ROUNDS / 2],
        new[0],
        new[ROUNDS - 1],
    )
}

async fn measure(whole: bool) -> String {
    databases::DURABLE.store(true, std::sync::atomic::Ordering::SeqCst);
    let bare = Server::bare();
    let hello = median(async || drive(&bare, CALLERS, LENGTH, |_| Request::get("/")).await).await;
    let verify = median(async || drive(&bare, CALLERS, LENGTH, |_| Request::introspect("", &bare.token)).await).await;
    let mut rows = vec![
        Row::told("bare actix JSON answer".to_owned(), hello),
        Row::told("bare actix, an ES256 signature verified".to_owned(), verify),
    ];
    let mut notes = Vec::new();
    for database in [Database::Sqlite, Database::Postgres] {
        let Some((copy, key)) = database.copy() else { continue };
        measure_on(database, &copy.url, key, &mut rows, &mut notes).await;
    }
    if whole {
        for part in [Part::Life, Part::Introspection, Part::Issuing, Part::Million, Part::Audit] {
            notes.extend(measure_part(part).await);
        }
    }
    report(&rows, &notes)
}

async fn measure_on(database: Database, url: &str, key: &str, rows: &mut Vec<Row>, notes: &mut Vec<String>) {
    let sink = mail_sink::start().await;
    let server = Server::magic_link(url, &sink.url(), &[]);
    let name = format!("{database:?}");
    notes.push(format!(
        "{name}: up after {} ms, {} MiB resident when idle",
        server.started_in.as_millis(),
        server.memory_mib()
    ));
    let sessions = Sessions::open(&server, &sink, key).await;
    let (tokens, issue) = (&sessions.tokens, &sessions.issue);
    rows.push(Row::told(format!("redeem, {name}"), sessions.redeemed.clone()));

    let introspect = median(async || {
        drive(&server, CALLERS, LENGTH, |number| Request::introspect(key, &tokens[number % tokens.len()])).await
    })
    .await;
    let rest = 100_000_usize.saturating_sub(introspect.requests() * ROUNDS);
    rows.push(Row::told(format!("introspect, {name}"), introspect));

    let fresh = sessions.sign_again(&server, key, FRESH_TOKENS).await;
    let new = load::each(&server, CALLERS, fresh.len(), |number| Request::introspect(key, &fresh[number])).await;
    rows.push(Row::told(format!("introspect, every token new, {name}"), new.figures));
    load::each(&server, CALLERS, rest, |number| Request::introspect(key, &tokens[number % tokens.len()])).await;
    notes.push(format!(
        "{name}: {} MiB resident after 100,000 introspections, {FRESH_TOKENS} of them of tokens of their own",
        server.memory_mib()
    ));
    let beside = median(async || drive(&server, CALLERS, LENGTH, |_| issue_another(key, issue)).await).await;
    rows.push(Row::told(format!("issue, mails being sent beside it, {name}"), beside));
    sink.fail();
    let issued = median(async || drive(&server, CALLERS, LENGTH, |_| issue_another(key, issue)).await).await;
    rows.push(Row::told(format!("issue, the mail provider out of order, {name}"), issued));
}

/// Issues a link for a profile that no other link is for: one access has one link.
fn issue_another(key: &str, issue: &Value) -> Request {
    static PROFILES: AtomicUsize = AtomicUsize::new(0);
    let mut issue = issue.clone();
    issue["profile"]["id"] = format!("emp-{}", PROFILES.fetch_add(1, Ordering::Relaxed)).into();
    Request::post(key, "/v1/magic-links", &issue)
}

/// Live sessions, and how they came about.
struct Sessions {
    /// What issues a link.
    issue: Value,
    /// Codes that were redeemed, one a session: each under a key of its own, so that the call can be repeated.
    codes: Vec<String>,
    ids: Vec<String>,
    tokens: Vec<String>,
    redeemed: Figures,
}

impl Sessions {
    async fn open(server: &Server, sink: &mail_sink::MailSink, key: &str) -> Self {
        let consultant = json!({ "name": "Ravi", "email": "ravi@support.example" });
        let consultant = server.post(key, "/v1/consultants", &consultant).await;
        let issue = json!({
            "tenant_id": "acme", "portal": "cloud", "consultant_id": consultant["id"],
            "reason": "Payroll run for November stops at step 3", "duration": { "value": 4, "unit": "hours" },
            "profile": { "id": "emp-1042", "name": "Asha Rao" }, "issued_by": { "id": "emp-7", "name": "Meera Iyer" }
        });
        // Links whose codes are redeemed at once: a code lives for a minute.
        let mut codes = Vec::new();
        load::each(server, CALLERS, SESSIONS, |_| issue_another(key, &issue)).await;
        for token in sink.tokens(SESSIONS).await {
            let answer = server.post(key, "/l/continue", &json!({ "token": token })).await;
            let address = answer["redirect_url"].as_str().expect("a press of the button leads on").to_owned();
            codes.push(address.split_once("code=").unwrap().1.to_owned());
        }
        let redeem = |number: usize| Self::redeem(&codes, key, number);
        let redeemed = load::each(server, CALLERS, codes.len(), redeem).await;
        let opened: Vec<Value> = redeemed.answers.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let all = |field: &str| opened.iter().map(|session| session[field].as_str().unwrap().to_owned()).collect();
        Self { issue, ids: all("id"), tokens: all("access_token"), codes, redeemed: redeemed.figures }
    }

    fn redeem(codes: &[String], key: &str, number: usize) -> Request {
        let number = number % codes.len();
        let once = format!("session-{number}");
        Request::post_once(key, &once, "/v1/sessions", &json!({ "token": codes[number] }))
    }

    /// So many tokens that nobody has seen: a repeated call is answered with the same claims under a new signature.
    async fn sign_again(&self, server: &Server, key: &str, count: usize) -> Vec<String> {
        let redeem = |number: usize| Self::redeem(&self.codes, key, number);
        let answers = load::each(server, CALLERS, count, redeem).await.answers;
        let sessions = answers.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
        sessions.map(|one| one["access_token"].as_str().unwrap().to_owned()).collect()
    }
}

/// The median of several measurements, by requests a second.
async fn median(measurement: impl AsyncFn() -> Figures) -> Figures {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.push(measurement().await);
    }
    all.sort_by(|left, right| left.per_second().total_cmp(&right.per_second()));
    all.swap_remove(ROUNDS / 2)
}

struct Row {
    what: String,
    figures: Figures,
}

impl Row {
    /// It takes minutes until everything is told.
    fn told(what: String, figures: Figures) -> Self {
        eprintln!("{what}: {:.0} requests/s", figures.per_second());
        Self { what, figures }
    }
}

fn report(rows: &[Row], notes: &[String]) -> String {
    let mut text = String::from("# The last run of `make bench`\n\n");
    writeln!(text, "{}\n", server::machine()).unwrap();
    writeln!(
        text,
        "{CALLERS} callers, load from the same cores, median of {ROUNDS} runs of {} s (redeem: one run over {SESSIONS} \
         codes; every token new: one run over {FRESH_TOKENS} tokens). Below the table, introspection and issuing are measured \
         in turns with what they are held against. The log is that of the default configuration. \
         PostgreSQL and SQLite sync every commit.\n",
        LENGTH.as_secs()
    )
    .unwrap();
    text.push_str("| what | requests/s | ratio to bare | server CPU µs | p50 ms | p99 ms |\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
    let bare = rows[0].figures.per_second();
    for Row { what, figures } in rows {
        writeln!(
            text,
            "| {what} | {:.0} | {:.3} | {:.0} | {:.2} | {:.2} |",
            figures.per_second(),
            figures.per_second() / bare,
            figures.cpu_micros(),
            figures.percentile(50),
            figures.percentile(99),
        )
        .unwrap();
    }
    text.push('\n');
    for note in notes {
        writeln!(text, "- {note}").unwrap();
    }
    text
}
