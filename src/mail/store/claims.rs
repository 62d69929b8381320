//! Due mail jobs: they are read together with what their mails are made of, and claimed by a guarded UPDATE with a lease.

use diesel::dsl::{exists, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment};
use diesel::sql_types::{Array, Bool, Nullable, Text, Timestamp as SqlTimestamp};
use serde_json::{Map, Value};

use super::{Job, OPEN, known, turns};
use crate::clock::Timestamp;
use crate::db::schema::{
    consultants, magic_links as links, mail_jobs as jobs, mail_suppressions as suppressions, revocations as orders,
    signing_keys, tenants,
};
use crate::db::{Conn, fixed, prepared};
use crate::domain::DeliveryState;
use crate::id::MailJobId;
use crate::records::consultants::Consultant;
use crate::records::links::Link;
use crate::records::restores::no_restore_runs;
use crate::records::revocations::{BulkRevocation, BulkRevoked, NotBulkRevoked};
use crate::records::tenants::Tenant;

/// Jobs that are read, claimed and sent together.
const BATCH: usize = 16;

/// A due job, and what its mail is made of.
pub(in crate::mail) struct Due {
    pub job: Job,
    pub consultant: Option<Consultant>,
    /// Whether mail to the consultant's address is suppressed.
    pub is_suppressed: bool,
    pub link: Option<Link>,
    pub tenant: Option<Tenant>,
}

/// Reads jobs with what their mails are made of.
macro_rules! read {
    ($chosen:expr) => {{
        let suppressed = suppressions::table
            .filter(suppressions::address_key.nullable().eq(consultants::email_key.nullable()))
            .filter(suppressions::cleared_at.is_null());
        let chosen = jobs::table
            .left_join(consultants::table)
            .left_join(links::table.on(links::id.nullable().eq(jobs::magic_link_id)))
            .left_join(tenants::table.on(tenants::id.eq(jobs::tenant_id)))
            .left_join(orders::table.on(BulkRevoked))
            .filter($chosen)
            .filter(no_restore_runs())
            .order((jobs::id.asc(), orders::seq.asc()))
            .select((
                jobs::all_columns,
                consultants::all_columns.nullable(),
                exists(suppressed),
                links::all_columns.nullable(),
                tenants::all_columns.nullable(),
                orders::all_columns.nullable(),
            ));
        prepared(chosen)
    }};
}

/// Jobs that are due and not leased: the oldest, or of many each tenant's in turn. Whether they may be mailed is decided by
/// their claim.
pub(in crate::mail) fn due(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<Due>> {
    // Chosen first: of a long queue nothing else is read. The limit is a number in the text, as in `turns`.
    let oldest = sql::<Bool>(
        "mail_jobs.id IN (SELECT waiting.id FROM mail_jobs waiting WHERE waiting.finished_at IS NULL \
         AND waiting.next_attempt_at <= ",
    )
    .bind::<SqlTimestamp, _>(now)
    .sql(" AND (waiting.lease_until IS NULL OR waiting.lease_until <= ")
    .bind::<SqlTimestamp, _>(now)
    .sql(&format!(") AND {} ORDER BY waiting.id LIMIT {BATCH})", known("waiting")));
    let mut due = fixed!(read!(oldest)).load(conn).map(whole)?;
    if due.len() < BATCH {
        return Ok(due);
    }
    let mut next = turns::next(conn, due.iter().map(|due| due.job.id.clone()), BATCH, now)?;
    due.retain(|due| next.contains(&due.job.id));
    next.retain(|id| due.iter().all(|due| due.job.id != *id));
    if !next.is_empty() {
        due.extend(read!(jobs::id.eq_any(padded(&next))).load(conn).map(whole)?);
    }
    Ok(due)
}

/// What is read of a job.
type Row = (Job, Option<Consultant>, bool, Option<Link>, Option<Tenant>, Option<BulkRevocation>);

/// The jobs of the rows, of which there is one for each bulk revocation that matches.
fn whole(rows: Vec<Row>) -> Vec<Due> {
    let mut due: Vec<Due> = Vec::with_capacity(rows.len());
    for (job, consultant, is_suppressed, link, tenant, order) in rows {
        // The oldest bulk revocation that matches the link counts.
        if due.last().is_none_or(|last| last.job.id != job.id) {
            let link = link.map(|link| link.under(order));
            due.push(Due { job, consultant, is_suppressed, link, tenant });
        }
    }
    due
}

/// Leases due jobs; leaves out those that are leased already, or whose link may no longer be mailed. Each is claimed with the
/// address that it goes to, if it has none of its own. Jobs that mail a link name the key that signs their tokens, which is
/// noted with the link, and are left out where it is revoked.
pub(in crate::mail) fn claim(
    conn: &mut Conn,
    going: &[(MailJobId, Option<String>)],
    provider: &str,
    kid: Option<&str>,
    lease_until: Timestamp,
    now: Timestamp,
) -> QueryResult<Vec<Job>> {
    let ids: Vec<MailJobId> = going.iter().map(|(id, _)| id.clone()).collect();
    // One bound value, however many there are: the text stays the same.
    let addresses: Map<String, Value> =
        going.iter().filter_map(|(id, to)| Some((id.to_string(), Value::from(to.clone()?)))).collect();
    let addresses = Value::Object(addresses).to_string();
    macro_rules! claim {
        ($free:expr, $open:expr, $usable:expr, $begin:literal, $end:literal) => {
            diesel::update(jobs::table)
                .filter($free)
                .filter($open)
                .filter(jobs::next_attempt_at.le(now))
                .filter(jobs::lease_until.is_null().or(jobs::lease_until.le(now).assume_not_null()))
                .filter(jobs::generation.is_null().or(exists(mailable_link!(now))))
                .filter(no_restore_runs())
                .filter($usable)
                .set((
                    jobs::state.eq(DeliveryState::Sending),
                    jobs::provider.eq(Some(provider)),
                    jobs::lease_until.eq(Some(lease_until)),
                    jobs::attempts.eq(jobs::attempts + 1),
                    jobs::kid.eq(kid),
                    jobs::sent_to.eq(sql::<Nullable<Text>>(concat!("coalesce(", $begin))
                        .bind::<Text, _>(addresses)
                        .sql(concat!($end, " ->> mail_jobs.id, mail_jobs.sent_to)"))),
                ))
                .returning(jobs::all_columns)
        };
    }
    match conn {
        Conn::Postgres(conn) => {
            let usable = sql::<Bool>("(SELECT usable FROM key)");
            let free = sql::<Bool>("mail_jobs.id = ANY(ARRAY(SELECT id FROM free))");
            let claim = claim!(free, sql::<Bool>(OPEN), usable, "CAST(", " AS jsonb)");
            let ids = ids.iter().map(MailJobId::as_str).collect();
            fixed!(prepared(Claiming { ids, kid, claim })).get_results(conn)
        }
        Conn::Sqlite(conn) => {
            let key = signing_keys::table.filter(signing_keys::revoked_at.is_null());
            let key = key.filter(signing_keys::kid.nullable().eq(kid));
            let usable = exists(key).or(kid.is_none().into_sql::<Bool>());
            prepared(claim!(jobs::id.eq_any(padded(&ids)), jobs::finished_at.is_null(), usable, "", ""))
                .get_results(conn)
        }
    }
}

/// The ids, filled up to one of a few lengths: each is a statement of its own.
fn padded(ids: &[MailJobId]) -> Vec<&MailJobId> {
    let length = [1, 4, 16].into_iter().find(|length| ids.len() <= *length).unwrap_or(ids.len());
    ids.iter().chain(std::iter::repeat_with(|| ids.last()).map_while(|last| last)).take(length).collect()
}

/// A claim that waits for no job which somebody else has locked, such as a revocation that cancels several: the two
/// could wait for each other. It holds the key: a revocation of the key waits for it, and so finds what was claimed.
struct Claiming<'a, Q> {
    ids: Vec<&'a str>,
    kid: Option<&'a str>,
    claim: Q,
}

impl<Q: Query> Query for Claiming<'_, Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Claiming<'_, Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH free AS MATERIALIZED (SELECT id FROM mail_jobs WHERE id = ANY(");
        out.push_bind_param::<Array<Text>, _>(&self.ids)?;
        out.push_sql(") FOR NO KEY UPDATE SKIP LOCKED), held AS MATERIALIZED (SELECT 1 FROM signing_keys WHERE kid = ");
        out.push_bind_param::<Nullable<Text>, _>(&self.kid)?;
        out.push_sql(" AND revoked_at IS NULL FOR SHARE), key AS (SELECT ");
        out.push_bind_param::<Nullable<Text>, _>(&self.kid)?;
        out.push_sql(" IS NULL OR EXISTS (SELECT 1 FROM held) AS usable) ");
        self.claim.walk_ast(out.reborrow())
    }
}
