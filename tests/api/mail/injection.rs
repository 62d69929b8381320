//! Hostile words on their way from a form to a mail: refused by name, or carried as words.

#[path = "../../../src/mail/render/tests/words.rs"]
mod words;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Api, Sql, World, apply, eventually, on_both_databases, rounds};
use words::words;

/// How many words there are.
const WORDS: usize = 1_000;

fn members(value: &Value) -> Vec<&String> {
    value.as_object().expect("an object").keys().collect()
}

#[apply(on_both_databases)]
async fn hostile_words_reach_nobody_else_and_bring_no_header(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let harmless = portal.issue(&world.consultant().await).await;
    let expected = world.mails.wait_for(&harmless, 1).await;
    let mut addresses = BTreeSet::from(["hr@acme.example".to_owned()]);
    addresses.insert(expected["To"][0]["Email"].as_str().unwrap().to_owned());
    let (mut carried, mut refused) = (1, 0);
    // All of them in `make soak`.
    let step = (WORDS / (rounds(10) * 10)).max(1);
    for number in (0..WORDS).step_by(step) {
        let words = words(number);
        let email = format!("ravi{words}@support.example");
        let person = json!({ "name": "Ravi Kumar", "email": email });
        world.admin.post("/v1/consultants", &person).await.refused_field("/email");

        let email = format!("consultant.{number}@support.example");
        let register =
            async |name: &str| world.admin.post("/v1/consultants", &json!({ "name": name, "email": email })).await;
        let mut named = register(&words).await;
        let refused_so = !named.status.is_success();
        if refused_so {
            named.refused_field("/name");
            // Under another name, so that the rest of the form is tried.
            named = register("Ravi Kumar").await;
        }
        let consultant = named.ok()["id"].as_str().unwrap().to_owned();
        addresses.insert(email);
        let mut request = Api::issue_request(&consultant);
        request["reason"] = json!(format!("Payroll stops {words}"));
        request["profile"]["name"] = json!(words);
        request["issued_by"]["name"] = json!(words);
        let reply = portal.post("/v1/magic-links", &request).await;
        if refused_so {
            reply.refused_field("/profile/name");
            reply.refused_field("/issued_by/name");
            refused += 1;
        } else {
            reply.ok();
            carried += 1;
        }
    }
    assert!(carried > 20 && refused > 20, "{carried} carried, {refused} refused");
    let mut sql = Sql::of(world);
    let sent = "FROM mail_jobs WHERE template IN ('magic_link', 'access_issued') AND state = 'accepted'";
    eventually("every mail is taken", async || (sql.count(sent) == 2 * carried).then_some(())).await;

    let mails = world.mails.everything().await;
    assert_eq!(mails.len(), 2 * carried, "no mail but theirs");
    for mail in mails {
        assert_eq!(members(&mail), members(&expected), "{mail}");
        assert_eq!((&mail["Headers"], &mail["From"]), (&expected["Headers"], &expected["From"]), "{mail}");
        let [recipient] = &mail["To"].as_array().unwrap()[..] else { panic!("one recipient: {mail}") };
        assert!(addresses.contains(recipient["Email"].as_str().unwrap()), "{mail}");
        for line in [&mail["Subject"], &recipient["Name"]] {
            assert!(!line.as_str().unwrap().contains(char::is_control), "{mail}");
        }
        let html = mail["HTML"].as_str().unwrap();
        let links = usize::from(mail["Tags"][0] == "magic_link");
        assert_eq!((html.matches("<a ").count(), html.matches("<h1").count()), (links, 1), "{mail}");
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("evil.example"), "{mail}");
    }
}
