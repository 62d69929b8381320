//! The statements that let logs grow.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Timestamp};

use super::append::{Addition, Growth};
use crate::db::schema::{audit_events as events, audit_payloads as payloads};
use crate::db::{Conn, prepared_as};
use crate::error::Error;
use crate::records::clients::same_standing;

/// Head, events and payloads in one statement. What is not appended to the stored heads is not inserted.
///
/// The heads are not found by `=`: PostgreSQL could then join by reading the index from end to end, which leads to every
/// old version that somebody's snapshot keeps. `BETWEEN` leaves it one way, a look into the index for each log.
const GROW: &str = concat!(
    "WITH head AS (UPDATE audit_logs l SET size = h.size, frontier = h.frontier, \
         suffix = coalesce(h.suffix, l.suffix), key_id = coalesce(h.key_id, l.key_id) \
     FROM unnest($1, $2, $3, $4, $5, $6, $7) AS h (tenant_id, old_size, old_frontier, size, frontier, suffix, key_id) \
     WHERE l.tenant_id BETWEEN h.tenant_id AND h.tenant_id AND l.size BETWEEN h.old_size AND h.old_size \
     AND l.frontier BETWEEN h.old_frontier AND h.old_frontier RETURNING 1), \
     event AS (INSERT INTO audit_events (id, tenant_id, log_index, event_type, occurred_at, recorded_at, actor_type, \
         actor_id, client_id, portal, magic_link_id, session_id, consultant_id, profile_id, principal_id, source, seq, \
         late, policy_violation, trace_id, payload_commitment, hashes, out_of_session, principal_ids, approval) \
     SELECT * FROM unnest($8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, \
         $27, $28, $29, $30, $31, $32) WHERE (SELECT count(*) FROM head) = cardinality($1)), \
     payload AS (INSERT INTO audit_payloads (tenant_id, log_index, salt, payload, fingerprint) \
     SELECT * FROM unnest($9, $10, $33, $34, $35) WHERE (SELECT count(*) FROM head) = cardinality($1)) \
     SELECT count(*), EXISTS (SELECT 1 FROM webhook_endpoints WHERE disabled_at IS NULL AND deleted_at IS NULL), \
     (SELECT count(*) FROM unnest($36, $37) AS j (id, standing) JOIN clients c ON c.id = j.id WHERE ",
    same_standing!("j.standing"),
    ") FROM head"
);

const GROW_HEAD: &str = concat!(
    "UPDATE audit_logs SET size = ?, frontier = ?, suffix = coalesce(?, suffix), \
     key_id = coalesce(?, key_id) WHERE tenant_id = ? AND size = ? AND frontier = ? \
     RETURNING EXISTS (SELECT 1 FROM webhook_endpoints WHERE disabled_at IS NULL AND deleted_at IS NULL), \
     (SELECT count(*) FROM json_each(?) j CROSS JOIN clients c ON c.id = json_extract(j.value, '$[0]') WHERE ",
    same_standing!("json_extract(j.value, '$[1]')"),
    ")"
);

/// What else the statement that appends has seen.
pub(super) struct Seen {
    /// Whether any webhook endpoint is active.
    pub any_endpoint: bool,
    /// Whether the clients count as they did when they were judged.
    pub clients_stand: bool,
}

impl Seen {
    fn of((any_endpoint, standing): (bool, i64), judged: &[(&str, &str)]) -> Self {
        Self { any_endpoint, clients_stand: usize::try_from(standing).is_ok_and(|number| number == judged.len()) }
    }
}

impl Growth<'_> {
    fn sizes(&self) -> Result<(i64, i64), Error> {
        let size = |size| i64::try_from(size).map_err(Error::internal);
        Ok((size(self.before.size())?, size(self.after.size())?))
    }

    /// The new name, where a restore is among the events.
    fn suffix(&self) -> Option<&str> {
        self.events.iter().rev().find_map(|event| event.log_suffix())
    }

    /// The new key, where a change of it is among the events.
    fn key_id(&self) -> Option<&str> {
        self.events.iter().rev().find_map(|event| event.log_key_id())
    }
}

/// Appends to the logs, and tells what it has seen beside them; `None` if a head is not what was expected. If that is the
/// only one, nothing was changed.
pub(super) fn grow(conn: &mut Conn, addition: &Addition<'_>, judged: &[(&str, &str)]) -> Result<Option<Seen>, Error> {
    let Addition { logs, rows, payloads } = addition;
    match conn {
        Conn::Postgres(conn) => {
            let sizes = logs.iter().map(Growth::sizes).collect::<Result<Vec<_>, _>>()?;
            let (before, after): (Vec<i64>, Vec<i64>) = sizes.into_iter().unzip();
            macro_rules! of {
                ($rows:ident, $row:ident => $value:expr) => {
                    $rows.iter().map(|$row| $value).collect::<Vec<_>>()
                };
            }
            let grown = sql_query(GROW)
                .bind::<Array<Text>, _>(of!(logs, log => log.tenant_id))
                .bind::<Array<BigInt>, _>(before)
                .bind::<Array<Binary>, _>(of!(logs, log => log.before.encode()))
                .bind::<Array<BigInt>, _>(after)
                .bind::<Array<Binary>, _>(of!(logs, log => log.after.encode()))
                .bind::<Array<Nullable<Text>>, _>(of!(logs, log => log.suffix()))
                .bind::<Array<Nullable<Text>>, _>(of!(logs, log => log.key_id()))
                .bind::<Array<Text>, _>(of!(rows, row => &row.id))
                .bind::<Array<Text>, _>(of!(rows, row => &row.tenant_id))
                .bind::<Array<BigInt>, _>(of!(rows, row => row.log_index))
                .bind::<Array<Text>, _>(of!(rows, row => row.event_type.as_str()))
                .bind::<Array<Timestamp>, _>(of!(rows, row => row.occurred_at))
                .bind::<Array<Timestamp>, _>(of!(rows, row => row.recorded_at))
                .bind::<Array<Text>, _>(of!(rows, row => row.actor_type))
                .bind::<Array<Text>, _>(of!(rows, row => &row.actor_id))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.client_id.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.portal.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.magic_link_id.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.session_id.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.consultant_id.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.profile_id.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.principal_id.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.source.as_ref()))
                .bind::<Array<Nullable<BigInt>>, _>(of!(rows, row => row.seq))
                .bind::<Array<Bool>, _>(of!(rows, row => row.late))
                .bind::<Array<Bool>, _>(of!(rows, row => row.policy_violation))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.trace_id.as_ref()))
                .bind::<Array<Binary>, _>(of!(rows, row => &row.payload_commitment))
                .bind::<Array<Binary>, _>(of!(rows, row => &row.hashes))
                .bind::<Array<Bool>, _>(of!(rows, row => row.out_of_session))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.principal_ids.as_ref()))
                .bind::<Array<Nullable<Text>>, _>(of!(rows, row => row.approval.as_ref()))
                .bind::<Array<Binary>, _>(of!(payloads, row => &row.salt))
                .bind::<Array<Text>, _>(of!(payloads, row => &row.payload))
                .bind::<Array<Nullable<Binary>>, _>(of!(payloads, row => row.fingerprint.as_ref()))
                .bind::<Array<Text>, _>(of!(judged, client => client.0))
                .bind::<Array<Text>, _>(of!(judged, client => client.1));
            let (grown, any_endpoint, standing): (i64, bool, i64) =
                prepared_as::<(BigInt, Bool, BigInt), _>(grown).get_result(conn)?;
            let seen = Seen::of((any_endpoint, standing), judged);
            Ok(usize::try_from(grown).is_ok_and(|grown| grown == logs.len()).then_some(seen))
        }
        Conn::Sqlite(conn) => {
            let mut seen = Seen { any_endpoint: false, clients_stand: true };
            let clients = serde_json::to_string(judged).map_err(Error::internal)?;
            for log in logs {
                let (before, after) = log.sizes()?;
                let grown = sql_query(GROW_HEAD)
                    .bind::<BigInt, _>(after)
                    .bind::<Binary, _>(log.after.encode())
                    .bind::<Nullable<Text>, _>(log.suffix())
                    .bind::<Nullable<Text>, _>(log.key_id())
                    .bind::<Text, _>(log.tenant_id)
                    .bind::<BigInt, _>(before)
                    .bind::<Binary, _>(log.before.encode())
                    .bind::<Text, _>(&clients);
                match prepared_as::<(Bool, BigInt), _>(grown).get_result(conn).optional()? {
                    Some(found) => seen = Seen::of(found, judged),
                    None => return Ok(None),
                }
            }
            for row in rows {
                diesel::insert_into(events::table).values(row).execute(conn)?;
            }
            for row in payloads {
                diesel::insert_into(payloads::table).values(row).execute(conn)?;
            }
            Ok(Some(seen))
        }
    }
}
