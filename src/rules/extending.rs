//! Whether a link can end later: one rule, for the call that extends it and for the mails that advise it.

use time::Duration;

use super::Rules;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::error::{Code, Error};
use crate::records::link_requests::RequestState;
use crate::records::links::Link;
use crate::records::{extension_requests, freeze, link_changes, link_reviews, policies};

/// The shortest extension.
const SHORTEST: Duration = Duration::hours(1);

/// The end of a link that is longer by so much, and the rules that allow it.
///
/// # Errors
/// `emergency_access`; `validation_failed` where the window would be too long; `policy_forbids`.
pub(crate) fn later_end(
    conn: &mut Conn,
    config: &Config,
    link: &Link,
    by: Duration,
) -> Result<(Timestamp, Rules), Error> {
    if link_reviews::find(conn, &link.id)?.is_some() {
        return Err(Code::EmergencyAccess.into());
    }
    let longest = config.links.max_duration;
    let latest = link.starts_at.plus(longest);
    let to = link.expires_at.checked_add(by).filter(|to| *to <= latest).ok_or_else(|| {
        let detail = format!("the whole window may last {} hours, until {latest}", longest.whole_hours());
        Error::new(Code::ValidationFailed).field("/duration", "too_long", detail)
    })?;
    let policy = policies::policy_of(policies::newest(conn, &link.tenant_id)?.as_ref())?;
    let rules = Rules::of(&policy, config);
    rules.require_extension(link, to.since(link.starts_at))?;
    Ok((to, rules))
}

/// What can be done for who needs more time than a link has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum MoreTime {
    /// The link can be extended.
    #[default]
    Extend,
    /// Somebody has asked for an extension, which waits for a decision.
    Asked,
    /// The link cannot be extended, but access can be granted again.
    GrantAgain,
    /// Nothing, as long as issuing is frozen.
    Nothing,
}

impl MoreTime {
    /// What can be done for a link that has not ended.
    pub(crate) fn of(conn: &mut Conn, config: &Config, link: &Link, now: Timestamp) -> Result<Self, Error> {
        if freeze::is_on(conn)? {
            return Ok(Self::Nothing);
        }
        let (to, rules) = match later_end(conn, config, link, SHORTEST) {
            Ok(allowed) => allowed,
            Err(refusal) if refusal.code().status() < 500 => return Ok(Self::GrantAgain),
            Err(fault) => return Err(fault),
        };
        let asked = extension_requests::pending_of_links(conn, std::slice::from_ref(&link.id))?.remove(&link.id);
        if asked.is_some_and(|request| request.state(now) == RequestState::Pending) {
            return Ok(Self::Asked);
        }
        // Mostly who issued a link extends it.
        let client = link.client_id.as_ref();
        let has_room = if rules.wants_approval(link.access, to.since(link.starts_at)) {
            extension_requests::takes_another_request(conn, &link.id, client)?
        } else {
            link_changes::takes_later_end(conn, &link.id, client)?
        };
        Ok(if has_room { Self::Extend } else { Self::GrantAgain })
    }
}
