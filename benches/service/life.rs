//! What a link's whole life costs, all in: issued and mailed, opened, redeemed and revoked, for one tenant and for many,
//! with the CPU time of the database.

use std::time::Duration;

use serde_json::{Value, json};

use crate::databases::Database;
use crate::load::{self, Answers, Request};
use crate::server::{Server, cpu_of};
use crate::{CALLERS, mail_sink};

/// Links whose lives make one measurement.
const LIVES: usize = 2_000;

/// Measurements of which the median is told.
const TURNS: usize = 3;

/// Until the mails that have left are settled.
const SETTLED: Duration = Duration::from_secs(2);

const ACTS: [&str; 4] = ["issue and mail", "press of the button", "redeem", "revoke"];

/// What an act cost: microseconds of the service and of the database, and how many there were a second.
type Cost = [f64; 3];

struct Lives<'a> {
    server: &'a Server,
    sink: &'a mail_sink::MailSink,
    key: &'a str,
    /// Address of the database.
    url: &'a str,
    consultant: Value,
    /// Number of lives so far: each is of another profile.
    lived: usize,
}

impl Lives<'_> {
    fn database_cpu(&self) -> Duration {
        // A back end of PostgreSQL names its database; SQLite works in the service's own time.
        let name = self.url.split('?').next().and_then(|address| address.rsplit('/').next()).unwrap_or_default();
        cpu_of(|command| command.starts_with("postgres:") && command.split(' ').any(|word| word == name))
    }

    /// Does something `LIVES` times, and tells what each cost.
    async fn cost(&self, rest: Duration, request: impl Fn(usize) -> Request) -> (Cost, Answers) {
        let (service, database) = (self.server.cpu(), self.database_cpu());
        let done = load::each(self.server, CALLERS, LIVES, request).await;
        tokio::time::sleep(rest).await;
        let micros =
            |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / LIVES as f64;
        let cost =
            [micros(service, self.server.cpu()), micros(database, self.database_cpu()), done.figures.per_second()];
        (cost, done)
    }

    async fn live(&mut self, tenants: usize) -> [Cost; 4] {
        let (key, first) = (self.key, self.lived);
        self.lived += LIVES;
        let once = |act: &str, number: usize| format!("{act}-{}", first + number);
        let issue = json!({
            "portal": "cloud", "consultant_id": self.consultant, "reason": "Payroll run for November stops at step 3",
            "duration": { "value": 4, "unit": "hours" }, "issued_by": { "id": "emp-7", "name": "Meera Iyer" },
        });
        let (issued, _) = self
            .cost(SETTLED, |number| {
                let mut issue = issue.clone();
                issue["tenant_id"] = format!("tenant-{}", number % tenants).into();
                issue["profile"] = json!({ "id": format!("emp-{}", first + number), "name": "Asha Rao" });
                Request::post_once(key, &once("issue", number), "/v1/magic-links", &issue)
            })
            .await;
        let tokens = self.sink.tokens(self.lived).await.split_off(first);
        let press = |number: usize| Request::post(key, "/l/continue", &json!({ "token": tokens[number] }));
        let (pressed, pressings) = self.cost(Duration::ZERO, press).await;
        let codes: Vec<String> = pressings
            .answers
            .iter()
            .map(|answer| serde_json::from_str::<Value>(answer).unwrap()["redirect_url"].as_str().unwrap().to_owned())
            .map(|address| address.split_once("code=").unwrap().1.to_owned())
            .collect();
        let redeem = |number: usize| {
            Request::post_once(key, &once("redeem", number), "/v1/sessions", &json!({ "token": codes[number] }))
        };
        let (redeemed, openings) = self.cost(Duration::ZERO, redeem).await;
        let access: Vec<String> = openings
            .answers
            .iter()
            .map(|answer| serde_json::from_str::<Value>(answer).unwrap()["access_token"].as_str().unwrap().to_owned())
            .collect();
        let (revoked, _) = self.cost(Duration::ZERO, |number| Request::revoke(key, &access[number])).await;
        [issued, pressed, redeemed, revoked]
    }
}

pub async fn measure(database: Database, url: &str, key: &str, notes: &mut Vec<String>) {
    let sink = mail_sink::start().await;
    let server = Server::magic_link(url, &sink.url(), &[]);
    let consultant = json!({ "name": "Ravi", "email": "ravi@support.example" });
    let consultant = server.post(key, "/v1/consultants", &consultant).await["id"].clone();
    let mut lives = Lives { server: &server, sink: &sink, key, url, consultant, lived: 0 };
    let mut rates = Vec::new();
    for tenants in [1, 50] {
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push(lives.live(tenants).await);
        }
        let median = |act: usize, figure: usize| {
            let mut figures: Vec<f64> = turns.iter().map(|turn| turn[act][figure]).collect();
            figures.sort_by(f64::total_cmp);
            figures[TURNS / 2]
        };
        let all_in: f64 = (0..ACTS.len()).map(|act| median(act, 0) + median(act, 1)).sum();
        let acts: Vec<String> = ACTS
            .iter()
            .enumerate()
            .map(|(act, name)| {
                let [service, database, rate] = [0, 1, 2].map(|figure| median(act, figure));
                format!("{name} {service:.0} + {database:.0} µs, {rate:.0} a second")
            })
            .collect();
        rates.push(median(0, 2));
        notes.push(format!(
            "{database:?}: a link's whole life with {CALLERS} callers and {tenants} tenant(s), mails sent: {:.2} ms of CPU, \
             service + database ({})",
            all_in / 1e3,
            acts.join("; ")
        ));
    }
    notes.push(format!(
        "{database:?}: issuing for 50 tenants reaches {:.2} of the requests/s of one",
        rates[1] / rates[0]
    ));
}
