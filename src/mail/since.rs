//! What became of an access since a notice about it was queued: no mail promises what is over, or tells of a link that
//! never left.

use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{DeliveryState, Template};
use crate::error::{Code, Error};
use crate::records;
use crate::records::links::Link;

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
    fn of(jobs: &[Job]) -> Self {
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
pub(super) struct Since {
    pub link_mail: Mailed,
    /// Whether somebody has reviewed the emergency.
    pub is_reviewed: bool,
    /// Whether its first visit has begun.
    pub is_used: bool,
    /// Whether that has ended.
    pub is_left: bool,
}

impl Since {
    /// What a job's template needs to know of it.
    pub(super) fn of(conn: &mut Conn, job: &Job, link: &Link, now: Timestamp) -> Result<Self, Error> {
        let mut since = Self::default();
        if tells_of_link(job.template) {
            let mut jobs = store::of_links(conn, std::slice::from_ref(&link.id))?;
            if job.template == Template::LinkResent {
                let generation = job.dedup_key.split(' ').nth(1).and_then(|number| number.parse::<i32>().ok());
                jobs.retain(|job| job.generation == generation);
            }
            since.link_mail = Mailed::of(&jobs);
        }
        if matches!(job.template, Template::EmergencyIssued | Template::OwnerEmergencyIssued) {
            let review = records::link_reviews::find(conn, &link.id)?;
            since.is_reviewed = review.is_some_and(|review| review.reviewed_at.is_some());
        }
        if matches!(job.template, Template::AccessIssued | Template::OwnerAccessUsed)
            && let Some(id) = records::sessions::first_of_link(conn, &link.id)?
        {
            since.is_used = true;
            since.is_left = records::sessions::find(conn, &id)?.is_none_or(|session| !session.holds(now));
        }
        Ok(since)
    }

    /// Why a notice must not leave any more; `None` if it may.
    pub(super) fn outlives(self, template: Template, over: Option<Code>) -> Option<&'static str> {
        match template {
            // Nobody needs to hear how long it would have lasted.
            Template::AccessMoved if over.is_some_and(|over| over != Code::LinkExpired) => Some(OVER),
            Template::AccessEndsSoon
            | Template::AccessRunsOut
            | Template::AccessAnnounced
            | Template::ExtensionRequested
                if over.is_some() =>
            {
                Some(OVER)
            }
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

/// Whether a notice says what became of the mail with the link.
const fn tells_of_link(template: Template) -> bool {
    matches!(
        template,
        Template::AccessIssued
            | Template::EmergencyIssued
            | Template::OwnerEmergencyIssued
            | Template::LinkResent
            | Template::AccessRevoked
            | Template::AccessWithdrawn
    )
}
