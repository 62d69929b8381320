//! Mails that did not arrive, as the nightly review asks for them.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};
use time::Duration;
use wiremock::matchers::method;
use wiremock::{Mock, ResponseTemplate};

use super::end_states::{documented, service_with};
use super::reporters::{Reporters, mailed, now, state, taken, tell};
use crate::support::{
    Api, Process, Reader, Settings, Sink, Taking, World, apply, blocks, eventually, on_both_databases,
};

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn every_mail_that_did_not_arrive_is_named_however_it_ended(world: &World) {
    let reporters = Reporters::new().await;
    let answer = taken("postmark", "message-1");
    let (provider, process, operator) = service_with(world, &reporters, "postmark", answer, &[]).await;
    let mut lost = BTreeSet::new();
    for (number, (report, end)) in documented("postmark").into_iter().enumerate() {
        let (link, job, _) = mailed(&operator, &format!("ravi.{number}@support.example")).await;
        let report: Value = serde_json::from_str(&report.to_string().replace("JOB", &job)).unwrap();
        let report = reporters.prove("postmark", &report, now());
        assert_eq!(tell(&process.base, "postmark", report).await.status, 204);
        if ["failed", "bounced"].contains(&end) {
            lost.insert(link);
        }
    }
    // One that the provider does not take.
    provider.reset().await;
    let refusal = json!({ "ErrorCode": 406, "Message": "an inactive recipient" });
    let refused = ResponseTemplate::new(422).set_body_json(refusal);
    Mock::given(method("POST")).respond_with(refused).mount(&provider).await;
    let link = operator.issue(&registered(&operator, "ravi.refused@support.example").await).await;
    eventually("it is refused", async || (state(&operator, &link).await == "failed").then_some(())).await;
    lost.insert(link);
    process.kill();

    // One that may have been taken, and was never confirmed.
    let sink = Sink::start(Taking::Silently);
    let process = Process::start_with(world, &[("MAGIC_LINK_MAIL__MAILPIT_URL", sink.url())], Stdio::inherit());
    let operator = operator.at(&process.base);
    let link = operator.issue(&registered(&operator, "ravi.unknown@support.example").await).await;
    eventually("it is left at that", async || {
        let failed = operator.event_types(&format!("&type=magic_link.mail_failed&magic_link_id={link}")).await;
        (state(&operator, &link).await == "unknown" && !failed.is_empty()).then_some(())
    })
    .await;
    lost.insert(link);

    let mut reader = Reader::new(world, "lost-mails").at(&process.base);
    let blocks = blocks("openapi/README.md", "## A nightly review");
    let said = reader.run(&blocks[0]);
    reader.learn("REVIEW_KEY", said.split_whitespace().find(|word| word.starts_with("mlsk_")).expect("a key"));
    reader.learn("SINCE", &now().minus(Duration::hours(1)).to_string());
    let mut named = BTreeSet::new();
    for question in blocks[1].lines().filter(|line| line.starts_with("curl") && line.contains("mail")) {
        let found = reader.call(question);
        assert!(found.get("next_cursor").is_none(), "one page is enough here");
        named.extend(
            found["items"].as_array().unwrap().iter().map(|item| item["magic_link_id"].as_str().unwrap().to_owned()),
        );
    }
    assert_eq!(named, lost);
}

async fn registered(operator: &Api, email: &str) -> String {
    let request = json!({ "name": "Ravi Kumar", "email": email });
    operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned()
}
