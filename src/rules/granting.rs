//! Whether an access can be given now: one rule, for whoever issues or approves it, and for the mails that advise it.

use time::Duration;

use super::{Grant, Rules};
use crate::config::Config;
use crate::db::Conn;
use crate::domain::Reentry;
use crate::error::{Code, Error};
use crate::records::consultants::{self, Consultant, Issuable};
use crate::records::links::Link;
use crate::records::policies;

/// Refuses a link to a portal that is not configured, or that cannot remember devices.
///
/// # Errors
/// `validation_failed`
pub(crate) fn require_portal(config: &Config, portal: &str, reentry: Reentry) -> Result<(), Error> {
    let Some(portal) = config.portals.get(portal) else {
        return Err(Error::new(Code::ValidationFailed).field("/portal", "unknown", "is not a configured portal"));
    };
    if reentry == Reentry::Device && !portal.remembers_devices() {
        let detail = "device needs a portal with step_up = email_code and the service's own landing page";
        return Err(Error::new(Code::ValidationFailed).field("/reentry", "not_possible", detail));
    }
    Ok(())
}

/// Whom a link is for, and the rules that bind it.
pub(crate) struct Candidate {
    pub consultant: Consultant,
    pub rules: Rules,
    is_suppressed: bool,
}

impl Candidate {
    /// Who was found for a link, if its client may still call.
    ///
    /// # Errors
    /// `validation_failed` where there is no such consultant; `unauthenticated` where the client was disabled;
    /// `issuing_frozen`.
    pub(crate) fn of(found: Option<Issuable>, config: &Config) -> Result<Self, Error> {
        let unknown =
            || Error::new(Code::ValidationFailed).field("/consultant_id", "unknown", "is not a registered consultant");
        let Issuable { consultant, is_suppressed, client_disabled_at, policy, is_frozen } =
            found.ok_or_else(unknown)?;
        // It was not when the request arrived; since then its links may have been revoked with it.
        if client_disabled_at.is_some() {
            return Err(Code::Unauthenticated.into());
        }
        if is_frozen {
            return Err(Code::IssuingFrozen.into());
        }
        let policy = policy.as_deref().map(policies::parsed).transpose()?.unwrap_or_default();
        Ok(Self { consultant, rules: Rules::of(&policy, config), is_suppressed })
    }

    /// Refuses who is suspended, or gets no mail.
    ///
    /// # Errors
    /// `consultant_suspended`, `address_suppressed`
    pub(crate) fn require_welcome(&self) -> Result<(), Error> {
        if self.consultant.suspended_at.is_some() {
            return Err(Code::ConsultantSuspended.into());
        }
        if self.is_suppressed {
            return Err(Code::AddressSuppressed.into());
        }
        Ok(())
    }
}

/// Whether an access that is over, or was asked for in vain, can be granted again, and what stands in the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Again {
    /// It can.
    #[default]
    Granted,
    /// Issuing is frozen.
    Frozen,
    /// The consultant is suspended.
    Suspended,
    /// The consultant's address is suppressed.
    Suppressed,
    /// It would be refused for something else: its portal, its consultant or its client is gone, or the tenant's policy
    /// does not allow it.
    Refused,
}

impl Again {
    /// What a request for the same access would hear now.
    pub(crate) fn of(conn: &mut Conn, config: &Config, link: &Link) -> Result<Self, Error> {
        match require(conn, config, link) {
            Ok(()) => Ok(Self::Granted),
            Err(refusal) => match refusal.code() {
                Code::IssuingFrozen => Ok(Self::Frozen),
                Code::ConsultantSuspended => Ok(Self::Suspended),
                Code::AddressSuppressed => Ok(Self::Suppressed),
                code if code.status() < 500 => Ok(Self::Refused),
                _ => Err(refusal),
            },
        }
    }
}

/// Refuses what would be refused however long it is to last, with whatever ticket and by whichever way of coming back:
/// those are chosen anew.
fn require(conn: &mut Conn, config: &Config, link: &Link) -> Result<(), Error> {
    require_portal(config, &link.portal, Reentry::Mail)?;
    let found = consultants::for_issue(conn, &link.consultant_id, link.client_id.as_ref(), &link.tenant_id)?;
    let candidate = Candidate::of(found, config)?;
    let (length, ticket, reentry) = (Duration::ZERO, Some("any"), Reentry::Mail);
    candidate.rules.require(&Grant { length, access: link.access, ticket, reentry })?;
    candidate.require_welcome()
}
