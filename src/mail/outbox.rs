//! The outbox worker: claims jobs, mints tokens, renders, sends, and stores the outcome.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::{join, join_all, join3};
use time::Duration;
use tokio::sync::mpsc;

use super::gathering::{Queued, gathered};
use super::render::{self, AddressChange, Facts};
use super::settling::{LONGEST_WAIT, Sent, next, settle};
use super::store::{self, Attempt, Job};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{STEP_UP_CODE_LIFE, Template};
use crate::error::{Code, Error};
use crate::id::MailJobId;
use crate::mail_providers::Providers;
use crate::mail_providers::circuit::Guarded;
use crate::mail_providers::provider::{Accepted, Mailbox, Outgoing, Provider, SendError};
use crate::store::{Tx, Worker};
use crate::telemetry::{SpanKind, TraceContext};
use crate::tokens::{Act, LinkClaims};

/// Stale jobs cancelled per step, and jobs made due.
const STALE_PER_STEP: i64 = 100;

/// Longer than a provider's time-out: an expired lease belongs to a worker that died.
const LEASE: Duration = Duration::seconds(30);

/// Largest number of e-mails that are settled together.
const SETTLED_A_TIME: usize = 64;

/// Tries to store what became of e-mails, and the pause between two.
const SETTLING_TRIES: u32 = 10;
const SETTLED_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Sends the e-mails of due jobs; returns how many were attempted.
///
/// Their data is read together, and they are claimed together; the outcomes that come at the same time share a
/// transaction.
///
/// # Errors
/// When the store is unavailable. Claimed jobs are due again when their lease ends.
pub(crate) async fn step(cx: &Context, providers: &Providers) -> Result<usize, Error> {
    let now = cx.clock.now();
    if !providers.any(now) {
        return Ok(0);
    }
    let config = cx.config.clone();
    let due = cx.store.read(move |conn| {
        let due = store::due(conn, now)?;
        due.into_iter().map(|due| gathered(conn, &config, due, now)).collect::<Result<Vec<Queued>, Error>>()
    });
    let mut due = due.await?;
    if due.is_empty() {
        return Ok(0);
    }
    // A signing key may have been revoked since the last e-mail.
    cx.snapshot(None, None, now).await?;
    // Each probe uses another e-mail, so that one that always fails cannot keep the circuit open.
    let turn = providers.openings() % due.len();
    due.rotate_left(turn);
    let signing_kid = cx.tokens.signing_kid(now);
    let (mut attempted, mut batches, mut withheld): (_, Vec<Batch<'_>>, _) = (0, Vec::new(), Vec::new());
    for mail in due {
        // Only a link needs a key: notices leave although the clock is behind.
        let kid = match (mail.job.template, &signing_kid) {
            (Template::MagicLink, Ok(kid)) => Some(kid.clone()),
            (Template::MagicLink, Err(_)) => continue,
            _ => None,
        };
        let uncertain = mail.job.provider.as_deref().filter(|_| mail.job.may_have_left());
        let Some(guarded) = providers.choose(uncertain, now) else { continue };
        attempted += 1;
        if mail.withheld.is_some() {
            withheld.push(withhold(cx, guarded, mail, now));
        } else if let Some(batch) =
            batches.iter_mut().find(|batch| std::ptr::eq(batch.guarded, guarded) && batch.kid == kid)
        {
            batch.mails.push(mail);
        } else {
            batches.push(Batch { guarded, kid, mails: vec![mail] });
        }
    }
    let (sent, withheld) =
        join(join_all(batches.into_iter().map(|batch| batch.send(cx, now))), join_all(withheld)).await;
    sent.into_iter().chain(withheld).collect::<Result<(), Error>>()?;
    signing_kid.map(|_kid| attempted)
}

/// Cancels stale jobs: their link ended while they were queued.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn cancel_stale(cx: &Context, now: Timestamp) -> Result<(), Error> {
    let stale = cx.store.read(move |conn| Ok(store::stale(conn, STALE_PER_STEP, now)?)).await?;
    for id in stale {
        // One job per transaction: one that locked several could deadlock with a revocation that cancels them.
        cx.store.write(move |tx| Ok(store::cancel_stale(tx, &id, now)?)).await?;
    }
    Ok(())
}

/// Makes due what a clock has put off that was ahead, and was set right since. What was being sent at that moment may be
/// sent again.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn make_due(cx: &Context) -> Result<(), Error> {
    // As late as can be: what was leased since would seem to lie ahead.
    let now = cx.clock.now();
    let latest = store::Latest {
        now: now.furthest(Duration::ZERO),
        lease: now.furthest(LEASE),
        attempt: now.furthest(LONGEST_WAIT * 2),
    };
    let put_off = cx.store.read(move |conn| Ok(store::put_off(conn, latest, STALE_PER_STEP)?)).await?;
    if !now.is_still(cx.clock.now()) {
        return Ok(());
    }
    for id in put_off {
        cx.store
            .write(move |tx| {
                tx.wake(Worker::Mail);
                Ok(store::make_due(tx, &id, latest, now)?)
            })
            .await?;
    }
    Ok(())
}

/// E-mails that one provider gets, with links signed by the same key.
struct Batch<'p> {
    guarded: &'p Guarded,
    kid: Option<String>,
    mails: Vec<Queued>,
}

impl Batch<'_> {
    /// Claims the jobs with one statement, and sends those that it got.
    async fn send(self, cx: &Context, now: Timestamp) -> Result<(), Error> {
        let Self { guarded, kid, mails } = self;
        let provider = guarded.provider.name();
        let going: Vec<_> = mails.iter().map(Queued::going).collect();
        let claim =
            move |conn: &mut Conn| Ok(store::claim(conn, &going, provider, kid.as_deref(), now.plus(LEASE), now)?);
        let claimed = cx.store.write_statement(claim).await?;
        let mut claimed: HashMap<MailJobId, Job> = claimed.into_iter().map(|job| (job.id.clone(), job)).collect();
        let (done, mut came) = mpsc::unbounded_channel();
        let (mut sending, mut stale) = (Vec::new(), Vec::new());
        for mail in mails {
            if let Some(job) = claimed.remove(&mail.job.id) {
                let (done, job) = (done.clone(), job.claimed_after(&mail.job));
                sending.push(async move { drop(done.send(attempt(cx, guarded, Queued { job, ..mail }).await)) });
            } else {
                guarded.release();
                stale.push(mail.job.id);
            }
        }
        drop(done);
        let cancel = |id| cx.store.write(move |tx| Ok(store::cancel_stale(tx, &id, now).map(drop)?));
        // What comes back while others are settled is settled together, next.
        let settling = async {
            let (mut attempts, mut outcome) = (Vec::new(), Ok(()));
            while came.recv_many(&mut attempts, SETTLED_A_TIME).await > 0 {
                outcome = settled(cx, std::mem::take(&mut attempts), provider).await.and(outcome);
            }
            outcome
        };
        let (_, cancelled, settled) = join3(join_all(sending), join_all(stale.into_iter().map(cancel)), settling).await;
        cancelled.into_iter().collect::<Result<(), Error>>().and(settled)
    }
}

/// Settles attempts together, or each by itself where the record of one of them cannot be written: the others' mails would
/// be sent twice.
async fn settled(cx: &Context, sent: Vec<Sent>, provider: &'static str) -> Result<(), Error> {
    let sent = Arc::new(sent);
    let together = stored(cx, &sent, (0..sent.len(), false), provider).await;
    if sent.len() == 1 || !together.as_ref().is_err_and(|error| error.code() == Code::Internal) {
        return together;
    }
    let mut outcome = Ok(());
    for place in 0..sent.len() {
        outcome = stored(cx, &sent, (place..place + 1, true), provider).await.and(outcome);
    }
    outcome
}

/// Stores what became of some attempts, and tries again while their lease holds: what is not known to have left would be
/// sent twice. Where the database is not what fails, waiting does not help, and neither the queue nor a stop waits for it.
async fn stored(
    cx: &Context,
    sent: &Arc<Vec<Sent>>,
    (places, is_repeated): (Range<usize>, bool),
    provider: &'static str,
) -> Result<(), Error> {
    for number in 1.. {
        let (attempts, places, now) = (sent.clone(), places.clone(), cx.clock.now());
        let is_repeated = is_repeated || number > 1;
        let work = move |tx: &mut Tx<'_>| {
            settle(tx, attempts.get(places.clone()).unwrap_or_default(), provider, is_repeated, now)
        };
        match cx.store.write(work).await {
            Err(error) if number < SETTLING_TRIES && error.code() != Code::Internal => {
                tracing::warn!(mails = sent.len(), error.cause = %error, "what became of e-mails could not be stored yet");
                tokio::time::sleep(SETTLED_AGAIN).await;
            }
            outcome => return outcome,
        }
    }
    Ok(())
}

/// Settles a job that must not be sent.
async fn withhold(cx: &Context, guarded: &Guarded, mail: Queued, now: Timestamp) -> Result<(), Error> {
    let provider = guarded.provider.name();
    guarded.release();
    let work = move |tx: &mut Tx<'_>| {
        let claimed = store::claim(tx, &[mail.going()], provider, None, now.plus(LEASE), now)?;
        match (&mail.withheld, claimed.into_iter().next()) {
            (Some(attempt), Some(job)) => {
                let (job, link) = (job.claimed_after(&mail.job), mail.link.as_ref().map(|(link, _)| link.clone()));
                settle(tx, &[Sent { job, link, attempt: attempt.clone() }], provider, false, now)
            }
            _ => Ok(store::cancel_stale(tx, &mail.job.id, now).map(drop)?),
        }
    };
    cx.store.write(work).await
}

/// Sends the e-mail of a claimed job.
async fn attempt(cx: &Context, guarded: &Guarded, claimed: Queued) -> Sent {
    let now = cx.clock.now();
    let outcome = match compose(cx, &claimed, now) {
        Ok(mail) => {
            let outcome = send(cx, guarded.provider.as_ref(), &claimed.job, &mail).await;
            let closed = guarded.note(outcome.as_ref().err(), cx.clock.now());
            outcome.map_err(|error| (error, closed))
        }
        Err(error) => {
            guarded.release();
            Err((SendError::Transient(error.to_string()), true))
        }
    };
    let now = cx.clock.now();
    let provider = guarded.provider.name();
    let told = if outcome.is_ok() { "accepted" } else { "failed" };
    cx.metrics.mail_attempts.with_label_values(&[provider, told]).inc();
    let attempt = match outcome {
        Ok(accepted) => Attempt::Accepted { message_id: accepted.message_id },
        Err((error, closed)) => {
            let job = &claimed.job;
            TraceContext::scope_of(act_of(job), || {
                tracing::warn!(mail.job = %job.id, mail.provider = provider, mail.attempts = job.attempts,
                    error.cause = %error, "mail attempt failed");
            });
            next(job, &error, closed, guarded.provider.removes_duplicates(), now)
        }
    };
    Sent { job: claimed.job, link: claimed.link.map(|(link, _)| link), attempt }
}

/// The place in the trace of the act that a job follows from.
fn act_of(job: &Job) -> Option<TraceContext> {
    job.traceparent.as_deref().and_then(TraceContext::parse)
}

/// Calls the provider, in a span below that of the act that the e-mail follows from.
async fn send(cx: &Context, provider: &dyn Provider, job: &Job, mail: &Outgoing) -> Result<Accepted, SendError> {
    let act = act_of(job);
    let mut span = cx.tracer.begin(SpanKind::Client, "mail", act);
    span.link(act);
    span.note("magic_link.mail.provider", provider.name());
    span.note("magic_link.mail.template", job.template.as_str());
    span.note("magic_link.mail.job_id", job.id.as_str());
    if job.attempts > 1 {
        span.note("http.request.resend_count", job.attempts - 1);
    }
    let sending = provider.send(mail);
    let outcome = match span.context() {
        Some(trace) => trace.scope(sending).await,
        None => sending.await,
    };
    if let Err(error) = &outcome {
        span.fail(error.kind());
    }
    outcome
}

/// Mints the token and renders the e-mail. Neither is kept beyond this attempt.
fn compose(cx: &Context, claimed: &Queued, now: Timestamp) -> Result<Outgoing, Error> {
    let Queued {
        job, consultant, link, summary, visits, extension, failure, justification, rules, request, since, ..
    } = claimed;
    let registered = consultant.as_ref().map(|consultant| consultant.email.as_str());
    let recipient = job.recipient.as_deref().or(registered).unwrap_or_default();
    let email = match (job.template, consultant, link) {
        (Template::MagicLink, Some(consultant), Some((link, tenant))) => {
            let expires_at = now.max(link.starts_at).plus(cx.config.links.token_life).min(link.expires_at);
            let claims = LinkClaims {
                iss: cx.tokens.issuer().to_owned(),
                aud: cx.tokens.issuer().to_owned(),
                sub: link.profile_id.clone(),
                act: Act { sub: link.consultant_id.clone() },
                jti: link.id.clone(),
                generation: link.generation,
                portal: link.portal.clone(),
                tenant_id: link.tenant_id.clone(),
                iat: now.unix_seconds(),
                nbf: link.starts_at.unix_seconds(),
                exp: expires_at.unix_seconds(),
            };
            let token = cx.tokens.sign_with(job.kid.as_deref().unwrap_or_default(), &claims)?;
            render::magic_link(&cx.config, link, tenant, consultant, recipient, &token, expires_at, now)?
        }
        (Template::PolicyLoosened | Template::ApprovalKeyChanged | Template::ContactsChanged, ..) => {
            let change = rules.as_ref().ok_or_else(|| Error::internal("a mail about a change that is not there"))?;
            render::rules_changed(&cx.config, change, recipient)?
        }
        (Template::AddressChanged, Some(consultant), _) => render::address_changed(
            &cx.config,
            &AddressChange { consultant, old_address: recipient, changed_at: job.created_at },
        )?,
        (Template::StepUpCode, Some(consultant), Some((link, tenant))) => {
            let code = cx.tokens.master_key().step_up_code(&job.dedup_key);
            let until = job.created_at.plus(STEP_UP_CODE_LIFE).min(link.expires_at);
            render::step_up_code(&cx.config, link, tenant, consultant, recipient, &code, until)?
        }
        (template, Some(consultant), Some((link, tenant))) => {
            let at = job.created_at;
            let (summary, extension) = (summary.as_ref(), extension.as_ref());
            let (failure, justification) = (failure.as_ref(), justification.as_deref());
            let request = request.as_ref();
            let facts = Facts {
                link,
                tenant,
                consultant,
                recipient,
                at,
                now,
                summary,
                visits,
                extension,
                failure,
                justification,
                request,
                since: *since,
            };
            render::notice(&cx.config, template, &facts)?
        }
        (template, ..) => return Err(Error::internal(format_args!("a {template} mail without its link"))),
    };
    Ok(Outgoing {
        from: Mailbox { name: cx.config.mail.from_name.clone(), address: cx.config.mail.from.clone() },
        to: email.to,
        subject: email.subject,
        text: email.text,
        html: email.html,
        tag: job.template.as_str(),
        job_id: job.id.clone(),
        idempotency_key: format!("{}-{}", job.id, job.retry_round),
    })
}
