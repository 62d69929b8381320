//! Delivery reports of providers: delivered, bounced, given up, or complained about.
//!
//! Each provider's file has the table of its documented end states. Mailpit and the preview report nothing.
//! A report is authenticated first, by each provider's own method. It is then
//! matched to its mail job by the ids that were sent with the e-mail. A repeated
//! report changes nothing.

mod postmark;
mod resend;
mod sendgrid;
mod sns;

use actix_web::http::header::HeaderMap;
use secrecy::SecretSlice;
use serde_json::Value;
use time::Duration;

use super::failure::COMPLAINT;
use super::store::{self, Sent};
use super::suppressions;
use crate::clock::Timestamp;
use crate::config::SesEvents;
use crate::context::Context;
use crate::domain::{Actor, DeliveryState, EventType, Template};
use crate::error::{Code, Error};
use crate::http::{BATCH_LIMIT, Sender};
use crate::id::MailJobId;
use crate::journal::Event;
use crate::mail_providers::provider::{is_message_id, providers_words};
use crate::records;
use crate::secrets::Kept;
use crate::store::Tx;

pub(crate) use sns::Certificates;

/// Kind of report: how the delivery of an e-mail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The recipient's mail server accepted the e-mail.
    Delivered,
    /// The e-mail bounced permanently: the address does not exist.
    Bounced,
    /// The provider gave the e-mail up, which says nothing about the address.
    GivenUp,
    /// The recipient reported the e-mail as spam.
    Complained,
    /// The provider did not send the e-mail: the recipient reported an earlier one as spam.
    Listed,
}

/// Error text of an e-mail that was not sent because of an earlier complaint: none about this one.
const LISTED: &str = "the provider has the address on its list of complaints";

/// An authenticated report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    kind: Kind,
    /// Mail job id, sent with the e-mail.
    job_id: Option<MailJobId>,
    /// The provider's message id.
    message_id: Option<String>,
    /// The provider's own term for the event.
    word: String,
    /// The provider's or the recipient server's explanation.
    reason: Option<String>,
}

/// The kind of a provider's term; `None` for one that ends no e-mail.
fn kind(table: &[(&str, Kind)], word: &str) -> Option<Kind> {
    table.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
}

/// A text in a report. Members are optional, may be null, and are never judged by their type.
fn text<'a>(body: &'a Value, pointer: &str) -> Option<&'a str> {
    body.pointer(pointer)?.as_str()
}

fn parse(body: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(body).map_err(|_garbage| Code::InvalidBody.into())
}

/// Accepted clock skew of a report.
const SKEW: Duration = Duration::minutes(5);

/// Refuses a report that is older than its provider repeats it: somebody may have recorded it.
///
/// # Errors
/// `signature_invalid`
fn require_recent(sent_at: i64, max_age: Duration, now: Timestamp) -> Result<(), Error> {
    let age = now.unix_seconds().saturating_sub(sent_at);
    let recent = -SKEW.whole_seconds() <= age && age <= max_age.whole_seconds();
    if recent { Ok(()) } else { Err(unproven()) }
}

impl Report {
    fn new(kind: Kind, job_id: Option<&str>, message_id: Option<&str>, word: &str) -> Self {
        let plain = |character: &char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.' | ' ');
        Self {
            kind,
            job_id: job_id.and_then(|id| id.parse().ok()),
            message_id: message_id.map(ToOwned::to_owned),
            word: word.chars().filter(plain).take(64).collect(),
            reason: None,
        }
    }

    fn because(self, reason: Option<&str>) -> Self {
        Self { reason: reason.map(providers_words).filter(|words| !words.is_empty()), ..self }
    }

    /// The error text stored with the job.
    fn error(&self) -> String {
        let what = match self.kind {
            Kind::Delivered => return String::new(),
            Kind::Bounced => format!("the e-mail bounced: {}", self.word),
            Kind::GivenUp => format!("the provider gave the e-mail up: {}", self.word),
            Kind::Complained => COMPLAINT.to_owned(),
            Kind::Listed => LISTED.to_owned(),
        };
        self.reason.iter().fold(what, |what, reason| format!("{what}: {reason}"))
    }
}

/// `signature_invalid`: the report is not authenticated.
fn unproven() -> Error {
    Code::SignatureInvalid.into()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A provider whose reports are configured, and what proves them.
#[derive(Clone, Copy)]
pub(crate) enum Reporter<'a> {
    Ses(&'a SesEvents),
    /// Its credentials are right.
    Postmark,
    SendGrid(&'a [u8]),
    Resend(&'a Kept<SecretSlice<u8>>),
}

impl Reporter<'_> {
    /// Largest report.
    pub(crate) const fn body_limit(self) -> usize {
        match self {
            Self::Ses(_) => sns::BODY_LIMIT,
            Self::Postmark | Self::SendGrid(_) | Self::Resend(_) => BATCH_LIMIT,
        }
    }

    /// Whether it is the provider, as far as its head tells: the others sign what is in the body.
    pub(crate) const fn sender(self) -> Sender {
        match self {
            Self::Postmark => Sender::Proven,
            Self::Ses(_) | Self::SendGrid(_) | Self::Resend(_) => Sender::Unproven,
        }
    }
}

/// Refuses what its head alone condemns, before anybody sends a body.
///
/// # Errors
/// `route_not_found` for a provider without a configuration, `signature_invalid` without what proves a report.
pub(crate) fn admit<'a>(cx: &'a Context, provider: &str, headers: &HeaderMap) -> Result<Reporter<'a>, Error> {
    let events = &cx.config.mail.events;
    let require = |names: &[&str]| names.iter().all(|name| headers.contains_key(*name));
    let (reporter, is_admitted) = match provider {
        "ses" => (events.ses.as_ref().map(Reporter::Ses), true),
        "postmark" => {
            let login = events.postmark.as_ref();
            (login.map(|_| Reporter::Postmark), login.is_some_and(|login| postmark::is_login(login, headers)))
        }
        "sendgrid" => (events.sendgrid.as_deref().map(Reporter::SendGrid), require(sendgrid::PROOF)),
        "resend" => (events.resend.as_ref().map(Reporter::Resend), require(resend::PROOF)),
        _ => (None, false),
    };
    let reporter = reporter.ok_or(Code::RouteNotFound)?;
    if is_admitted { Ok(reporter) } else { Err(unproven()) }
}

/// Receives a provider's reports.
pub(crate) async fn receive(
    cx: &Context,
    certificates: &Certificates,
    reporter: Reporter<'_>,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Error> {
    let (provider, reports) = match reporter {
        Reporter::Ses(ses) => ("ses", sns::read(certificates, ses, body, now).await?),
        Reporter::Postmark => ("postmark", postmark::read(body)?),
        Reporter::SendGrid(key) => ("sendgrid", sendgrid::read(key, headers, body, now)?),
        Reporter::Resend(secret) => ("resend", resend::read(&secret.get(), headers, body, now)?),
    };
    let mut failed = Ok(());
    for report in reports {
        // One transaction per report: one that locked several jobs and links could deadlock with a revocation.
        match cx.store.write(move |tx| apply(tx, provider, &report, now)).await {
            Ok(()) => {}
            Err(error) if error.code() == Code::Unavailable => return Err(error),
            // One that fails must not take the others with it, which the provider sends together again and again.
            Err(error) => failed = Err(error),
        }
    }
    failed
}

/// Applies a report to its mail job; does nothing if there is none, or it was applied before.
fn apply(tx: &mut Tx<'_>, provider: &str, report: &Report, now: Timestamp) -> Result<(), Error> {
    let Some(job) = find(tx, provider, report)? else { return Ok(()) };
    let state = match report.kind {
        Kind::Delivered => DeliveryState::Delivered,
        Kind::Bounced | Kind::Complained | Kind::Listed => DeliveryState::Bounced,
        Kind::GivenUp => DeliveryState::Failed,
    };
    let was_told = job.state == DeliveryState::Failed;
    if !store::reported(tx, &job.id, state, &report.error(), now)? {
        return Ok(());
    }
    let link = match &job.magic_link_id {
        Some(id) => records::links::find(tx, id)?,
        None => None,
    };
    // Of a code it is recorded that it did not arrive.
    let template = job.template();
    let is_of_code = template == Some(Template::StepUpCode) && report.kind != Kind::Delivered;
    if let Some(link) = link.as_ref().filter(|_| is_of_code || template == Some(Template::MagicLink)) {
        let kind = match report.kind {
            Kind::Delivered => EventType::LinkDelivered,
            Kind::Bounced | Kind::Complained | Kind::Listed => EventType::LinkBounced,
            Kind::GivenUp => EventType::LinkMailFailed,
        };
        tx.record(Event::new(kind, Actor::system("mail"), now).link(link).with(&serde_json::json!({
            "template": template.filter(|_| is_of_code),
            "mail_job_id": job.id, "generation": job.generation, "provider": provider, "report": report.word, "error": report.reason,
            "complaint": report.kind == Kind::Complained,
        })));
    }
    let cause = match report.kind {
        Kind::Delivered => return Ok(()),
        Kind::Bounced => Some(suppressions::Cause::Bounce),
        Kind::Complained | Kind::Listed => Some(suppressions::Cause::Complaint),
        Kind::GivenUp => None,
    };
    if let Some(cause) = cause {
        let address = super::recipient(tx, job.sent_to(), job.consultant_id.as_ref())?;
        suppressions::suppress(tx, &address, cause, provider, &job, now)?;
    }
    if let Some(link) = link.filter(|_| !was_told) {
        let was_delivered = job.state == DeliveryState::Delivered;
        super::notices::undelivered(tx, &link, template, (&job.id, job.retry_round, was_delivered), now)?;
    }
    Ok(())
}

/// The mail job of a report. If the report has both ids, both must match; but an attempt without an answer may have left, and
/// what became of it is told of another message, or by another provider. That this one failed says nothing of the last one.
fn find(tx: &mut Tx<'_>, provider: &str, report: &Report) -> Result<Option<Sent>, Error> {
    let found = match (&report.job_id, &report.message_id) {
        (Some(id), _) => store::find_sent(tx, id)?,
        (None, Some(message)) if is_message_id(message) => {
            let ends = message.match_indices('.').map(|(at, _)| at).chain([message.len()]);
            let known: Vec<&str> = ends.filter_map(|end| message.get(..end)).collect();
            store::find_sent_by_message(tx, provider, &known)?
        }
        (None, _) => None,
    };
    Ok(found.filter(|job| {
        // With an unknown outcome the provider's message id was never received.
        let same = match (&job.provider_message_id, &report.message_id) {
            // SendGrid appends the way that the e-mail took.
            (Some(known), Some(told)) => {
                told.strip_prefix(known.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            _ => true,
        };
        let may_be_earlier = job.unknown_attempts > 0 && report.job_id.is_some() && report.kind != Kind::GivenUp;
        (same && job.provider.as_deref() == Some(provider)) || may_be_earlier
    }))
}
