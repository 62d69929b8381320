//! A mail that opens an access, the link or a code, and did not arrive or was not wanted: what is so when that is told.

use super::since::Mailed;
use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::{DeliveryState, Template};
use crate::error::Error;
use crate::records;
use crate::records::links::Link;

/// How the error text of a mail begins that was reported as unwanted: it did arrive.
pub(super) const COMPLAINT: &str = "the recipient complained about the e-mail";

/// Whether a mail was reported as unwanted, by its error text.
pub(super) fn is_complaint(error: Option<&str>) -> bool {
    error.is_some_and(|text| text.starts_with(COMPLAINT))
}

/// A mail that did not arrive, or was not wanted, and what became of the access since.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them go together")]
pub(super) struct Failure {
    /// Whether it was one with a one-time code.
    pub of_code: bool,
    /// Why, in the provider's words.
    pub words: Option<String>,
    /// Whether it was reported as unwanted.
    pub is_complaint: bool,
    /// What became of the newest mail of its kind; `None` where this one is that.
    pub newer: Option<Mailed>,
    /// Whether a visit began after the mail was written.
    pub is_used: bool,
    /// Whether a visit is open, whenever it began.
    pub has_visit: bool,
    /// Whether no mail goes to the address any more.
    pub is_stopped: bool,
    /// Why nobody needs to hear of it any more.
    pub overtaken: Option<&'static str>,
}

impl Failure {
    /// The mail that a notice is about: the notice's key names it, and which of its rounds failed.
    pub(super) fn of(
        conn: &mut Conn,
        config: &Config,
        notice: &Job,
        link: &Link,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        if notice.template != Template::LinkBounced {
            return Ok(None);
        }
        let mut key = notice.dedup_key.split(' ');
        let (id, round) = (key.next().unwrap_or_default(), key.next().unwrap_or("0"));
        let Some(failed) = store::find(conn, &id.parse().map_err(Error::internal)?)? else { return Ok(None) };
        let newest = store::newest_of_link(conn, &link.id, failed.template)?.filter(|newest| newest.id != failed.id);
        let visit = records::sessions::last_of_link(conn, &link.id)?;
        let address = super::recipient(conn, failed.sent_to(), failed.consultant_id.as_ref())?;
        Ok(Some(Self {
            of_code: failed.template == Template::StepUpCode,
            is_complaint: is_complaint(failed.last_error.as_deref()),
            newer: newest.map(|newest| Mailed::of(&[newest])),
            is_used: visit.as_ref().is_some_and(|visit| visit.started_at >= failed.created_at),
            has_visit: visit.is_some_and(|visit| visit.holds(now)),
            is_stopped: !super::leaves_to(conn, config, &address)?,
            overtaken: if round.parse::<i32>().is_ok_and(|round| round < failed.retry_round) {
                Some("the mail was sent again since")
            } else {
                (failed.state == DeliveryState::Delivered).then_some("the mail was delivered after all")
            },
            words: failed.last_error,
        }))
    }

    /// What the notice says of it, sentence by sentence; `is_over` where the access has ended.
    pub(super) fn said(&self, is_over: bool) -> Vec<&'static str> {
        let mut said = Vec::new();
        if is_over {
            said.push("The access has ended by now: there is nothing to do.");
        } else {
            if self.has_visit {
                said.push("A visit is open all the same: if nobody should be there, end the access in the portal.");
            } else if self.is_used {
                said.push("The access was used all the same: if it should not have been, end it in the portal.");
            }
            if !self.is_used {
                self.say_unused(&mut said);
            }
        }
        if self.is_stopped {
            said.push("No mail goes to that address any more, until your support contact clears it.");
        }
        said
    }

    /// What it means that the mail did not arrive, or was not wanted, where nobody came in since.
    fn say_unused(&self, said: &mut Vec<&'static str>) {
        match (self.of_code, self.newer) {
            (true, Some(_)) => said.push("Another code was asked for since."),
            (true, None) if self.is_complaint => said.push(
                "The code in it counts for ten minutes. If nobody should have asked for one, end the access in the \
                 portal.",
            ),
            (true, None) if self.is_stopped => said.push("The consultant cannot open the portal without it."),
            (true, None) => said.push(
                "The consultant cannot open the portal without it, and can ask for another code. If that fails, too, \
                 tell your support contact, who can see why.",
            ),
            (false, Some(newer)) => said.push(match newer {
                Mailed::Left => "Only the link in the newest mail works, and that one was mailed.",
                Mailed::Waits => "Only the link in the newest mail works, and that one waits to be mailed.",
                Mailed::Lost => "Only the link in the newest mail works, and that one was not mailed, either.",
            }),
            (false, None) if self.is_complaint => said.push(
                "The link in it may still open the access: if nobody should have it, end the access in the portal.",
            ),
            (false, None) if self.is_stopped => said.push("The consultant has no access from it."),
            (false, None) => said.push(
                "The consultant has no access from it. Tell your support contact, who can see why: it can be sent \
                 again.",
            ),
        }
    }
}
