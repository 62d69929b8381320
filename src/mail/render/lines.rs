//! Lines of e-mails that several of them show.

use jiff::tz::TimeZone;

use super::{inert, local};
use crate::domain::{AuditState, EndCause, Forbidden, ViolationCause};
use crate::mail::summary::{Summary, Violations};
use crate::mail::wish::Wish;
use crate::records::link_changes::Extension;
use crate::records::links::Link;
use crate::records::tenants::TenantView;

/// What changed an access: who, why, and when it was to end before.
pub(super) struct ChangeLines {
    pub by: String,
    pub reason: String,
    pub previous: String,
}

impl ChangeLines {
    pub(super) fn of(extension: &Extension, zone: &TimeZone) -> Self {
        Self {
            by: inert(extension.actor_name.as_deref().unwrap_or("an operator")),
            reason: inert(&extension.reason),
            previous: local(extension.previous_expires_at, zone),
        }
    }
}

/// Who revoked an access, and why.
pub(super) struct RevokedLines {
    pub by: String,
    pub reason: String,
}

impl RevokedLines {
    pub(super) fn of(link: &Link) -> Option<Self> {
        let reason = link.revoke_reason.as_deref()?;
        let by = link.revoked_by_name.as_deref().unwrap_or("an operator");
        Some(Self { by: inert(by), reason: inert(reason) })
    }
}

/// What became of a request, and until when it waits.
pub(super) struct RequestLines {
    /// How long, in words.
    pub hours: String,
    pub lapses_at: String,
    /// Who asked for an extension, and why.
    pub asked: Option<RevokedLines>,
    /// Who decided, and why; nobody if it lapsed.
    pub decided: Option<RevokedLines>,
}

impl RequestLines {
    pub(super) fn of(wish: &Wish, zone: &TimeZone) -> Self {
        let words = |by: &str, reason: &str| RevokedLines { by: inert(by), reason: inert(reason) };
        let decided = wish.decision().map(|decision| {
            let by = decision.by.name.as_deref().unwrap_or("an operator");
            words(by, decision.reason.as_deref().unwrap_or_default())
        });
        let asked = wish.asked().map(|(by, reason)| words(by, reason));
        Self { hours: in_hours(wish.hours()), lapses_at: local(wish.lapses_at(), zone), asked, decided }
    }
}

/// A length of whole hours, as people say it.
fn in_hours(hours: i32) -> String {
    if hours == 1 { "1 hour".to_owned() } else { format!("{hours} hours") }
}

/// Whom to ask at a tenant. Their addresses are meant to be written to, and were checked when they were saved.
pub(super) fn whom_to_ask(tenant: &TenantView) -> Vec<String> {
    let contacts = tenant.whom_to_ask();
    contacts.map(|contact| format!("{}, {}", inert(&contact.name), contact.email)).collect()
}

pub(super) struct SummaryLines {
    pub started_at: String,
    pub ended_at: String,
    pub cause: &'static str,
    pub changes: i64,
    pub exports: i64,
    pub views: i64,
    pub record: &'static str,
    pub beyond: Option<BeyondLines>,
}

impl SummaryLines {
    pub(super) fn of(summary: &Summary, zone: &TimeZone) -> Self {
        Self {
            started_at: local(summary.started_at, zone),
            ended_at: local(summary.ended_at, zone),
            cause: match summary.cause {
                EndCause::Done => "by the consultant",
                EndCause::Expired => "because its time was over",
                EndCause::Revoked => "because it was revoked",
                EndCause::Replaced => "because the next visit, or another link, took its place",
            },
            changes: summary.changes,
            exports: summary.exports,
            views: summary.views,
            record: match summary.audit_state {
                AuditState::Complete => "complete",
                AuditState::Gaps => "has gaps: not every act has been reported",
                AuditState::Unclosed => "open: the portal never said how many acts there were",
            },
            beyond: BeyondLines::of(&summary.violations),
        }
    }
}

/// What was done beyond what an access allows.
pub(super) struct BeyondLines {
    pub count: i64,
    pub what: String,
}

impl BeyondLines {
    fn of(violations: &Violations) -> Option<Self> {
        let categories: Vec<&str> = violations.categories.iter().map(|one| one.words()).collect();
        let causes = violations.causes.iter().map(|cause| match cause {
            ViolationCause::Forbidden => format!("{}: {}", cause.words(), categories.join(", ")),
            _ => cause.words().to_owned(),
        });
        let what = causes.collect::<Vec<_>>().join("; ");
        (violations.count > 0).then_some(Self { count: violations.count, what })
    }
}

/// What an access is limited to.
#[derive(Default)]
pub(super) struct LimitLines {
    pub modules: Option<String>,
    pub forbidden: Option<String>,
}

impl LimitLines {
    pub(super) fn of(link: &Link) -> Self {
        let Some(limits) = &link.restrictions else { return Self::default() };
        let forbidden: Vec<&str> = limits.forbidden().iter().copied().map(Forbidden::words).collect();
        Self {
            modules: limits.modules().map(|modules| inert(&modules.join(", "))),
            forbidden: (!forbidden.is_empty()).then(|| forbidden.join("; ")),
        }
    }
}
