//! The builder of an audit event. Members that are not set are absent.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::domain::{Actor, EventType, SYSTEM_LOG, unless_erased};
use crate::error::Code;
use crate::id::{ClientId, ConsultantId, LinkId, SessionId};
use crate::records::links::Link;
use crate::records::sessions::Session;
use crate::telemetry::TraceContext;

use super::leaf::ApprovalProof;

/// Source and sequence number of an activity event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActivityRef<'a> {
    pub source: &'a str,
    pub seq: i64,
}

/// Equality of refusals: same client, log, event type, route and error code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RefusalKey {
    client_id: Option<ClientId>,
    tenant_id: String,
    kind: EventType,
    portal: Option<String>,
    magic_link_id: Option<LinkId>,
    session_id: Option<SessionId>,
    route: Option<String>,
    code: String,
}

/// An event to be appended to the audit log.
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
    /// Persons whose data it concerns, where they are several: a JSON array in order, each once.
    pub(crate) principal_ids: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) seq: Option<i64>,
    pub(crate) late: bool,
    pub(crate) policy_violation: bool,
    pub(crate) out_of_session: bool,
    pub(crate) reason: Option<String>,
    pub(crate) ticket: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) data: serde_json::Value,
    pub(crate) fingerprint: Option<Vec<u8>>,
    /// The place in the trace of the request.
    pub(crate) trace: Option<TraceContext>,
    /// The proof that the customer signed it, as JSON.
    pub(crate) approval: Option<String>,
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
            principal_ids: None,
            source: None,
            seq: None,
            late: false,
            policy_violation: false,
            out_of_session: false,
            reason: None,
            ticket: None,
            address: None,
            user_agent: None,
            data: serde_json::Value::Object(serde_json::Map::new()),
            fingerprint: None,
            trace: None,
            approval: None,
        }
    }

    /// Event type.
    pub(crate) const fn kind(&self) -> EventType {
        self.kind
    }

    /// Marks of an activity event: `late`, `out_of_session`, `policy_violation`.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &'static str> {
        let marks = [
            self.late.then_some("late"),
            self.out_of_session.then_some("out_of_session"),
            self.policy_violation.then_some("policy_violation"),
        ];
        marks.into_iter().flatten()
    }

    /// Sets the place in the trace of the request.
    pub(crate) const fn in_trace(mut self, trace: Option<TraceContext>) -> Self {
        self.trace = trace;
        self
    }

    /// Source, sequence number and fingerprint, if it is an activity event of this session.
    pub(crate) fn activity_of(&self, session: &SessionId) -> Option<((String, i64), Vec<u8>)> {
        let own = self.session_id.as_ref() == Some(session);
        own.then(|| Some(((self.source.clone()?, self.seq?), self.fingerprint.clone()?))).flatten()
    }

    /// Sets when the event happened, if not now.
    pub(crate) const fn at(mut self, occurred_at: Timestamp) -> Self {
        self.occurred_at = occurred_at;
        self
    }

    /// Sets the requesting client.
    pub(crate) fn client(mut self, client_id: Option<&ClientId>) -> Self {
        self.client_id = client_id.cloned();
        self
    }

    /// Sets the tenant whose log the event is appended to.
    pub(crate) fn tenant(mut self, tenant_id: &str) -> Self {
        tenant_id.clone_into(&mut self.tenant_id);
        self
    }

    /// Sets the portal, if the event concerns only one.
    pub(crate) fn portal(mut self, portal: Option<&str>) -> Self {
        self.portal = portal.map(ToOwned::to_owned);
        self
    }

    /// Sets the proof that the customer signed the approval.
    pub(crate) fn approval(mut self, proof: Option<&ApprovalProof>) -> Self {
        self.approval = proof.map(|proof| serde_json::json!(proof).to_string());
        self
    }

    /// Sets the consultant.
    pub(crate) fn consultant<'a>(mut self, id: impl Into<Option<&'a ConsultantId>>) -> Self {
        self.consultant_id = id.into().cloned();
        self
    }

    /// Sets the link, and with it tenant, portal, consultant, profile, reason and ticket.
    pub(crate) fn link(mut self, link: &Link) -> Self {
        self.tenant_id.clone_from(&link.tenant_id);
        self.portal = Some(link.portal.clone());
        self.magic_link_id = Some(link.id.clone());
        self.consultant_id = Some(link.consultant_id.clone());
        self.profile_id = Some(link.profile_id.clone());
        self.reason = unless_erased(link.reason.clone());
        self.ticket.clone_from(&link.ticket);
        self
    }

    /// Sets the session, and with it the facts of its link and of the visitor.
    pub(crate) fn session(mut self, session: &Session) -> Self {
        self.tenant_id.clone_from(&session.tenant_id);
        self.portal = Some(session.portal.clone());
        self.magic_link_id = Some(session.magic_link_id.clone());
        self.session_id = Some(session.id.clone());
        self.consultant_id = Some(session.consultant_id.clone());
        self.profile_id = Some(session.profile_id.clone());
        self.reason = unless_erased(session.reason.clone());
        self.ticket.clone_from(&session.ticket);
        self.address.clone_from(&session.visitor_address);
        self.user_agent.clone_from(&session.visitor_user_agent);
        self
    }

    /// Sets the session id alone.
    #[cfg(test)]
    pub(crate) fn of_session(mut self, id: &SessionId) -> Self {
        self.session_id = Some(id.clone());
        self
    }

    /// Sets the facts of an activity event: source, sequence number, time, and the persons whose data it concerns.
    pub(crate) fn act(mut self, act: ActivityRef<'_>, occurred_at: Timestamp, principals: BTreeSet<&str>) -> Self {
        self.occurred_at = occurred_at;
        self.source = Some(act.source.to_owned());
        self.seq = Some(act.seq);
        if principals.len() > 1 {
            self.principal_ids = Some(serde_json::json!(principals).to_string());
        } else {
            self.principal_id = principals.into_iter().next().map(ToOwned::to_owned);
        }
        self
    }

    /// Sets the fingerprint, which distinguishes a repeated report from a conflicting one with the same number.
    pub(crate) fn fingerprint(mut self, fingerprint: &[u8]) -> Self {
        self.fingerprint = Some(fingerprint.to_owned());
        self
    }

    /// Marks an activity event that was reported after its session had ended.
    pub(crate) const fn late(mut self, late: bool) -> Self {
        self.late = late;
        self
    }

    /// Marks an activity event whose own time lies outside its session.
    pub(crate) const fn out_of_session(mut self, outside: bool) -> Self {
        self.out_of_session = outside;
        self
    }

    /// Marks what the session did not allow: a change in a `read_only` session, or an event after its end.
    pub(crate) const fn policy_violation(mut self, violation: bool) -> Self {
        self.policy_violation = violation;
        self
    }

    /// Sets the reason, if it is not that of a link.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// Sets the event's data. Never a token, a key or the body of an e-mail.
    pub(crate) fn with(mut self, data: &impl Serialize) -> Self {
        if let Ok(mut data) = serde_json::to_value(data) {
            if let Some(members) = data.as_object_mut() {
                members.retain(|_, value| !value.is_null());
            }
            self.data = data;
        }
        self
    }

    /// What the event adds to the name of its log: it is the last part of the new origin.
    pub(crate) fn log_suffix(&self) -> Option<&str> {
        let origin = (self.kind == EventType::LogRestored).then(|| self.data.get("origin")?.as_str()).flatten()?;
        origin.rsplit_once('/').map(|(_, suffix)| suffix)
    }

    /// The key that signs the log from this event on.
    pub(crate) fn log_key_id(&self) -> Option<&str> {
        (self.kind == EventType::LogKeyChanged).then(|| self.data.get("key_id")?.as_str()).flatten()
    }

    /// The key by which equal refusals are counted.
    pub(crate) fn refusal_key(&self) -> Option<RefusalKey> {
        let text = |name: &str| self.data.get(name).and_then(|value| value.as_str()).map(ToOwned::to_owned);
        Some(RefusalKey {
            client_id: self.client_id.clone(),
            tenant_id: self.tenant_id.clone(),
            kind: self.kind,
            portal: self.portal.clone(),
            magic_link_id: self.magic_link_id.clone(),
            session_id: self.session_id.clone(),
            route: text("route"),
            code: text("code")?,
        })
    }

    /// Turns a refusal into a summary of `count` equal refusals since a time, this one included.
    pub(crate) fn counted(mut self, count: u32, since: Timestamp, now: Timestamp) -> Self {
        if let Some(data) = self.data.as_object_mut() {
            data.remove("subject");
            data.insert("count".to_owned(), count.into());
            data.insert("since".to_owned(), since.to_string().into());
        }
        Self { trace: None, recorded_at: now, ..self }
    }

    /// Event: a signing key was added.
    pub(crate) fn key_added(kid: &str, active_from: Timestamp, actor: Actor, now: Timestamp) -> Self {
        Self::new(EventType::KeyAdded, actor, now).with(&serde_json::json!({ "kid": kid, "active_from": active_from }))
    }

    /// Event: a known client was refused. In the `_system` log, because the subject may be another tenant's.
    pub(crate) fn access_refused(
        client_id: &ClientId,
        client_name: &str,
        method: &str,
        route: &str,
        subject: Option<&str>,
        code: Code,
        now: Timestamp,
    ) -> Self {
        // The subject is taken from the path and unvalidated, so it is truncated.
        let subject: Option<String> = subject.map(|text| text.chars().take(64).collect());
        Self::new(EventType::AccessRefused, Actor::client(client_id, client_name), now)
            .client(Some(client_id))
            .with(&serde_json::json!({ "method": method, "route": route, "subject": subject, "code": code.slug() }))
    }

    /// Event: a link token or code was refused. In the `_system` log if the link is outside the caller's reach.
    pub(crate) fn link_refused(link: &Link, actor: Actor, code: Code, now: Timestamp) -> Self {
        let event = Self::new(EventType::LinkRefused, actor, now).link(link);
        let event = event.with(&serde_json::json!({ "code": code.slug() }));
        if code == Code::NotFound { event.tenant(SYSTEM_LOG) } else { event }
    }
}
