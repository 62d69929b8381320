//! Building an event. What is not said stays absent.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::domain::{Actor, EventType, SYSTEM_LOG};
use crate::error::Code;
use crate::id::{ClientId, ConsultantId, LinkId, SessionId};
use crate::records::links::Link;
use crate::records::sessions::Session;
use crate::telemetry::TraceId;

/// The number of an act within its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActivityRef<'a> {
    pub source: &'a str,
    pub seq: i64,
}

/// What makes two refusals equal: who was refused, in which log, what and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RefusalKey {
    client_id: Option<ClientId>,
    tenant_id: String,
    kind: EventType,
    route: Option<String>,
    code: Option<String>,
}

/// An event on its way into the audit log.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) kind: EventType,
    pub(crate) tenant_id: String,
    pub(crate) occurred_at: Timestamp,
    pub(crate) recorded_at: Timestamp,
    pub(crate) actor: Actor,
    pub(crate) client_id: Option<ClientId>,
    pub(crate) portal: Option<String>,
    pub(crate) magic_link_id: Option<LinkId>,
    pub(crate) session_id: Option<SessionId>,
    pub(crate) consultant_id: Option<ConsultantId>,
    pub(crate) profile_id: Option<String>,
    pub(crate) principal_id: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) seq: Option<i64>,
    pub(crate) late: bool,
    pub(crate) policy_violation: bool,
    pub(crate) reason: Option<String>,
    pub(crate) ticket: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) data: serde_json::Value,
    pub(crate) fingerprint: Option<Vec<u8>>,
    pub(crate) trace_id: Option<String>,
}

impl Event {
    /// An event in the `_system` log.
    pub(crate) fn new(kind: EventType, actor: Actor, now: Timestamp) -> Self {
        Self {
            kind,
            tenant_id: SYSTEM_LOG.to_owned(),
            occurred_at: now,
            recorded_at: now,
            actor,
            client_id: None,
            portal: None,
            magic_link_id: None,
            session_id: None,
            consultant_id: None,
            profile_id: None,
            principal_id: None,
            source: None,
            seq: None,
            late: false,
            policy_violation: false,
            reason: None,
            ticket: None,
            address: None,
            user_agent: None,
            data: serde_json::Value::Object(serde_json::Map::new()),
            fingerprint: None,
            trace_id: None,
        }
    }

    /// What happened.
    pub(crate) const fn kind(&self) -> EventType {
        self.kind
    }

    /// What is remarkable about it, if it is a reported act.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &'static str> {
        let late = self.late.then_some("late");
        late.into_iter().chain(self.policy_violation.then_some("policy_violation"))
    }

    /// The trace of the request that it belongs to.
    pub(crate) fn in_trace(mut self, trace_id: Option<TraceId>) -> Self {
        self.trace_id = trace_id.map(|id| id.to_string());
        self
    }

    /// Number and fingerprint, if it is an act of this session that a source reported.
    pub(crate) fn activity_of(&self, session: &SessionId) -> Option<((String, i64), Vec<u8>)> {
        let own = self.session_id.as_ref() == Some(session);
        own.then(|| Some(((self.source.clone()?, self.seq?), self.fingerprint.clone()?))).flatten()
    }

    /// When it took effect, where that was not now.
    pub(crate) const fn at(mut self, occurred_at: Timestamp) -> Self {
        self.occurred_at = occurred_at;
        self
    }

    /// The client that asked.
    pub(crate) fn client(mut self, client_id: Option<&ClientId>) -> Self {
        self.client_id = client_id.cloned();
        self
    }

    /// The tenant whose log it goes to.
    pub(crate) fn tenant(mut self, tenant_id: &str) -> Self {
        tenant_id.clone_into(&mut self.tenant_id);
        self
    }

    /// The portal it concerns, if it concerns only one.
    pub(crate) fn portal(mut self, portal: Option<&str>) -> Self {
        self.portal = portal.map(ToOwned::to_owned);
        self
    }

    /// The consultant it concerns.
    pub(crate) fn consultant(mut self, id: &ConsultantId) -> Self {
        self.consultant_id = Some(id.clone());
        self
    }

    /// The link it concerns, and with it tenant, portal, consultant, profile, reason and ticket.
    pub(crate) fn link(mut self, link: &Link) -> Self {
        self.tenant_id.clone_from(&link.tenant_id);
        self.portal = Some(link.portal.clone());
        self.magic_link_id = Some(link.id.clone());
        self.consultant_id = Some(link.consultant_id.clone());
        self.profile_id = Some(link.profile_id.clone());
        self.reason = Some(link.reason.clone());
        self.ticket.clone_from(&link.ticket);
        self
    }

    /// The session it concerns, and with it what its link says and who visits.
    pub(crate) fn session(mut self, session: &Session) -> Self {
        self.tenant_id.clone_from(&session.tenant_id);
        self.portal = Some(session.portal.clone());
        self.magic_link_id = Some(session.magic_link_id.clone());
        self.session_id = Some(session.id.clone());
        self.consultant_id = Some(session.consultant_id.clone());
        self.profile_id = Some(session.profile_id.clone());
        self.reason = Some(session.reason.clone());
        self.ticket.clone_from(&session.ticket);
        self.address.clone_from(&session.visitor_address);
        self.user_agent.clone_from(&session.visitor_user_agent);
        self
    }

    /// The session it concerns, of which nothing else is known.
    #[cfg(test)]
    pub(crate) fn of_session(mut self, id: &SessionId) -> Self {
        self.session_id = Some(id.clone());
        self
    }

    /// A reported act: its number, when it happened, and whose data it concerns.
    pub(crate) fn act(mut self, act: ActivityRef<'_>, occurred_at: Timestamp, principal: Option<&str>) -> Self {
        self.occurred_at = occurred_at;
        self.source = Some(act.source.to_owned());
        self.seq = Some(act.seq);
        self.principal_id = principal.map(ToOwned::to_owned);
        self
    }

    /// What tells a repeat of the act from another one under its number.
    pub(crate) fn fingerprint(mut self, fingerprint: &[u8]) -> Self {
        self.fingerprint = Some(fingerprint.to_owned());
        self
    }

    /// The act arrived when its session was over.
    pub(crate) const fn late(mut self, late: bool) -> Self {
        self.late = late;
        self
    }

    /// The act is a change, where only looking was granted.
    pub(crate) const fn policy_violation(mut self, violation: bool) -> Self {
        self.policy_violation = violation;
        self
    }

    /// Why it was done, where no link tells it.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// What else is known. Never a token, a key or a mail's body.
    pub(crate) fn with(mut self, data: &impl Serialize) -> Self {
        if let Ok(mut data) = serde_json::to_value(data) {
            if let Some(members) = data.as_object_mut() {
                members.retain(|_, value| !value.is_null());
            }
            self.data = data;
        }
        self
    }

    /// What tells a refusal from others.
    pub(crate) fn refusal_key(&self) -> RefusalKey {
        let text = |name: &str| self.data.get(name).and_then(|value| value.as_str()).map(ToOwned::to_owned);
        RefusalKey {
            client_id: self.client_id.clone(),
            tenant_id: self.tenant_id.clone(),
            kind: self.kind,
            route: text("route"),
            code: text("code"),
        }
    }

    /// Stands for so many equal refusals since a moment, this one included: none of them has an event of its own.
    pub(crate) fn counted(mut self, count: u32, since: Timestamp, now: Timestamp) -> Self {
        if let Some(data) = self.data.as_object_mut() {
            data.remove("subject");
            data.insert("count".to_owned(), count.into());
            data.insert("since".to_owned(), since.to_string().into());
        }
        // It is about none of their links and sessions in particular.
        Self {
            magic_link_id: None,
            session_id: None,
            reason: None,
            ticket: None,
            trace_id: None,
            recorded_at: now,
            ..self
        }
    }

    /// A signing key was added.
    pub(crate) fn key_added(kid: &str, active_from: Timestamp, actor: Actor, now: Timestamp) -> Self {
        Self::new(EventType::KeyAdded, actor, now).with(&serde_json::json!({ "kid": kid, "active_from": active_from }))
    }

    /// A known client was refused; in the `_system` log, because what it asked for may be another tenant's.
    pub(crate) fn access_refused(
        client_id: &ClientId,
        method: &str,
        route: &str,
        subject: Option<&str>,
        code: Code,
        now: Timestamp,
    ) -> Self {
        // The subject comes from the path: it may be anything, so only its beginning is kept.
        let subject: Option<String> = subject.map(|text| text.chars().take(64).collect());
        Self::new(EventType::AccessRefused, Actor::system("api"), now)
            .client(Some(client_id))
            .with(&serde_json::json!({ "method": method, "route": route, "subject": subject, "code": code.slug() }))
    }

    /// A link token or code was refused; in the `_system` log where it is foreign to the caller.
    pub(crate) fn link_refused(link: &Link, actor: Actor, code: Code, now: Timestamp) -> Self {
        let event = Self::new(EventType::LinkRefused, actor, now).link(link);
        let event = event.with(&serde_json::json!({ "code": code.slug() }));
        if code == Code::NotFound { event.tenant(SYSTEM_LOG) } else { event }
    }
}
