//! Whatever the service, or something in between, answers: the page tells what failed, and what to do next.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::step_up::asked_for_a_code;
use crate::world::World;

const UNCERTAIN: &str = "It is not certain that a fresh link was sent.";

/// Every refusal of an operation of the page, as the API describes it: its status and code.
fn described(path: &str) -> Vec<(u64, String)> {
    let api: Value = serde_json::from_str(include_str!("../../openapi/openapi.json")).unwrap();
    let mut all = Vec::new();
    for (status, response) in api["paths"][path]["post"]["responses"].as_object().unwrap() {
        let response = match response["$ref"].as_str() {
            Some(reference) => api.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => response,
        };
        let examples = response["content"]["application/problem+json"]["examples"].as_object();
        all.extend(examples.into_iter().flatten().map(|(code, _)| (status.parse().unwrap(), code.clone())));
    }
    assert!(all.len() > 10, "{path}: {all:?}");
    all
}

/// The state in which the page shows a refusal; where the link is shown as it is now, that is `now`.
fn state_of(path: &str, code: &str, now: &'static str) -> &'static str {
    match (code, path) {
        ("token_invalid" | "invalid_body" | "body_too_large", _) => "invalid",
        ("invalid_request" | "unsupported_media_type" | "target_too_long" | "headers_too_large", _) => "mangled",
        ("request_timeout", _) => "slow",
        ("rate_limited", _) => "crowded",
        ("internal" | "database_fault" | "master_key_mismatch" | "clock_behind", _) => "fault",
        ("unavailable", _) => "busy",
        ("signing_key_revoked", _) => "withdrawn",
        ("address_suppressed", _) => "undeliverable",
        ("resend_cool_down", "/l/resend") => "cooling",
        ("resend_cool_down", _) => "code_cooling",
        ("step_up_void", _) => "code_void",
        ("step_up_code_wrong" | "proof_invalid", "/l/verify") => "code",
        (_, "/l/resend" | "/l/verify") => now,
        ("link_not_yet_valid", _) => "not_yet",
        ("link_spent", _) => "spent",
        ("link_superseded" | "link_replaced", _) => "superseded",
        ("link_revoked", _) => "revoked",
        ("link_expired", _) => "expired",
        ("token_expired", _) => "token_expired",
        _ => panic!("{path}: the page has no words of its own for {code}"),
    }
}

/// Lets one operation of the page be answered like this, once.
async fn answer(browser: &Browser, path: &str, status: u64, kind: &str, body: &str) {
    let script = format!(
        "const real = window.fetch; let is_new = true;
         window.fetch = (path, ...rest) => {{
           if (path !== {path} || !is_new) return real(path, ...rest);
           is_new = false;
           const headers = {{ 'content-type': {kind}, 'retry-after': '3600' }};
           return Promise.resolve(new Response({body} || null, {{ status: {status}, headers }}));
         }};",
        path = json!(path),
        kind = json!(kind),
        body = json!(body),
    );
    browser.script(&script).await;
}

async fn refuse(browser: &Browser, path: &str, (status, code): &(u64, String)) {
    let problem = json!({ "type": "about:blank", "title": "No", "status": status, "code": code, "trace_id": "0" });
    answer(browser, path, *status, "application/problem+json", &problem.to_string()).await;
}

/// Opens a link in a page of its own.
async fn open_anew(browser: &Browser, address: &str, state: &str) {
    browser.open("about:blank").await;
    browser.open(address).await;
    browser.until_state(state).await;
}

/// Opens a link whose code was mailed, and waits until the service knows: the mailbox has the mail a moment before.
async fn code_is_out(browser: &Browser, address: &str) {
    open_anew(browser, address, "code_open").await;
    browser.until("document.querySelector('#heading').textContent.startsWith('Enter')").await;
}

/// Waits for the state that an answer leads to: the page may have been in it while it asked.
async fn answered(browser: &Browser, state: &str) {
    let is_idle = "!document.querySelector('#progress').textContent";
    browser.until(&format!("document.body.dataset.state === '{state}' && {is_idle}")).await;
}

/// What the page says.
async fn said(browser: &Browser) -> String {
    let [heading, lead, next] = ["#heading", "#lead", "#next"].map(|css| browser.text(css));
    format!("{} | {} | {}", heading.await, lead.await, next.await)
}

#[test]
fn every_refusal_of_the_button_has_words_of_its_own() {
    World::run(async |world, browser| {
        let (_, address) = world.link().await;
        for refusal in described("/l/continue") {
            open_anew(browser, &address, "ready").await;
            refuse(browser, "/l/continue", &refusal).await;
            browser.click("#continue").await;
            browser.until_state(state_of("/l/continue", &refusal.1, "ready")).await;
            let said = said(browser).await;
            assert!(!said.contains("fresh link was sent"), "{refusal:?}: {said}");
            assert_eq!(said.contains("The service is busy"), refusal.1 == "unavailable", "{refusal:?}: {said}");
        }
    });
}

#[test]
fn who_asks_for_a_fresh_link_hears_whether_one_was_sent() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        world.store(&format!("UPDATE magic_links SET spent_at = created_at WHERE id = '{link}'"));
        let opened = async || {
            open_anew(browser, &address, "spent").await;
        };
        for refusal in described("/l/resend") {
            opened().await;
            refuse(browser, "/l/resend", &refusal).await;
            browser.click("#resend").await;
            let state = state_of("/l/resend", &refusal.1, "spent");
            answered(browser, state).await;
            let said = said(browser).await;
            // A refusal is certain; of a fault nobody knows.
            assert_eq!(said.contains(UNCERTAIN), refusal.0 >= 500, "{refusal:?}: {said}");
            if refusal.1 == "rate_limited" {
                assert!(said.contains("No fresh link was sent") && said.contains("about 60 minutes"), "{said}");
            }
        }
        // What is not the service's own word.
        for (status, kind, body, state) in [
            (204, "text/plain", "", "offline"),
            (200, "application/json", "{\"ok\":true}", "offline"),
            (200, "application/json", "null", "offline"),
            (202, "application/json", "{}", "offline"),
            (202, "text/html", "<p>Sign in", "offline"),
            (206, "application/json", "{\"state\":\"queued\"}", "offline"),
            (400, "text/html", "<p>Blocked", "offline"),
            (403, "application/json", "{\"code\":\"rate_limited\"}", "offline"),
            (429, "text/html", "<p>Slower", "offline"),
            (502, "text/html", "<p>Bad gateway", "busy"),
        ] {
            opened().await;
            answer(browser, "/l/resend", status, kind, body).await;
            browser.click("#resend").await;
            browser.until_state(state).await;
            assert!(said(browser).await.contains(UNCERTAIN), "{status} {body}");
        }
        opened().await;
        browser.click("#resend").await;
        browser.until_state("resent").await;
    });
}

#[test]
fn every_refusal_of_a_code_has_words_of_its_own() {
    World::run_careful(async |world, browser| {
        let (_, address, _) = asked_for_a_code(world, browser).await;
        for refusal in described("/l/verify") {
            open_anew(browser, &address, "code_open").await;
            refuse(browser, "/l/verify", &refusal).await;
            browser.fill("#code-input", "123456").await;
            browser.click("#code-submit").await;
            let state = state_of("/l/verify", &refusal.1, "code_open");
            answered(browser, state).await;
            if state == "code" {
                assert!(!browser.text("#code-error").await.is_empty(), "{refusal:?}");
            }
        }
        // Somebody else's answer to the button and to the code opens nothing, and says so.
        open_anew(browser, &address, "code_open").await;
        answer(browser, "/l/verify", 200, "application/json", "{\"ok\":true}").await;
        browser.fill("#code-input", "123456").await;
        browser.click("#code-submit").await;
        browser.until_state("offline").await;
        assert!(said(browser).await.contains("Your link has not been used."));
    });
}

#[test]
fn a_code_that_could_not_be_mailed_is_told_and_another_can_be_sent() {
    World::run_careful(async |world, browser| {
        let (_, address, _) = asked_for_a_code(world, browser).await;
        let lose = "UPDATE mail_jobs SET state = 'failed' WHERE template = 'step_up_code' AND state = 'accepted'";
        code_is_out(browser, &address).await;
        world.store(lose);
        // The page that waits hears of it by itself.
        browser.until_state("code_lost").await;
        assert_eq!(browser.text("#heading").await, "The code could not be mailed");
        open_anew(browser, &address, "code_lost").await;
        browser.click("#continue").await;
        browser.until_state("code").await;
        let code = world.mailed_code(2).await;
        browser.fill("#code-input", &code).await;
        browser.click("#code-submit").await;
        browser.confirm().await;
    });
}

#[test]
fn a_mail_that_waits_is_not_called_mailed() {
    World::run_careful(async |world, browser| {
        let (link, address) = world.link().await;
        world.cloud.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await.ok();
        world.mailed_address(&link, 2).await;
        world.mail_is_out(&link).await;
        world.store("UPDATE mail_jobs SET state = 'queued', finished_at = NULL, next_attempt_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 hour') WHERE generation = 2");
        browser.open(&address).await;
        browser.until_state("superseded").await;
        let words = said(browser).await;
        assert!(words.contains("still waiting to be sent"), "{words}");
        assert!(!browser.text("#facts").await.contains("Newest mail"));

        let (_, address, _) = asked_for_a_code(world, browser).await;
        code_is_out(browser, &address).await;
        world.store("UPDATE mail_jobs SET state = 'queued', finished_at = NULL, next_attempt_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 hour') WHERE template = 'step_up_code'");
        open_anew(browser, &address, "code_open").await;
        assert_eq!(browser.text("#heading").await, "A code is waiting to be sent");
    });
}

#[test]
fn a_replaced_link_says_what_became_of_the_other() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        let mut request = crate::actors::Api::issue_request(&world.consultant_id);
        request["profile"] = world.read(&link).await["profile"].clone();
        request["replace"] = json!(true);
        let other = world.cloud.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
        world.mailed_address(&other, 1).await;
        world.mail_is_out(&other).await;
        let shown = async |words: &str| {
            open_anew(browser, &address, "replaced").await;
            browser.until(&format!("document.querySelector('main').textContent.includes({})", json!(words))).await;
        };
        world.store(&format!("UPDATE mail_jobs SET state = 'failed' WHERE magic_link_id = '{other}'"));
        shown("did not reach the registered address").await;
        world.store(&format!(
            "UPDATE mail_jobs SET state = 'accepted', finished_at = created_at WHERE magic_link_id = '{other}'"
        ));
        shown("Look for the newest mail").await;
        world.revoke(&other).await;
        shown("The other link was withdrawn, too.").await;
    });
}
