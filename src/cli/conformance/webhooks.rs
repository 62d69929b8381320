//! Checks of the portal's receiver of webhook messages.

use serde_json::json;

use super::service::text_at;
use super::{Finding, Run, ensure};
use crate::clock::Clock;
use crate::secrets::WebhookSecret;

const ID: &str = "whm_01kaq3v9e8fwmvd2x7n0c5hc2z";

/// The headers of a message, as somebody made them.
struct Headers {
    id: &'static str,
    seconds: i64,
    signature: String,
}

pub(super) async fn webhook(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    let session = run.service.session(&visit.link).await?.unwrap_or_default();
    let body = json!({
        "specversion": "1.0", "id": "evt_01kaq3v9e8fwmvd2x7n0c5hb5z", "source": "urn:magic-link:conformance",
        "type": "session.ended", "subject": text_at(&session, "/id"), "sequence": "9999999999999999995",
        "data": {
            "magic_link_id": text_at(&visit.link, "/id"), "session_id": text_at(&session, "/id"),
            "tenant_id": run.command.tenant, "portal": run.command.portal, "actor_type": "system",
        },
    })
    .to_string();
    let other: WebhookSecret = format!("whsec_{}=", "A".repeat(43)).parse()?;
    let own: WebhookSecret = run.webhook_secret().parse()?;
    let now = Clock::System.now().unix_seconds();
    let signed = |secret: &WebhookSecret, at: i64, text: &str| secret.sign(ID, at, text);
    let forged = [
        ("signed with another secret", Headers { id: ID, seconds: now, signature: signed(&other, now, &body) }),
        ("with another body", Headers { id: ID, seconds: now, signature: signed(&own, now, &format!("{body} ")) }),
        ("with another id", Headers { id: "whm_other", seconds: now, signature: signed(&own, now, &body) }),
        ("six minutes old", Headers { id: ID, seconds: now - 360, signature: signed(&own, now - 360, &body) }),
        ("of the future", Headers { id: ID, seconds: now + 360, signature: signed(&own, now + 360, &body) }),
        ("without a signature", Headers { id: ID, seconds: now, signature: String::new() }),
    ];
    for (what, headers) in forged {
        let status = post(run, &headers, &body).await?;
        ensure((400..500).contains(&status), || format!("a message {what} is answered {status}"))?;
    }
    visit.shown(run, "after forged messages about the end of its session").await?;
    // A secret that is being replaced signs beside the new one.
    let signature = format!("v1,AAAA {}", signed(&own, now, &body));
    let status = post(run, &Headers { id: ID, seconds: now, signature }, &body).await?;
    ensure((200..300).contains(&status), || format!("a message with one good signature of two is answered {status}"))
}

async fn post(run: &Run, headers: &Headers, body: &str) -> Result<u16, String> {
    let path = run.command.webhook.as_deref().unwrap_or_default();
    let url = run.command.portal_url.join(path).map_err(|error| error.to_string())?;
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/cloudevents+json")
        .header("webhook-id", headers.id)
        .header("webhook-timestamp", headers.seconds)
        .header("webhook-signature", &headers.signature)
        .body(body.to_owned());
    Ok(request.send().await.map_err(|error| error.to_string())?.status().as_u16())
}
