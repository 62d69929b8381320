//! kill -9 around a mail: before and after the commit, before and after the send, before the result is stored.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::json;

use crate::support::{
    Api, Gate, Moment, Process, Settings, Sink, Sql, Taking, World, apply, eventually, generation_of, link_of,
    on_both_databases, rounds, token_of,
};

const LINKS: &str = "/v1/magic-links";

/// Where the service is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The link and its job are written, and not committed.
    BeforeCommit,
    /// They are committed, and no worker has the job.
    AfterCommit,
    /// A worker has the job, and the provider has not read a byte of the mail.
    BeforeSend,
    /// The provider has the mail, and has not said so.
    AfterSend,
    /// The provider has said so, and that is not committed.
    BeforeResult,
}

impl Point {
    /// What the provider does with a mail meanwhile.
    const fn taking(self) -> Taking {
        match self {
            Self::BeforeSend => Taking::Unread,
            Self::AfterSend => Taking::Later,
            Self::BeforeCommit | Self::AfterCommit | Self::BeforeResult => Taking::Yes,
        }
    }

    /// Where the database holds the service meanwhile.
    fn gate(self, world: &World) -> Option<Gate> {
        let moment = match self {
            Self::BeforeCommit => Moment::Issuing,
            Self::AfterCommit => Moment::Claiming,
            Self::BeforeResult => Moment::Storing,
            Self::BeforeSend | Self::AfterSend => return None,
        };
        Some(Gate::shut(world, moment))
    }

    /// Where the dead process has left the job.
    const fn left(self) -> &'static [&'static str] {
        match self {
            Self::BeforeCommit => &[],
            Self::AfterCommit => &["queued after 0"],
            Self::BeforeSend | Self::AfterSend | Self::BeforeResult => &["sending after 1"],
        }
    }

    /// How many mails there are of each link in the end.
    const fn copies(self) -> usize {
        match self {
            Self::BeforeCommit | Self::AfterCommit | Self::BeforeSend => 1,
            // The one that the dead process sent, and the one of the next, which cannot know.
            Self::AfterSend | Self::BeforeResult => 2,
        }
    }
}

/// An operator issues, the service is killed at that point, and the next process takes over; again and again.
async fn killed_at(world: &World, point: Point) {
    let sink = Sink::start(Taking::Yes);
    let environment = [("MAGIC_LINK_MAIL__MAILPIT_URL", sink.url())];
    let start = || Process::start_with(world, &environment, Stdio::inherit());
    let mut process = start();
    let person = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = world.admin.at(&process.base).post("/v1/consultants", &person).await.ok();
    let mut sql = Sql::of(world);
    let mut links = BTreeSet::new();
    for round in 0..rounds(2).min(20) {
        let operator = world.admin.at(&process.base);
        let request = Api::issue_request(consultant["id"].as_str().unwrap());
        let (read, offered) = (sink.mails().len(), sink.offered());
        sink.take(point.taking());
        let mut gate = point.gate(world);
        let key = format!("round-{round}");
        let issue = {
            let (operator, key, request) = (operator.clone(), key.clone(), request.clone());
            let issue = operator.request(reqwest::Method::POST, LINKS).header("idempotency-key", key).json(&request);
            tokio::spawn(async move { operator.try_send(issue).await })
        };
        // Whoever is to be answered is answered before anybody dies.
        let answered = if point == Point::BeforeCommit { Err(issue) } else { Ok(issue.await.unwrap().unwrap()) };
        if point == Point::BeforeSend {
            let claimed = "FROM mail_jobs WHERE template = 'magic_link' AND state = 'sending'";
            eventually("a worker has the job", async || (sql.count(claimed) == 1).then_some(())).await;
            eventually("the mail is offered", async || (sink.offered() > offered).then_some(())).await;
        }
        if point.copies() == 2 {
            eventually("the provider has it", async || (sink.mails().len() > read).then_some(())).await;
        }
        if let Some(gate) = &mut gate {
            gate.reached().await;
        }
        process.kill();
        if let Some(gate) = gate {
            gate.open();
        }
        let committed = sql.count("FROM magic_links");
        match answered {
            Ok(reply) => {
                links.insert(reply.ok()["id"].as_str().unwrap().to_owned());
                assert_eq!(committed, links.len(), "what was answered is there");
            }
            Err(issue) => {
                issue.await.unwrap().expect_err("nobody was told that it was done");
                assert_eq!(committed, links.len(), "half of it was kept");
            }
        }
        assert_eq!(sql.count("FROM mail_jobs WHERE template = 'magic_link'"), committed);
        let left = "SELECT state || ' after ' || attempts AS text FROM mail_jobs \
            WHERE template = 'magic_link' AND finished_at IS NULL";
        assert_eq!(sql.texts(left), point.left(), "it died where it should");
        sink.take(Taking::Yes);
        // The lease of the one that died would end by itself in half a minute.
        sql.run("UPDATE mail_jobs SET lease_until = NULL WHERE finished_at IS NULL").unwrap();

        process = start();
        // The caller who does not know asks again, with the same key.
        let link = world.admin.at(&process.base).post_once(LINKS, &key, &request).await.ok();
        links.insert(link["id"].as_str().unwrap().to_owned());
        let waiting = "FROM mail_jobs WHERE finished_at IS NULL";
        eventually("every mail is settled", async || (sql.count(waiting) == 0).then_some(())).await;
    }

    let mails = sink.mails();
    assert_eq!(links.len(), rounds(2).min(20));
    assert_eq!(mails.iter().map(link_of).collect::<BTreeSet<_>>(), links, "as many different mails as committed jobs");
    assert_eq!(mails.len(), links.len() * point.copies());
    assert!(mails.iter().all(|mail| generation_of(mail) == 1), "each is the same grant");
    for from in [
        "FROM magic_links WHERE generation = 1",
        "FROM mail_jobs WHERE template = 'magic_link' AND state = 'accepted'",
        "FROM audit_events WHERE event_type = 'magic_link.issued'",
        "FROM audit_events WHERE event_type = 'magic_link.mailed'",
    ] {
        assert_eq!(sql.count(from), links.len(), "{from}");
    }

    // However many copies there are, one of them opens a session.
    let (operator, page) = (world.admin.at(&process.base), Api::new(&process.base, None));
    let first = links.first().unwrap();
    let mut codes = Vec::new();
    for mail in mails.iter().filter(|mail| link_of(mail) == *first) {
        codes.push(crate::support::code_of(&page.post("/l/continue", &json!({ "token": token_of(mail) })).await.ok()));
    }
    assert_eq!(codes.len(), point.copies());
    assert_eq!(operator.redeem(&codes.remove(0)).await.status, 201);
    for code in codes {
        operator.redeem(&code).await.refused(410, "link_spent");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn killed_before_the_commit_it_was_never_issued(world: &World) {
    killed_at(world, Point::BeforeCommit).await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn killed_after_the_commit_the_next_process_mails_it(world: &World) {
    killed_at(world, Point::AfterCommit).await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn killed_before_the_send_the_mail_leaves_once(world: &World) {
    killed_at(world, Point::BeforeSend).await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn killed_after_the_send_the_second_copy_is_the_same_grant(world: &World) {
    killed_at(world, Point::AfterSend).await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn killed_before_the_result_is_stored_the_second_copy_is_the_same_grant(world: &World) {
    killed_at(world, Point::BeforeResult).await;
}
