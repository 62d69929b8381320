//! Outgoing e-mail, sent through an outbox: a job is inserted in the verb's transaction, a worker sends it.
//!
//! The link token is minted when the e-mail is sent, so no secret is stored.
//! Delivery is at least once; repeated e-mails carry the same generation of the
//! link.

use std::collections::HashMap;

use serde::Serialize;
use store::Job;
use time::Duration;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::context::Context;
use crate::db::{Conn, text_enum};
use crate::domain::{DeliveryState, Template};
use crate::error::{Code, Error};
use crate::id::{ClientId, ConsultantId, LinkId, MailJobId, StepUpId};
use crate::records;
use crate::records::consultants::Consultant;
use crate::records::links::Link;

mod contacts;
mod day;
pub(crate) mod deliveries;
mod events;
mod failure;
mod gathering;
mod limits;
pub(crate) mod notices;
mod outbox;
mod policy;
mod render;
pub(crate) mod routes;
mod settling;
mod since;
mod store;
mod summary;
pub(crate) mod suppressions;
mod wish;

pub(crate) use contacts::{exchanged as contacts_exchanged, told as told_contacts};
pub(crate) use deliveries::DeliveryFilter;
pub(crate) use events::Certificates;
pub(crate) use limits::{Fresh, Limits, fresh_link, require_room, within_the_hour};
pub(crate) use outbox::{cancel_stale, make_due, step};

/// Number of jobs that one transaction cancels.
const CANCELLED_A_TIME: i64 = 500;

/// Delivery state of the newest e-mail with a link.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Delivery {
    /// Delivery state.
    pub state: DeliveryState,
    /// Number of attempts to hand the e-mail to a provider.
    pub attempts: i32,
    /// Provider of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub provider: Option<String>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub last_error: Option<String>,
    /// When sending finished or the provider last reported (RFC 3339, UTC); absent while attempts follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { state: DeliveryState::Queued, attempts: 0, provider: None, last_error: None, at: None }
    }
}

/// Queues the e-mail with the link in its current generation, to arrive when the link opens.
pub(crate) fn enqueue_link(conn: &mut Conn, link: &Link, now: Timestamp) -> diesel::QueryResult<()> {
    store::insert(conn, &with_link(link, now))
}

/// Inserts a link, and queues the e-mail with it, to arrive when the link opens; `false` if another link has its access:
/// then nothing may be kept.
pub(crate) fn insert_with_link(conn: &mut Conn, link: &Link, now: Timestamp) -> diesel::QueryResult<bool> {
    store::insert_with_link(conn, link, &with_link(link, now), now)
}

fn with_link(link: &Link, now: Timestamp) -> Job {
    let dedup_key = format!("{} {}", link.id, link.generation);
    let job = about(link, Template::MagicLink, dedup_key, now);
    Job { generation: Some(link.generation), next_attempt_at: link.starts_at.max(now), ..job }
}

/// Queues the e-mail with a one-time code in place of earlier ones; it is cancelled with the link's generation.
pub(crate) fn enqueue_code(conn: &mut Conn, link: &Link, id: &StepUpId, now: Timestamp) -> diesel::QueryResult<()> {
    store::cancel_codes(conn, &link.id, now)?;
    let job = about(link, Template::StepUpCode, id.to_string(), now);
    store::insert(conn, &Job { generation: Some(link.generation), ..job })
}

/// A job about a link; the recipient is the consultant by default.
fn about(link: &Link, template: Template, dedup_key: String, now: Timestamp) -> Job {
    Job {
        tenant_id: link.tenant_id.clone(),
        portal: link.portal.clone(),
        magic_link_id: Some(link.id.clone()),
        ..Job::new(MailJobId::new(now), template, dedup_key, Some(link.consultant_id.clone()), now)
    }
}

/// Address that a job was sent to, as it says, or what is registered for its consultant where it does not: it was never
/// sent, or by an older version.
fn recipient(conn: &mut Conn, sent_to: Option<&str>, consultant_id: Option<&ConsultantId>) -> Result<String, Error> {
    if let Some(sent_to) = sent_to {
        return Ok(sent_to.to_owned());
    }
    let consultant = match consultant_id {
        Some(id) => records::consultants::find(conn, id)?,
        None => None,
    };
    Ok(consultant.ok_or_else(|| Error::internal("a mail job without its consultant"))?.email)
}

/// Whether mail leaves to an address: it is not suppressed, and `mail.only_to` does not hold back what goes there.
pub(crate) fn leaves_to(conn: &mut Conn, config: &Config, address: &str) -> diesel::QueryResult<bool> {
    Ok(config.mail.may_reach(address) && !suppressions::is_suppressed(conn, address)?)
}

/// Refuses to mail a fresh link, or a code, to an address to which no mail leaves.
///
/// # Errors
/// `address_suppressed`
pub(crate) fn require_open_address(conn: &mut Conn, config: &Config, address: &str) -> Result<(), Error> {
    if leaves_to(conn, config, address)? {
        return Ok(());
    }
    let refusal = Error::new(Code::AddressSuppressed);
    Err(if config.mail.may_reach(address) {
        refusal
    } else {
        refusal.detail("nothing came back: this service mails some addresses only (mail.only_to), and not this one")
    })
}

text_enum! {
    /// What became of a mail that somebody waits for.
    pub enum MailFate {
        /// The mail waits to be sent.
        Waiting = "waiting",
        /// A provider accepted the mail, or may have.
        Mailed = "mailed",
        /// The mail failed, came back, or was cancelled.
        Lost = "lost",
    }
}

/// What became of a job, and when it went out.
fn fate(job: &Job) -> (MailFate, Option<Timestamp>) {
    // A report comes later, and an older version notes nothing else.
    let left_at = job.left_at.or(job.finished_at);
    match job.state {
        // Who reports a mail as unwanted has it.
        DeliveryState::Bounced if failure::is_complaint(job.last_error.as_deref()) => (MailFate::Mailed, left_at),
        DeliveryState::Failed | DeliveryState::Bounced | DeliveryState::Cancelled => (MailFate::Lost, None),
        _ if job.finished_at.is_some() => (MailFate::Mailed, left_at),
        _ => (MailFate::Waiting, None),
    }
}

/// The newest mail with a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewestMail {
    pub fate: MailFate,
    /// When it went out.
    pub mailed_at: Option<Timestamp>,
    /// Generation of the link in it.
    pub generation: i32,
    /// Whether nobody will read a usable link in it: it failed, or is older than a token lives.
    pub is_lost: bool,
}

/// The newest mail with a link.
pub(crate) fn newest_mail(
    conn: &mut Conn,
    link: &LinkId,
    token_life: Duration,
    now: Timestamp,
) -> diesel::QueryResult<Option<NewestMail>> {
    let Some(job) = store::newest_of_link(conn, link, Template::MagicLink)? else { return Ok(None) };
    let (fate, mailed_at) = fate(&job);
    let generation = job.generation.unwrap_or_default();
    let is_too_old = mailed_at.is_some_and(|at| at.plus(token_life) <= now);
    Ok(Some(NewestMail { fate, mailed_at, generation, is_lost: fate == MailFate::Lost || is_too_old }))
}

/// What became of the mails with these codes, and when they went out.
pub(crate) fn fates_of_codes(
    conn: &mut Conn,
    ids: &[StepUpId],
) -> diesel::QueryResult<HashMap<String, (MailFate, Option<Timestamp>)>> {
    let of_code = |job: Job| (job.dedup_key.clone(), fate(&job));
    Ok(store::of_codes(conn, ids)?.into_iter().map(of_code).collect())
}

/// Queues the notice to a consultant's old address that it was changed.
///
/// # Errors
/// `rate_limited` where that address was told so often within the hour.
pub(crate) fn enqueue_address_changed(
    conn: &mut Conn,
    consultant: &Consultant,
    old_address: &str,
    (client, per_hour): (Option<&ClientId>, u32),
    now: Timestamp,
) -> Result<(), Error> {
    limits::require_room_for_change(conn, old_address, (client, per_hour), now)?;
    let id = MailJobId::new(now);
    // Unique: each change is notified.
    let dedup_key = format!("{id} {}", client.map_or("-", ClientId::as_str));
    let job = Job {
        recipient: Some(old_address.to_owned()),
        ..Job::new(id, Template::AddressChanged, dedup_key, Some(consultant.id.clone()), now)
    };
    Ok(store::insert(conn, &job)?)
}

/// Cancels every unsent mail with a one-time code.
pub(crate) fn cancel_codes(conn: &mut Conn, now: Timestamp) -> diesel::QueryResult<usize> {
    store::cancel_all_codes(conn, now)
}

/// Cancels the unfinished jobs of links.
pub(crate) fn cancel_for_links(conn: &mut Conn, links: &[Link], now: Timestamp) -> diesel::QueryResult<usize> {
    store::cancel_for_links(conn, links, now)
}

/// Cancels every unfinished job, whatever it is about, in ranges; returns how many.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn cancel_queued(cx: &Context) -> Result<usize, Error> {
    let mut cancelled = 0;
    loop {
        let now = cx.clock.now();
        let some = cx.store.write_large(move |tx| Ok(store::cancel_queued(tx, CANCELLED_A_TIME, now)?)).await?;
        if some == 0 {
            return Ok(cancelled);
        }
        cancelled += some;
    }
}

/// Number of unfinished jobs.
pub(crate) fn unfinished(conn: &mut Conn, now: Timestamp) -> diesel::QueryResult<(i64, Option<Timestamp>)> {
    store::unfinished(conn, now)
}

/// Delivery state of the newest e-mail of each link.
pub(crate) fn newest_deliveries(conn: &mut Conn, links: &[LinkId]) -> diesel::QueryResult<HashMap<LinkId, Delivery>> {
    let mut newest: HashMap<LinkId, (i32, Delivery)> = HashMap::new();
    for job in store::of_links(conn, links)? {
        let (Some(link), Some(generation)) = (job.magic_link_id, job.generation) else { continue };
        if newest.get(&link).is_none_or(|(known, _)| *known < generation) {
            let delivery = Delivery {
                state: job.state,
                attempts: job.attempts,
                provider: job.provider,
                last_error: job.last_error,
                at: job.finished_at,
            };
            newest.insert(link, (generation, delivery));
        }
    }
    Ok(newest.into_iter().map(|(link, (_, delivery))| (link, delivery)).collect())
}

/// The e-mails about a link, oldest first, those of a newer version included.
pub(crate) fn of_link(conn: &mut Conn, link: &LinkId, limit: i64) -> diesel::QueryResult<Vec<store::MailRecord>> {
    store::about_link(conn, link, limit)
}

#[cfg(test)]
mod tests {
    use super::render::tests::hostile::{CASES, words};
    use crate::domain::is_address;

    #[test]
    fn a_thousand_hostile_recipients_are_no_address() {
        for words in (0..CASES).map(words) {
            for address in [
                words.clone(),
                format!("ravi{words}@support.example"),
                format!("{words}ravi@support.example"),
                format!("ravi@{words}support.example"),
                format!("ravi@support.example{words}"),
            ] {
                assert!(!is_address(&address), "{address:?}");
            }
        }
    }
}
