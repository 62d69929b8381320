//! An audit event is one thing that happened.
//!
//! A verb records it in its own transaction ([`crate::db::Tx::record`]); if it
//! cannot be written, the act did not happen. Refusals are events too. The
//! database itself refuses to change or remove what was written.

mod event;
pub(crate) mod routes;
mod store;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::clock::Timestamp;
use crate::db::{Conn, text_enum};
use crate::error::Error;
use crate::http::{Caller, Page, Paging, ReadAudit, check_filters};
use crate::id::{ClientId, ConsultantId, EventId, LinkId, SessionId};

pub(crate) use event::{ActRef, Event};
pub(crate) use store::{acts_by_seq, append};

/// The log of what belongs to no tenant.
pub(crate) const SYSTEM_LOG: &str = "_system";

text_enum! {
    /// What happened.
    pub enum EventType {
        /// A link was issued.
        LinkIssued = "magic_link.issued",
        /// A provider took the mail with the link.
        LinkMailed = "magic_link.mailed",
        /// The mail with the link was given up.
        LinkMailFailed = "magic_link.mail_failed",
        /// The mail with the link reached the recipient's mail server.
        LinkDelivered = "magic_link.mail_delivered",
        /// The mail with the link came back, or the recipient complained.
        LinkBounced = "magic_link.mail_bounced",
        /// An address gets no mail until a person clears it.
        AddressSuppressed = "mail_address.suppressed",
        /// An address gets mail again.
        AddressCleared = "mail_address.cleared",
        /// A mail that was given up is sent again.
        MailRetried = "mail.retried",
        /// The consultant pressed the button on the landing page.
        LinkContinued = "magic_link.continued",
        /// A code was mailed to the consultant.
        LinkCodeSent = "magic_link.code_sent",
        /// A code was wrong, or did not count any more.
        LinkCodeRefused = "magic_link.code_refused",
        /// A fresh link was sent for.
        LinkResent = "magic_link.resent",
        /// A link was revoked.
        LinkRevoked = "magic_link.revoked",
        /// A link token or code was refused.
        LinkRefused = "magic_link.refused",
        /// A session was opened.
        SessionOpened = "session.opened",
        /// A session ended.
        SessionEnded = "session.ended",
        /// The portal said how many acts there were.
        SessionClosed = "session.closed",
        /// A session ended because the next one was opened.
        SessionReplaced = "session.replaced",
        /// A call about a session was refused.
        SessionRefused = "session.refused",
        /// The consultant looked at something.
        DataViewed = "data.viewed",
        /// The consultant took something out.
        DataExported = "data.exported",
        /// The consultant changed something.
        DataChanged = "data.changed",
        /// A known client was refused something that is not its own.
        AccessRefused = "access.refused",
        /// A tenant was registered or changed.
        TenantSaved = "tenant.saved",
        /// A consultant was registered.
        ConsultantRegistered = "consultant.registered",
        /// A consultant's name or address was changed.
        ConsultantChanged = "consultant.changed",
        /// A consultant was suspended.
        ConsultantSuspended = "consultant.suspended",
        /// A consultant was reinstated.
        ConsultantReinstated = "consultant.reinstated",
        /// A client was created.
        ClientCreated = "client.created",
        /// A client's key was rotated.
        ClientRotated = "client.rotated",
        /// A client was disabled.
        ClientDisabled = "client.disabled",
        /// A signing key was added.
        KeyAdded = "key.added",
    }
}

text_enum! {
    /// What kind of actor did it.
    pub enum ActorType {
        /// The support consultant.
        Consultant = "consultant",
        /// A user of the portal, as the client names them.
        PortalUser = "portal_user",
        /// An API client.
        Client = "client",
        /// The service itself, or an operator at its command line.
        System = "system",
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Actor {
    /// What kind of actor.
    #[serde(rename = "type")]
    pub(crate) kind: ActorType,
    /// Its id; for a portal user the portal's own.
    #[schema(max_length = 128)]
    pub(crate) id: String,
    /// Its name at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    pub(crate) name: Option<String>,
}

impl Actor {
    pub(crate) fn consultant(id: &ConsultantId) -> Self {
        Self { kind: ActorType::Consultant, id: id.to_string(), name: None }
    }

    pub(crate) fn portal_user(id: &str, name: &str) -> Self {
        Self { kind: ActorType::PortalUser, id: id.to_owned(), name: Some(name.to_owned()) }
    }

    pub(crate) fn client(id: &ClientId, name: &str) -> Self {
        Self { kind: ActorType::Client, id: id.to_string(), name: Some(name.to_owned()) }
    }

    pub(crate) fn system(part: &str) -> Self {
        Self { kind: ActorType::System, id: part.to_owned(), name: None }
    }
}

/// An audit event as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditEvent {
    /// Its id; ids sort by time.
    id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    kind: EventType,
    /// The tenant whose log it stands in; `_system` for what belongs to none.
    #[schema(max_length = 64)]
    tenant_id: String,
    /// The portal it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    portal: Option<String>,
    /// When it happened.
    occurred_at: Timestamp,
    /// When it was written down.
    recorded_at: Timestamp,
    /// Who did it.
    actor: Actor,
    /// The client that asked for it, or that asserted who the actor is.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    /// The link it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<LinkId>,
    /// The session it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    /// The consultant it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    consultant_id: Option<ConsultantId>,
    /// The profile as whom it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    profile_id: Option<String>,
    /// The person whose data it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    principal_id: Option<String>,
    /// Which of the portal's sources reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    source: Option<String>,
    /// Its number in that source.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    /// The trace of the request that wrote it (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    trace_id: Option<String>,
    /// What else is known, by type.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only this tenant's log.
    #[param(max_length = 64, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only this portal.
    #[param(max_length = 32)]
    pub portal: Option<String>,
    /// Only this link.
    pub magic_link_id: Option<LinkId>,
    /// Only this session.
    pub session_id: Option<SessionId>,
    /// Only this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only this person's data.
    #[param(max_length = 128)]
    pub principal_id: Option<String>,
    /// Only this type.
    #[serde(rename = "type")]
    #[param(rename = "type", inline)]
    pub kind: Option<EventType>,
    /// Only what happened at or after this moment.
    pub occurred_from: Option<Timestamp>,
    /// Only what happened before this moment.
    pub occurred_to: Option<Timestamp>,
    /// Items a page, 50 unless told; more than 200 is cut to 200.
    #[param(minimum = 1, maximum = 200)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// A page of the trail, cut to what the caller may see.
pub(crate) async fn list(
    app: &App,
    caller: &Caller<ReadAudit>,
    mut filter: EventFilter,
) -> Result<Page<AuditEvent>, Error> {
    check_filters([&filter.tenant_id, &filter.portal, &filter.principal_id])?;
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let window = paging.open(app.tokens.master_key(), &filter)?;
    let (reach, asked) = (caller.reach.clone(), window.clone());
    let rows = app.db.read(move |conn| Ok(store::list(conn, &filter, &reach, &asked)?)).await?;
    Ok(window.page(app.tokens.master_key(), rows, |row| row.id.as_str(), AuditEvent::from))
}

/// SHA-256 of each act of a session that is in the trail already.
pub(crate) type KnownActs = HashMap<(String, i64), String>;

/// Reads which of these acts are known.
pub(crate) fn known_acts(conn: &mut Conn, session: &SessionId, acts: &[ActRef<'_>]) -> Result<KnownActs, Error> {
    let mut by_source: HashMap<&str, Vec<i64>> = HashMap::new();
    for act in acts {
        by_source.entry(act.source).or_default().push(act.seq);
    }
    let mut known = KnownActs::new();
    for (source, numbers) in by_source {
        for (seq, hash) in acts_by_seq(conn, session, source, &numbers)? {
            known.insert((source.to_owned(), seq), hash);
        }
    }
    Ok(known)
}
