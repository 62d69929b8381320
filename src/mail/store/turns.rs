//! Which jobs of a long queue are next: tenants take turns, and what somebody waits for overtakes notices.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Text, Timestamp as SqlTimestamp};

use super::known;
use crate::clock::Timestamp;
use crate::db::{Conn, prepared_as};
use crate::id::MailJobId;

/// The oldest due job of each tenant, the oldest first: of all, or of those with links and codes.
///
/// Tenants are found one after the other, each by one look into an index: what else is in the queue is not read. SQLite
/// is told which index, because it would take the one by template, and read every mail that ever left.
fn heads(conn: &mut Conn, with_links: bool, limit: usize, now: Timestamp) -> QueryResult<Vec<MailJobId>> {
    let (index, links) = if with_links {
        ("mail_jobs_open_with_links", " AND (template = 'magic_link' OR template = 'step_up_code')")
    } else {
        ("mail_jobs_open_by_tenant", "")
    };
    let by = if let Conn::Sqlite(_) = conn { format!(" INDEXED BY {index}") } else { String::new() };
    let open = format!("mail_jobs{by} WHERE finished_at IS NULL{links}");
    let known = known("mail_jobs");
    // The limit is a number in the text: SQLite prepares a statement with a bound one anew at every run.
    let text = format!(
        "WITH RECURSIVE waiting (tenant_id) AS (\
         SELECT (SELECT tenant_id FROM {open} ORDER BY tenant_id LIMIT 1) UNION ALL \
         SELECT (SELECT tenant_id FROM {open} AND tenant_id > waiting.tenant_id ORDER BY tenant_id LIMIT 1) \
         FROM waiting WHERE waiting.tenant_id IS NOT NULL), \
         heads (id) AS MATERIALIZED (SELECT (SELECT id FROM {open} AND tenant_id = waiting.tenant_id \
         AND {known} AND next_attempt_at <= $1 AND (lease_until IS NULL OR lease_until <= $1) ORDER BY id LIMIT 1) \
         FROM waiting WHERE waiting.tenant_id IS NOT NULL) \
         SELECT id FROM heads WHERE id IS NOT NULL ORDER BY id LIMIT {limit}"
    );
    let found = sql_query(text).bind::<SqlTimestamp, _>(now);
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
    limit: usize,
    now: Timestamp,
) -> QueryResult<Vec<MailJobId>> {
    let mut next = heads(conn, true, limit / 2, now)?;
    for id in heads(conn, false, limit / 4, now)?.into_iter().chain(oldest) {
        if next.len() < limit && !next.contains(&id) {
            next.push(id);
        }
    }
    Ok(next)
}
