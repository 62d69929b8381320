//! The rules of a tenant for what is granted there.

pub(crate) mod extending;
pub(crate) mod granting;

use time::Duration;

use crate::config::Config;
use crate::domain::{
    Access, ApprovalFor, ApprovalRule, EmergencyRule, Forbidden, Policy, Reentry, Restrictions, WindowLength, in_hours,
};
use crate::error::{Code, Error};
use crate::records::links::Link;

const TICKET_REQUIRED: &str = "the tenant's policy wants a ticket for each link";

/// The rules in force for a tenant: its policy, and what is configured where that is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub max_duration: Duration,
    pub default_duration: Option<Duration>,
    pub access_allowed: Vec<Access>,
    pub forbidden: Vec<Forbidden>,
    pub require_ticket: bool,
    pub approval_for: ApprovalFor,
    pub longer_than: Option<Duration>,
    pub max_total: Duration,
    pub emergency: EmergencyRule,
    /// How long a session lives, if the policy says so.
    pub session_hours: Option<i32>,
    pub session_life: Duration,
    pub reentry: Reentry,
}

impl Rules {
    /// The rules of a policy. The configuration may have become stricter since it was saved.
    pub(crate) fn of(policy: &Policy, config: &Config) -> Self {
        let longest = config.links.max_duration;
        let within = |length: Option<WindowLength>| length.and_then(WindowLength::duration).map(|one| one.min(longest));
        let max_duration = within(policy.max_duration).unwrap_or(longest);
        let session_hours = policy.session_hours.map(|hours| {
            let configured = i32::try_from(config.links.session_life.whole_hours()).unwrap_or(i32::MAX);
            hours.min(configured)
        });
        let approval = policy.approval.unwrap_or(ApprovalRule { required_for: ApprovalFor::None, longer_than: None });
        Self {
            max_duration,
            default_duration: within(policy.default_duration).map(|one| one.min(max_duration)),
            access_allowed: policy.access_allowed.clone().unwrap_or_else(|| Access::ALL.to_vec()),
            forbidden: policy.forbidden.clone().unwrap_or_default(),
            require_ticket: policy.require_ticket.unwrap_or(false),
            approval_for: approval.required_for,
            longer_than: approval.longer_than.and_then(WindowLength::duration),
            max_total: policy.extend.and_then(|rule| within(Some(rule.max_total))).unwrap_or(max_duration),
            emergency: policy.emergency.unwrap_or(EmergencyRule::Forbidden),
            session_life: session_hours.map_or(config.links.session_life, |hours| Duration::hours(i64::from(hours))),
            session_hours,
            reentry: policy.reentry.unwrap_or(if config.remembers_devices() { Reentry::Device } else { Reentry::Mail }),
        }
    }

    /// Whether such a link waits for an approval.
    pub(crate) fn wants_approval(&self, access: Access, length: Duration) -> bool {
        let by_access = match self.approval_for {
            ApprovalFor::None => false,
            ApprovalFor::FullAccess => access == Access::Full,
            ApprovalFor::Always => true,
        };
        by_access || self.longer_than.is_some_and(|longest| length > longest)
    }

    /// Refuses a grant that the rules do not allow; every rule that it breaks is told, with the limit.
    ///
    /// # Errors
    /// `policy_forbids`
    pub(crate) fn require(&self, grant: &Grant<'_>) -> Result<(), Error> {
        let mut broken: Vec<(&str, &'static str, String)> = Vec::new();
        if grant.length > self.max_duration {
            let hours = self.max_duration.whole_hours();
            broken.push(("/duration", "too_long", format!("the tenant's policy allows {hours} hours at most")));
        }
        if !self.access_allowed.contains(&grant.access) {
            let allowed: Vec<&str> = self.access_allowed.iter().map(|access| access.as_str()).collect();
            let detail = format!("the tenant's policy allows {} only", allowed.join(", "));
            broken.push(("/access", "not_allowed", detail));
        }
        if self.lacks_ticket(grant.ticket) {
            broken.push(("/ticket", "ticket_required", TICKET_REQUIRED.to_owned()));
        }
        if grant.reentry == Reentry::Device && self.reentry == Reentry::Mail {
            broken.push(("/reentry", "not_allowed", "the tenant's policy allows mail only".to_owned()));
        }
        if broken.is_empty() {
            return Ok(());
        }
        let refused = Error::new(Code::PolicyForbids);
        Err(broken.into_iter().fold(refused, |error, (pointer, code, detail)| error.field(pointer, code, detail)))
    }

    /// Refuses a link in an emergency where the policy does not allow it.
    ///
    /// # Errors
    /// `policy_forbids`
    pub(crate) fn require_emergency(&self) -> Result<(), Error> {
        match self.emergency {
            EmergencyRule::Allowed => Ok(()),
            EmergencyRule::Forbidden => {
                let detail = "the tenant's policy allows no access without the approval that it wants";
                Err(Error::new(Code::PolicyForbids).field("/emergency", "not_allowed", detail))
            }
        }
    }

    const fn lacks_ticket(&self, ticket: Option<&str>) -> bool {
        self.require_ticket && ticket.is_none()
    }

    /// Refuses a link without a ticket where each needs one.
    ///
    /// # Errors
    /// `policy_forbids`
    pub(crate) fn require_ticket(&self, ticket: Option<&str>) -> Result<(), Error> {
        if self.lacks_ticket(ticket) {
            return Err(Error::new(Code::PolicyForbids).field("/ticket", "ticket_required", TICKET_REQUIRED));
        }
        Ok(())
    }

    /// Refuses to let a link last longer that is too long then, or that could not be issued as it is any more.
    ///
    /// # Errors
    /// `policy_forbids`
    pub(crate) fn require_extension(&self, link: &Link, whole: Duration) -> Result<(), Error> {
        if whole > self.max_total {
            let hours = self.max_total.whole_hours();
            let detail = format!("the tenant's policy allows {hours} hours with all extensions");
            return Err(Error::new(Code::PolicyForbids).field("/duration", "too_long", detail));
        }
        let (access, ticket, reentry) = (link.access, link.ticket.as_deref(), link.reentry);
        self.require(&Grant { length: Duration::ZERO, access, ticket, reentry })?;
        let left_out = link.restrictions.as_ref().map(Restrictions::forbidden).unwrap_or_default();
        match self.forbidden.iter().find(|word| !left_out.contains(word)) {
            None => Ok(()),
            Some(word) => {
                let detail =
                    format!("the tenant's policy leaves out {word}, which the link includes: issue another one");
                Err(Error::new(Code::PolicyForbids).field("/forbidden", "not_allowed", detail))
            }
        }
    }

    /// Whether these rules allow what others do not, or ask less.
    pub(crate) fn loosens(&self, before: &Self) -> bool {
        self.max_duration > before.max_duration
            || self.access_allowed.iter().any(|access| !before.access_allowed.contains(access))
            || before.forbidden.iter().any(|word| !self.forbidden.contains(word))
            || (before.require_ticket && !self.require_ticket)
            || self.max_total > before.max_total
            || self.asks_less(before)
            || self.session_life > before.session_life
            || self.reentry > before.reentry
    }

    /// Whether something that other rules want an approval of is granted without one.
    pub(crate) fn asks_less(&self, before: &Self) -> bool {
        let weaker = Access::ALL.iter().any(|access| {
            // Every length at which one of the two rules begins to ask.
            let lengths = [Duration::hours(1), before.max_duration]
                .into_iter()
                .chain([self.longer_than, before.longer_than].into_iter().flatten())
                .flat_map(|length| [length, length + Duration::hours(1)]);
            lengths
                .into_iter()
                .any(|length| before.wants_approval(*access, length) && !self.wants_approval(*access, length))
        });
        weaker || self.emergency > before.emergency
    }

    /// What differs from other rules, for people: what it is about, what it was, and what it is.
    pub(crate) fn differences(&self, before: &Self) -> Vec<(&'static str, String, String)> {
        let (was, is) = (before.lines(), self.lines());
        let pairs = was.into_iter().zip(is);
        pairs.filter(|((_, was), (_, is))| was != is).map(|((label, was), (_, is))| (label, was, is)).collect()
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let words = |words: Vec<&str>| if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        let longer = self.longer_than.map(|length| format!("longer than {}", in_hours(length)));
        let approval = match (self.approval_for, longer) {
            (ApprovalFor::None, None) => "none".to_owned(),
            (ApprovalFor::None, Some(longer)) => longer,
            (ApprovalFor::FullAccess, longer) => {
                longer.map_or_else(|| "full access".to_owned(), |longer| format!("full access, and {longer}"))
            }
            (ApprovalFor::Always, _) => "every one".to_owned(),
        };
        vec![
            ("Longest access", in_hours(self.max_duration)),
            ("Usual length", self.default_duration.map_or_else(|| "none".to_owned(), in_hours)),
            ("Access levels", words(self.access_allowed.iter().map(|access| access.as_str()).collect())),
            ("Never included", words(self.forbidden.iter().map(|word| word.as_str()).collect())),
            ("Ticket", if self.require_ticket { "required" } else { "not required" }.to_owned()),
            ("Access that waits for an approval", approval),
            ("Longest access with extensions", in_hours(self.max_total)),
            ("Access in an emergency", self.emergency.to_string()),
            ("Longest visit", in_hours(self.session_life)),
            (
                "Visits after the first one begin with",
                match self.reentry {
                    Reentry::Mail => "a mail".to_owned(),
                    Reentry::Device => "a mail or a remembered browser".to_owned(),
                },
            ),
        ]
    }
}

/// What is to be granted, as the rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant<'a> {
    pub length: Duration,
    pub access: Access,
    pub ticket: Option<&'a str>,
    pub reentry: Reentry,
}
