//! kill -9 at any point loses nothing that was answered; SIGTERM loses nothing at all.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{
    Api, Auditor, Process, Settings, Sql, World, apply, eventually, generation_of, link_of, on_both_databases, rounds,
};

/// Who issues at the same time.
const ISSUERS: usize = 8;

/// Registers a consultant at this copy of the service.
async fn consultant(operator: &Api, email: &str) -> String {
    let request = json!({ "name": "Ravi Kumar", "email": email });
    operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned()
}

/// Issues until the service is gone; tells what was acknowledged.
async fn issue_until_killed(caller: Api, consultant: String, acknowledged: Arc<AtomicUsize>) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let issue = caller.request(reqwest::Method::POST, "/v1/magic-links");
        let issue = issue.json(&Api::issue_request(&consultant));
        match caller.try_send(issue).await {
            Ok(reply) if reply.status == 201 => {
                ids.push(reply.body["id"].as_str().unwrap().to_owned());
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            // Too much at once for this machine; the caller would come back.
            Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
            Err(_gone) => return ids,
        }
    }
}

/// Reports acts two by two, from this number on, until the service is gone; tells which were acknowledged.
async fn report_until_killed(
    caller: Api,
    path: String,
    source: String,
    first: i64,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<(String, i64)> {
    let mut numbers = Vec::new();
    for seq in (first..).step_by(2) {
        let act = |seq: i64| {
            json!({ "seq": seq, "source": source, "occurred_at": "2026-11-22T10:00:00Z", "action": "a",
                "resource_type": "b", "resource_id": "c" })
        };
        let report = caller.request(reqwest::Method::POST, &path).json(&json!({ "events": [act(seq), act(seq + 1)] }));
        match caller.try_send(report).await {
            Ok(reply) if reply.status == 200 => {
                numbers.extend([(source.clone(), seq), (source.clone(), seq + 1)]);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
            Err(_gone) => break,
        }
    }
    numbers
}

/// The links that mails have been sent about.
async fn mailed(world: &World) -> BTreeSet<String> {
    world.mails.all().await.iter().map(link_of).collect()
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn no_acknowledged_link_is_lost_by_kill_9(world: &World) {
    let mut acknowledged = BTreeSet::new();
    let mut ravi = String::new();
    for round in 0..rounds(3).min(50) {
        let process = Process::start(world);
        let operator = world.admin.at(&process.base);
        if ravi.is_empty() {
            ravi = consultant(&operator, "ravi@support.example").await;
        }
        let number = Arc::new(AtomicUsize::new(0));
        let issuers: Vec<_> = (0..ISSUERS)
            .map(|_| tokio::spawn(issue_until_killed(operator.clone(), ravi.clone(), Arc::clone(&number))))
            .collect();
        // Never at the same moment of its life.
        let enough = 10 + 7 * (round % 5);
        eventually("some links are issued", async || (number.load(Ordering::SeqCst) >= enough).then_some(())).await;
        process.kill();
        for issuer in issuers {
            acknowledged.extend(issuer.await.expect("an issuer that does not panic"));
        }
    }

    let process = Process::start(world);
    let operator = world.admin.at(&process.base);
    for id in &acknowledged {
        assert_eq!(operator.get(&format!("/v1/magic-links/{id}")).await.ok()["state"], "active", "{id}");
    }
    let mut sql = Sql::of(world);
    let links: BTreeSet<String> = sql.texts("SELECT id AS text FROM magic_links").into_iter().collect();
    assert!(acknowledged.is_subset(&links));
    let half_done = sql.texts(
        "SELECT id AS text FROM magic_links WHERE 1 <> (SELECT count(*) FROM audit_events WHERE \
         magic_link_id = magic_links.id AND event_type = 'magic_link.issued') OR 1 <> (SELECT count(*) \
         FROM mail_jobs WHERE magic_link_id = magic_links.id AND template = 'magic_link')",
    );
    assert_eq!(half_done, Vec::<String>::new(), "links without exactly one event and one mail job");
    assert_eq!(sql.count("FROM audit_events WHERE event_type = 'magic_link.issued'"), links.len());
    // What was being sent when the service died is due again when its lease ends.
    eventually("every link is mailed", async || (mailed(world).await == links).then_some(())).await;
    let unsettled = "FROM mail_jobs WHERE finished_at IS NULL";
    eventually("every job is settled", async || (sql.count(unsettled) == 0).then_some(())).await;
    assert_eq!(sql.count("FROM mail_jobs WHERE template = 'magic_link' AND state = 'accepted'"), links.len());
    assert_eq!(sql.count("FROM audit_events WHERE event_type = 'magic_link.mailed'"), links.len());
    assert!(world.mails.all().await.iter().all(|mail| generation_of(mail) == 1), "another copy is no other grant");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn the_log_is_whole_after_every_kill_9(world: &World) {
    let mut process = Process::start(world);
    let mut operator = world.admin.at(&process.base);
    let link = operator.issue(&consultant(&operator, "ravi@support.example").await).await;
    let token = world.token(&link, 1).await;
    let answer = Api::new(&process.base, None).post("/l/continue", &json!({ "token": token })).await.ok();
    let code = answer["redirect_url"].as_str().unwrap().split_once("code=").unwrap().1.to_owned();
    let session = operator.redeem(&code).await.ok();
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    let mut acknowledged: BTreeSet<(String, i64)> = BTreeSet::new();
    for round in 0..rounds(3).min(50) {
        let number = Arc::new(AtomicUsize::new(0));
        // A session takes a hundred sources, so a source goes on in the next round, far behind where it was.
        let first = 1 + 100_000 * i64::try_from(round).unwrap();
        let reporters: Vec<_> = (0..ISSUERS)
            .map(|reporter| {
                let (source, number) = (format!("reporter-{reporter}"), Arc::clone(&number));
                tokio::spawn(report_until_killed(operator.clone(), path.clone(), source, first, number))
            })
            .collect();
        let enough = 10 + 7 * (round % 5);
        eventually("some acts are reported", async || (number.load(Ordering::SeqCst) >= enough).then_some(())).await;
        process.kill();
        for reporter in reporters {
            acknowledged.extend(reporter.await.expect("a reporter that does not panic"));
        }

        process = Process::start(world);
        operator = world.admin.at(&process.base);
        Auditor::of("acme", &operator).await.audit(&operator).await;
        Auditor::of("_system", &operator).await.audit(&operator).await;
    }
    let acts = operator.events("&type=data.changed").await;
    let found: BTreeSet<(String, i64)> =
        acts.iter().map(|act| (act["source"].as_str().unwrap().to_owned(), act["seq"].as_i64().unwrap())).collect();
    assert!(acknowledged.is_subset(&found), "an acknowledged act is missing");
    assert_eq!(found.len(), acts.len());
    // What the sources count is what is there.
    let counted = Sql::of(world).texts("SELECT CAST(sum(event_count) AS TEXT) AS text FROM session_sources");
    assert_eq!(counted, [acts.len().to_string()]);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_revocation_outlives_kill_9(world: &World) {
    let mut process = Process::start(world);
    let mut operator = world.admin.at(&process.base);
    let consultant = consultant(&operator, "ravi@support.example").await;
    for round in 0..rounds(3).min(50) {
        let stranger = Api::new(&process.base, None);
        let used = operator.issue(&consultant).await;
        let unused = operator.issue(&consultant).await;
        let mut codes = Vec::new();
        for link in [&used, &unused] {
            let token = world.token(link, 1).await;
            let answer = stranger.post("/l/continue", &json!({ "token": token })).await.ok();
            let address = answer["redirect_url"].as_str().unwrap().to_owned();
            codes.push(address.split_once("code=").unwrap().1.to_owned());
        }
        let session = operator.redeem(&codes[0]).await.ok();
        let access_token = session["access_token"].as_str().unwrap();
        assert!(operator.is_active(access_token).await);
        for link in [&used, &unused] {
            let reason = json!({ "reason": "The work is done" });
            operator.post(&format!("/v1/magic-links/{link}/revoke"), &reason).await.ok();
        }
        process.kill();

        process = Process::start(world);
        operator = world.admin.at(&process.base);
        assert!(!operator.is_active(access_token).await, "round {round}");
        for code in &codes {
            operator.redeem(code).await.refused(410, "link_revoked");
        }
        for link in [&used, &unused] {
            assert_eq!(operator.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
        }
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_service_that_is_asked_to_stop_answers_what_it_has_begun(world: &World) {
    let process = Process::start(world);
    let operator = world.admin.at(&process.base);
    let ravi = consultant(&operator, "ravi@support.example").await;
    let address = process.base.strip_prefix("http://").unwrap();

    // Eight callers were told to go on, and have sent half of what they have to say.
    let mut callers = Vec::new();
    for _ in 0..8 {
        let request = Api::issue_request(&ravi).to_string();
        let (before, after) = request.split_at(request.len() / 2);
        let mut caller = TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /v1/magic-links HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            operator.key(),
            request.len(),
        );
        caller.write_all(head.as_bytes()).unwrap();
        let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
        caller.read_exact(&mut go_on).unwrap();
        assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&go_on));
        caller.write_all(before.as_bytes()).unwrap();
        callers.push((caller, after.to_owned()));
    }
    process.ask_to_stop();
    let refused = async || TcpStream::connect(address).is_err().then_some(());
    eventually("nobody else is let in", refused).await;

    let mut ids = BTreeSet::new();
    for (mut caller, after) in callers {
        caller.write_all(after.as_bytes()).unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        ids.insert(body["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(process.stopped().await.code(), Some(0));
    assert_eq!(ids.len(), 8);
    // What it did not mail any more, the next one does.
    let next = Process::start(world);
    let operator = world.admin.at(&next.base);
    for id in &ids {
        operator.get(&format!("/v1/magic-links/{id}")).await.ok();
        world.mails.wait_for(id, 1).await;
    }
    assert_eq!(Sql::of(world).count("FROM magic_links"), 8);
}
