//! A small typed client of the Magic Link service: one value per portal, because a key belongs to one portal.
//!
//! Copy this file and its `messages` as they stand. They hold the whole conversation between a portal's back end and the service;
//! what the portal does with the answers is in `visitor.rs`, `sessions.rs` and `admin.rs`.

mod messages;

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, header, redirect};
use serde::de::DeserializeOwned;
use url::Url;

use messages::Introspection;
pub use messages::{
    Access, Act, ActiveToken, AuditEvent, Change, Consultant, Event, Grant, Kind, Length, Link, OpenedSession, Page,
    Person, Problem, limits,
};

/// The support session from inside which a form was sent, if it was. The service refuses what grants from there.
pub type Acting<'a> = Option<&'a str>;

/// The longest pause before a second attempt, whatever `Retry-After` asks for: a person is waiting.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service understood and said no. Nothing happened there, and asking again changes nothing.
    #[error("refused: {} {}", .0.status, .0.code)]
    Refused(Box<Problem>),
    /// The service cannot answer now. The same request may be sent again.
    #[error("busy: {status}")]
    Busy { status: u16, pause: Duration },
    /// No readable answer came. The service may or may not have acted.
    #[error("no answer: {0}")]
    NoAnswer(#[from] reqwest::Error),
}

impl Error {
    /// How long to wait before the one repeat, or `None` where a repeat is of no use.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Refused(_) => None,
            Self::Busy { pause, .. } => Some((*pause).min(LONGEST_PAUSE)),
            Self::NoAnswer(_) => Some(Duration::ZERO),
        }
    }
}

#[derive(Clone)]
pub struct MagicLink {
    http: Client,
    base: Url,
    key: String,
}

impl MagicLink {
    /// The connection pool that both portals' clients share.
    ///
    /// # Errors
    /// If TLS cannot be set up, for instance because no CA certificates are installed.
    pub fn http() -> Result<Client, Error> {
        Ok(Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(5))
            // A redirect would carry the key to an address nobody configured.
            .redirect(redirect::Policy::none())
            .build()?)
    }

    pub fn new(http: Client, base: Url, key: String) -> Self {
        Self { http, base, key }
    }

    /// Spends a code and opens the session.
    ///
    /// The idempotency key is random and made for this attempt. Were it derived from the code, whoever
    /// replays the code within its minute would be handed the very same session.
    pub async fn redeem(&self, code: &str, address: &str, user_agent: &str) -> Result<OpenedSession, Error> {
        let body = serde_json::json!({
            "token": code,
            "visitor": {"address": address, "user_agent": user_agent},
        });
        let key = crate::web::random_id();
        let request = || self.post(&["v1", "sessions"]).header("Idempotency-Key", &key).json(&body);
        twice(async || json(request()).await).await
    }

    /// Asks whether the token still opens the door. `None` means no, and never says why.
    pub async fn introspect(&self, access_token: &str) -> Result<Option<ActiveToken>, Error> {
        let request = || self.post(&["v1", "introspect"]).form(&[("token", access_token)]);
        let answer: Introspection = twice(async || json(request()).await).await?;
        Ok(answer.token.filter(|_| answer.active))
    }

    /// Reports one act. Safe to repeat: the service knows (session, source, seq).
    pub async fn report(&self, session_id: &str, event: &Event) -> Result<(), Error> {
        let body = serde_json::json!({"events": [event]});
        let request = || self.post(&["v1", "sessions", session_id, "events"]).json(&body);
        match taken(request()).await {
            Err(first) if let Some(pause) = first.pause() => {
                tokio::time::sleep(pause).await;
                // If this fails too, the first error is the one that counts: that attempt may have been taken.
                taken(request()).await.or(Err(first))
            }
            done => done,
        }
    }

    /// Ends the session and says how many acts were reported, so that a missing one is noticed. That the consultant is
    /// done is said only where they said so.
    pub async fn end(&self, session_id: &str, last_seq: u64, consultant_done: bool) -> Result<(), Error> {
        let sources = serde_json::json!({crate::sessions::SOURCE: last_seq});
        let body = serde_json::json!({"consultant_done": consultant_done, "sources": sources});
        let request = || self.post(&["v1", "sessions", session_id, "end"]).json(&body);
        twice(async || taken(request()).await).await
    }

    /// Issues a link. `request_id` is the form's own: a double click or a reload makes one grant.
    pub async fn issue(&self, request_id: &str, grant: &Grant<'_>) -> Result<Link, Error> {
        let request = || self.post(&["v1", "magic-links"]).header("Idempotency-Key", request_id).json(grant);
        twice(async || json(request()).await).await
    }

    pub async fn revoke(&self, link_id: &str, reason: &str, by: &Person) -> Result<(), Error> {
        let body = serde_json::json!({"reason": reason, "requested_by": {"id": by.id, "name": by.name}});
        let request = || self.post(&["v1", "magic-links", link_id, "revoke"]).json(&body);
        twice(async || taken(request()).await).await
    }

    /// Mails a fresh token. Not repeated here: a second mail would void the first.
    pub async fn resend(&self, link_id: &str, by: &Person, acting_session_id: Option<&str>) -> Result<(), Error> {
        let mut body = serde_json::json!({"requested_by": {"id": by.id, "name": by.name}});
        if let (Some(session), Some(fields)) = (acting_session_id, body.as_object_mut()) {
            fields.insert("acting_session_id".into(), session.into());
        }
        taken(self.post(&["v1", "magic-links", link_id, "resend"]).json(&body)).await
    }

    /// Lets a link last longer, once for each form (`request_id`). Where the tenant wants it, that waits for an approval.
    pub async fn extend(
        &self,
        request_id: &str,
        link_id: &str,
        hours: u32,
        why: &str,
        by: &Person,
        acting: Acting<'_>,
    ) -> Result<(), Error> {
        let duration = Length { value: hours, unit: "hours" };
        let body = serde_json::json!({
            "duration": duration, "reason": why, "extended_by": by, "acting_session_id": acting,
        });
        let request =
            || self.post(&["v1", "magic-links", link_id, "extend"]).header("Idempotency-Key", request_id).json(&body);
        twice(async || taken(request()).await).await
    }

    /// Approves what waits: a link, or the extension of one. Not repeated: a second attempt would find it decided.
    pub async fn approve(&self, what: &[&str], by: &Person, acting: Acting<'_>) -> Result<(), Error> {
        let body = serde_json::json!({"approver": by, "acting_session_id": acting});
        taken(self.post(&[&["v1", "magic-links"], what, &["approve"]].concat()).json(&body)).await
    }

    pub async fn deny(&self, what: &[&str], why: &str, by: &Person, acting: Acting<'_>) -> Result<(), Error> {
        let body = serde_json::json!({"approver": by, "reason": why, "acting_session_id": acting});
        taken(self.post(&[&["v1", "magic-links"], what, &["deny"]].concat()).json(&body)).await
    }

    pub async fn link(&self, link_id: &str) -> Result<Link, Error> {
        json(self.get(&["v1", "magic-links", link_id], &[])).await
    }

    pub async fn links(&self, tenant_id: &str, portal: &str, cursor: Option<&str>) -> Result<Page<Link>, Error> {
        let mut query = vec![("tenant_id", tenant_id), ("portal", portal), ("page_size", "20")];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        json(self.get(&["v1", "magic-links"], &query)).await
    }

    pub async fn consultants(&self) -> Result<Page<Consultant>, Error> {
        json(self.get(&["v1", "consultants"], &[("page_size", "100")])).await
    }

    pub async fn audit_events(&self, link_id: &str) -> Result<Page<AuditEvent>, Error> {
        json(self.get(&["v1", "audit-events"], &[("magic_link_id", link_id), ("page_size", "100")])).await
    }

    fn post(&self, path: &[&str]) -> RequestBuilder {
        self.http.post(self.address(path)).bearer_auth(&self.key)
    }

    fn get(&self, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut address = self.address(path);
        if !query.is_empty() {
            address.query_pairs_mut().extend_pairs(query);
        }
        self.http.get(address).bearer_auth(&self.key)
    }

    /// Segment by segment, so that an id with a slash in it stays one segment.
    fn address(&self, path: &[&str]) -> Url {
        let mut address = self.base.clone();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        address
    }
}

/// Sends once more, with the same idempotency key inside, when the first attempt brought no verdict.
async fn twice<T>(attempt: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    match attempt().await {
        Err(error) if let Some(pause) = error.pause() => {
            tokio::time::sleep(pause).await;
            attempt().await
        }
        done => done,
    }
}

async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
    Ok(answer(request).await?.json().await?)
}

/// For calls whose status says all.
async fn taken(request: RequestBuilder) -> Result<(), Error> {
    answer(request).await.map(drop)
}

async fn answer(request: RequestBuilder) -> Result<Response, Error> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    // A 409 that names a pause is a request of the same key still in flight, not a verdict.
    let conflict_in_flight = status == StatusCode::CONFLICT && retry_after.is_some();
    let mut problem: Problem = response.json().await.unwrap_or_default();
    // Nor is a 429 one, but for that of a resend: a link is on its way, and a repeat would find the same.
    let called_too_often = status == StatusCode::TOO_MANY_REQUESTS && problem.code != "resend_cool_down";
    if status.is_server_error() || called_too_often || conflict_in_flight {
        let pause = Duration::from_secs(retry_after.unwrap_or(1));
        return Err(Error::Busy { status: status.as_u16(), pause });
    }
    problem.status = status.as_u16();
    Err(Error::Refused(Box::new(problem)))
}
