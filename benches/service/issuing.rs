//! What group commit is worth: links issued with it and with a transaction for each act, in turns.

use std::time::Duration;

use crate::databases::Database;
use crate::load::{Figures, Request, drive};
use crate::server::Server;
use crate::{CALLERS, LENGTH, Sessions, issue_another, mail_sink, pgbench};

/// Measurements of each way: a p99 takes many requests.
const TURNS: usize = 9;

/// What is due when a server starts is tried at once, and then no mail leaves any more: who issues is alone from then on.
const WARM_UP: Duration = Duration::from_secs(1);

/// What the service is told, and what that means.
const WAYS: [(&str, &[(&str, &str)]); 2] =
    [("with group commit", &[]), ("with a transaction each", &[("MAGIC_LINK_DATABASE_BATCH", "1")])];

pub async fn measure(database: Database, url: &str, key: &str, notes: &mut Vec<String>) {
    let sink = mail_sink::start().await;
    let issue = Sessions::open(&Server::magic_link(url, &sink.url(), &[]), &sink, key).await.issue;
    // Nobody takes the mails: what is measured is the act.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", nobody.local_addr().unwrap());
    // The lone caller first: a crowd leaves checkpoints behind, the larger the faster it was.
    for (callers, who) in [(1, "a lone caller"), (8, "8 callers"), (CALLERS, "64 callers")] {
        let mut figures: [Vec<Figures>; 2] = Default::default();
        for turn in 0..TURNS {
            for step in 0..WAYS.len() {
                // Who was second is first: neither always has the other behind it.
                let way = (turn + step) % WAYS.len();
                let server = Server::magic_link(url, &nobody, WAYS[way].1);
                let request = |_| issue_another(key, &issue);
                drive(&server, callers, WARM_UP, request).await;
                figures[way].push(drive(&server, callers, LENGTH, request).await);
            }
        }
        for ((what, _), figures) in WAYS.into_iter().zip(figures) {
            let figures = Figures::joined(figures);
            notes.push(format!(
                "{database:?}: {who} issuing {what}: {:.0} a second, {:.0} µs of server CPU, p50 {:.2} ms, p99 {:.2} ms",
                figures.per_second(),
                figures.cpu_micros(),
                figures.percentile(50),
                figures.percentile(99)
            ));
        }
    }
    if let Some(per_second) = pgbench::run(url, PGBENCH, CALLERS, LENGTH.as_secs() * 2) {
        notes.push(format!(
            "{database:?}: pgbench, the statements of an issue in a transaction each: {per_second:.0} a second"
        ));
    }
}

/// The statements of one issue, as the service sends them without a neighbour.
const PGBENCH: &str = "\\set number random(1, 2000000000)
BEGIN;
SELECT id, name, email FROM consultants WHERE suspended_at IS NULL ORDER BY id LIMIT 1 FOR SHARE;
INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access, starts_at,
    expires_at, issued_by_id, issued_by_name, created_at, generation, issued_after)
    SELECT 'mlk_' || gen_random_uuid(), 'acme', 'cloud', id, 'emp-1042', 'Asha Rao',
    'Payroll run for November stops at step 3', 'full', now(), now() + interval '4 hours', 'emp-7', 'Meera Iyer', now(), 1,
    (SELECT max(seq) FROM revocations) FROM consultants ORDER BY id LIMIT 1;
INSERT INTO mail_jobs (id, template, dedup_key, consultant_id, tenant_id, portal, state, attempts, unknown_attempts, retry_round, next_attempt_at,
    created_at)
    VALUES ('mjb_' || gen_random_uuid(), 'magic_link', gen_random_uuid(), 'con_', 'acme', 'cloud', 'queued', 0, 0, 0, now(), now());
UPDATE audit_logs SET size = size + 1 WHERE tenant_id = 'acme' RETURNING size \\gset
INSERT INTO audit_events (id, tenant_id, log_index, event_type, occurred_at, recorded_at, actor_type, actor_id, late,
    policy_violation, payload_commitment, hashes)
    VALUES ('evt_' || gen_random_uuid(), 'acme', :size, 'magic_link.issued', now(), now(), 'portal_user', 'emp-7', false,
    false, sha256('c'), sha256('h'));
INSERT INTO audit_payloads (tenant_id, log_index, salt, payload) VALUES ('acme', :size, sha256('s'), '{}');
COMMIT;
";
