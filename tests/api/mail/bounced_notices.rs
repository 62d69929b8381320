//! What the admin reads of a mail that came back, or was reported as unwanted: what is so when it is told.

use serde_json::{Value, json};
use wiremock::MockServer;

use super::end_states::{postmark, service_with};
use super::reporters::{Reporters, mailed, now, state, taken, tell};
use crate::support::{Api, Process, Settings, Sql, World, apply, code_of, eventually, on_both_databases};

/// What a provider reports, and whether it keeps mail from the address.
const REPORTS: [(&str, &str, bool); 3] =
    [("SpamComplaint", "SpamComplaint", true), ("Bounce", "HardBounce", true), ("Bounce", "Blocked", false)];

const UNTRUE: &str = "has no access";

/// A service whose mails are carried by Postmark, and what it has carried.
struct Posted {
    provider: MockServer,
    process: Process,
    operator: Api,
    reporters: Reporters,
}

impl Posted {
    async fn start(world: &World, settings: &[(&str, &str)]) -> Self {
        let reporters = Reporters::new().await;
        let settings = [settings, &[("MAGIC_LINK_LINKS__RESEND_COOL_DOWN_SECONDS", "0")]].concat();
        let answer = taken("postmark", "message-1");
        let (provider, process, operator) = service_with(world, &reporters, "postmark", answer, &settings).await;
        Self { provider, process, operator, reporters }
    }

    /// The mails of a kind about a link, oldest first.
    async fn mails(&self, kind: &str, link: &str) -> Vec<Value> {
        let sent = self.provider.received_requests().await.unwrap();
        let mails = sent.iter().filter_map(|request| serde_json::from_slice::<Value>(&request.body).ok());
        let is_it = |mail: &Value| mail["Tag"] == kind && mail["TextBody"].as_str().unwrap().contains(link);
        mails.filter(is_it).collect()
    }

    /// The token in the mail of a generation.
    async fn token(&self, link: &str, generation: usize) -> String {
        let mail = eventually("the link is mailed", async || {
            self.mails("magic_link", link).await.into_iter().nth(generation - 1)
        });
        let mail = mail.await;
        let line = mail["TextBody"].as_str().unwrap().lines().find(|line| line.contains("/l#")).unwrap();
        line.split_once('#').unwrap().1.to_owned()
    }

    async fn open(&self, world: &World, token: &str) -> Value {
        let page = world.stranger().at(&self.process.base);
        let code = code_of(&page.post("/l/continue", &json!({ "token": token })).await.ok());
        self.operator.redeem(&code).await.ok()
    }

    async fn report(&self, (record, kind): (&str, &str), job: &str) {
        let report = postmark(record, kind).to_string().replace("JOB", job);
        let report = self.reporters.prove("postmark", &serde_json::from_str(&report).unwrap(), now());
        assert_eq!(tell(&self.process.base, "postmark", report).await.status, 204);
    }

    /// Subject and words of the notice about a mail that did not arrive, and the words of its other part.
    async fn notice(&self, link: &str) -> (String, [String; 2]) {
        let mail = eventually("the admin is told", async || self.mails("link_bounced", link).await.pop()).await;
        let words = |part: &str| mail[part].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        (words("Subject"), [words("TextBody"), words("HtmlBody")])
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn what_came_back_is_told_as_it_is_whether_the_link_was_used_or_mailed_again(world: &World) {
    let posted = Posted::start(world, &[]).await;
    for (record, kind, suppresses) in REPORTS {
        for became in ["nothing", "used", "mailed again"] {
            let email = format!("ravi.{kind}.{}@support.example", became.replace(' ', "."));
            let (link, job, _) = mailed(&posted.operator, &email).await;
            let token = posted.token(&link, 1).await;
            let mut access = None;
            match became {
                "used" => access = Some(posted.open(world, &token).await),
                "mailed again" => {
                    posted.operator.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await.ok();
                    access = Some(posted.open(world, &posted.token(&link, 2).await).await);
                    eventually("it left", async || (state(&posted.operator, &link).await == "accepted").then_some(()))
                        .await;
                }
                _ => {}
            }
            posted.report((record, kind), &job).await;
            let (subject, parts) = posted.notice(&link).await;
            let case = format!("{kind}, {became}: {subject}: {}", parts[0]);
            if let Some(access) = &access {
                assert!(posted.operator.is_active(access["access_token"].as_str().unwrap()).await, "{case}");
            }
            let is_complaint = kind == "SpamComplaint";
            assert_eq!(subject.contains("unwanted"), is_complaint, "{case}");
            // Somebody is inside: it is not the link that could not be delivered, but one mail.
            assert!(access.is_none() || !subject.starts_with("The access link"), "{case}");
            for part in parts {
                assert!(part.contains("Valid until"), "{case}");
                assert_eq!(part.contains("A visit is open"), access.is_some(), "{case}");
                assert_eq!(part.contains("the newest one"), became == "mailed again", "{case}");
                assert_eq!(part.contains(UNTRUE), !is_complaint && access.is_none(), "{case}");
                assert_eq!(part.contains("may still open"), is_complaint && access.is_none(), "{case}");
                // What cannot be sent again is not to be.
                let stops = "No mail goes to that address any more";
                assert_eq!(part.contains(stops), suppresses, "{case}");
                let again = "it can be sent again";
                assert_eq!(part.contains(again), !suppresses && access.is_none(), "{case}");
            }
            let resent = posted.operator.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await;
            assert_eq!(resent.status, if suppresses { 409 } else { 202 }, "{case}: {resent:?}");
        }
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_code_that_came_back_after_the_portal_was_opened_keeps_nobody_out(world: &World) {
    let posted = Posted::start(world, &[("MAGIC_LINK_PORTALS__CLOUD__STEP_UP", "email_code")]).await;
    for (record, kind, suppresses) in REPORTS {
        for is_used in [false, true] {
            let (link, _, _) = mailed(&posted.operator, &format!("ravi.{kind}.{is_used}@support.example")).await;
            let token = posted.token(&link, 1).await;
            let page = world.stranger().at(&posted.process.base);
            let mut asked = page.post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
            let code = eventually("the code is mailed", async || posted.mails("step_up_code", &link).await.pop()).await;
            let is_code = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
            let code = code["TextBody"].as_str().unwrap().lines().find(is_code).unwrap().to_owned();
            if is_used {
                asked["token"] = json!(token);
                asked["code"] = json!(code);
                asked.as_object_mut().unwrap().remove("expires_at");
                let opened = page.post("/l/verify", &asked).await.ok();
                posted.operator.redeem(&code_of(&opened)).await.ok();
            }
            let query = format!("/v1/mail-deliveries?template=step_up_code&magic_link_id={link}");
            let job = eventually("it left", async || {
                let job = posted.operator.get(&query).await.ok()["items"][0].clone();
                (job["state"] == "accepted").then_some(job)
            });
            posted.report((record, kind), job.await["id"].as_str().unwrap()).await;
            let (subject, parts) = posted.notice(&link).await;
            let is_complaint = kind == "SpamComplaint";
            assert_eq!(subject.contains("unwanted"), is_complaint, "{subject}");
            for part in parts {
                let case = format!("{kind}, {is_used}: {part}");
                assert_eq!(part.contains("A visit is open"), is_used, "{case}");
                assert_eq!(part.contains("cannot open the portal"), !is_used && !is_complaint, "{case}");
                assert_eq!(part.contains("can ask for another code"), !is_used && !suppresses, "{case}");
                assert_eq!(part.contains("No mail goes to that address any more"), suppresses, "{case}");
            }
        }
    }
}

// Somebody who reports a mail has it: the page does not say that it never came.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn the_page_does_not_call_a_mail_lost_that_was_reported_as_unwanted(world: &World) {
    let posted = Posted::start(world, &[]).await;
    for (record, kind, suppresses) in REPORTS {
        let (link, _, _) = mailed(&posted.operator, &format!("ravi.{kind}@support.example")).await;
        let old = posted.token(&link, 1).await;
        posted.operator.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await.ok();
        posted.token(&link, 2).await;
        eventually("it left", async || (state(&posted.operator, &link).await == "accepted").then_some(())).await;
        let newest = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link}");
        let job = posted.operator.get(&newest).await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
        posted.report((record, kind), &job).await;
        let page = world.stranger().at(&posted.process.base);
        let shown = page.post("/l/preview", &json!({ "token": old })).await.ok();
        let fate = if suppresses && kind == "SpamComplaint" { "mailed" } else { "lost" };
        assert_eq!((&shown["state"], &shown["newest_mail"]), (&json!("superseded"), &json!(fate)), "{kind}: {shown}");
        // What would be refused is not offered.
        assert_eq!(shown["can_resend"], !suppresses, "{kind}: {shown}");
        let resent = page.post("/l/resend", &json!({ "token": old })).await;
        assert_eq!(resent.status.is_success(), !suppresses, "{kind}: {resent:?}");
    }
}

// A mail that was sent again since, or turned out to have arrived, did not fail in the end.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn nobody_hears_of_a_mail_that_was_sent_again_since_or_was_delivered(world: &World) {
    let posted = Posted::start(world, &[]).await;
    // The notice waits: it is written, and not due.
    let later = "CREATE TRIGGER later AFTER INSERT ON mail_jobs WHEN NEW.template = 'link_bounced' \
        BEGIN UPDATE mail_jobs SET next_attempt_at = '2100-01-01 00:00:00' WHERE id = NEW.id; END";
    let on_postgres = [
        "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            NEW.next_attempt_at := '2100-01-01 00:00:00'; RETURN NEW; END $$",
        "CREATE TRIGGER later BEFORE INSERT ON mail_jobs FOR EACH ROW WHEN (NEW.template = 'link_bounced') \
            EXECUTE FUNCTION later()",
    ];
    let mut sql = Sql::of(world);
    if sql.run(later).is_err() {
        for statement in on_postgres {
            sql.run(statement).unwrap();
        }
    }
    for is_delivered in [false, true] {
        let (link, job, _) = mailed(&posted.operator, &format!("ravi.{is_delivered}@support.example")).await;
        posted.report(("Bounce", "Blocked"), &job).await;
        if is_delivered {
            sql.run(&format!("UPDATE mail_jobs SET unknown_attempts = 1 WHERE id = '{job}'")).unwrap();
            posted.report(("Delivery", ""), &job).await;
            assert_eq!(state(&posted.operator, &link).await, "delivered");
        } else {
            posted.operator.post(&format!("/v1/mail-deliveries/{job}/retry"), &json!({})).await.ok();
            eventually("it left", async || (state(&posted.operator, &link).await == "accepted").then_some(())).await;
        }
        sql.run("UPDATE mail_jobs SET next_attempt_at = '2026-01-01 00:00:00' WHERE template = 'link_bounced'")
            .unwrap();
        let query = format!("/v1/mail-deliveries?template=link_bounced&magic_link_id={link}");
        let told = eventually("it is settled", async || {
            let told = posted.operator.get(&query).await.ok()["items"][0].clone();
            told.get("finished_at").or(told.get("at")).is_some().then_some(told)
        });
        let told = told.await;
        assert_ne!(told["state"], "accepted", "{told}");
        assert!(posted.mails("link_bounced", &link).await.is_empty());
    }
}

// A report comes hours or days after the mail left.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn no_report_moves_the_time_when_a_mail_went_out(world: &World) {
    let posted = Posted::start(world, &[]).await;
    let (link, _, _) = mailed(&posted.operator, "ravi@support.example").await;
    let old = json!({ "token": posted.token(&link, 1).await });
    posted.operator.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await.ok();
    posted.token(&link, 2).await;
    eventually("it left", async || (state(&posted.operator, &link).await == "accepted").then_some(())).await;
    let newest = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link}");
    let listed = async || posted.operator.get(&newest).await.ok()["items"][0].clone();
    let job = listed().await;
    let page = world.stranger().at(&posted.process.base);
    let told = async || {
        let shown = page.post("/l/preview", &old).await.ok();
        assert_eq!(shown["newest_mail"], "mailed", "{shown}");
        let refused = page.post("/l/resend", &old).await;
        refused.refused(410, "link_superseded");
        (shown["newest_mailed_at"].clone(), refused.body["detail"].clone())
    };
    let before = told().await;
    assert!(before.0.is_string() && before.1.as_str().unwrap().contains("was mailed at"), "{before:?}");
    for report in [("Delivery", ""), ("SpamComplaint", "SpamComplaint")] {
        eventually("some time passes", async || (json!(now()) != listed().await["at"]).then_some(())).await;
        posted.report(report, job["id"].as_str().unwrap()).await;
        assert_ne!(listed().await["at"], before.0, "{report:?}");
        assert_eq!(told().await, before, "{report:?}");
    }
}
