//! The outbox worker: claims messages, signs and sends them, and stores the outcome.

use futures_util::future::join_all;
use rand::RngExt;
use time::Duration;

use super::sender::{Answer, Sender, SignedMessage};
use super::store::{self, Attempt, Delivery};
use super::{DisableCause, Endpoint, EndpointOwner, LONGEST_ASKED, ReadyEndpoint, message};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::id::{EndpointId, MessageId};
use crate::journal::Event;
use crate::records;
use crate::secrets::WebhookSecret;
use crate::telemetry::{Span, SpanKind, TraceContext};

/// Concurrent messages per endpoint: that answers promptly, and that does not or is not known to.
const AT_A_TIME: i64 = 4;
const AT_A_TIME_IF_SLOW: i64 = 1;

/// Rows of a kind per maintenance step.
const PER_STEP: usize = 1_000;

/// Longer than a call's time-out: an expired lease belongs to a worker that died.
const LEASE: Duration = Duration::seconds(30);

/// How long a message that waits for an earlier one is postponed, unless that one is settled before.
const HELD_BACK: Duration = Duration::seconds(15);

/// How long a deleted endpoint's row is kept: longer than any transaction that saw it alive.
const DELETED_FOR: Duration = Duration::days(1);

/// Retry intervals by the number of previous attempts; then the message is given up (Standard Webhooks 1.0).
const RETRIES: [Duration; 7] = [
    Duration::seconds(5),
    Duration::minutes(5),
    Duration::minutes(30),
    Duration::hours(2),
    Duration::hours(5),
    Duration::hours(10),
    Duration::hours(10),
];

/// Endpoints with due messages, in order of id.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn ready(cx: &Context) -> Result<Vec<ReadyEndpoint>, Error> {
    let now = cx.clock.now();
    cx.store
        .read(move |conn| {
            // None could be claimed.
            let waits = records::restores::is_running(conn)?;
            Ok(if waits { Vec::new() } else { store::ready(conn, now)? })
        })
        .await
}

/// Sends an endpoint's due messages, a few at a time where it answers promptly; returns how many there were.
///
/// # Errors
/// When the store is unavailable. Claimed messages are due again when their lease ends.
pub(crate) async fn deliver(
    cx: &Context,
    sender: &Sender,
    endpoint: EndpointId,
    is_prompt: bool,
) -> Result<usize, Error> {
    let now = cx.clock.now();
    let id = endpoint.clone();
    let most = if is_prompt { AT_A_TIME } else { AT_A_TIME_IF_SLOW };
    let due = cx.store.read(move |conn| Ok(store::due(conn, &id, most, now)?)).await?;
    if due.is_empty() {
        // Every due message waits for an earlier one that is not due.
        cx.store.write_large(move |tx| Ok(store::postpone(tx, &endpoint, now.plus(HELD_BACK), now)?)).await?;
        return Ok(0);
    }
    // A signing key may have been revoked, or the master key changed, since the last message.
    cx.snapshot(None, None, now).await?;
    let attempts = join_all(due.into_iter().map(|id| attempt(cx, sender, id))).await;
    let messages = attempts.len();
    attempts.into_iter().collect::<Result<(), _>>()?;
    Ok(messages)
}

/// Claims one message and sends it. One transaction per message, as for mail jobs, to avoid deadlocks.
async fn attempt(cx: &Context, sender: &Sender, id: MessageId) -> Result<(), Error> {
    let now = cx.clock.now();
    let claimed = cx
        .store
        .write(move |tx| {
            let Some(delivery) = store::claim(tx, &id, now.plus(LEASE), now)? else { return Ok(None) };
            let open = |(endpoint, owner): &(Endpoint, EndpointOwner)| {
                endpoint.disabled_at.is_none() && owner.disabled_at.is_none()
            };
            let why = match store::find(tx, &delivery.endpoint_id)?.filter(open) {
                Some((endpoint, owner)) if message::is_within(&delivery, &owner.reach())? => {
                    return Ok(Some((delivery, endpoint)));
                }
                Some(_) => "the client may not read any more what it tells",
                None => "the endpoint or its client was disabled",
            };
            store::settle(tx, &delivery, &Attempt::Cancelled { why }, now)?;
            Ok(None)
        })
        .await?;
    let Some((delivery, endpoint)) = claimed else { return Ok(()) };
    let act = delivery.traceparent.as_deref().and_then(TraceContext::parse);
    let mut span = cx.tracer.begin(SpanKind::Client, "webhook", act);
    let answer = match signed(cx, &delivery, &endpoint, now) {
        Ok(signed) => {
            let traceparent = span.context().and_then(|trace| trace.traceparent());
            sender.send(SignedMessage { traceparent, ..signed }, cx.clock.true_now()).await
        }
        Err(_logged) => Answer::NotTaken("signing failed; the service's log has the cause".to_owned()),
    };
    span.link(act);
    describe(&mut span, &delivery, &answer);
    span.end();
    if answer != Answer::Taken {
        TraceContext::scope_of(act, || {
            tracing::info!(webhook.endpoint = %endpoint.id, webhook.message = %delivery.id,
                webhook.attempts = delivery.attempts, webhook.answer = ?answer, "webhook delivery failed");
        });
    }
    let now = cx.clock.now();
    cx.store
        .write(move |tx| {
            if answer == Answer::Gone
                && let Some(endpoint) = store::disable(tx, &endpoint, DisableCause::Gone, now)?
            {
                tx.record(disabled(&endpoint, Actor::system("webhooks"), DisableCause::Gone, now));
            }
            // It is said of the receiver, and not of this message: the others are not refused one by one.
            if let Answer::Busy(_, asked) = &answer {
                store::hold_back(tx, &endpoint, now.plus(bounded(*asked)))?;
            }
            store::settle(tx, &delivery, &next(&delivery, &answer, now), now)?;
            Ok(())
        })
        .await
}

/// Says of the span of a call what was called for, and what came of it. Neither URL nor answer: either may hold a secret.
fn describe(span: &mut Span, delivery: &Delivery, answer: &Answer) {
    span.note("http.request.method", "POST");
    span.note("magic_link.webhook.event_type", delivery.event_type.as_str());
    span.note("magic_link.webhook.message_id", delivery.id.as_str());
    span.note("magic_link.webhook.endpoint_id", delivery.endpoint_id.as_str());
    if delivery.attempts > 1 {
        span.note("http.request.resend_count", delivery.attempts - 1);
    }
    match answer {
        Answer::Taken => {}
        Answer::NotTaken(_) => span.fail("not_taken"),
        Answer::Later(..) | Answer::Busy(..) => span.fail("asked_to_wait"),
        Answer::Refused(_) => span.fail("refused"),
        Answer::Gone => span.fail("gone"),
    }
}

/// Event: an endpoint was switched off.
pub(super) fn disabled(endpoint: &Endpoint, actor: Actor, cause: DisableCause, now: Timestamp) -> Event {
    Event::new(EventType::EndpointDisabled, actor, now).with(&serde_json::json!({
        "webhook_endpoint_id": endpoint.id, "client_id": endpoint.client_id, "cause": cause,
    }))
}

fn signed(cx: &Context, delivery: &Delivery, endpoint: &Endpoint, now: Timestamp) -> Result<SignedMessage, Error> {
    let (content_type, body) = message::compose(&cx.tokens, delivery, endpoint, now)?;
    let previous = endpoint.previous_sealed_secret.as_ref();
    let previous = previous.filter(|_| endpoint.previous_secret_expires_at.is_some_and(|until| until > now));
    let sealed = std::iter::once(&endpoint.sealed_secret).chain(previous);
    Ok(SignedMessage {
        url: endpoint.url.clone(),
        format: endpoint.format,
        content_type,
        id: delivery.id.to_string(),
        body,
        traceparent: None,
        secrets: sealed.map(|sealed| open(cx, &endpoint.id, sealed)).collect::<Result<_, _>>()?,
    })
}

fn open(cx: &Context, id: &EndpointId, sealed: &str) -> Result<WebhookSecret, Error> {
    let bytes = cx.tokens.master_key().open(&Endpoint::seal(id), sealed);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let secret = text.and_then(|text| text.parse().ok());
    secret.ok_or_else(|| Error::internal(format_args!("the master key does not open the secret of {id}")))
}

/// The outcome to store after an attempt.
fn next(delivery: &Delivery, answer: &Answer, now: Timestamp) -> Attempt {
    match answer {
        Answer::Taken => Attempt::Delivered,
        Answer::Refused(error) => Attempt::Failed { error: error.clone() },
        Answer::Gone => Attempt::Failed { error: "410: the receiver wants no more".to_owned() },
        Answer::NotTaken(error) => again(delivery, Duration::ZERO, error, now),
        Answer::Later(error, asked) | Answer::Busy(error, asked) => again(delivery, bounded(*asked), error, now),
    }
}

fn bounded(asked: std::time::Duration) -> Duration {
    Duration::try_from(asked).unwrap_or(LONGEST_ASKED).min(LONGEST_ASKED)
}

/// The next attempt, not before the receiver has asked for it.
fn again(delivery: &Delivery, asked: Duration, error: &str, now: Timestamp) -> Attempt {
    match wait(delivery.attempts) {
        Some(wait) => Attempt::Again { at: now.plus(wait.max(asked)), error: error.to_owned() },
        None => Attempt::Failed { error: error.to_owned() },
    }
}

/// Wait after this number of attempts, with jitter; `None` after the last one.
fn wait(attempts: i32) -> Option<Duration> {
    let wait = RETRIES.get(usize::try_from(attempts - 1).unwrap_or(0))?;
    Some(*wait * rand::rng().random_range(1.0..1.2))
}

/// Cancels every message that is not settled, in ranges; returns how many.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn cancel_queued(cx: &Context) -> Result<usize, Error> {
    let mut cancelled = 0;
    loop {
        let now = cx.clock.now();
        let some = cx.store.write_large(move |tx| Ok(store::cancel_queued(tx, PER_STEP, now)?)).await?;
        if some == 0 {
            return Ok(cancelled);
        }
        cancelled += some;
    }
}

/// Makes due what a clock has put off that was ahead, and was set right since. What was being sent at that moment may be
/// sent again.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn make_due(cx: &Context) -> Result<(), Error> {
    // As late as can be: what was leased since would seem to lie ahead.
    let now = cx.clock.now();
    // Twice: the wait has its jitter.
    let latest = (now.furthest(Duration::ZERO), now.furthest(LEASE), now.furthest(LONGEST_ASKED * 2));
    let put_off = cx.store.read(move |conn| Ok(store::put_off(conn, latest, PER_STEP)?)).await?;
    if !put_off.is_empty() && now.is_still(cx.clock.now()) {
        cx.store.write_large(move |tx| Ok(store::make_due(tx, &put_off, (now, latest.1))?)).await?;
    }
    Ok(())
}

/// Maintenance: cancels messages that will not be sent, and deletes old messages, secrets and endpoints.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn maintain(cx: &Context, now: Timestamp) -> Result<(), Error> {
    let keep = cx.config.webhooks.keep;
    loop {
        let most = cx
            .store
            .write_large(move |tx| {
                let cancelled = store::cancel_closed(tx, PER_STEP, now)?;
                let orphaned = store::forget_of_deleted(tx, PER_STEP)?;
                let old = store::forget_finished(tx, PER_STEP, now.minus(keep))?;
                store::forget_secrets(tx, now)?;
                let gone = store::forget_deleted(tx, PER_STEP, now.minus(DELETED_FOR))?;
                Ok(cancelled.max(orphaned).max(old).max(gone))
            })
            .await?;
        if most < PER_STEP {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_tried_eight_times_in_a_good_day() {
        let waits: Vec<Duration> = (1..).map_while(wait).collect();
        assert_eq!(waits.len(), 7);
        for (wait, least) in waits.iter().zip(RETRIES) {
            assert!(least <= *wait && *wait < least * 1.2, "{wait} for {least}");
        }
        assert!(waits.iter().copied().sum::<Duration>() >= Duration::hours(27));
    }
}
