//! What a tenant's retention erases and removes beside the audit log, in ranges. Ids, times and states stay.
//!
//! Nothing that is erased here can be live: each statement says so by itself. A row that somebody has locked is left for
//! the next run, so that an erasure waits for nobody.

mod beside_links;

use std::ops::AddAssign;

use diesel::dsl::{exists, not, sql};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Timestamp as SqlTimestamp;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{
    legal_holds as holds, link_requests as requests, link_reviews as reviews, magic_links as links, mail_jobs as jobs,
    sessions, tenant_approval_keys as keys, tenant_policies as policies,
};
use crate::domain::DeliveryState;
use crate::id::{HoldId, LinkId, MailJobId, SessionId};
use crate::records::link_requests::RequestState;

/// How many rows were erased, and of mails, keys and suppressed addresses removed: whatever a run touches is counted, or it
/// would seem to have nothing left to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Erased {
    pub links: usize,
    pub requests: usize,
    pub sessions: usize,
    pub mails: usize,
    /// Devices, keys and one-time codes of links.
    pub keys: usize,
    /// Changes of policies and approval keys, of links' ends, reasons and tickets, legal holds that are over, bulk
    /// revocations, revoked keys, and from where clients called.
    pub decisions: usize,
    pub suppressions: usize,
    pub consultants: usize,
}

impl Erased {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Erased {
    fn add_assign(&mut self, other: Self) {
        self.links += other.links;
        self.requests += other.requests;
        self.sessions += other.sessions;
        self.mails += other.mails;
        self.keys += other.keys;
        self.decisions += other.decisions;
        self.suppressions += other.suppressions;
        self.consultants += other.consultants;
    }
}

/// Links, and requests, that one transaction erases.
const LINKS: i64 = 100;

/// Mails that one transaction removes, of those links and besides.
const MAILS: i64 = 2_000;

/// Sessions that one transaction erases.
const SESSIONS: i64 = 2_000;

/// Rows of each kind beside links, and decisions of each kind, that one transaction erases.
const ROWS: i64 = 500;

/// The end of a link's window, in the words of the index of what is kept.
fn end_of_link() -> SqlLiteral<SqlTimestamp> {
    sql("coalesce(magic_links.erased_at, magic_links.expires_at)")
}

/// When a request lapses, in the words of the index of what is kept.
fn end_of_request() -> SqlLiteral<SqlTimestamp> {
    sql("coalesce(link_requests.erased_at, link_requests.lapses_at)")
}

/// Links whose window ended before a time, whose sessions are over, and for which no mail waits: one that nobody has tried to
/// send since that time, nobody will, though a newer version once wrote it. An emergency that nobody
/// has reviewed by then is no reason to keep names for ever: a later review adds none (`links/review.rs`).
macro_rules! ended_links {
    ($tenant_id:expr, $before:expr) => {
        links::table
            .filter(links::tenant_id.eq($tenant_id))
            .filter(links::erased_at.is_null())
            .filter(end_of_link().lt($before))
            .filter(not(exists(
                sessions::table.filter(sessions::magic_link_id.eq(links::id)).filter(sessions::ended_at.is_null()),
            )))
            .filter(not(exists(
                jobs::table
                    .filter(jobs::magic_link_id.eq(links::id.nullable()))
                    .filter(jobs::finished_at.is_null())
                    .filter(jobs::next_attempt_at.ge($before)),
            )))
            .order((end_of_link(), links::id))
            .select(links::id)
    };
}

/// Requests that were decided on, or have lapsed, and that are not those of links which are kept.
macro_rules! ended_requests {
    ($tenant_id:expr, $before:expr) => {
        requests::table
            .filter(requests::tenant_id.eq($tenant_id))
            .filter(requests::erased_at.is_null())
            .filter(end_of_request().lt($before))
            .filter(requests::state.ne(RequestState::Pending))
            .filter(not(exists(links::table.filter(links::id.eq(requests::id)).filter(links::erased_at.is_null()))))
            .order((end_of_request(), requests::id))
            .select(requests::id)
    };
}

/// Mails about no link that are over, or that nobody has tried to send since: those about links go with them. A restore
/// that cancels one is no reason to keep it longer. A range of ids, which begin with the time.
macro_rules! ended_mails {
    ($tenant_id:expr, $before:expr) => {
        jobs::table
            .filter(jobs::tenant_id.eq($tenant_id))
            .filter(jobs::id.lt(MailJobId::first_at($before)))
            .filter(jobs::magic_link_id.is_null())
            .filter(
                jobs::finished_at.lt($before).assume_not_null().or(jobs::finished_at
                    .is_null()
                    .or(jobs::state.eq(DeliveryState::Cancelled))
                    .and(jobs::next_attempt_at.lt($before))),
            )
            .order(jobs::id)
            .select(jobs::id)
    };
}

/// Changes of a tenant's policy of before a time that name somebody.
macro_rules! named_policies {
    ($tenant_id:expr, $before:expr) => {
        policies::table
            .filter(policies::tenant_id.eq($tenant_id))
            .filter(policies::created_at.lt($before))
            .filter(policies::actor_name.is_not_null())
    };
}

/// Changes of a tenant's approval key of before a time that name somebody. Who was told of the newest one is told of the
/// next one, too.
macro_rules! named_keys {
    ($tenant_id:expr, $before:expr) => {{
        let newer = newer_keys
            .filter(newer_keys.field(keys::tenant_id).eq(keys::tenant_id))
            .filter(newer_keys.field(keys::seq).gt(keys::seq));
        keys::table
            .filter(keys::tenant_id.eq($tenant_id))
            .filter(keys::created_at.lt($before))
            .filter(keys::actor_name.is_not_null().or(keys::cancelled_by.is_not_null()).or(keys::told.ne("[]")))
            .filter(exists(newer))
    }};
}

/// Legal holds that were over before a time, and say why.
macro_rules! ended_holds {
    ($tenant_id:expr, $before:expr) => {
        holds::table
            .filter(holds::tenant_id.eq($tenant_id))
            .filter(holds::reason.ne(""))
            .filter(holds::released_at.lt($before).assume_not_null().or(holds::until.lt($before).assume_not_null()))
    };
}

diesel::alias!(keys as newer_keys: NewerKeys);

/// Whether a tenant has anything that ended before a time.
///
/// The first of each in order: where only `EXISTS` is asked, PostgreSQL reads the whole table.
pub(crate) fn is_due(conn: &mut Conn, tenant_id: &str, before: Timestamp) -> QueryResult<bool> {
    Ok(ended_links!(tenant_id, before).first::<LinkId>(conn).optional()?.is_some()
        || ended_requests!(tenant_id, before).first::<LinkId>(conn).optional()?.is_some()
        || ended_mails!(tenant_id, before).first::<MailJobId>(conn).optional()?.is_some()
        || diesel::select(exists(named_policies!(tenant_id, before))).get_result(conn)?
        || diesel::select(exists(named_keys!(tenant_id, before))).get_result(conn)?
        || diesel::select(exists(ended_holds!(tenant_id, before))).get_result(conn)?)
}

/// Erases who took decisions about a tenant, and why.
fn erase_decisions(conn: &mut Conn, tenant_id: &str, before: Timestamp) -> QueryResult<usize> {
    let nobody = None::<String>;
    let named: Vec<i64> = named_policies!(tenant_id, before).select(policies::seq).limit(ROWS).load(conn)?;
    let policies = diesel::update(policies::table)
        .filter(policies::tenant_id.eq(tenant_id))
        .filter(policies::seq.eq_any(named))
        .set(policies::actor_name.eq(&nobody))
        .execute(conn)?;
    let named: Vec<i64> = named_keys!(tenant_id, before).select(keys::seq).limit(ROWS).load(conn)?;
    let keys = diesel::update(keys::table.filter(keys::tenant_id.eq(tenant_id)).filter(keys::seq.eq_any(named)))
        .set((keys::actor_name.eq(&nobody), keys::cancelled_by.eq(&nobody), keys::told.eq("[]")))
        .execute(conn)?;
    let over: Vec<HoldId> = ended_holds!(tenant_id, before).select(holds::id).limit(ROWS).load(conn)?;
    let holds = diesel::update(holds::table.filter(holds::id.eq_any(over)))
        .set((
            holds::reason.eq(""),
            holds::placed_by_name.eq(&nobody),
            holds::release_reason.eq(&nobody),
            holds::released_by_name.eq(&nobody),
        ))
        .execute(conn)?;
    Ok(policies + keys + holds)
}

/// Erases what a tenant's links and requests of before a time say of people, and removes mails, as much as one
/// transaction may.
pub(crate) fn erase(conn: &mut Conn, tenant_id: &str, before: Timestamp, now: Timestamp) -> QueryResult<Erased> {
    let ended = ended_links!(tenant_id, before).limit(LINKS);
    let ended: Vec<LinkId> = match conn {
        Conn::Postgres(conn) => ended.for_no_key_update().skip_locked().load(conn)?,
        Conn::Sqlite(conn) => ended.load(conn)?,
    };
    if !ended.is_empty() {
        // What else there is comes after the last link: until then it would be looked for among all mails of the others.
        return erase_links(conn, &ended, now);
    }
    let mut erased = Erased::default();
    let alone = ended_requests!(tenant_id, before).limit(LINKS);
    let alone: Vec<LinkId> = match conn {
        Conn::Postgres(conn) => alone.for_no_key_update().skip_locked().load(conn)?,
        Conn::Sqlite(conn) => alone.load(conn)?,
    };
    erased.requests = erase_requests(conn, &alone, now)?;
    let mails = ended_mails!(tenant_id, before).limit(MAILS);
    let mails: Vec<MailJobId> = match conn {
        Conn::Postgres(conn) => mails.for_update().skip_locked().load(conn)?,
        Conn::Sqlite(conn) => mails.load(conn)?,
    };
    erased.mails = diesel::delete(jobs::table.filter(jobs::id.eq_any(mails))).execute(conn)?;
    erased.decisions = erase_decisions(conn, tenant_id, before)?;
    Ok(erased)
}

/// Erases what links say of people, with all that belongs to them; only what belongs to them, or a part of it, where that is
/// much.
fn erase_links(conn: &mut Conn, ids: &[LinkId], now: Timestamp) -> QueryResult<Erased> {
    let mails = jobs::table.filter(jobs::magic_link_id.eq_any(ids.iter().map(Some))).limit(MAILS).select(jobs::id);
    let mails: Vec<MailJobId> = mails.load(conn)?;
    let mails = diesel::delete(jobs::table.filter(jobs::id.eq_any(mails))).execute(conn)?;
    if i64::try_from(mails).is_ok_and(|mails| mails >= MAILS) {
        return Ok(Erased { mails, ..Erased::default() });
    }
    let sessions = erase_sessions(conn, ids, now)?;
    if i64::try_from(sessions).is_ok_and(|sessions| sessions >= SESSIONS) {
        return Ok(Erased { sessions, mails, ..Erased::default() });
    }
    let changes = beside_links::erase(conn, ids)?;
    if changes.are_many {
        let (keys, decisions) = (changes.removed, changes.erased);
        return Ok(Erased { sessions, mails, keys, decisions, ..Erased::default() });
    }
    diesel::update(reviews::table.filter(reviews::magic_link_id.eq_any(ids)))
        .set((
            reviews::justification.eq(""),
            reviews::reviewer_name.eq(None::<String>),
            reviews::comment.eq(None::<String>),
        ))
        .execute(conn)?;
    let links = diesel::update(links::table.filter(links::id.eq_any(ids)))
        .set((
            links::profile_name.eq(""),
            links::profile_email.eq(None::<String>),
            links::reason.eq(""),
            links::ticket.eq(None::<String>),
            links::issued_by_name.eq(""),
            links::issued_by_email.eq(None::<String>),
            links::revoke_reason.eq(None::<String>),
            links::revoked_by_name.eq(None::<String>),
            links::erased_at.eq(Some(now)),
        ))
        .execute(conn)?;
    let (requests, keys, decisions) = (erase_requests(conn, ids, now)?, changes.removed, changes.erased);
    Ok(Erased { links, requests, sessions, mails, keys, decisions, ..Erased::default() })
}

/// Erases what sessions of links say of people, as many as one transaction may.
fn erase_sessions(conn: &mut Conn, ids: &[LinkId], now: Timestamp) -> QueryResult<usize> {
    let kept = sessions::table.filter(sessions::magic_link_id.eq_any(ids)).filter(sessions::erased_at.is_null());
    let kept: Vec<SessionId> = kept.limit(SESSIONS).select(sessions::id).load(conn)?;
    diesel::update(sessions::table.filter(sessions::id.eq_any(kept)))
        .set((
            sessions::profile_name.eq(""),
            sessions::reason.eq(""),
            sessions::ticket.eq(None::<String>),
            sessions::visitor_address.eq(None::<String>),
            sessions::visitor_user_agent.eq(None::<String>),
            sessions::erased_at.eq(Some(now)),
        ))
        .execute(conn)
}

/// Erases what requests for links say of people.
fn erase_requests(conn: &mut Conn, ids: &[LinkId], now: Timestamp) -> QueryResult<usize> {
    diesel::update(requests::table.filter(requests::id.eq_any(ids)))
        .set((
            requests::profile_name.eq(""),
            requests::profile_email.eq(None::<String>),
            requests::reason.eq(""),
            requests::ticket.eq(None::<String>),
            requests::issued_by_name.eq(""),
            requests::issued_by_email.eq(""),
            requests::decision.eq(None::<String>),
            requests::erased_at.eq(Some(now)),
        ))
        .execute(conn)
}
