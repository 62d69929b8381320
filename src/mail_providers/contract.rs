//! The contract of every provider, tested against a mock of its API.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use time::macros::datetime;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::provider::{Accepted, Mailbox, Outgoing, Provider, SendError};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;

/// A provider's API as its documentation describes it.
pub(crate) struct Contract {
    /// The configuration for a base URL.
    pub(crate) config: fn(&str) -> String,
    /// The response that accepts the e-mail.
    pub(crate) taken: fn() -> ResponseTemplate,
    /// The message id in that response.
    pub(crate) message_id: Option<&'static str>,
    /// A response that refuses the e-mail.
    pub(crate) refused: fn() -> ResponseTemplate,
    /// A response that refuses the credentials.
    pub(crate) stranger: fn() -> ResponseTemplate,
    /// Whether it removes duplicates by an idempotency key.
    pub(crate) removes_duplicates: bool,
}

pub(crate) const MAILPIT: Contract = Contract {
    config: |base| format!("provider = 'mailpit'\nmailpit_url = '{base}'\nmailpit_user = 'u'\nmailpit_password = 'p'"),
    taken: || ResponseTemplate::new(200).set_body_json(json!({ "ID": "iAfZVVe2UQfNSG5BAjgYwa" })),
    message_id: Some("iAfZVVe2UQfNSG5BAjgYwa"),
    refused: || ResponseTemplate::new(400).set_body_json(json!({ "Error": "no recipient" })),
    stranger: || ResponseTemplate::new(401),
    removes_duplicates: false,
};

pub(crate) const SES: Contract = Contract {
    config: |base| {
        format!(
            "provider = 'ses'\nses_url = '{base}'\nses_access_key_id = 'AKIDEXAMPLE'\nses_tracking_is_off = true\n\
             ses_secret_access_key = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'\nses_configuration_set = 'plain'"
        )
    },
    taken: || ResponseTemplate::new(200).set_body_json(json!({ "MessageId": "0100018c-0000" })),
    message_id: Some("0100018c-0000"),
    refused: || {
        ResponseTemplate::new(400)
            .insert_header("x-amzn-errortype", "MessageRejected:http://internal.amazon.com/")
            .set_body_json(json!({ "message": "Local address contains control or whitespace: ravi@support.example" }))
    },
    stranger: || {
        ResponseTemplate::new(403)
            .insert_header("x-amzn-errortype", "SignatureDoesNotMatch")
            .set_body_json(json!({ "message": "The request signature we calculated does not match" }))
    },
    removes_duplicates: false,
};

pub(crate) const POSTMARK: Contract = Contract {
    config: |base| format!("provider = 'postmark'\npostmark_url = '{base}'\npostmark_server_token = 'server-token'"),
    taken: || {
        ResponseTemplate::new(200).set_body_json(json!({
            "To": "ravi@support.example", "SubmittedAt": "2026-11-23T03:30:00Z", "ErrorCode": 0, "Message": "OK",
            "MessageID": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817",
        }))
    },
    message_id: Some("b7bc2f4a-e38e-4336-af7d-e6c392c2f817"),
    refused: || {
        ResponseTemplate::new(422).set_body_json(json!({
            "ErrorCode": 406, "Message": "You tried to send to a recipient that has been marked as inactive: ravi@support.example",
        }))
    },
    stranger: || {
        ResponseTemplate::new(401)
            .set_body_json(json!({ "ErrorCode": 10, "Message": "No Account or Server API tokens" }))
    },
    removes_duplicates: false,
};

pub(crate) const SENDGRID: Contract = Contract {
    config: |base| format!("provider = 'sendgrid'\nsendgrid_url = '{base}'\nsendgrid_api_key = 'SG.key'"),
    taken: || ResponseTemplate::new(202).insert_header("x-message-id", "8XxLkGGgS2a0gF5u"),
    message_id: Some("8XxLkGGgS2a0gF5u"),
    refused: || {
        ResponseTemplate::new(400).set_body_json(json!({
            "errors": [{ "message": "Does not contain a valid address: ravi@support.example", "field": "personalizations.0.to" }],
        }))
    },
    stranger: || ResponseTemplate::new(403).set_body_json(json!({ "errors": [{ "message": "access forbidden" }] })),
    removes_duplicates: false,
};

pub(crate) const RESEND: Contract = Contract {
    config: |base| {
        format!("provider = 'resend'\nresend_url = '{base}'\nresend_api_key = 're_key'\nresend_tracking_is_off = true")
    },
    taken: || ResponseTemplate::new(200).set_body_json(json!({ "id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794" })),
    message_id: Some("49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"),
    refused: || {
        ResponseTemplate::new(422).set_body_json(json!({
            "statusCode": 422, "name": "validation_error", "message": "Invalid `to` field: ravi@support.example",
        }))
    },
    stranger: || ResponseTemplate::new(403).set_body_json(json!({ "statusCode": 403, "name": "invalid_api_key" })),
    removes_duplicates: true,
};

pub(crate) const ALL: [&Contract; 5] = [&MAILPIT, &SES, &POSTMARK, &SENDGRID, &RESEND];

/// Hostile names, which careless encoding would turn into headers or recipients.
pub(crate) fn mail() -> Outgoing {
    let hostile = "Ravi \"R\", <x@evil.example>\r\nBcc: y@evil.example".to_owned();
    Outgoing {
        from: Mailbox { name: "Magic Link".to_owned(), address: "no-reply@magic-link.example".to_owned() },
        to: Mailbox { name: hostile, address: "ravi@support.example".to_owned() },
        subject: "Temporary support access to ACME (Cloud) – SUP-48213".to_owned(),
        text: "Hello\nhttps://links.example/l#eyJ0b2tlbg\n".to_owned(),
        html: "<p>Hello</p>".to_owned(),
        tag: "magic_link",
        job_id: "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z".parse().unwrap(),
        idempotency_key: "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z-0".to_owned(),
    }
}

impl Contract {
    pub(crate) fn provider(&self, base: &str) -> Box<dyn Provider> {
        let config = Config::from_toml(&format!("[mail]\n{}", (self.config)(base))).unwrap();
        let clock = Clock::manual(Timestamp::from_utc(datetime!(2026-11-23 03:30 UTC)));
        super::over_http(&config.mail.provider, &clock).unwrap().unwrap()
    }

    /// Sends one e-mail to a mock with this response.
    pub(crate) async fn send(&self, answer: ResponseTemplate) -> (Result<Accepted, SendError>, Request) {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).expect(1).mount(&server).await;
        let outcome = self.provider(&server.uri()).send(&mail()).await;
        (outcome, server.received_requests().await.unwrap().pop().unwrap())
    }

    pub(crate) async fn outcome(&self, answer: ResponseTemplate) -> Result<Accepted, SendError> {
        self.send(answer).await.0
    }
}

/// Method, path, the headers that matter, and every byte of the body.
pub(crate) fn shape(request: &Request) -> String {
    let mut lines = vec![format!("{} {}", request.method, request.url.path())];
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "host" | "content-length" | "user-agent") {
            lines.push(format!("{name}: {}", without_signature(value.to_str().unwrap())));
        }
    }
    lines[1..].sort();
    lines.push(String::from_utf8(request.body.clone()).unwrap());
    lines.join("\n")
}

/// The signature covers the mock's port, which differs from run to run.
pub(crate) fn without_signature(value: &str) -> String {
    let Some((before, signature)) = value.split_once("Signature=") else { return value.to_owned() };
    assert!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()), "{value}");
    format!("{before}Signature=<64 hex digits>")
}

#[tokio::test]
async fn every_provider_takes_a_mail_and_names_it() {
    for contract in ALL {
        let (outcome, request) = contract.send((contract.taken)()).await;
        let name = contract.provider("http://127.0.0.1:9").name();
        assert_eq!(outcome, Ok(Accepted { message_id: contract.message_id.map(ToOwned::to_owned) }), "{name}");
        assert_eq!(contract.provider("http://127.0.0.1:9").removes_duplicates(), contract.removes_duplicates, "{name}");
        assert_eq!(request.headers.contains_key("idempotency-key"), contract.removes_duplicates, "{name}");
        // Exactly one recipient, and no injected header.
        let body = String::from_utf8(request.body.clone()).unwrap();
        assert!(!request.headers.iter().any(|(_, value)| value.to_str().unwrap().contains("evil")), "{name}");
        assert_eq!(body.matches("ravi@support.example").count(), 1, "{name}");
        assert!(body.contains("Auto-Submitted"), "{name}");
    }
}

#[tokio::test]
async fn every_provider_tells_errors_apart_and_quotes_nothing_of_the_mail() {
    for contract in ALL {
        let name = contract.provider("http://127.0.0.1:9").name();
        let refused = contract.outcome((contract.refused)()).await.unwrap_err();
        assert!(matches!(refused, SendError::Permanent(_)), "{name}: {refused:?}");
        let stranger = contract.outcome((contract.stranger)()).await.unwrap_err();
        assert!(matches!(stranger, SendError::Credentials(_)), "{name}: {stranger:?}");
        let busy = ResponseTemplate::new(429).insert_header("retry-after", "120");
        let throttled = |seconds, why: &str| {
            let said = format!("the provider asks to wait {seconds} s{why}");
            Err(SendError::Throttled { wait: Duration::from_secs(seconds), said })
        };
        assert_eq!(contract.outcome(busy).await, throttled(120, ""), "{name}");
        let busy = contract.outcome(ResponseTemplate::new(429)).await;
        assert_eq!(busy, throttled(30, ""), "{name}");
        // Whose quota it is, and for how long, nobody else says.
        let quota = json!({ "message": "You have reached your daily quota, ravi@support.example" });
        for (status, seconds) in [(429, 60), (503, 90)] {
            let busy = ResponseTemplate::new(status).insert_header("retry-after", seconds.to_string().as_str());
            let said = contract.outcome(busy.set_body_json(&quota)).await;
            assert_eq!(said, throttled(seconds, ": You have reached your daily quota, …"), "{name}");
        }
        for broken in [500, 502, 503, 504] {
            let answer = contract.outcome(ResponseTemplate::new(broken)).await.unwrap_err();
            assert!(matches!(answer, SendError::Transient(_)), "{name}: {answer:?}");
        }
        let elsewhere = ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/");
        assert!(matches!(contract.outcome(elsewhere).await, Err(SendError::Transient(_))), "{name}");
        for garbage in ["<html>Welcome</html>", "", "{}", "[1]", "null"] {
            let answer = ResponseTemplate::new(200).set_body_string(garbage);
            assert!(matches!(contract.outcome(answer).await, Err(SendError::Transient(_))), "{name}: {garbage}");
        }
        let endless = ResponseTemplate::new(200).set_body_string("x".repeat(1024 * 1024));
        assert!(matches!(contract.outcome(endless).await, Err(SendError::Transient(_))), "{name}");
        for error in [refused.to_string(), stranger.to_string()] {
            assert!(!error.contains("ravi@") && !error.contains("eyJ"), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent_and_where_the_line_goes_dead_nobody_knows() {
    for contract in ALL {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let provider = contract.provider(&format!("http://{closed}"));
        let outcome = provider.send(&mail()).await.unwrap_err();
        assert!(matches!(outcome, SendError::Transient(_)), "{}: {outcome:?}", provider.name());
        for half in ["", "HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{\"ID\"", "HTTP/1.1 200 OK\r\n"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let base = format!("http://{}", listener.local_addr().unwrap());
            let hang_up = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // Read the whole request, so that the connection is closed and not reset.
                let mut seen = Vec::new();
                let mut part = [0; 4096];
                while !seen.ends_with(b"}") {
                    let length = stream.read(&mut part).unwrap();
                    seen.extend_from_slice(&part[..length]);
                }
                stream.write_all(half.as_bytes()).unwrap();
            });
            let provider = contract.provider(&base);
            let outcome = provider.send(&mail()).await.unwrap_err();
            assert!(matches!(outcome, SendError::Unknown(_)), "{}: {half:?}: {outcome:?}", provider.name());
            assert!(!outcome.to_string().contains("127.0.0.1"), "{outcome}");
            hang_up.join().unwrap();
        }
        // The server does not speak TLS, or not for this name.
        let plain = MockServer::start().await;
        let provider = contract.provider(&plain.uri().replace("http://", "https://"));
        let outcome = provider.send(&mail()).await.unwrap_err();
        assert!(matches!(outcome, SendError::Transient(_)), "{}: {outcome:?}", provider.name());
        assert!(plain.received_requests().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_provider_that_has_this_very_mail_already_took_it() {
    let conflict = |name| ResponseTemplate::new(409).set_body_json(json!({ "statusCode": 409, "name": name }));
    assert_eq!(RESEND.outcome(conflict("invalid_idempotent_request")).await, Ok(Accepted { message_id: None }));
    let running = RESEND.outcome(conflict("concurrent_idempotent_requests")).await;
    assert!(matches!(running, Err(SendError::Transient(_))), "{running:?}");
}

#[tokio::test]
async fn what_only_an_operator_can_mend_waits_for_one() {
    let ses = |kind: &str| ResponseTemplate::new(400).insert_header("x-amzn-errortype", kind);
    for kind in ["AccountSuspendedException", "SendingPausedException", "MailFromDomainNotVerifiedException:x"] {
        assert!(matches!(SES.outcome(ses(kind)).await, Err(SendError::Credentials(_))), "{kind}");
    }
    let of_body =
        ResponseTemplate::new(400).set_body_json(json!({ "__type": "com.amazonaws.ses#SendingPausedException" }));
    let unverified =
        "Email address is not verified. The following identities failed the check: no-reply@support.example";
    let unverified = ses("MessageRejected").set_body_json(json!({ "message": unverified }));
    for account in [of_body, unverified, ses("RequestExpired"), ses("InvalidSignatureException")] {
        assert!(matches!(SES.outcome(account).await, Err(SendError::Credentials(_))));
    }
    assert!(matches!(SES.outcome(ses("MessageRejected")).await, Err(SendError::Permanent(_))));
    for kind in ["LimitExceededException", "ThrottlingException", "Throttling", "TooManyRequestsException:http://x/"] {
        assert!(matches!(SES.outcome(ses(kind)).await, Err(SendError::Throttled { .. })), "{kind}");
    }
    let inactive = ResponseTemplate::new(200).set_body_json(json!({ "ErrorCode": 406, "Message": "inactive" }));
    assert!(matches!(POSTMARK.outcome(inactive).await, Err(SendError::Permanent(_))));
    let refused =
        |code: u16, said: &str| ResponseTemplate::new(422).set_body_json(json!({ "ErrorCode": code, "Message": said }));
    let unconfirmed = "Invalid 'From' address: 'no-reply@support.example' is not a verified sender signature";
    for (code, said) in
        [(400, ""), (405, ""), (412, ""), (1235, "no such stream"), (1236, "inbound"), (300, unconfirmed)]
    {
        let outcome = POSTMARK.outcome(refused(code, said)).await;
        assert!(matches!(outcome, Err(SendError::Credentials(_))), "{code}");
    }
    for (code, said) in [(300, "Invalid 'To' address: 'ravi'"), (406, "inactive"), (411, "an attachment")] {
        let outcome = POSTMARK.outcome(refused(code, said)).await;
        assert!(matches!(outcome, Err(SendError::Permanent(_))), "{code}");
    }
    let unverified = ResponseTemplate::new(422).set_body_json(json!({ "name": "invalid_from_address" }));
    assert!(matches!(RESEND.outcome(unverified).await, Err(SendError::Credentials(_))));
}

#[tokio::test]
async fn mailpit_gets_this_and_not_a_byte_else() {
    insta::assert_snapshot!(shape(&MAILPIT.send((MAILPIT.taken)()).await.1), @r#"
    POST /api/v1/send
    accept: */*
    authorization: Basic dTpw
    content-type: application/json
    {"From":{"Name":"Magic Link","Email":"no-reply@magic-link.example"},"To":[{"Name":"Ravi \"R\", <x@evil.example>\r\nBcc: y@evil.example","Email":"ravi@support.example"}],"Subject":"Temporary support access to ACME (Cloud) – SUP-48213","Text":"Hello\nhttps://links.example/l#eyJ0b2tlbg\n","HTML":"<p>Hello</p>","Tags":["magic_link"],"Headers":{"Auto-Submitted":"auto-generated"}}
    "#);
}

#[tokio::test]
async fn ses_gets_this_and_not_a_byte_else() {
    insta::assert_snapshot!(shape(&SES.send((SES.taken)()).await.1), @r#"
    POST /v2/email/outbound-emails
    accept: */*
    authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/ap-south-1/ses/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=<64 hex digits>
    content-type: application/json
    x-amz-date: 20261123T033000Z
    {"FromEmailAddress":"\"Magic Link\" <no-reply@magic-link.example>","Destination":{"ToAddresses":["ravi@support.example"]},"Content":{"Simple":{"Subject":{"Data":"Temporary support access to ACME (Cloud) – SUP-48213","Charset":"UTF-8"},"Body":{"Text":{"Data":"Hello\nhttps://links.example/l#eyJ0b2tlbg\n","Charset":"UTF-8"},"Html":{"Data":"<p>Hello</p>","Charset":"UTF-8"}},"Headers":[{"Name":"Auto-Submitted","Value":"auto-generated"}]}},"EmailTags":[{"Name":"template","Value":"magic_link"},{"Name":"mail_job_id","Value":"mjb_01kaq3v9e8fwmvd2x7n0c5hb6z"}],"ConfigurationSetName":"plain"}
    "#);
}

#[tokio::test]
async fn postmark_gets_this_and_not_a_byte_else() {
    insta::assert_snapshot!(shape(&POSTMARK.send((POSTMARK.taken)()).await.1), @r#"
    POST /email
    accept: application/json
    content-type: application/json
    x-postmark-server-token: server-token
    {"From":"\"Magic Link\" <no-reply@magic-link.example>","To":"ravi@support.example","Subject":"Temporary support access to ACME (Cloud) – SUP-48213","TextBody":"Hello\nhttps://links.example/l#eyJ0b2tlbg\n","HtmlBody":"<p>Hello</p>","MessageStream":"outbound","Tag":"magic_link","Headers":[{"Name":"Auto-Submitted","Value":"auto-generated"}],"Metadata":{"mail_job_id":"mjb_01kaq3v9e8fwmvd2x7n0c5hb6z"},"TrackOpens":false,"TrackLinks":"None"}
    "#);
}

#[tokio::test]
async fn sendgrid_gets_this_and_not_a_byte_else() {
    insta::assert_snapshot!(shape(&SENDGRID.send((SENDGRID.taken)()).await.1), @r#"
    POST /v3/mail/send
    accept: */*
    authorization: Bearer SG.key
    content-type: application/json
    {"personalizations":[{"to":[{"email":"ravi@support.example"}],"custom_args":{"mail_job_id":"mjb_01kaq3v9e8fwmvd2x7n0c5hb6z"}}],"from":{"email":"no-reply@magic-link.example","name":"Magic Link"},"subject":"Temporary support access to ACME (Cloud) – SUP-48213","content":[{"type":"text/plain","value":"Hello\nhttps://links.example/l#eyJ0b2tlbg\n"},{"type":"text/html","value":"<p>Hello</p>"}],"headers":{"Auto-Submitted":"auto-generated"},"categories":["magic_link"],"tracking_settings":{"click_tracking":{"enable":false,"enable_text":false},"open_tracking":{"enable":false},"subscription_tracking":{"enable":false}}}
    "#);
}

#[tokio::test]
async fn resend_gets_this_and_not_a_byte_else() {
    insta::assert_snapshot!(shape(&RESEND.send((RESEND.taken)()).await.1), @r#"
    POST /emails
    accept: */*
    authorization: Bearer re_key
    content-type: application/json
    idempotency-key: mjb_01kaq3v9e8fwmvd2x7n0c5hb6z-0
    {"from":"\"Magic Link\" <no-reply@magic-link.example>","to":["ravi@support.example"],"subject":"Temporary support access to ACME (Cloud) – SUP-48213","text":"Hello\nhttps://links.example/l#eyJ0b2tlbg\n","html":"<p>Hello</p>","headers":{"Auto-Submitted":"auto-generated"},"tags":[{"name":"template","value":"magic_link"},{"name":"mail_job_id","value":"mjb_01kaq3v9e8fwmvd2x7n0c5hb6z"}]}
    "#);
}
