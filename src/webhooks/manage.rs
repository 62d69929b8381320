//! Creating, changing and deleting endpoints. Every change is recorded, without secrets and without URLs: a URL may
//! hold a secret of the receiver.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::message::WebhookData;
use super::owner::admit;
use super::read::{find_managed, managed};
use super::store::{self, Changes, Delivery};
use super::{
    A_DAY, ChangeWebhookEndpoint, CreateWebhookEndpoint, DisableCause, Endpoint, EndpointAccess, RotateWebhookSecret,
    Sender, WebhookDelivery, WebhookEndpointResponse, WebhookEndpointState, heard_since, outbox,
};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Reach, Validator, WebhookEvent, WebhookFormat};
use crate::error::{Code, Error};
use crate::http::{Caller, ManageWebhooks};
use crate::id::{ClientId, EndpointId, MessageId};
use crate::journal::Event;
use crate::records;
use crate::secrets::WebhookSecret;
use crate::store::{IdempotencyKey, Tx, Worker, idempotency};
use crate::tokens;

/// Creates an endpoint. The response holds the secret, unless it is a replay.
pub(crate) async fn create(
    cx: &Context,
    sender: &Sender,
    caller: &Caller<ManageWebhooks>,
    request: CreateWebhookEndpoint,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<WebhookEndpointResponse, Error> {
    let format = request.format.unwrap_or(WebhookFormat::Cloudevents);
    let mut fields = Validator::default();
    let url = check_url(sender, &mut fields, Some(&request.url));
    check(&mut fields, format, request.description.as_deref(), request.events.as_deref(), request.audience.as_deref());
    fields.finish()?;
    let access = EndpointAccess::of(caller);
    let client_id = request
        .client_id
        .or_else(|| caller.client_id.clone())
        .ok_or_else(|| Error::new(Code::ValidationFailed).field("/client_id", "required", "must name the client"))?;
    let id = EndpointId::new(now);
    let secret = WebhookSecret::generate();
    let endpoint = Endpoint {
        client_id,
        url: url.unwrap_or_default(),
        description: request.description.and_then(text),
        events: words(format, request.events.as_deref()),
        format,
        audience: request.audience.and_then(text),
        sealed_secret: seal(cx, &id, &secret)?,
        previous_sealed_secret: None,
        previous_secret_expires_at: None,
        created_at: now,
        updated_at: now,
        disabled_at: None,
        disable_cause: None,
        deleted_at: None,
        heard_since: String::new(),
        held_until: None,
        id,
    };
    let facts = EndpointFacts { events: Some(&endpoint.events), format: Some(format), ..EndpointFacts::of(&endpoint) };
    let event = Requester::of(caller).event(EventType::EndpointCreated, &facts, now);
    let config = std::sync::Arc::clone(&cx.config);
    let key_id = cx.tokens.master_key().id().to_owned();
    let replayed = idempotency.as_ref().map(|key| key.replayed.clone()).unwrap_or_default();
    let made = cx
        .store
        .write(move |tx| {
            let known = |tx: &mut Tx<'_>, id: &EndpointId, _: &Reach| find_managed(tx, id, &access);
            if let Some(made) = idempotency::once(tx, idempotency.as_ref(), &endpoint.id, now, known)? {
                return Ok(made);
            }
            tokens::hold_master_key(tx, &key_id)?;
            let owner = records::clients::lock(tx, &endpoint.client_id)?;
            let owner = owner.filter(|owner| access.manages(&owner.id, &owner.reach()));
            let unknown =
                || Error::new(Code::ValidationFailed).field("/client_id", "unknown", "is not a client within reach");
            let owner = owner.ok_or_else(unknown)?;
            if owner.disabled_at.is_some() {
                return Err(Code::ClientDisabled.into());
            }
            let most = config.webhooks.endpoints_per_client;
            if store::count_of(tx, &owner.id)? >= most.into() {
                return Err(Error::new(Code::TooManyEndpoints).detail(format!("a client may have {most}")));
            }
            admit(tx, &store::heard_tenants(owner.tenant_words()), 1, &config.webhooks)?;
            let heard_since = heard_since::from(store::newest_position(tx)?);
            let endpoint = Endpoint { heard_since, ..endpoint.clone() };
            store::insert(tx, &endpoint, owner.tenant_words())?;
            tx.record(event.clone());
            Ok(endpoint)
        })
        .await?;
    Ok(WebhookEndpointResponse::of(made, (!replayed.is_so()).then_some(&secret)))
}

/// Messages that one transaction cancels.
const CANCELLED_AT_ONCE: usize = 500;

/// Changes an endpoint, or switches it on or off. What waits is cancelled with it: of very many messages maintenance cancels
/// the rest, or whoever switches the endpoint on before that.
pub(crate) async fn change(
    cx: &Context,
    sender: &Sender,
    caller: &Caller<ManageWebhooks>,
    id: EndpointId,
    request: ChangeWebhookEndpoint,
    now: Timestamp,
) -> Result<WebhookEndpointResponse, Error> {
    let mut fields = Validator::default();
    let url = check_url(sender, &mut fields, request.url.as_deref());
    fields.finish()?;
    let (access, requester) = (EndpointAccess::of(caller), Requester::of(caller));
    if request.state == Some(WebhookEndpointState::Active) {
        cancel_before(cx, &id, &access, now).await?;
    }
    let endpoint = cx
        .store
        .write_large(move |tx| {
            let known = managed(tx, &id, &access)?;
            let mut fields = Validator::default();
            let (description, audience) = (request.description.as_deref(), request.audience.as_deref());
            check(&mut fields, known.format, description, request.events.as_deref(), audience);
            fields.finish()?;
            let events = request.events.as_deref().map(|events| words(known.format, Some(events)));
            let events = events.filter(|events| *events != known.events);
            let position = store::newest_position(tx)?;
            let since = |after: &String| heard_since::changed(&known.heard_since, &known.events, after, position);
            let changes = Changes {
                url: url.clone().filter(|url| *url != known.url),
                description: request.description.clone().map(text).filter(|text| *text != known.description),
                heard_since: events.as_ref().map(since).transpose()?,
                events,
                audience: request.audience.clone().map(text).filter(|text| *text != known.audience),
                // Another receiver has not asked for time.
                held_until: url.as_ref().filter(|url| **url != known.url).map(|_| None),
                updated_at: now,
            };
            let state =
                if known.disabled_at.is_some() { WebhookEndpointState::Disabled } else { WebhookEndpointState::Active };
            if changes.are_none() && request.state.is_none_or(|wanted| wanted == state) {
                return Ok(known);
            }
            let mut endpoint = store::change(tx, &id, &changes)?.ok_or_else(Error::not_found)?;
            let facts = EndpointFacts {
                events: changes.events.as_deref(),
                state: request.state,
                url_changed: changes.url.is_some().then_some(true),
                ..EndpointFacts::of(&known)
            };
            tx.record(requester.event(EventType::EndpointChanged, &facts, now));
            let switched = match request.state {
                Some(WebhookEndpointState::Active) => store::enable(tx, &id, &heard_since::from(position))?,
                Some(WebhookEndpointState::Disabled) => store::disable(tx, &endpoint, DisableCause::Client, now)?,
                None => None,
            };
            if let Some(switched) = switched {
                store::cancel_of(tx, &id, CANCELLED_AT_ONCE, now)?;
                if switched.disabled_at.is_some() {
                    let event = outbox::disabled(&switched, requester.actor.clone(), DisableCause::Client, now);
                    tx.record(event.client(requester.client_id.as_ref()));
                }
                endpoint = switched;
            }
            Ok(endpoint)
        })
        .await?;
    Ok(WebhookEndpointResponse::of(endpoint, None))
}

/// Cancels, in ranges, what waits for an endpoint that is switched off: no more comes, so that what is left fits into the
/// transaction that switches it on.
async fn cancel_before(cx: &Context, id: &EndpointId, access: &EndpointAccess, now: Timestamp) -> Result<(), Error> {
    loop {
        let (id, access) = (id.clone(), access.clone());
        let range = move |tx: &mut Tx<'_>| {
            let is_off = managed(tx, &id, &access)?.disabled_at.is_some();
            Ok(if is_off { store::cancel_of(tx, &id, CANCELLED_AT_ONCE, now)? } else { 0 })
        };
        if cx.store.write_large(range).await? < CANCELLED_AT_ONCE {
            return Ok(());
        }
    }
}

/// Deletes an endpoint with its secrets. Queued messages are not sent.
pub(crate) async fn delete(
    cx: &Context,
    caller: &Caller<ManageWebhooks>,
    id: EndpointId,
    now: Timestamp,
) -> Result<(), Error> {
    let (access, requester) = (EndpointAccess::of(caller), Requester::of(caller));
    cx.store
        .write(move |tx| {
            managed(tx, &id, &access)?;
            let deleted = store::delete(tx, &id, now)?.ok_or_else(Error::not_found)?;
            tx.record(requester.event(EventType::EndpointDeleted, &EndpointFacts::of(&deleted), now));
            Ok(())
        })
        .await
}

/// Gives an endpoint a new secret; the old one signs beside it for the overlap.
///
/// Whoever knows it can send that client messages in the name of this service: the secret of another client is only for
/// a caller who could create that client.
pub(crate) async fn rotate_secret(
    cx: &Context,
    caller: &Caller<ManageWebhooks>,
    id: EndpointId,
    request: &RotateWebhookSecret,
    now: Timestamp,
) -> Result<WebhookEndpointResponse, Error> {
    let mut fields = Validator::default();
    let rotation = fields.rotation((request.overlap_seconds, A_DAY), request.newest_lost, now);
    fields.finish()?;
    let secret = WebhookSecret::generate();
    let sealed = seal(cx, &id, &secret)?;
    let key_id = cx.tokens.master_key().id().to_owned();
    let (access, requester) = (EndpointAccess::of(caller), Requester::of(caller));
    let authority = caller.authority();
    let endpoint = cx
        .store
        .write(move |tx| {
            let known = managed(tx, &id, &access)?;
            if requester.client_id.as_ref() != Some(&known.client_id) {
                let owner = records::clients::find(tx, &known.client_id)?.ok_or_else(Error::not_found)?;
                authority.require_grantable(&owner.authority())?;
            }
            tokens::hold_master_key(tx, &key_id)?;
            let Some(rotated) = store::rotate(tx, &id, &sealed, rotation, now)? else {
                // Or it was deleted since.
                managed(tx, &id, &access)?;
                return Err(Code::OverlapRunning.into());
            };
            let facts = EndpointFacts {
                overlap_seconds: rotation.overlap_seconds(now),
                newest_lost: rotation.newest_lost(),
                ..EndpointFacts::of(&rotated)
            };
            tx.record(requester.event(EventType::EndpointRotated, &facts, now));
            Ok(rotated)
        })
        .await?;
    Ok(WebhookEndpointResponse::of(endpoint, Some(&secret)))
}

/// Largest number of test messages that wait for one endpoint.
const MOST_TESTS: i64 = 100;

/// Queues a test message.
///
/// # Errors
/// `rate_limited` where so many wait already: nobody learns more from another one.
pub(crate) async fn test(
    cx: &Context,
    caller: &Caller<ManageWebhooks>,
    id: EndpointId,
    now: Timestamp,
) -> Result<WebhookDelivery, Error> {
    let access = EndpointAccess::of(caller);
    let (delivery, held_until) = cx
        .store
        .write(move |tx| {
            let endpoint = managed(tx, &id, &access)?;
            if endpoint.disabled_at.is_some() {
                return Err(Code::EndpointDisabled.into());
            }
            if store::waiting_tests(tx, &endpoint.id)? >= MOST_TESTS {
                let detail = format!("{MOST_TESTS} test messages wait for this endpoint already");
                return Err(Error::new(Code::RateLimited).detail(detail).retry_after(60));
            }
            let data = WebhookData { webhook_endpoint_id: Some(endpoint.id.clone()), ..WebhookData::default() };
            let data = serde_json::to_string(&data).map_err(Error::internal)?;
            let delivery = Delivery::test(&endpoint.id, data, now);
            store::insert_deliveries(tx, std::slice::from_ref(&delivery))?;
            tx.wake(Worker::Webhooks);
            Ok((delivery, endpoint.held_until))
        })
        .await?;
    Ok(WebhookDelivery::of(delivery, held_until))
}

/// Request to send given-up messages again.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct RetryWebhookDeliveries {
    /// Only this message; without it all that were given up or cancelled, the oldest first, at most 500 at a time.
    pub message_id: Option<MessageId>,
}

/// Messages that are sent again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RetriedWebhookDeliveries {
    /// Number of messages that were queued again; below 500 there are no more.
    #[schema(value_type = i64, minimum = 0, maximum = 500)]
    pub queued: usize,
}

/// Largest number of messages that one request queues again.
const RETRIED_AT_ONCE: usize = 500;

/// Queues an endpoint's given-up and cancelled messages again.
pub(crate) async fn retry(
    cx: &Context,
    caller: &Caller<ManageWebhooks>,
    id: EndpointId,
    request: RetryWebhookDeliveries,
    now: Timestamp,
) -> Result<RetriedWebhookDeliveries, Error> {
    let (access, requester) = (EndpointAccess::of(caller), Requester::of(caller));
    let work = move |tx: &mut Tx<'_>| {
        let endpoint = managed(tx, &id, &access)?;
        if endpoint.disabled_at.is_some() {
            return Err(Code::EndpointDisabled.into());
        }
        let queued = store::retry(tx, &id, request.message_id.as_ref(), RETRIED_AT_ONCE, now)?;
        if queued == 0 {
            return match &request.message_id {
                Some(_) => Err(Error::not_found().detail("no such message of this endpoint was given up or cancelled")),
                None => Ok(RetriedWebhookDeliveries { queued }),
            };
        }
        let facts = EndpointFacts { messages: Some(queued), ..EndpointFacts::of(&endpoint) };
        tx.record(requester.event(EventType::EndpointRetried, &facts, now));
        tx.wake(Worker::Webhooks);
        Ok(RetriedWebhookDeliveries { queued })
    };
    cx.store.write_large(work).await
}

/// Seals the secrets of all endpoints again, under another master key; returns the number of secrets.
pub(crate) fn seal_secrets_again(
    conn: &mut Conn,
    again: &impl Fn(&str, &str) -> Result<String, Error>,
) -> Result<usize, Error> {
    let mut secrets = 0;
    // One that is rotated or deleted meanwhile waits for this transaction, or this one for it.
    for (id, sealed, previous) in store::sealed_secrets(conn)? {
        let name = Endpoint::seal(&id);
        let previous = previous.map(|previous| again(&name, &previous)).transpose()?;
        store::seal_again(conn, &id, &again(&name, &sealed)?, previous.as_deref())?;
        secrets += 1 + usize::from(previous.is_some());
    }
    Ok(secrets)
}

fn seal(cx: &Context, id: &EndpointId, secret: &SecretString) -> Result<String, Error> {
    let sealed = cx.tokens.master_key().seal(&Endpoint::seal(id), secret.expose_secret().as_bytes());
    sealed.ok_or_else(|| Error::internal("a secret could not be sealed"))
}

/// A text that is given; an empty one clears what was there.
fn text(given: String) -> Option<String> {
    Some(given).filter(|text| !text.trim().is_empty())
}

fn check_url(sender: &Sender, fields: &mut Validator, url: Option<&str>) -> Option<String> {
    let url = url?;
    if url.len() > 500 {
        fields.error("/url", "too_long", "must have at most 500 characters");
        return None;
    }
    match sender.check(url) {
        Ok(url) => Some(url),
        Err((code, detail)) => {
            fields.error("/url", code, detail);
            None
        }
    }
}

fn check(
    fields: &mut Validator,
    format: WebhookFormat,
    description: Option<&str>,
    events: Option<&[WebhookEvent]>,
    audience: Option<&str>,
) {
    fields.optional_text("/description", description, 0, 100);
    fields.optional_text("/audience", audience, 0, 500);
    let caep = format == WebhookFormat::Caep;
    if audience.is_some_and(|audience| !audience.is_empty()) && !caep {
        fields.error("/audience", "not_for_this_format", "only security event tokens have an audience");
    }
    let Some(events) = events else { return };
    if !(1..=WebhookEvent::ALL.len()).contains(&events.len()) {
        fields.error("/events", "out_of_range", "must name 1 to 7 events, or be absent for everything");
    }
    if caep && events.iter().any(|event| *event != WebhookEvent::SessionEnded) {
        fields.error("/events", "not_for_this_format", "the format caep supports session.ended only");
    }
}

/// The event types in stored form.
fn words(format: WebhookFormat, events: Option<&[WebhookEvent]>) -> String {
    match (format, events) {
        (WebhookFormat::Caep, _) => WebhookEvent::SessionEnded.to_string(),
        (WebhookFormat::Cloudevents, None) => "*".to_owned(),
        (WebhookFormat::Cloudevents, Some(events)) => {
            let mut words: Vec<&str> = events.iter().map(|event| event.as_str()).collect();
            words.sort_unstable();
            words.dedup();
            words.join(" ")
        }
    }
}

/// Event data about an endpoint.
#[derive(Serialize)]
struct EndpointFacts<'a> {
    webhook_endpoint_id: &'a EndpointId,
    client_id: &'a ClientId,
    events: Option<&'a str>,
    format: Option<WebhookFormat>,
    state: Option<WebhookEndpointState>,
    url_changed: Option<bool>,
    overlap_seconds: Option<i64>,
    newest_lost: Option<bool>,
    messages: Option<usize>,
}

impl<'a> EndpointFacts<'a> {
    const fn of(endpoint: &'a Endpoint) -> Self {
        Self {
            webhook_endpoint_id: &endpoint.id,
            client_id: &endpoint.client_id,
            events: None,
            format: None,
            state: None,
            url_changed: None,
            overlap_seconds: None,
            newest_lost: None,
            messages: None,
        }
    }
}

/// Actor and client of a request, owned by the write job.
#[derive(Clone)]
struct Requester {
    actor: Actor,
    client_id: Option<ClientId>,
}

impl Requester {
    fn of<S>(caller: &Caller<S>) -> Self {
        Self { actor: caller.actor(None), client_id: caller.client_id.clone() }
    }

    fn event(&self, kind: EventType, facts: &EndpointFacts<'_>, now: Timestamp) -> Event {
        Event::new(kind, self.actor.clone(), now).client(self.client_id.as_ref()).with(facts)
    }
}
