//! How links end before their time: statements that revoke and replace them.

use diesel::dsl::{exists, not};
use diesel::prelude::*;

use super::links::{Link, opens, token_of};
use super::revocations::{BulkRevoked, NotBulkRevoked};
use super::within;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{magic_links as links, revocations as orders};
use crate::domain::{Actor, ActorType, Reach};
use crate::id::{ClientId, LinkId, RevocationId};

/// Reason, actor and time of a revocation of links.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revoking<'a> {
    pub reason: &'a str,
    pub actor: &'a Actor,
    pub client_id: Option<&'a ClientId>,
    /// The support session that the caller acted in.
    pub acting_session_id: Option<&'a str>,
    /// The bulk revocation that is carried out.
    pub revocation_id: Option<&'a RevocationId>,
    /// Time of the revocation: earlier than `now` where a bulk revocation is carried out.
    pub at: Timestamp,
    pub now: Timestamp,
}

impl<'a> Revoking<'a> {
    /// A revocation that applies from `now` on.
    pub(crate) const fn new(
        reason: &'a str,
        actor: &'a Actor,
        client_id: Option<&'a ClientId>,
        now: Timestamp,
    ) -> Self {
        Self { reason, actor, client_id, acting_session_id: None, revocation_id: None, at: now, now }
    }
}

/// Columns that a revocation sets.
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

/// Revokes a link; `None` if it has ended, or is not within the caller's reach.
pub(crate) fn revoke(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    revoking: &Revoking<'_>,
) -> QueryResult<Option<Link>> {
    diesel::update(links::table.find(id))
        .filter(within!(links, reach))
        .filter(links::revoked_at.is_null())
        .filter(NotBulkRevoked)
        .filter(links::expires_at.gt(revoking.at))
        .set(Revocation::of(revoking))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Ends a link because another one for the same access takes its place; `None` if it has ended already.
pub(crate) fn replace(conn: &mut Conn, id: &LinkId, by: &LinkId, revoking: &Revoking<'_>) -> QueryResult<Option<Link>> {
    diesel::update(links::table.find(id))
        .filter(links::revoked_at.is_null())
        .filter(NotBulkRevoked)
        .filter(links::expires_at.gt(revoking.at))
        .set((Revocation::of(revoking), links::replaced_by.eq(Some(by))))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Selects links to revoke, among those that have not ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selector<'a> {
    /// Those of these links that a token of the current generation opens which a key has signed.
    SignedBy(&'a str, &'a [LinkId]),
    /// These links, which a bulk revocation matches.
    BulkRevoked(&'a [LinkId], i64),
}

/// Revokes links, except those that a pending bulk revocation matches: it already set their time and reason.
pub(crate) fn revoke_where(conn: &mut Conn, selector: Selector<'_>, revoking: &Revoking<'_>) -> QueryResult<Vec<Link>> {
    macro_rules! revoke {
        ($condition:expr) => {
            diesel::update(links::table)
                .filter($condition)
                .filter(links::revoked_at.is_null())
                .filter(links::expires_at.gt(revoking.at))
                .set(Revocation::of(revoking))
                .returning(links::all_columns)
                .get_results(conn)
        };
    }
    match selector {
        Selector::SignedBy(kid, ids) => {
            revoke!(links::id.eq_any(ids).and(exists(token_of(kid))).and(opens()).and(NotBulkRevoked))
        }
        Selector::BulkRevoked(ids, seq) => {
            // An older one that is pending has said when and why they ended.
            let older = orders::table.filter(BulkRevoked).filter(orders::seq.lt(seq));
            revoke!(links::id.eq_any(ids).and(not(exists(older))))
        }
    }
}
