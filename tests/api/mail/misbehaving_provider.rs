//! A provider that answers, and wrongly: slowly, without end, half, or under another name.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::support::{
    Api, Authority, Process, Settings, Sink, Sql, Taking, World, apply, eventually, generation_of, link_of,
    on_both_databases,
};

const LINKS: &str = "/v1/magic-links";

/// Each of them once.
const WRONGLY: [Taking; 9] = [
    Taking::Answering("500 Internal Server Error", ""),
    Taking::Answering("429 Too Many Requests\r\nretry-after: 1", "{}"),
    Taking::Answering("200 OK", "<html>Welcome</html>"),
    Taking::Silently,
    Taking::HalfClosed,
    Taking::EndlessBody,
    Taking::EndlessHead,
    Taking::Dripping,
    Taking::Hanging,
];

/// More than a service needs for a few mails, and much less than a provider can send it.
const MORE_KIB: u64 = 32 * 1024;

/// A request to issue that mails the consultant and nobody else.
async fn quiet_request(operator: &Api) -> Value {
    let person = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = operator.post("/v1/consultants", &person).await.ok();
    let mut request = Api::issue_request(consultant["id"].as_str().unwrap());
    request["issued_by"].as_object_mut().unwrap().remove("email");
    request
}

/// Issues for a profile that no other link is for.
async fn issue(operator: &Api, request: &Value) -> String {
    let other = Api::issue_request(request["consultant_id"].as_str().unwrap());
    let mut request = request.clone();
    request["profile"] = other["profile"].clone();
    operator.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned()
}

/// Waits until the mail of a link is in this state.
async fn in_state(operator: &Api, link: &str, wished: impl Fn(&Value) -> bool) -> Value {
    eventually("the mail gets there", async || {
        let seen = operator.get(&format!("{LINKS}/{link}")).await.ok()["delivery"].clone();
        wished(&seen).then_some(seen)
    })
    .await
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_that_was_taken_has_left_whatever_its_id_is(world: &World) {
    let sink = Sink::start(Taking::Answering("200 OK", r#"{"ID":"a\u0000b"}"#));
    let process = Process::start_with(world, &[("MAGIC_LINK_MAIL__MAILPIT_URL", sink.url())], Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let request = quiet_request(&operator).await;
    let link = issue(&operator, &request).await;
    let seen = in_state(&operator, &link, |seen| seen["state"] == "accepted").await;
    assert_eq!(seen["attempts"], 1, "{seen}");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_provider_that_does_everything_wrong_loses_no_mail_and_fills_no_memory(world: &World) {
    let sink = Sink::start(Taking::Later);
    let process = Process::start_with(world, &[("MAGIC_LINK_MAIL__MAILPIT_URL", sink.url())], Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let request = quiet_request(&operator).await;
    let held = issue(&operator, &request).await;
    eventually("the provider has the first mail", async || (sink.mails().len() == 1).then_some(())).await;
    // While it keeps the worker waiting, everybody else is served; their mails leave together then.
    let mut links = BTreeSet::new();
    for _ in WRONGLY {
        links.insert(issue(&operator, &request).await);
    }
    assert_eq!(in_state(&operator, &held, |_| true).await["state"], "sending");
    let before = process.peak_memory_kib();
    sink.take_turns(WRONGLY);
    sink.take(Taking::Yes);
    for link in &links {
        let seen = in_state(&operator, link, |seen| seen["state"] == "accepted").await;
        assert_eq!((&seen["attempts"], seen.get("last_error")), (&json!(2), None), "{seen}");
    }
    let after = process.peak_memory_kib();
    eprintln!("peak memory in KiB: {before:?} before a provider without end, {after:?} after");
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + MORE_KIB, "{before} KiB before, {after} KiB after");
    }
    links.insert(held);
    let mails = sink.mails();
    assert_eq!(mails.len(), links.len() + WRONGLY.len(), "each wrong answer costs one more attempt");
    assert_eq!(mails.iter().map(link_of).collect::<BTreeSet<_>>(), links);
    assert!(mails.iter().all(|mail| generation_of(mail) == 1));
    assert_eq!(operator.event_types("&type=magic_link.mailed").await.len(), links.len());
    assert!(operator.event_types("&type=magic_link.mail_failed").await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_provider_under_another_name_gets_no_mail(world: &World) {
    let authority = Authority::found(&format!("authority-{:?}", world.database));
    let start = |sink: &Sink| {
        let environment = [("MAGIC_LINK_MAIL__MAILPIT_URL", sink.url()), authority.trusted()];
        Process::start_with(world, &environment, Stdio::inherit())
    };
    let impostor = Sink::start_as("mail.elsewhere.example", &authority);
    let process = start(&impostor);
    let operator = world.admin.at(&process.base);
    let link = issue(&operator, &quiet_request(&operator).await).await;
    let seen = in_state(&operator, &link, |seen| seen["attempts"] == 1 && seen["state"] == "queued").await;
    // Nothing was sent, so nothing is unknown.
    assert!(seen["last_error"].as_str().is_some_and(|error| !error.contains("may have taken")), "{seen}");
    assert!(impostor.offered() > 0 && impostor.mails().is_empty());
    process.kill();

    // The same authority, and the right name.
    let provider = Sink::start_as("localhost", &authority);
    let process = start(&provider);
    in_state(&world.admin.at(&process.base), &link, |seen| seen["state"] == "accepted").await;
    assert_eq!(provider.mails().iter().map(link_of).collect::<Vec<_>>(), [link]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_mail_that_no_attempt_gets_across_is_given_up_in_sight(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let request = quiet_request(&world.admin).await;
    let mut long = request.clone();
    long["duration"] = json!({ "value": 7, "unit": "days" });
    world.mails.misbehave(ResponseTemplate::new(500));
    let link = issue(&portal, &long).await;
    in_state(&portal, &link, |seen| seen["attempts"] == 1 && seen["state"] == "queued").await;
    world.mails.misbehave_about(&link, ResponseTemplate::new(500));
    let mut seen = Value::Null;
    for attempts in 2..=30 {
        world.clock.advance(time::Duration::minutes(80));
        // The others get across: it is this mail, and not the provider.
        let other = issue(&portal, &request).await;
        in_state(&portal, &other, |seen| seen["state"] == "accepted").await;
        seen = in_state(&portal, &link, |seen| seen["attempts"] == attempts && seen["state"] != "sending").await;
        assert_eq!(seen["state"], if attempts < 30 { "queued" } else { "failed" }, "{seen}");
    }
    assert_eq!(seen["last_error"], "500 Internal Server Error");
    assert_eq!(world.mails.about(&link).await.len(), 30);
    assert_eq!(
        portal.event_types(&format!("&magic_link_id={link}")).await,
        ["magic_link.issued", "magic_link.mail_failed"]
    );
    let failed = portal.get("/v1/mail-deliveries?state=failed").await.ok();
    assert_eq!(failed["items"].as_array().unwrap().len(), 1);
    assert_eq!(Sql::of(world).count("FROM mail_jobs WHERE finished_at IS NULL"), 0);
}
