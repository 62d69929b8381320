//! Checkpoints, the key that signs them, and their deliveries.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Text};

use crate::audit::CheckpointChannel;
use crate::clock::{Stretch, Timestamp, lies_in};
use crate::db::schema::{
    audit_checkpoints as checkpoints, audit_keys as keys, audit_logs as logs, checkpoint_deliveries as deliveries,
};
use crate::db::{Conn, prepared_as};

/// A signed checkpoint as it was issued.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = checkpoints)]
pub(in crate::audit) struct CheckpointRow {
    pub tenant_id: String,
    pub size: i64,
    pub root: Vec<u8>,
    pub note: String,
    pub signed_at: Timestamp,
}

impl CheckpointRow {
    /// Whether it was signed under the name of a log.
    pub(in crate::audit) fn is_of(&self, log_name: &str) -> bool {
        self.note.lines().next().is_some_and(|origin| origin.ends_with(&format!("/audit/{log_name}")))
    }
}

/// A key that signs checkpoints, sealed at rest.
#[derive(Clone, Queryable, Insertable)]
#[diesel(table_name = keys)]
pub(in crate::audit) struct KeyRow {
    pub id: String,
    pub origin: String,
    pub public_key: String,
    pub sealed_private_key: String,
    pub created_at: Timestamp,
}

/// The newest checkpoint of a log.
pub(in crate::audit) fn latest_checkpoint(conn: &mut Conn, tenant_id: &str) -> QueryResult<Option<CheckpointRow>> {
    checkpoints::table
        .filter(checkpoints::tenant_id.eq(tenant_id))
        .order(checkpoints::size.desc())
        .first(conn)
        .optional()
}

/// Log, size and root of those of these checkpoints that were signed; with them others, of a size among theirs.
pub(in crate::audit) fn roots(conn: &mut Conn, asked: &[(&str, i64)]) -> QueryResult<Vec<(String, i64, Vec<u8>)>> {
    let (tenants, sizes): (Vec<&str>, Vec<i64>) = asked.iter().copied().unzip();
    match conn {
        Conn::Postgres(conn) => {
            // In pairs: of two lists PostgreSQL looks for each log with each size, or reads all that was ever signed.
            const SIGNED: &str = "SELECT s.tenant_id, s.size, s.root FROM unnest($1, $2) AS a (tenant_id, size), LATERAL \
                 (SELECT * FROM audit_checkpoints c WHERE c.tenant_id = a.tenant_id AND c.size = a.size LIMIT 1) s";
            let signed = sql_query(SIGNED).bind::<Array<Text>, _>(tenants).bind::<Array<BigInt>, _>(sizes);
            prepared_as::<(Text, BigInt, Binary), _>(signed).load(conn)
        }
        Conn::Sqlite(conn) => checkpoints::table
            .filter(checkpoints::tenant_id.eq_any(tenants))
            .filter(checkpoints::size.eq_any(sizes))
            .select((checkpoints::tenant_id, checkpoints::size, checkpoints::root))
            .load(conn),
    }
}

pub(in crate::audit) fn insert_checkpoint(conn: &mut Conn, checkpoint: &CheckpointRow) -> QueryResult<usize> {
    diesel::insert_into(checkpoints::table).values(checkpoint).execute(conn)
}

/// Logs that have grown since their last checkpoint, if that was signed at or before the given time.
///
/// Uses the index on `signed_at` and the primary key.
pub(in crate::audit) fn logs_without_checkpoint(conn: &mut Conn, lately: Stretch) -> QueryResult<Vec<String>> {
    let covered =
        checkpoints::table.filter(checkpoints::tenant_id.eq(logs::tenant_id)).filter(checkpoints::size.eq(logs::size));
    let young = checkpoints::table
        .filter(checkpoints::tenant_id.eq(logs::tenant_id))
        .filter(lies_in!(checkpoints::signed_at, lately));
    logs::table
        .filter(diesel::dsl::not(diesel::dsl::exists(covered)))
        .filter(diesel::dsl::not(diesel::dsl::exists(young)))
        .select(logs::tenant_id)
        .order(logs::tenant_id)
        .load(conn)
}

/// Every key of the logs, the newest last.
pub(in crate::audit) fn all_keys(conn: &mut Conn) -> QueryResult<Vec<KeyRow>> {
    keys::table.order((keys::created_at.asc(), keys::id.asc())).load(conn)
}

/// Origin and public half of each key, oldest first.
pub(in crate::audit) fn public_keys(conn: &mut Conn) -> QueryResult<Vec<(String, String)>> {
    keys::table.order((keys::created_at.asc(), keys::id.asc())).select((keys::origin, keys::public_key)).load(conn)
}

/// Id of the newest key.
pub(in crate::audit) fn newest_key_id(conn: &mut Conn) -> QueryResult<Option<String>> {
    let newest = keys::table.order((keys::created_at.desc(), keys::id.desc())).select(keys::id);
    newest.first(conn).optional()
}

/// Locks a key until the transaction ends, so that one at a time tells the logs of it.
pub(in crate::audit) fn lock_key(conn: &mut Conn, id: &str) -> QueryResult<()> {
    if let Conn::Postgres(conn) = conn {
        keys::table.find(id).select(keys::id).for_no_key_update().get_result::<String>(conn)?;
    }
    Ok(())
}

/// Logs that another key signs, in order.
pub(in crate::audit) fn logs_without_key(conn: &mut Conn, id: &str, limit: i64) -> QueryResult<Vec<String>> {
    logs::table.filter(logs::key_id.ne(id)).select(logs::tenant_id).order(logs::tenant_id).limit(limit).load(conn)
}

pub(in crate::audit) fn insert_key(conn: &mut Conn, key: &KeyRow) -> QueryResult<usize> {
    diesel::insert_into(keys::table).values(key).execute(conn)
}

/// Sealed private keys of the logs, with the ids of their rows.
pub(in crate::audit) fn sealed_keys(conn: &mut Conn) -> QueryResult<Vec<(String, String)>> {
    keys::table.select((keys::id, keys::sealed_private_key)).load(conn)
}

/// Stores a private key that was sealed under another master key.
pub(in crate::audit) fn seal_key_again(conn: &mut Conn, id: &str, sealed: &str) -> QueryResult<usize> {
    diesel::update(keys::table.find(id)).set(keys::sealed_private_key.eq(sealed)).execute(conn)
}

/// Delivery state of a log's checkpoints per channel.
#[derive(Debug, Clone, Queryable)]
pub(in crate::audit) struct DeliveryRow {
    _tenant_id: String,
    pub channel: CheckpointChannel,
    pub size: i64,
    _attempts: i32,
    _next_attempt_at: Timestamp,
    pub delivered_at: Option<Timestamp>,
    pub last_error: Option<String>,
}

/// Logs whose newest checkpoint was not delivered, and whose next attempt is due.
pub(in crate::audit) fn undelivered(
    conn: &mut Conn,
    channel: CheckpointChannel,
    limit: i64,
    put_off: Stretch,
) -> QueryResult<Vec<String>> {
    let waits = lies_in!(deliveries::next_attempt_at, put_off);
    // By what was signed: logs that have only grown would keep others from their turn.
    let newest = "(SELECT max(c.size) FROM audit_checkpoints c WHERE c.tenant_id = audit_logs.tenant_id)";
    let is_delivered = diesel::dsl::sql::<Bool>(&format!("checkpoint_deliveries.size >= {newest}"));
    let settled = deliveries::table
        .filter(deliveries::tenant_id.eq(logs::tenant_id))
        .filter(deliveries::channel.eq(channel))
        .filter(is_delivered.or(waits));
    let signed = checkpoints::table.filter(checkpoints::tenant_id.eq(logs::tenant_id));
    logs::table
        .filter(diesel::dsl::exists(signed))
        .filter(diesel::dsl::not(diesel::dsl::exists(settled)))
        .select(logs::tenant_id)
        .order(logs::tenant_id)
        .limit(limit)
        .load(conn)
}

/// Leases a delivery and returns the attempt's number; `None` if it is leased already or was delivered.
pub(in crate::audit) fn claim_delivery(
    conn: &mut Conn,
    tenant_id: &str,
    channel: CheckpointChannel,
    size: i64,
    lease_until: Timestamp,
    put_off: Stretch,
) -> QueryResult<Option<i32>> {
    let known: i64 = deliveries::table.find((tenant_id, channel)).count().get_result(conn)?;
    if known == 0 {
        let fresh = (
            deliveries::tenant_id.eq(tenant_id),
            deliveries::channel.eq(channel),
            deliveries::size.eq(0_i64),
            deliveries::attempts.eq(0),
            deliveries::next_attempt_at.eq(put_off.after),
        );
        diesel::insert_into(deliveries::table).values(fresh).execute(conn)?;
    }
    diesel::update(deliveries::table.find((tenant_id, channel)))
        .filter(diesel::dsl::not(lies_in!(deliveries::next_attempt_at, put_off)))
        .filter(deliveries::size.lt(size))
        .set((deliveries::next_attempt_at.eq(lease_until), deliveries::attempts.eq(deliveries::attempts + 1)))
        .returning(deliveries::attempts)
        .get_result(conn)
        .optional()
}

/// Stores a successful delivery, of whoever holds the lease: a database that was replaced meanwhile by its backup knows
/// nothing of it.
pub(in crate::audit) fn delivered(
    conn: &mut Conn,
    tenant_id: &str,
    channel: CheckpointChannel,
    lease_until: Timestamp,
    size: i64,
    now: Timestamp,
) -> QueryResult<usize> {
    diesel::update(deliveries::table.find((tenant_id, channel)))
        .filter(deliveries::next_attempt_at.eq(lease_until))
        .set((
            deliveries::size.eq(size),
            deliveries::attempts.eq(0),
            deliveries::next_attempt_at.eq(now),
            deliveries::delivered_at.eq(Some(now)),
            deliveries::last_error.eq(None::<String>),
        ))
        .execute(conn)
}

/// Stores a failed delivery, of whoever holds the lease: the error, and the time of the next attempt.
pub(in crate::audit) fn not_delivered(
    conn: &mut Conn,
    tenant_id: &str,
    channel: CheckpointChannel,
    lease_until: Timestamp,
    error: &str,
    retry_at: Timestamp,
) -> QueryResult<usize> {
    let error: String = error.chars().take(500).collect();
    diesel::update(deliveries::table.find((tenant_id, channel)))
        .filter(deliveries::next_attempt_at.eq(lease_until))
        .set((deliveries::next_attempt_at.eq(retry_at), deliveries::last_error.eq(Some(error))))
        .execute(conn)
}

/// Takes what was signed and not delivered for delivered, so that it does not wait before all others.
pub(crate) fn settle_deliveries(conn: &mut Conn) -> QueryResult<usize> {
    let newest = "(SELECT max(c.size) FROM audit_checkpoints c WHERE c.tenant_id = checkpoint_deliveries.tenant_id)";
    let newest = diesel::dsl::sql::<BigInt>(&format!("coalesce({newest}, size)"));
    diesel::update(deliveries::table).set(deliveries::size.eq(newest)).execute(conn)
}

/// Whether a checkpoint of any log was ever delivered.
pub(in crate::audit) fn has_delivered(conn: &mut Conn, channel: CheckpointChannel) -> QueryResult<bool> {
    let delivered =
        deliveries::table.filter(deliveries::channel.eq(channel)).filter(deliveries::delivered_at.is_not_null());
    diesel::select(diesel::dsl::exists(delivered)).get_result(conn)
}

/// Those of some logs of which a checkpoint was ever delivered.
pub(in crate::audit) fn delivered_of(
    conn: &mut Conn,
    channel: CheckpointChannel,
    tenant_ids: &[String],
) -> QueryResult<Vec<String>> {
    deliveries::table
        .filter(deliveries::channel.eq(channel))
        .filter(deliveries::tenant_id.eq_any(tenant_ids))
        .filter(deliveries::delivered_at.is_not_null())
        .select(deliveries::tenant_id)
        .load(conn)
}

/// Delivery states of a log's checkpoints.
pub(in crate::audit) fn deliveries(conn: &mut Conn, tenant_id: &str) -> QueryResult<Vec<DeliveryRow>> {
    deliveries::table.filter(deliveries::tenant_id.eq(tenant_id)).order(deliveries::channel).load(conn)
}

/// For each channel: number of logs whose newest checkpoint was not delivered yet, although it was tried, and when any
/// log's was delivered last.
pub(crate) fn delivered_last(conn: &mut Conn) -> QueryResult<Vec<(CheckpointChannel, i64, Option<Timestamp>)>> {
    let failing = deliveries::table
        .filter(deliveries::last_error.is_not_null())
        .group_by(deliveries::channel)
        .select((deliveries::channel, diesel::dsl::count_star()));
    let failing: Vec<(CheckpointChannel, i64)> = failing.load(conn)?;
    let last = deliveries::table
        .group_by(deliveries::channel)
        .select((deliveries::channel, diesel::dsl::max(deliveries::delivered_at)));
    let last: Vec<(CheckpointChannel, Option<Timestamp>)> = last.load(conn)?;
    let of = |channel| failing.iter().find(|(one, _)| *one == channel).map_or(0, |(_, count)| *count);
    Ok(last.into_iter().map(|(channel, at)| (channel, of(channel), at)).collect())
}
