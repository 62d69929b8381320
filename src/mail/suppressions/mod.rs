//! A suppressed address is sent no e-mail: one bounced permanently, or the recipient complained.
//!
//! Only a person clears it. Sending regardless would ruin the sender's reputation
//! with the providers, and so the delivery of all e-mail.

mod store;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::store::Sent;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::{Conn, text_enum};
use crate::domain::{Actor, Cursor, EventType, Page, Paging, Person, Validator, check_person, trimmed};
use crate::error::Error;
use crate::http::{Admin, Caller};
use crate::id::{MailJobId, SuppressionId};
use crate::journal::Event;
use crate::store::Tx;

text_enum! {
    /// Why an address was suppressed.
    pub enum Cause {
        /// An e-mail bounced permanently.
        Bounce = "bounce",
        /// The recipient reported an e-mail as spam.
        Complaint = "complaint",
    }
}

text_enum! {
    /// State of a suppression.
    pub enum SuppressionState {
        /// The address is suppressed.
        Active = "active",
        /// The suppression was cleared; e-mail is sent again.
        Cleared = "cleared",
    }
}

/// A stored suppression.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::mail_suppressions)]
pub(super) struct Suppression {
    pub id: SuppressionId,
    pub address: String,
    /// The address in lower case, for comparison.
    pub address_key: String,
    pub cause: Cause,
    pub provider: String,
    pub mail_job_id: MailJobId,
    pub created_at: Timestamp,
    pub cleared_at: Option<Timestamp>,
    pub clear_reason: Option<String>,
}

/// A suppressed address.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SuppressionResponse {
    /// Suppression id.
    id: SuppressionId,
    /// State of the suppression.
    state: SuppressionState,
    /// Suppressed e-mail address.
    #[schema(max_length = 254)]
    address: String,
    /// Why the address was suppressed.
    cause: Cause,
    /// Provider that reported the bounce or complaint.
    #[schema(max_length = 32)]
    provider: String,
    /// Mail job that bounced or was complained about.
    mail_job_id: MailJobId,
    /// When the address was suppressed (RFC 3339, UTC).
    created_at: Timestamp,
    /// When the suppression was cleared (RFC 3339, UTC); absent while it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_at: Option<Timestamp>,
    /// Why the suppression was cleared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    clear_reason: Option<String>,
}

impl From<Suppression> for SuppressionResponse {
    fn from(row: Suppression) -> Self {
        Self {
            state: if row.cleared_at.is_some() { SuppressionState::Cleared } else { SuppressionState::Active },
            id: row.id,
            address: row.address,
            cause: row.cause,
            provider: row.provider,
            mail_job_id: row.mail_job_id,
            created_at: row.created_at,
            cleared_at: row.cleared_at,
            clear_reason: row.clear_reason,
        }
    }
}

/// Request to clear a suppression.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "The mailbox was full; it is not any more"}))]
pub struct ClearSuppression {
    /// Why the suppression is cleared.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Portal user who requested it, recorded as the client asserts it.
    pub requested_by: Option<Person>,
}

/// Filters of a list of suppressed addresses.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SuppressionFilter {
    /// Only suppressions in this state.
    pub state: Option<SuppressionState>,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

/// Whether an address is suppressed.
pub(crate) fn is_suppressed(conn: &mut Conn, address: &str) -> QueryResult<bool> {
    store::is_suppressed(conn, &address.to_lowercase())
}

/// Suppresses an address until a person clears it.
pub(super) fn suppress(
    tx: &mut Tx<'_>,
    address: &str,
    cause: Cause,
    provider: &str,
    job: &Sent,
    now: Timestamp,
) -> Result<(), Error> {
    if is_suppressed(tx, address)? {
        return Ok(());
    }
    let row = Suppression {
        id: SuppressionId::new(now),
        address: address.to_owned(),
        address_key: address.to_lowercase(),
        cause,
        provider: provider.to_owned(),
        mail_job_id: job.id.clone(),
        created_at: now,
        cleared_at: None,
        clear_reason: None,
    };
    store::insert(tx, &row)?;
    let event = Event::new(EventType::AddressSuppressed, Actor::system("mail"), now);
    let event = event.consultant(job.consultant_id.as_ref());
    tx.record(event.with(&serde_json::json!({
        "suppression_id": row.id, "address": row.address, "cause": cause, "provider": provider, "mail_job_id": job.id,
    })));
    Ok(())
}

/// Addresses belong to no tenant and portal in particular, so only operators see and clear them.
fn require_operator(caller: &Caller<Admin>) -> Result<(), Error> {
    caller.require_operator("the list of suppressed addresses")
}

/// A page of suppressed addresses, newest first.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<Admin>,
    mut filter: SuppressionFilter,
) -> Result<Page<SuppressionResponse>, Error> {
    require_operator(caller)?;
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let asked = page.clone();
    let rows = cx.store.read(move |conn| Ok(store::list(conn, filter.state, &asked)?)).await?;
    Ok(page.answer(cx.tokens.master_key(), rows, |row| row.id.as_str(), SuppressionResponse::from))
}

/// Clears a suppression. Clearing a cleared one changes nothing.
pub(crate) async fn clear(
    cx: &Context,
    caller: &Caller<Admin>,
    id: SuppressionId,
    request: ClearSuppression,
    now: Timestamp,
) -> Result<SuppressionResponse, Error> {
    require_operator(caller)?;
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    let (actor, client_id) = (caller.actor(request.requested_by.as_ref()), caller.client_id.clone());
    let cleared = cx
        .store
        .write(move |tx| {
            let Some(row) = store::clear(tx, &id, &request.reason, now)? else {
                return store::find(tx, &id)?.ok_or_else(Error::not_found);
            };
            let event = Event::new(EventType::AddressCleared, actor.clone(), now).client(client_id.as_ref());
            tx.record(event.with(&serde_json::json!({
                "suppression_id": row.id, "address": row.address, "reason": request.reason,
            })));
            Ok(row)
        })
        .await?;
    Ok(cleared.into())
}
