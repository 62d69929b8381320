//! Rows of links, and their statements. Every race is decided by one guarded statement.

use std::collections::HashMap;

use diesel::dsl::{exists, max, not};
use diesel::prelude::*;
use diesel::sql_types::Bool;
use time::Duration;

use super::revocations::{self, BulkRevocation, BulkRevoked, NotBulkRevoked};
use super::{reached, within};
use crate::clock::{Stretch, Timestamp, lies_in};
use crate::db::schema::{
    consultants, link_devices as devices, link_keys, magic_links as links, mail_jobs as jobs, revocations as orders,
    sessions, status_lists,
};
use crate::db::{Conn, fixed, prepared};
use crate::domain::{
    Access, Actor, ActorType, ConsultantRef, LinkState, NamedConsultant, Reach, Reentry, Restrictions, Template,
};
use crate::error::Code;
use crate::id::{ClientId, ConsultantId, LinkId};

/// What spending a token must match: its link, generation and visit, and the caller's reach.
#[derive(Debug, Clone)]
pub(crate) struct Spend {
    pub link_id: LinkId,
    pub generation: i32,
    /// Number of visits before this one with the same generation.
    pub visit: i32,
    /// Thumbprint of the device that is remembered, or is to be.
    pub device: Option<String>,
    pub reach: Reach,
}

/// The statement that inserts a link with the number of the newest bulk revocation: that one and earlier ones do not
/// apply to the link. A macro, because its type has no name.
macro_rules! insertion {
    ($link:expr) => {{
        use $crate::db::schema::{magic_links, revocations};
        let newest = revocations::table.select(diesel::dsl::max(revocations::seq)).single_value();
        diesel::insert_into(magic_links::table).values(($link, magic_links::issued_after.eq(newest)))
    }};
}

pub(crate) use insertion;

/// The link, whatever the caller's reach.
pub(crate) fn find(conn: &mut Conn, id: &LinkId) -> QueryResult<Option<Link>> {
    let found: Option<(Link, Option<BulkRevocation>)> = links::table
        .left_join(orders::table.on(BulkRevoked))
        .filter(links::id.eq(id))
        .order(orders::seq.asc())
        .select((links::all_columns, orders::all_columns.nullable()))
        // Not `first`: SQLite prepares a statement with a bound LIMIT anew at every run.
        .get_result(conn)
        .optional()?;
    Ok(found.map(|(link, order)| link.under(order)))
}

/// A link, and what else opening a session asks.
pub(crate) struct Openable {
    pub link: Link,
    pub consultant: NamedConsultant,
    /// Whether a session was ever opened with the link.
    pub has_session: bool,
    /// The newest status list; `None` where there is none yet.
    pub status_list: Option<i64>,
    /// Which of the drawn indexes are taken in it, with blanks between them.
    pub taken: Option<String>,
}

/// What opening a session asks of a link, whatever the caller's reach, and of the indexes that were drawn.
pub(crate) fn find_to_open(conn: &mut Conn, id: &LinkId, drawn: &[i32]) -> QueryResult<Option<Openable>> {
    type Row = (Link, Option<BulkRevocation>, String, String, bool, Option<i64>, Option<String>);
    let asked = links::table
        .inner_join(consultants::table)
        .left_join(orders::table.on(BulkRevoked))
        .filter(links::id.eq(id))
        .order(orders::seq.asc())
        .select((
            links::all_columns,
            orders::all_columns.nullable(),
            consultants::name,
            consultants::email,
            exists(sessions::table.filter(sessions::magic_link_id.eq(links::id))),
            status_lists::table.select(max(status_lists::id)).single_value(),
            super::status_lists::taken(conn, drawn),
        ));
    let found: Option<Row> = fixed!(prepared(asked)).get_result(conn).optional()?;
    Ok(found.map(|(link, order, name, email, has_session, status_list, taken)| Openable {
        consultant: NamedConsultant { id: link.consultant_id.clone(), name, email },
        link: link.under(order),
        has_session,
        status_list,
        taken,
    }))
}

/// The link, if it is within the caller's reach.
pub(crate) fn find_within(conn: &mut Conn, id: &LinkId, reach: &Reach) -> QueryResult<Option<Link>> {
    Ok(find(conn, id)?.filter(|link| reach.covers(&link.tenant_id, &link.portal)))
}

/// Reads and locks a link, so that one transaction at a time decides what is mailed about it.
pub(crate) fn lock(conn: &mut Conn, id: &LinkId) -> QueryResult<Option<Link>> {
    if let Conn::Postgres(conn) = conn {
        let row = links::table.find(id).select(links::id).for_no_key_update();
        row.get_result::<LinkId>(conn).optional()?;
    }
    find(conn, id)
}

/// Reads links, and applies the bulk revocations that were pending before: every read of this module does so, here or
/// by a join.
pub(super) fn under_pending_revocations(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> QueryResult<Vec<Link>>,
) -> QueryResult<Vec<Link>> {
    if !revocations::any_pending(conn)? {
        return read(conn);
    }
    let found = read(conn)?;
    let open = found.iter().filter(|link| link.revoked_at.is_none());
    let open: Vec<LinkId> = open.map(|link| link.id.clone()).collect();
    let mut orders = revocations::in_force(conn, &open)?;
    // One that was pending may have been finished since the links were read.
    let again: Vec<&LinkId> = open.iter().filter(|id| !orders.contains_key(*id)).collect();
    let again: Vec<Link> = links::table.filter(links::id.eq_any(again)).load(conn)?;
    let mut again: HashMap<LinkId, Link> = again.into_iter().map(|link| (link.id.clone(), link)).collect();
    let current = |link: Link| {
        let order = orders.remove(&link.id);
        again.remove(&link.id).unwrap_or(link).under(order)
    };
    Ok(found.into_iter().map(current).collect())
}

/// `Link::has_begun` as a condition.
#[diesel::dsl::auto_type]
pub(super) fn has_begun(now: Timestamp) -> _ {
    links::starts_at.le(now).or(links::starts_at.le(links::created_at))
}

/// Marks the token's generation as spent, or begins another visit on the device that is remembered; `None` if neither can
/// be.
///
/// A code of a visit is made after the one before was committed, so the number alone decides between two devices.
pub(crate) fn spend(conn: &mut Conn, spend: &Spend, now: Timestamp) -> QueryResult<Option<Link>> {
    let remembered = remembered().filter(devices::thumbprint.eq(spend.device.as_deref().unwrap_or_default()));
    let spending = diesel::update(links::table.find(&spend.link_id))
        .filter(links::generation.eq(spend.generation))
        .filter(links::visit.eq(spend.visit))
        .filter(reached!(links, &spend.reach))
        .filter(links::spent_at.is_null().or(exists(remembered)))
        .filter(links::revoked_at.is_null())
        .filter(NotBulkRevoked)
        .filter(has_begun(now))
        .filter(links::expires_at.gt(now))
        .set((links::spent_at.eq(Some(now)), links::visit.eq(links::visit + 1)))
        .returning(links::all_columns);
    fixed!(prepared(spending)).get_result(conn).optional()
}

/// Condition that a token of the link's current generation was signed by a key.
#[expect(clippy::elidable_lifetime_names, reason = "`auto_type` demands a name")]
#[diesel::dsl::auto_type]
pub(super) fn token_of<'a>(kid: &'a str) -> _ {
    link_keys::table
        .filter(link_keys::kid.eq(kid))
        .filter(link_keys::magic_link_id.eq(links::id))
        .filter(link_keys::generation.eq(links::generation))
}

/// The device that is remembered for the link's current generation.
#[diesel::dsl::auto_type]
fn remembered() -> _ {
    devices::table
        .filter(devices::magic_link_id.eq(links::id))
        .filter(devices::generation.eq(links::generation))
        .filter(devices::forgotten_at.is_null())
}

/// Condition that the token of the link's current generation opens something: it is unspent, or a device is remembered.
#[diesel::dsl::auto_type]
pub(super) fn opens() -> _ {
    links::spent_at.is_null().or(exists(remembered()))
}

/// Open links that a token of the current generation opens which a key has signed.
pub(crate) fn signed_by(conn: &mut Conn, kid: &str, limit: i64, now: Timestamp) -> QueryResult<Vec<LinkId>> {
    links::table
        .filter(exists(token_of(kid)))
        .filter(opens())
        .filter(links::revoked_at.is_null())
        .filter(NotBulkRevoked)
        .filter(links::expires_at.gt(now))
        .limit(limit)
        .select(links::id)
        .load(conn)
}

diesel::alias!(link_keys as later_keys: LaterKeys);

/// Condition that the link's newest token was signed by a key, whether or not it opens anything, and no newer mail is under
/// way: whoever has it can only ask for another one. A macro, because its type has no name.
macro_rules! newest_token_of {
    ($kid:expr) => {
        link_keys::table
            .filter(link_keys::kid.eq($kid))
            .filter(link_keys::magic_link_id.eq(links::id))
            .filter(not(exists(
                later_keys
                    .filter(later_keys.field(link_keys::magic_link_id).eq(links::id))
                    .filter(later_keys.field(link_keys::generation).gt(link_keys::generation)),
            )))
            .filter(not(exists(
                jobs::table
                    .filter(jobs::magic_link_id.eq(links::id.nullable()))
                    .filter(jobs::template.eq(Template::MagicLink))
                    .filter(jobs::generation.gt(link_keys::generation.nullable())),
            )))
    };
}

/// Open links whose newest token a key has signed: without it nobody gets to them, nor to a fresh one.
pub(crate) fn reached_by(conn: &mut Conn, kid: &str, limit: i64, now: Timestamp) -> QueryResult<Vec<LinkId>> {
    links::table
        .filter(exists(newest_token_of!(kid)))
        .filter(links::revoked_at.is_null())
        .filter(NotBulkRevoked)
        .filter(links::expires_at.gt(now))
        .limit(limit)
        .select(links::id)
        .load(conn)
}

/// Begins the next generation of a link, which can be spent again. A macro, because its type has no name.
macro_rules! next_generation {
    ($now:expr) => {
        (
            links::generation.eq(links::generation + 1),
            links::spent_at.eq(None::<Timestamp>),
            links::visit.eq(0),
            links::resent_at.eq(Some($now)),
        )
    };
}

/// Raises the generation and makes the link spendable again; `None` during the cool-down, or if the link has ended.
pub(crate) fn raise_generation(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    cooling: Stretch,
    now: Timestamp,
) -> QueryResult<Option<Link>> {
    let never_resent = links::resent_at.is_null();
    let is_issued_before = not(lies_in!(links::created_at, cooling));
    let is_resent_before = not(lies_in!(links::resent_at, cooling));
    diesel::update(links::table.find(id))
        .filter(within!(links, reach))
        .filter(links::revoked_at.is_null())
        .filter(NotBulkRevoked)
        .filter(links::expires_at.gt(now))
        .filter(is_resent_before.assume_not_null().or(never_resent.and(is_issued_before)))
        .set(next_generation!(now))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Raises the generation where the newest token was signed by a key, or is spent and `had_session` that ended with the key,
/// and makes the link spendable again; `None` otherwise, or if the link has ended.
pub(crate) fn renew(
    conn: &mut Conn,
    id: &LinkId,
    (kid, had_session): (&str, bool),
    now: Timestamp,
) -> QueryResult<Option<Link>> {
    let is_over = links::spent_at.is_not_null().and(had_session.into_sql::<Bool>());
    diesel::update(links::table.find(id))
        .filter(links::revoked_at.is_null())
        .filter(NotBulkRevoked)
        .filter(links::expires_at.gt(now))
        .filter(is_over.or(exists(newest_token_of!(kid))))
        .set(next_generation!(now))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Names and e-mail addresses of consultants.
pub(crate) fn consultants(conn: &mut Conn, ids: &[ConsultantId]) -> QueryResult<HashMap<ConsultantId, ConsultantRef>> {
    let rows: Vec<(ConsultantId, String, String)> = consultants::table
        .filter(consultants::id.eq_any(ids))
        .select((consultants::id, consultants::name, consultants::email))
        .load(conn)?;
    Ok(rows.into_iter().map(|(id, name, email)| (id.clone(), ConsultantRef::of(id, name, email))).collect())
}

/// These links, in order of expiry.
pub(crate) fn find_all(conn: &mut Conn, ids: &[LinkId]) -> QueryResult<Vec<Link>> {
    under_pending_revocations(conn, |conn| {
        links::table.filter(links::id.eq_any(ids)).order((links::expires_at.asc(), links::id.asc())).load(conn)
    })
}

/// Expired links after a position, in order of expiry.
pub(crate) fn expired_after(
    conn: &mut Conn,
    (expires_at, id): &(Timestamp, String),
    limit: i64,
    now: Timestamp,
) -> QueryResult<Vec<Link>> {
    under_pending_revocations(conn, |conn| {
        links::table
            .filter(links::expires_at.ge(expires_at))
            .filter(links::expires_at.le(now))
            .filter(links::expires_at.gt(expires_at).or(links::id.gt(id)))
            .order((links::expires_at.asc(), links::id.asc()))
            .limit(limit)
            .load(conn)
    })
}

/// A link as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::magic_links, treat_none_as_default_value = false)]
pub(crate) struct Link {
    pub id: LinkId,
    pub tenant_id: String,
    pub portal: String,
    pub consultant_id: ConsultantId,
    pub profile_id: String,
    pub profile_name: String,
    pub profile_email: Option<String>,
    pub reason: String,
    pub ticket: Option<String>,
    pub access: Access,
    pub starts_at: Timestamp,
    pub expires_at: Timestamp,
    pub issued_by_id: String,
    pub issued_by_name: String,
    pub issued_by_email: Option<String>,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
    pub generation: i32,
    pub resent_at: Option<Timestamp>,
    pub spent_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoke_reason: Option<String>,
    pub revoked_by_type: Option<ActorType>,
    pub revoked_by_id: Option<String>,
    pub revoked_by_name: Option<String>,
    /// Number of the newest bulk revocation at the time of issue: that one and earlier ones do not apply to the link.
    #[diesel(skip_insertion)]
    #[expect(dead_code, reason = "only statements compare it")]
    pub issued_after: Option<i64>,
    /// Number of visits with the current generation.
    pub visit: i32,
    pub reentry: Reentry,
    /// The link for the same access that took its place.
    pub replaced_by: Option<LinkId>,
    /// How long a session lives at most, if the tenant's policy said so when the link was issued.
    pub session_hours: Option<i32>,
    /// What it does not include.
    pub restrictions: Option<Restrictions>,
    /// When names, addresses and reasons were erased; their texts are empty.
    #[diesel(skip_insertion)]
    pub erased_at: Option<Timestamp>,
}

impl Link {
    /// The state, derived from the times.
    pub(crate) fn state(&self, now: Timestamp) -> LinkState {
        if self.replaced_by.is_some() {
            LinkState::Replaced
        } else if self.revoked_at.is_some() {
            LinkState::Revoked
        } else if self.expires_at <= now {
            LinkState::Expired
        } else if !self.has_begun(now) {
            LinkState::Scheduled
        } else {
            LinkState::Active
        }
    }

    /// Whether the window has begun. One that began when the link was issued has, though this copy's clock be behind the
    /// one that issued it.
    pub(crate) fn has_begun(&self, now: Timestamp) -> bool {
        self.starts_at <= now.max(self.created_at)
    }

    /// How long a session of the link lives at most, by itself.
    pub(crate) fn session_life(&self, configured: Duration) -> Duration {
        self.session_hours.map_or(configured, |hours| Duration::hours(i64::from(hours)).min(configured))
    }

    /// How the link has ended, if it has.
    pub(crate) fn ended(&self, now: Timestamp) -> Option<Code> {
        match self.state(now) {
            LinkState::Replaced => Some(Code::LinkReplaced),
            LinkState::Revoked => Some(Code::LinkRevoked),
            LinkState::Expired => Some(Code::LinkExpired),
            _ => None,
        }
    }

    /// The reason why a token of this generation cannot be used, if any.
    pub(crate) fn why_not(&self, generation: i32, now: Timestamp) -> Option<Code> {
        if let Some(ended) = self.ended(now) {
            Some(ended)
        } else if generation != self.generation {
            Some(Code::LinkSuperseded)
        } else if !self.has_begun(now) {
            Some(Code::LinkNotYetValid)
        } else {
            self.spent_at.is_some().then_some(Code::LinkSpent)
        }
    }

    /// Applies a pending bulk revocation that matches the link.
    pub(crate) fn under(self, order: Option<BulkRevocation>) -> Self {
        match order {
            Some(order) if self.revoked_at.is_none() => Self {
                revoked_at: Some(order.created_at),
                revoke_reason: Some(order.reason),
                revoked_by_type: Some(order.actor_type),
                revoked_by_id: Some(order.actor_id),
                revoked_by_name: order.actor_name,
                ..self
            },
            _ => self,
        }
    }

    pub(crate) fn revoked_by(&self) -> Option<Actor> {
        let (kind, id) = (self.revoked_by_type?, self.revoked_by_id.clone()?);
        Some(Actor { kind, id, name: self.revoked_by_name.clone() })
    }
}
