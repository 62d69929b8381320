//! A thousand hostile e-mails through every provider's API.

use std::collections::BTreeMap;

use serde_json::Value;

use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request};

use super::hostile::{CASES, HARMLESS, letter_of, words};
use crate::domain::Template;
use crate::mail_providers::contract::*;
use crate::mail_providers::provider::Outgoing;

/// Requests the mock server keeps before it is reset.
const KEPT: usize = 50;

fn outgoing(template: Template, words: &str) -> Outgoing {
    let email = letter_of(template, words);
    let (to, subject, text, html) = (email.to, email.subject, email.text, email.html);
    Outgoing { to, subject, text, html, tag: template.as_str(), ..mail() }
}

/// Every value of a body by its path.
fn leaves<'a>(value: &'a Value, path: String, found: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                leaves(member, format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                leaves(item, format!("{path}/{number}"), found);
            }
        }
        leaf => {
            found.insert(path, leaf);
        }
    }
}

/// A request to a provider: its headers, and its body with every text of the e-mail by its name.
fn seen(request: &Request, mail: &Outgoing) -> BTreeMap<String, String> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let mut found = BTreeMap::new();
    leaves(&body, String::new(), &mut found);
    let texts = [("name", &mail.to.name), ("subject", &mail.subject), ("text", &mail.text), ("html", &mail.html)];
    let named = |leaf: &Value| match texts.iter().find(|(_, text)| leaf.as_str() == Some(text.as_str())) {
        Some((name, _)) => format!("the {name} of the mail"),
        None => leaf.to_string(),
    };
    let mut all: BTreeMap<String, String> = found.into_iter().map(|(path, leaf)| (path, named(leaf))).collect();
    for (name, value) in &request.headers {
        if name != "content-length" {
            all.insert(name.to_string(), without_signature(value.to_str().unwrap()));
        }
    }
    all
}

#[tokio::test]
async fn a_thousand_hostile_mails_reach_one_recipient_each_and_bring_no_header() {
    for contract in ALL {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with((contract.taken)()).mount(&server).await;
        let provider = contract.provider(&server.uri());
        let name = provider.name();
        let mut expected = BTreeMap::new();
        for &template in Template::ALL {
            let harmless = outgoing(template, HARMLESS);
            assert!(provider.send(&harmless).await.is_ok(), "{name}");
            let request = server.received_requests().await.unwrap().pop().unwrap();
            let seen = seen(&request, &harmless);
            assert_eq!(seen.values().filter(|value| value.contains(&harmless.to.address)).count(), 1, "{name}");
            expected.insert(template, seen);
        }
        for first in (0..CASES).step_by(KEPT) {
            server.reset().await;
            Mock::given(any()).respond_with((contract.taken)()).mount(&server).await;
            let mut mails = Vec::new();
            for number in first..first + KEPT {
                let template = Template::ALL[number % Template::ALL.len()];
                let mail = outgoing(template, &words(number));
                assert!(provider.send(&mail).await.is_ok(), "{name}: {:?}", mail.subject);
                mails.push((template, mail));
            }
            let requests = server.received_requests().await.unwrap();
            assert_eq!(requests.len(), mails.len(), "{name}");
            for ((template, mail), request) in mails.iter().zip(&requests) {
                assert_eq!(seen(request, mail), expected[template], "{name}: {:?}", mail.subject);
            }
        }
    }
}
