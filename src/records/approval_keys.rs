//! Rows of the keys with which tenants sign approvals: each change is a row, and the newest one in effect counts.

use diesel::prelude::*;
use time::Duration;

use crate::clock::{Stretch, Timestamp, lies_in};
use crate::db::schema::tenant_approval_keys as keys;
use crate::db::{Backend, Conn};
use crate::domain::{Actor, ActorType, PublicKey};
use crate::error::Error;
use crate::id::ClientId;
use crate::records::tenants::Contact;

/// A change of a tenant's approval key.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = keys)]
pub(crate) struct ApprovalKeyRow {
    pub tenant_id: String,
    /// Number of the change, from 1 on.
    pub seq: i64,
    /// The key from then on (a JWK); `None` if nothing has to be signed any more.
    public_key: Option<String>,
    /// When the change takes effect; at once where it is the time of the change.
    pub effective_at: Timestamp,
    /// What the key before has signed, if it has.
    pub signed_change: Option<String>,
    actor_type: ActorType,
    actor_id: String,
    pub actor_name: Option<String>,
    client_id: Option<ClientId>,
    pub created_at: Timestamp,
    pub cancelled_at: Option<Timestamp>,
    /// Who was told of the change, as JSON: of the next one they hear, too, whoever the contacts are by then.
    told: String,
    /// Name of who cancelled it.
    pub cancelled_by: Option<String>,
}

impl ApprovalKeyRow {
    pub(crate) fn new(
        (tenant_id, seq): (&str, i64),
        public_key: Option<String>,
        signed_change: Option<String>,
        effective_at: Timestamp,
        (actor, client_id): (&Actor, Option<&ClientId>),
        told: &[Contact],
        now: Timestamp,
    ) -> Self {
        Self {
            tenant_id: tenant_id.to_owned(),
            seq,
            public_key,
            effective_at,
            signed_change,
            actor_type: actor.kind,
            actor_id: actor.id.clone(),
            actor_name: actor.name.clone(),
            client_id: client_id.cloned(),
            created_at: now,
            cancelled_at: None,
            told: serde_json::json!(told).to_string(),
            cancelled_by: None,
        }
    }

    /// The key from this change on.
    pub(crate) fn key(&self) -> Result<Option<PublicKey>, Error> {
        let key = self.public_key.as_deref().map(serde_json::from_str);
        key.transpose().map_err(Error::internal)
    }

    /// The key, and since when it is in effect.
    pub(crate) fn key_since(&self) -> Result<Option<(PublicKey, Timestamp)>, Error> {
        Ok(self.key()?.map(|key| (key, self.effective_at)))
    }

    /// Who was told of the change.
    pub(crate) fn told(&self) -> Vec<Contact> {
        serde_json::from_str(&self.told).unwrap_or_default()
    }

    /// Whether it took effect when it was made.
    pub(crate) fn is_at_once(&self) -> bool {
        self.effective_at == self.created_at
    }
}

/// The newest change of a tenant's key, whatever became of it.
pub(crate) fn newest(conn: &mut Conn, tenant_id: &str) -> QueryResult<Option<ApprovalKeyRow>> {
    keys::table.filter(keys::tenant_id.eq(tenant_id)).order(keys::seq.desc()).first(conn).optional()
}

/// The change that counts.
pub(crate) fn in_effect(conn: &mut Conn, tenant_id: &str, now: Timestamp) -> QueryResult<Option<ApprovalKeyRow>> {
    in_effect_before(conn, (tenant_id, i64::MAX), now)
}

/// A change that has taken effect. One that did so at once counts from its commit on, whatever clocks say.
#[diesel::dsl::auto_type]
fn has_effect(at: Timestamp) -> _ {
    keys::cancelled_at.is_null().and(keys::effective_at.le(at).or(keys::effective_at.eq(keys::created_at)))
}

/// A change that was ordered, and takes effect later.
#[diesel::dsl::auto_type]
fn waits(now: Timestamp) -> _ {
    keys::cancelled_at.is_null().and(keys::effective_at.gt(now)).and(keys::effective_at.gt(keys::created_at))
}

/// The change that counts among those before one.
fn in_effect_before(
    conn: &mut Conn,
    (tenant_id, seq): (&str, i64),
    at: Timestamp,
) -> QueryResult<Option<ApprovalKeyRow>> {
    keys::table
        .filter(keys::tenant_id.eq(tenant_id).and(keys::seq.lt(seq)))
        .filter(has_effect(at))
        .order(keys::seq.desc())
        .first(conn)
        .optional()
}

/// The change that was ordered and waits.
pub(crate) fn ordered(conn: &mut Conn, tenant_id: &str, now: Timestamp) -> QueryResult<Option<ApprovalKeyRow>> {
    keys::table.filter(keys::tenant_id.eq(tenant_id)).filter(waits(now)).order(keys::seq.desc()).first(conn).optional()
}

/// A change by its number, and the one in effect when it was made.
pub(crate) fn find(
    conn: &mut Conn,
    tenant_id: &str,
    seq: i64,
) -> QueryResult<Option<(ApprovalKeyRow, Option<ApprovalKeyRow>)>> {
    let found: Option<ApprovalKeyRow> = keys::table.find((tenant_id, seq)).get_result(conn).optional()?;
    let Some(found) = found else { return Ok(None) };
    let before = in_effect_before(conn, (tenant_id, seq), found.created_at)?;
    Ok(Some((found, before)))
}

pub(crate) fn insert(conn: &mut Conn, row: &ApprovalKeyRow) -> QueryResult<usize> {
    diesel::insert_into(keys::table).values(row).execute(conn)
}

/// Whether a change was made by the word of this signed text before: it is good once, however it was signed. Of one text
/// there are many signatures, and who holds one of ES256 makes a second one without the key.
pub(crate) fn is_used(conn: &mut Conn, tenant_id: &str, signed_change: &str) -> QueryResult<bool> {
    let word = signed_change.rsplit_once('.').map_or(signed_change, |(word, _signature)| word);
    // The texts that begin with the word and a dot: a slash is the character after it.
    let (from, to) = (format!("{word}."), format!("{word}/"));
    let same = keys::signed_change.ge(from).and(keys::signed_change.lt(to)).assume_not_null();
    let same = keys::table.filter(keys::tenant_id.eq(tenant_id)).filter(same);
    diesel::select(diesel::dsl::exists(same)).get_result(conn)
}

/// Cancels every ordered change that was not seen in effect by a moment, none if that is unknown; returns the tenant of
/// each, in order, of several the newest first.
pub(crate) fn cancel_unseen(
    conn: &mut Conn,
    seen: Option<Timestamp>,
    by: &Actor,
    now: Timestamp,
) -> QueryResult<Vec<String>> {
    let ordered = keys::cancelled_at.is_null().and(keys::effective_at.gt(keys::created_at));
    let mut query = keys::table.filter(ordered).into_boxed::<Backend>();
    if let Some(seen) = seen {
        query = query.filter(keys::effective_at.gt(seen));
    }
    let unseen: Vec<ApprovalKeyRow> = query.order((keys::tenant_id.asc(), keys::seq.desc())).load(conn)?;
    let mut cancelled = Vec::new();
    for row in unseen {
        // Whoever has changed the key since has seen it, too.
        if newest(conn, &row.tenant_id)?.is_some_and(|newest| newest.created_at >= row.effective_at) {
            continue;
        }
        diesel::update(keys::table.find((&row.tenant_id, row.seq)))
            .set((keys::cancelled_at.eq(Some(now)), keys::cancelled_by.eq(&by.name)))
            .execute(conn)?;
        cancelled.push(row.tenant_id);
    }
    Ok(cancelled)
}

/// The change that counts of every tenant that has one, in order of tenants.
pub(crate) fn all_in_effect(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<ApprovalKeyRow>> {
    let rows: Vec<ApprovalKeyRow> =
        keys::table.filter(has_effect(now)).order((keys::tenant_id.asc(), keys::seq.desc())).load(conn)?;
    let mut newest: Vec<ApprovalKeyRow> = Vec::new();
    for row in rows {
        if newest.last().is_none_or(|last| last.tenant_id != row.tenant_id) {
            newest.push(row);
        }
    }
    Ok(newest)
}

/// Cancels a change that waits; `None` if it takes effect within a minute, or was cancelled already: who asked so late may
/// be answered when others have acted on it.
pub(crate) fn cancel(
    conn: &mut Conn,
    (tenant_id, seq): (&str, i64),
    by: &Actor,
    now: Timestamp,
) -> QueryResult<Option<ApprovalKeyRow>> {
    diesel::update(keys::table.find((tenant_id, seq)))
        .filter(keys::cancelled_at.is_null().and(keys::effective_at.gt(now.plus(Duration::MINUTE))))
        .set((keys::cancelled_at.eq(Some(now)), keys::cancelled_by.eq(&by.name)))
        .returning(keys::all_columns)
        .get_result(conn)
        .optional()
}

/// When a client, or the operator at the command line, changed a tenant's key lately, newest first.
pub(crate) fn changed(
    conn: &mut Conn,
    (tenant_id, client_id): (&str, Option<&ClientId>),
    lately: Stretch,
    limit: i64,
) -> QueryResult<Vec<Timestamp>> {
    let query = keys::table
        .filter(keys::tenant_id.eq(tenant_id))
        .filter(lies_in!(keys::created_at, lately))
        .into_boxed::<Backend>();
    let query = match client_id {
        Some(client_id) => query.filter(keys::client_id.eq(client_id)),
        None => query.filter(keys::client_id.is_null()),
    };
    query.order(keys::seq.desc()).limit(limit).select(keys::created_at).load(conn)
}
