//! Export of a tenant's audit log, streamed in constant memory.
//!
//! NDJSON is the log itself: [`super::verify`] checks every line. CSV and OCSF are
//! views for spreadsheets and SIEMs, and carry the same index and leaf hash.

mod csv;
mod ndjson;
mod ocsf;

use actix_web::web::{Bytes, Data};
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;

use super::folder::{CheckpointFolder, require_whole};
use super::key::LogKey;
use super::store::{self, Erasure};
use super::{EventFilter, checkpoint, log};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::{Conn, text_enum};
use crate::domain::{EventType, ExternalId, LogId, PortalId, Reach};
use crate::error::Error;
use crate::http::{Caller, ReadAudit};
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::journal::Event;
use crate::journal::rows::{self, StoredEvent};
use crate::store::{ClientStanding, Owner};

pub(super) use ndjson::object;

/// Events that one query of a filtered export looks at.
const SCANNED: i64 = 10_000;

text_enum! {
    /// Format of an export.
    pub enum ExportFormat {
        /// One canonical JSON object per line (RFC 8785); the only format that can be verified.
        Ndjson = "ndjson",
        /// CSV (RFC 4180) with formulas neutralised.
        Csv = "csv",
        /// Open Cybersecurity Schema Framework 1.8, one JSON object per line.
        Ocsf = "ocsf",
    }
}

impl ExportFormat {
    /// Media type of the response.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson | Self::Ocsf => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// Tenant, format and filters of an export.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Tenant of the audit log; `_system` for events without a tenant.
    #[param(value_type = LogId, example = "acme")]
    pub tenant_id: String,
    /// Format of the export; `ndjson` by default.
    #[serde(default = "ndjson")]
    #[param(required = false, default = "ndjson")]
    pub format: ExportFormat,
    /// Only events of this portal.
    #[param(value_type = Option<PortalId>)]
    pub portal: Option<String>,
    /// Only events of this link.
    pub magic_link_id: Option<LinkId>,
    /// Only events of this session.
    pub session_id: Option<SessionId>,
    /// Only events of this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only events that concern this person's data (the portal's own id), alone or with that of others.
    #[param(value_type = Option<ExternalId>)]
    pub principal_id: Option<String>,
    /// Only events of this type.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub kind: Option<EventType>,
    /// `true`: only activity events reported after their session had ended; `false`: only the other events.
    pub late: Option<bool>,
    /// `true`: only changes despite `read_only` access and activity after the session's end; `false`: only the other
    /// events.
    pub policy_violation: Option<bool>,
    /// `true`: only activity events whose own time lies outside their session; `false`: only the other events.
    pub out_of_session: Option<bool>,
    /// Only events that happened at or after this time (RFC 3339).
    pub occurred_from: Option<Timestamp>,
    /// Only events that happened before this time (RFC 3339).
    pub occurred_to: Option<Timestamp>,
    /// Only events that were recorded at or after this time (RFC 3339): when the call began that recorded them. They are seen
    /// once they are committed, so whoever asks at intervals begins each range two minutes before the end of the one before,
    /// and drops by `id` what comes twice.
    pub recorded_from: Option<Timestamp>,
    /// Only events that were recorded before this time (RFC 3339).
    pub recorded_to: Option<Timestamp>,
}

/// Removes members that are null: they are absent instead.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

const fn ndjson() -> ExportFormat {
    ExportFormat::Ndjson
}

impl ExportQuery {
    /// The complete log, without filters.
    pub(crate) const fn whole(tenant_id: String, format: ExportFormat) -> Self {
        Self {
            tenant_id,
            format,
            portal: None,
            magic_link_id: None,
            session_id: None,
            consultant_id: None,
            principal_id: None,
            kind: None,
            late: None,
            policy_violation: None,
            occurred_from: None,
            occurred_to: None,
            out_of_session: None,
            recorded_from: None,
            recorded_to: None,
        }
    }

    fn filter(self) -> EventFilter {
        EventFilter {
            tenant_id: Some(self.tenant_id),
            portal: self.portal,
            magic_link_id: self.magic_link_id,
            session_id: self.session_id,
            consultant_id: self.consultant_id,
            principal_id: self.principal_id,
            kind: self.kind,
            late: self.late,
            policy_violation: self.policy_violation,
            occurred_from: self.occurred_from,
            occurred_to: self.occurred_to,
            out_of_session: self.out_of_session,
            recorded_from: self.recorded_from,
            recorded_to: self.recorded_to,
            page_size: None,
            cursor: None,
        }
    }
}

/// A running export.
pub(crate) struct Export {
    cx: Data<Context>,
    /// Whose share of the large reads it takes, and what that client was judged by.
    owner: Owner,
    standing: Option<ClientStanding>,
    pub(super) format: ExportFormat,
    filter: EventFilter,
    reach: Reach,
    erasures: Vec<Erasure>,
    /// Payloads below this index were erased when the export began.
    erased_to: i64,
    next: i64,
    /// Size of the log when the export began.
    size: i64,
    opening: Option<String>,
    /// The closing line: the checkpoint of a complete log.
    closing: Option<String>,
}

/// Records the export and starts it.
pub(crate) async fn export(
    cx: Data<Context>,
    (key, folder): (Data<LogKey>, &CheckpointFolder),
    caller: &Caller<ReadAudit>,
    query: ExportQuery,
    now: Timestamp,
) -> Result<Export, Error> {
    log::check(caller, &query.tenant_id)?;
    let format = query.format;
    let filter = query.clone().filter();
    let unfiltered = EventFilter { tenant_id: filter.tenant_id.clone(), ..EventFilter::default() };
    let whole = format == ExportFormat::Ndjson && filter == unfiltered && caller.reach.portal.is_none();
    let event =
        Event::new(EventType::AuditExported, caller.actor(None), now).client(caller.client_id.as_ref()).with(&query);
    let tenant_id = query.tenant_id.clone();
    let signs = if whole { Some(require_whole(&cx, folder).await?) } else { None };
    let (size, erased_to, checkpoint) = cx
        .store
        .write(move |tx| {
            // Read before the checkpoint, which then covers the events of all erasures up to here.
            let erased_to = store::erased_to(tx, &tenant_id)?;
            let current = |whole| checkpoint::current(tx, (&key, whole), &tenant_id, now);
            let closing = signs.map(current).transpose()?.map(|current| current.checkpoint);
            let size = match &closing {
                Some(checkpoint) => checkpoint.size,
                None => i64::try_from(rows::head(tx, &tenant_id)?.size()).map_err(Error::internal)?,
            };
            let log = rows::log_of_reading(tx, &tenant_id)?;
            tx.record(event.clone().tenant(log));
            Ok((size, erased_to, closing.map(|checkpoint| checkpoint.note)))
        })
        .await?;
    let opening = match format {
        // Spreadsheets take a file without the mark for one in a local alphabet.
        ExportFormat::Csv => Some(format!("\u{feff}{}", csv::header()?)),
        ExportFormat::Ndjson if !whole => Some(ndjson::view(&query, caller.reach.portal.as_deref())?),
        _ => None,
    };
    Ok(Export {
        opening,
        closing: checkpoint.map(|note| ndjson::closing(&note)).transpose()?,
        filter,
        reach: caller.reach.clone(),
        erasures: Vec::new(),
        erased_to,
        next: 0,
        size,
        format,
        cx,
        owner: Owner::current(),
        standing: Owner::standing(),
    })
}

impl Export {
    /// The lines in chunks. An error aborts the response, so that it cannot pass for complete.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> {
        stream::try_unfold(self, |mut export| async move {
            Ok(export.chunk().await?.map(|chunk| (Bytes::from(chunk), export)))
        })
    }

    /// The next lines; `None` after the last ones.
    pub(crate) async fn chunk(&mut self) -> Result<Option<String>, Error> {
        if let Some(opening) = self.opening.take() {
            return Ok(Some(opening));
        }
        while self.next < self.size {
            let reader = (&self.owner, self.standing.as_ref());
            let (filter, reach) = (self.filter.clone(), self.reach.clone());
            let (start, end) = (self.next, self.size.min(self.next + SCANNED));
            let read = move |conn: &mut Conn| Ok(store::piece(conn, &filter, &reach, start..end)?);
            let (rows, next) = self.cx.store.read_large_of(reader, read).await?;
            self.next = next;
            // Read after the rows, so it includes the erasure of every payload missing in them.
            if rows.iter().any(|(_, payload)| payload.is_none()) {
                let tenants: Vec<String> = self.filter.tenant_id.iter().cloned().collect();
                let indexes = rows.first().map_or(0, |(row, _)| row.log_index)..self.next;
                let read = move |conn: &mut Conn| Ok(store::erasures(conn, &tenants, indexes)?);
                self.erasures = self.cx.store.read_large_of(reader, read).await?;
                if self.closing.is_some() && self.erasures.iter().any(|erasure| erasure.from_index >= self.erased_to) {
                    // The `audit.purged` event lies beyond the checkpoint that would close this export.
                    tracing::info!("export aborted: payloads were erased meanwhile; the client must retry");
                    return Err(Error::unavailable());
                }
            }
            let mut chunk = String::new();
            for row in rows {
                self.write(&mut chunk, row)?;
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(self.closing.take())
    }

    fn write(&self, chunk: &mut String, (row, payload): StoredEvent) -> Result<(), Error> {
        match self.format {
            ExportFormat::Ndjson => {
                chunk.push_str(&ndjson::line(&row, payload.as_ref(), &self.erasures)?);
            }
            ExportFormat::Csv => chunk.push_str(&csv::line(&store::show(row, payload, &self.erasures)?)?),
            ExportFormat::Ocsf => chunk.push_str(&ocsf::line(&store::show(row, payload, &self.erasures)?)?),
        }
        Ok(())
    }
}
