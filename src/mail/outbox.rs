//! The outbox: claims jobs, mints tokens, renders, sends, and stores how it went.

use futures_util::future::join_all;
use rand::RngExt;
use time::Duration;

use super::Template;
use super::provider::{Mailbox, Outgoing, SendError};
use super::render::{self, AddressChange};
use super::store::{self, Attempt, Job};
use crate::app::App;
use crate::audit::{Actor, Event, EventType};
use crate::clock::Timestamp;
use crate::consultants::{self, Consultant};
use crate::db::Tx;
use crate::error::Error;
use crate::id::MailJobId;
use crate::links::{self, Link};
use crate::tenants::{self, TenantView};
use crate::tokens::{Act, LinkClaims};

/// How many jobs one step takes.
const BATCH: i64 = 16;

/// Longer than a provider may take to answer: a lease that ends belongs to a worker that died.
const LEASE: Duration = Duration::seconds(30);

/// After so many attempts, a good day later, a mail is given up.
const MAX_ATTEMPTS: i32 = 30;

const FIRST_WAIT: Duration = Duration::seconds(2);
const LONGEST_WAIT: Duration = Duration::hours(1);

/// A job with what its mail is made of.
struct Claimed {
    job: Job,
    consultant: Consultant,
    link: Option<(Link, TenantView)>,
}

/// Takes the jobs that are due and sends their mails; tells how many there were.
///
/// # Errors
/// When the store cannot be asked. Whatever was claimed is due again when its lease ends.
pub(crate) async fn step(app: &App) -> Result<usize, Error> {
    let now = app.clock.now();
    let due = app.db.read(move |conn| Ok(store::due(conn, BATCH, now)?)).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let found = due.len();
    for outcome in join_all(due.into_iter().map(|id| attempt(app, id, now))).await {
        outcome?;
    }
    Ok(found)
}

/// Claims one job and delivers it. A transaction of its own: one that held several
/// jobs and a revocation that cancels the same ones could wait for each other.
async fn attempt(app: &App, id: MailJobId, now: Timestamp) -> Result<(), Error> {
    let config = app.config.clone();
    let claimed = app
        .db
        .write(move |tx| {
            if let Some(job) = store::claim(tx, &id, now.plus(LEASE), now)? {
                return gather(tx, &config, job).map(Some);
            }
            store::cancel_dead(tx, &id, now)?;
            Ok(None)
        })
        .await?;
    match claimed {
        Some(claimed) => deliver(app, claimed).await,
        None => Ok(()),
    }
}

fn gather(tx: &mut Tx<'_>, config: &crate::config::Config, job: Job) -> Result<Claimed, Error> {
    let consultant = consultants::find(tx, &job.consultant_id)?
        .ok_or_else(|| Error::internal("a mail job without its consultant"))?;
    let link = match &job.magic_link_id {
        Some(id) => {
            let link = links::find(tx, id)?.ok_or_else(|| Error::internal("a mail job without its link"))?;
            let tenant = tenants::view(tx, config, &link.tenant_id)?;
            Some((link, tenant))
        }
        None => None,
    };
    Ok(Claimed { job, consultant, link })
}

async fn deliver(app: &App, claimed: Claimed) -> Result<(), Error> {
    let now = app.clock.now();
    let outcome = match compose(app, &claimed, now) {
        Ok(mail) => app.mail_provider.send(&mail).await,
        Err(error) => Err(SendError::Transient(error.to_string())),
    };
    let now = app.clock.now();
    let attempts = claimed.job.attempts;
    let attempt = match outcome {
        Ok(accepted) => Attempt::Accepted { message_id: accepted.message_id },
        Err(SendError::Permanent(error)) => Attempt::GivenUp { error },
        // Refused credentials wait for an operator, however long that takes.
        Err(error) if attempts >= MAX_ATTEMPTS && !matches!(error, SendError::Credentials(_)) => {
            Attempt::GivenUp { error: error.to_string() }
        }
        Err(error) => {
            tracing::warn!(mail.job = %claimed.job.id, mail.attempts = attempts, error.cause = %error, "mail not taken");
            let asked = match &error {
                SendError::Throttled(wait) => Duration::try_from(*wait).unwrap_or(LONGEST_WAIT),
                _ => Duration::ZERO,
            };
            Attempt::Again { at: now.plus(wait(attempts).max(asked.min(LONGEST_WAIT))), error: error.to_string() }
        }
    };
    let provider = app.mail_provider.name();
    app.db
        .write(move |tx| {
            let settled = store::settle(tx, &claimed.job, provider, &attempt, now)?;
            // A mail that was overtaken while it was being sent has left all the same.
            let left = settled || matches!(attempt, Attempt::Accepted { .. });
            if left && let Some((link, _)) = &claimed.link {
                record(tx, &claimed.job, link, provider, &attempt, now);
            }
            Ok(())
        })
        .await
}

fn record(tx: &mut Tx<'_>, job: &Job, link: &Link, provider: &str, attempt: &Attempt, now: Timestamp) {
    let (kind, message_id, error) = match attempt {
        Attempt::Accepted { message_id } => (EventType::LinkMailed, message_id.as_deref(), None),
        Attempt::GivenUp { error } => (EventType::LinkMailFailed, None, Some(error)),
        Attempt::Again { .. } => return,
    };
    tx.record(Event::new(kind, Actor::system("mail"), now).link(link).with(&serde_json::json!({
        "mail_job_id": job.id, "generation": job.generation, "provider": provider,
        "message_id": message_id, "attempts": job.attempts, "error": error,
    })));
}

/// Mints the token and writes the mail. Both live only as long as this attempt.
fn compose(app: &App, claimed: &Claimed, now: Timestamp) -> Result<Outgoing, Error> {
    let Claimed { job, consultant, link } = claimed;
    let recipient = job.recipient.as_deref().unwrap_or(&consultant.email);
    let letter = match (job.template, link) {
        (Template::MagicLink, Some((link, tenant))) => {
            let expires_at = now.max(link.starts_at).plus(app.config.links.token_life).min(link.expires_at);
            let claims = LinkClaims {
                iss: app.tokens.issuer().to_owned(),
                aud: app.tokens.issuer().to_owned(),
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
            let token = app.tokens.sign(&claims, now)?;
            render::magic_link(&app.config, link, tenant, consultant, recipient, &token, expires_at, now)?
        }
        _ => render::address_changed(
            &app.config,
            &AddressChange { consultant, old_address: recipient, changed_at: job.created_at },
        )?,
    };
    Ok(Outgoing {
        from: Mailbox { name: app.config.mail.from_name.clone(), address: app.config.mail.from.clone() },
        to: letter.to,
        subject: letter.subject,
        text: letter.text,
        html: letter.html,
        tag: job.template.as_str(),
        job_id: job.id.clone(),
        idempotency_key: job.id.to_string(),
    })
}

/// Doubles with every attempt up to an hour; some jitter keeps the copies apart.
fn wait(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
    let wait = (FIRST_WAIT * 2_i32.saturating_pow(doublings)).min(LONGEST_WAIT);
    wait * rand::rng().random_range(0.8..1.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!(wait(1) < Duration::seconds(3));
        assert!(wait(5) > wait(1));
        for attempts in [0, 12, 30, i32::MAX] {
            assert!(wait(attempts) <= LONGEST_WAIT * 1.2, "{attempts}");
        }
    }
}
