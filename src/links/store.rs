//! Links at rest. Every race is decided by one guarded statement.

use diesel::dsl::{exists, max, not};
use diesel::prelude::*;

use super::step_up::StepUp;
use crate::domain::LinkState;
use super::{Link, LinkFilter, Revoking};
use crate::domain::ActorType;
use crate::clients::within;
use crate::domain::Reach;
use crate::clock::Timestamp;
use crate::db::schema::{
    consultants, link_expiry, magic_links as links, mail_jobs, revocations, service_state, step_ups,
};
use crate::db::{Backend, Conn};
use crate::domain::Window;
use crate::id::{ClientId, ConsultantId, LinkId, StepUpId};
use crate::revocations::Spared;

/// What a spend must match: the token's link and generation, the caller's reach.
#[derive(Debug, Clone)]
pub(crate) struct Spend {
    pub link_id: LinkId,
    pub generation: i32,
    pub reach: Reach,
}

/// What a revocation writes.
#[derive(AsChangeset)]
#[diesel(table_name = links)]
struct Revocation<'a> {
    revoked_at: Option<Timestamp>,
    revoke_reason: Option<&'a str>,
    revoked_by_type: Option<ActorType>,
    revoked_by_id: Option<&'a str>,
    revoked_by_name: Option<&'a str>,
}

impl<'a> Revocation<'a> {
    fn of(revoking: &Revoking<'a>) -> Self {
        let actor = revoking.actor;
        Self {
            revoked_at: Some(revoking.at),
            revoke_reason: Some(revoking.reason),
            revoked_by_type: Some(actor.kind),
            revoked_by_id: Some(&actor.id),
            revoked_by_name: actor.name.as_deref(),
        }
    }
}

/// Writes a link down, and which order was the newest at that moment: those before it do not concern the link.
pub(super) fn insert(conn: &mut Conn, link: &Link) -> QueryResult<usize> {
    let newest = revocations::table.select(max(revocations::seq)).single_value();
    diesel::insert_into(links::table).values((link, links::issued_after.eq(newest))).execute(conn)
}

/// The link as it is stored, whoever asks.
pub(crate) fn find(conn: &mut Conn, id: &LinkId) -> QueryResult<Option<Link>> {
    links::table.find(id).get_result(conn).optional()
}

/// The link, if the caller can see it.
pub(super) fn find_within(conn: &mut Conn, id: &LinkId, reach: &Reach) -> QueryResult<Option<Link>> {
    links::table.find(id).filter(within!(links, reach)).get_result(conn).optional()
}

/// Marks the token's generation as spent; `None` if it may not be spent (any more).
pub(crate) fn spend(conn: &mut Conn, spend: &Spend, now: Timestamp) -> QueryResult<Option<Link>> {
    diesel::update(links::table.find(&spend.link_id))
        .filter(links::generation.eq(spend.generation))
        .filter(within!(links, &spend.reach))
        .filter(links::spent_at.is_null())
        .filter(links::revoked_at.is_null())
        .filter(Spared)
        .filter(links::starts_at.le(now))
        .filter(links::expires_at.gt(now))
        .set(links::spent_at.eq(Some(now)))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Revokes; `None` if the link has ended, or does not exist for the caller.
pub(super) fn revoke(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    revoking: &Revoking<'_>,
) -> QueryResult<Option<Link>> {
    diesel::update(links::table.find(id))
        .filter(within!(links, reach))
        .filter(links::revoked_at.is_null())
        .filter(Spared)
        .filter(links::expires_at.gt(revoking.at))
        .set(Revocation::of(revoking))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Revokes every link of a consultant that has not ended.
pub(super) fn revoke_all_of(
    conn: &mut Conn,
    consultant: &ConsultantId,
    revoking: &Revoking<'_>,
) -> QueryResult<Vec<Link>> {
    diesel::update(links::table)
        .filter(links::consultant_id.eq(consultant))
        .filter(links::revoked_at.is_null())
        .filter(links::expires_at.gt(revoking.at))
        .set(Revocation::of(revoking))
        .returning(links::all_columns)
        .get_results(conn)
}

/// Revokes every link that a client issued and that has not ended.
pub(super) fn revoke_all_issued_by(
    conn: &mut Conn,
    issuer: &ClientId,
    revoking: &Revoking<'_>,
) -> QueryResult<Vec<Link>> {
    diesel::update(links::table)
        .filter(links::client_id.eq(issuer))
        .filter(links::revoked_at.is_null())
        .filter(links::expires_at.gt(revoking.at))
        .set(Revocation::of(revoking))
        .returning(links::all_columns)
        .get_results(conn)
}

/// Revokes every link whose unspent token, in its present generation, a key signed.
pub(super) fn revoke_all_signed_by(conn: &mut Conn, kid: &str, revoking: &Revoking<'_>) -> QueryResult<Vec<Link>> {
    let mailed = mail_jobs::table
        .filter(mail_jobs::kid.eq(kid))
        .filter(mail_jobs::magic_link_id.eq(links::id.nullable()))
        .filter(mail_jobs::generation.eq(links::generation.nullable()));
    diesel::update(links::table)
        .filter(exists(mailed))
        .filter(links::spent_at.is_null())
        .filter(links::revoked_at.is_null())
        .filter(links::expires_at.gt(revoking.at))
        .set(Revocation::of(revoking))
        .returning(links::all_columns)
        .get_results(conn)
}

/// Revokes those of some links that have not ended.
pub(super) fn revoke_these(conn: &mut Conn, ids: &[LinkId], revoking: &Revoking<'_>) -> QueryResult<Vec<Link>> {
    diesel::update(links::table)
        .filter(links::id.eq_any(ids))
        .filter(links::revoked_at.is_null())
        .filter(links::expires_at.gt(revoking.at))
        .set(Revocation::of(revoking))
        .returning(links::all_columns)
        .get_results(conn)
}

/// Raises the generation and makes the link spendable again; `None` while it cools down, or once it has ended.
pub(super) fn raise_generation(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    mailed_before: Timestamp,
    now: Timestamp,
) -> QueryResult<Option<Link>> {
    let never_resent = links::resent_at.is_null().and(links::created_at.le(mailed_before));
    diesel::update(links::table.find(id))
        .filter(within!(links, reach))
        .filter(links::revoked_at.is_null())
        .filter(Spared)
        .filter(links::expires_at.gt(now))
        .filter(links::resent_at.le(mailed_before).assume_not_null().or(never_resent))
        .set((
            links::generation.eq(links::generation + 1),
            links::spent_at.eq(None::<Timestamp>),
            links::resent_at.eq(Some(now)),
        ))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// When codes were asked for since a moment, newest first.
pub(super) fn step_ups_since(conn: &mut Conn, link: &LinkId, since: Timestamp) -> QueryResult<Vec<Timestamp>> {
    step_ups::table
        .filter(step_ups::magic_link_id.eq(link))
        .filter(step_ups::created_at.gt(since))
        .order(step_ups::id.desc())
        .select(step_ups::created_at)
        .load(conn)
}

pub(super) fn insert_step_up(conn: &mut Conn, asking: &StepUp) -> QueryResult<usize> {
    diesel::insert_into(step_ups::table).values(asking).execute(conn)
}

/// Takes one of the tries; `None` if there is none left, or the code is not for this page, link and moment.
pub(super) fn try_code(
    conn: &mut Conn,
    id: &StepUpId,
    link: &Link,
    page_sha256: &str,
    tries: i32,
    now: Timestamp,
) -> QueryResult<Option<StepUp>> {
    diesel::update(step_ups::table.find(id))
        .filter(step_ups::magic_link_id.eq(&link.id))
        .filter(step_ups::generation.eq(link.generation))
        .filter(step_ups::page_sha256.eq(page_sha256))
        .filter(step_ups::tries.lt(tries))
        .filter(step_ups::passed_at.is_null())
        .filter(step_ups::expires_at.gt(now))
        .set(step_ups::tries.eq(step_ups::tries + 1))
        .returning(step_ups::all_columns)
        .get_result(conn)
        .optional()
}

/// The right code was given: it counts once.
pub(super) fn pass_code(conn: &mut Conn, id: &StepUpId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(step_ups::table.find(id)).set(step_ups::passed_at.eq(Some(now))).execute(conn)
}

/// Links that match the filter within the reach, newest first.
pub(super) fn list(
    conn: &mut Conn,
    filter: &LinkFilter,
    reach: &Reach,
    window: &Window,
    now: Timestamp,
) -> QueryResult<Vec<Link>> {
    let mut query = links::table.into_boxed::<Backend>().filter(within!(links, reach));
    if let Some(tenant_id) = &filter.tenant_id {
        query = query.filter(links::tenant_id.eq(tenant_id));
    }
    if let Some(portal) = &filter.portal {
        query = query.filter(links::portal.eq(portal));
    }
    if let Some(id) = &filter.consultant_id {
        query = query.filter(links::consultant_id.eq(id));
    }
    if let Some(id) = &filter.profile_id {
        query = query.filter(links::profile_id.eq(id));
    }
    if let Some(from) = filter.created_from {
        query = query.filter(links::created_at.ge(from));
    }
    if let Some(to) = filter.created_to {
        query = query.filter(links::created_at.lt(to));
    }
    match filter.state {
        Some(LinkState::Revoked) => query = query.filter(links::revoked_at.is_not_null().or(not(Spared))),
        Some(state) => {
            query = query.filter(links::revoked_at.is_null()).filter(Spared);
            query = match state {
                LinkState::Scheduled => query.filter(links::starts_at.gt(now)),
                LinkState::Active => query.filter(links::starts_at.le(now)).filter(links::expires_at.gt(now)),
                LinkState::Expired | LinkState::Revoked => query.filter(links::expires_at.le(now)),
            };
        }
        None => {}
    }
    if let Some(after) = &window.after {
        query = query.filter(links::id.lt(after));
    }
    query.order(links::id.desc()).limit(window.limit).load(conn)
}

/// Freezes issuing; `false` if it was frozen before.
pub(super) fn freeze(conn: &mut Conn, reason: &str, now: Timestamp) -> QueryResult<bool> {
    diesel::update(service_state::table)
        .filter(service_state::frozen_at.is_null())
        .set((service_state::frozen_at.eq(Some(now)), service_state::freeze_reason.eq(Some(reason))))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Lets issuing go on; `false` if it was not frozen.
pub(super) fn unfreeze(conn: &mut Conn) -> QueryResult<bool> {
    diesel::update(service_state::table)
        .filter(service_state::frozen_at.is_not_null())
        .set((service_state::frozen_at.eq(None::<Timestamp>), service_state::freeze_reason.eq(None::<String>)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Since when issuing is frozen, if it is, and why.
pub(super) fn freeze_state(conn: &mut Conn) -> QueryResult<(Option<Timestamp>, Option<String>)> {
    service_state::table.select((service_state::frozen_at, service_state::freeze_reason)).first(conn)
}

/// Name and address of the consultants of some links.
pub(super) fn consultants(conn: &mut Conn, ids: &[ConsultantId]) -> QueryResult<Vec<(ConsultantId, String, String)>> {
    consultants::table
        .filter(consultants::id.eq_any(ids))
        .select((consultants::id, consultants::name, consultants::email))
        .load(conn)
}

/// Up to which link it is on record that windows have ended.
pub(super) fn expiry_mark(conn: &mut Conn) -> QueryResult<(Timestamp, String)> {
    link_expiry::table.find(1).select((link_expiry::expires_at, link_expiry::link_id)).get_result(conn)
}

/// Links behind the mark whose windows have ended, in order of their ends.
pub(super) fn expired_after(
    conn: &mut Conn,
    (expires_at, id): &(Timestamp, String),
    limit: i64,
    now: Timestamp,
) -> QueryResult<Vec<Link>> {
    links::table
        .filter(links::expires_at.ge(expires_at))
        .filter(links::expires_at.le(now))
        .filter(links::expires_at.gt(expires_at).or(links::id.gt(id)))
        .order((links::expires_at.asc(), links::id.asc()))
        .limit(limit)
        .load(conn)
}

/// Moves the mark on; `false` if somebody else has.
pub(super) fn move_expiry_mark(
    conn: &mut Conn,
    from: &(Timestamp, String),
    to: (Timestamp, &LinkId),
) -> QueryResult<bool> {
    diesel::update(link_expiry::table.find(1))
        .filter(link_expiry::expires_at.eq(from.0))
        .filter(link_expiry::link_id.eq(&from.1))
        .set((link_expiry::expires_at.eq(to.0), link_expiry::link_id.eq(to.1.as_str())))
        .execute(conn)
        .map(|rows| rows > 0)
}
