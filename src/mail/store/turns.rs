//! Which jobs of a long queue are next: tenants take turns, and what somebody waits for overtakes notices.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};

use crate::clock::Timestamp;
use crate::db::{Conn, prepared_as};
use crate::id::MailJobId;

/// The oldest due job of each tenant, the oldest first: of all, or of those with links and codes.
///
/// Tenants are found one after the other, each by one look into an index: what else is in the queue is not read.
fn heads(conn: &mut Conn, with_links: bool, limit: i64, now: Timestamp) -> QueryResult<Vec<MailJobId>> {
    let open = if with_links {
        "finished_at IS NULL AND (template = 'magic_link' OR template = 'step_up_code')"
    } else {
        "finished_at IS NULL"
    };
    let text = format!(
        "WITH RECURSIVE waiting (tenant_id) AS (\
         SELECT min(tenant_id) FROM mail_jobs WHERE {open} UNION ALL \
         SELECT (SELECT min(tenant_id) FROM mail_jobs WHERE {open} AND tenant_id > waiting.tenant_id) \
         FROM waiting WHERE waiting.tenant_id IS NOT NULL), \
         heads (id) AS (SELECT (SELECT id FROM mail_jobs WHERE {open} AND tenant_id = waiting.tenant_id \
         AND next_attempt_at <= $1 AND (lease_until IS NULL OR lease_until <= $1) ORDER BY id LIMIT 1) \
         FROM waiting WHERE waiting.tenant_id IS NOT NULL) \
         SELECT id FROM heads WHERE id IS NOT NULL ORDER BY id LIMIT $2"
    );
    let found = sql_query(text).bind::<SqlTimestamp, _>(now).bind::<BigInt, _>(limit);
    match conn {
        Conn::Postgres(conn) => prepared_as::<Text, _>(found).load(conn),
        Conn::Sqlite(conn) => prepared_as::<Text, _>(found).load(conn),
    }
}

/// The jobs that are next where more are due than `oldest`: half of them with links and codes, and a quarter of any kind,
/// each of another tenant; the rest are the oldest.
pub(super) fn next(
    conn: &mut Conn,
    oldest: impl IntoIterator<Item = MailJobId>,
    limit: i64,
    now: Timestamp,
) -> QueryResult<Vec<MailJobId>> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut next = heads(conn, true, limit / 2, now)?;
    for id in heads(conn, false, limit / 4, now)?.into_iter().chain(oldest) {
        if next.len() < most && !next.contains(&id) {
            next.push(id);
        }
    }
    Ok(next)
}
