//! What became of an access since a mail about it was queued: no mail promises what is over, tells of a link that never
//! left, or advises what would be refused.
//!
//! [`facts_of`] names what each template says that may have changed by the time when it is written. It has no arm for
//! "all others": a new template is not compiled before somebody has thought of them.

use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::{DeliveryState, Template};
use crate::error::{Code, Error};
use crate::mail::notices;
use crate::records;
use crate::records::link_changes::Extension;
use crate::records::links::Link;
use crate::rules::extending::MoreTime;
use crate::rules::granting::Again;

/// What a mail says that may be another one by the time when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    /// Whether the access has ended, and why: `link.ended`, for labels and promises.
    End,
    /// Which end it is given: that of the change, or the announcement, which the mail is about, or another one.
    NewestEnd,
    /// Whether the access has begun.
    Begin,
    /// What became of the mail with the link.
    LinkMail,
    /// Whether the emergency was reviewed.
    Review,
    /// Whether its first visit has begun, and ended.
    Visit,
    /// Whether more time can be had, and how ([`MoreTime`]).
    MoreTime,
    /// Whether such an access can be granted again, and what stands in the way ([`Again`]).
    Again,
    /// What became of a mail that did not arrive, of those after it and of the access (`failure.rs`).
    Failure,
    /// Whether a request was decided on (`wish.rs`).
    Request,
    /// Which rules, which approval key, or which contacts, are in force (`policy.rs`).
    Rules,
    /// Which address is registered (`render/others.rs`).
    Address,
    /// Whether the link's generation may be mailed, and the code is young enough: the job is cancelled or given up.
    Generation,
}

/// What each template says that may have changed since it was queued.
pub(super) const fn facts_of(template: Template) -> &'static [Fact] {
    use Fact::{
        Address, Again, Begin, End, Failure, Generation, LinkMail, MoreTime, NewestEnd, Request, Review, Rules, Visit,
    };
    match template {
        Template::MagicLink | Template::StepUpCode => &[Generation],
        Template::AddressChanged => &[Address],
        Template::PolicyLoosened | Template::ApprovalKeyChanged | Template::ContactsChanged => &[Rules],
        Template::AccessIssued => &[End, Begin, LinkMail, Visit],
        Template::EmergencyIssued | Template::OwnerEmergencyIssued => &[End, LinkMail, Review],
        Template::AccessAnnounced => &[End, Begin],
        Template::AccessUsed | Template::PolicyViolation => &[End],
        Template::OwnerAccessUsed => &[End, Visit],
        // Of what is over: a visit, or those of a day.
        Template::AccessEnded | Template::AccessVisits | Template::OwnerAccessEnded | Template::OwnerAccessVisits => {
            &[]
        }
        Template::LinkResent => &[End, Begin, LinkMail],
        Template::AccessRevoked | Template::AccessWithdrawn => &[LinkMail, Again],
        Template::AccessChanged => &[End, NewestEnd],
        Template::AccessMoved => &[End, Begin, NewestEnd],
        Template::AccessEndsSoon | Template::AccessRunsOut => &[End, NewestEnd, MoreTime, Again],
        Template::LinkBounced => &[End, Failure],
        Template::ApprovalRequested => &[Request],
        Template::RequestDenied => &[Request, Again],
        Template::ExtensionRequested | Template::ExtensionDenied => &[End, Request],
    }
}

/// What became of the mail with a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mailed {
    /// It waits, or there is none yet.
    #[default]
    Waits,
    /// It left, or may have left.
    Left,
    /// It will not leave.
    Lost,
}

impl Mailed {
    /// The mails of a link, or that of one generation.
    pub(super) fn of(jobs: &[Job]) -> Self {
        let may_have_left = |job: &Job| match job.state {
            DeliveryState::Accepted | DeliveryState::Delivered | DeliveryState::Bounced | DeliveryState::Unknown => {
                true
            }
            // The provider had it, before it gave it up.
            DeliveryState::Failed => job.provider_message_id.is_some() || job.unknown_attempts > 0,
            // It was being sent when it was cancelled.
            DeliveryState::Cancelled => (job.attempts > 0 && job.lease_until.is_some()) || job.unknown_attempts > 0,
            DeliveryState::Queued | DeliveryState::Sending => job.unknown_attempts > 0,
        };
        if jobs.iter().any(may_have_left) {
            Self::Left
        } else if jobs.iter().all(|job| job.finished_at.is_some()) && !jobs.is_empty() {
            Self::Lost
        } else {
            Self::Waits
        }
    }
}

/// What became of the access by the time when the mail is written.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them go together")]
pub(super) struct Since {
    pub link_mail: Mailed,
    /// Whether somebody has reviewed the emergency.
    pub is_reviewed: bool,
    /// Whether its first visit has begun.
    pub is_used: bool,
    /// Whether that has ended.
    pub is_left: bool,
    /// What can be done for who needs more time.
    pub more_time: MoreTime,
    /// Whether such an access can be granted again.
    pub again: Again,
    /// Whether it ends at another time by now than the mail would tell.
    pub is_moved: bool,
    /// Whether it has begun.
    pub has_begun: bool,
}

impl Since {
    /// What a job's template needs to know of it. `extension` is the new end that the mail is about, if it is about one;
    /// `is_reached` is whether mail leaves to the consultant.
    pub(super) fn of(
        conn: &mut Conn,
        config: &Config,
        job: &Job,
        link: &Link,
        (extension, is_reached): (Option<&Extension>, bool),
        now: Timestamp,
    ) -> Result<Self, Error> {
        let mut since = Self::default();
        for fact in facts_of(job.template) {
            match fact {
                Fact::LinkMail => {
                    let mut jobs = store::of_links(conn, std::slice::from_ref(&link.id))?;
                    if job.template == Template::LinkResent {
                        let generation = job.dedup_key.split(' ').nth(1).and_then(|number| number.parse::<i32>().ok());
                        jobs.retain(|job| job.generation == generation);
                    }
                    since.link_mail = match Mailed::of(&jobs) {
                        Mailed::Waits if !is_reached => Mailed::Lost,
                        mailed => mailed,
                    };
                }
                Fact::Review => {
                    let review = records::link_reviews::find(conn, &link.id)?;
                    since.is_reviewed = review.is_some_and(|review| review.reviewed_at.is_some());
                }
                Fact::Visit => {
                    if let Some(id) = records::sessions::first_of_link(conn, &link.id)? {
                        since.is_used = true;
                        since.is_left = records::sessions::find(conn, &id)?.is_none_or(|session| !session.holds(now));
                    }
                }
                Fact::MoreTime if link.ended(now).is_none() => {
                    since.more_time = MoreTime::of(conn, config, link, now)?;
                }
                Fact::Again => since.again = Again::of(conn, config, link)?,
                Fact::NewestEnd => {
                    since.is_moved = match extension {
                        Some(extension) => extension.expires_at != link.expires_at,
                        None => notices::end_key(link) != job.dedup_key,
                    };
                }
                Fact::Begin => since.has_begun = link.has_begun(now),
                // What the link says of itself, or another file asks.
                Fact::End
                | Fact::MoreTime
                | Fact::Failure
                | Fact::Request
                | Fact::Rules
                | Fact::Address
                | Fact::Generation => {}
            }
        }
        Ok(since)
    }

    /// Why a notice must not leave any more; `None` if it may.
    pub(super) fn outlives(self, template: Template, over: Option<Code>) -> Option<&'static str> {
        match template {
            // The notice of the end that it has by now tells of that.
            Template::AccessChanged | Template::AccessMoved if self.is_moved => {
                Some("the access ends at another time by now")
            }
            // Nobody needs to hear how long it would have lasted.
            Template::AccessMoved if over.is_some_and(|over| over != Code::LinkExpired) => Some(OVER),
            Template::AccessEndsSoon | Template::AccessRunsOut if over.is_some() || self.is_moved => {
                Some("the access has ended, or ends at another time by now")
            }
            Template::AccessAnnounced if over.is_some() || self.has_begun => {
                Some("the access has begun or ended by now")
            }
            Template::ExtensionRequested if over.is_some() => Some(OVER),
            Template::LinkResent if self.is_unsent(over) => Some("the mail with the link did not leave"),
            _ => None,
        }
    }

    /// Whether a mail with a link has left.
    pub(super) fn was_mailed(self) -> bool {
        self.link_mail == Mailed::Left
    }

    /// Whether no mail with a link has left, and none will.
    pub(super) fn is_unsent(self, over: Option<Code>) -> bool {
        self.link_mail == Mailed::Lost || (over.is_some() && self.link_mail == Mailed::Waits)
    }
}

const OVER: &str = "the access has ended by now";
