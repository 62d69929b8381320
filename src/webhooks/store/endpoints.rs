//! Endpoints at rest.

use std::collections::BTreeSet;

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::deliveries::overtaking;
use crate::clock::{Timestamp, lies_in};
use crate::db::schema::{
    clients, webhook_deliveries as deliveries, webhook_endpoint_tenants as tenants, webhook_endpoints as endpoints,
};
use crate::db::{Conn, insert_all};
use crate::domain::{PageRequest, Rotation, Scan, WebhookFormat};
use crate::id::{ClientId, EndpointId};
use crate::records;
use crate::webhooks::{DisableCause, Endpoint, EndpointAccess, EndpointOwner, LONGEST_ASKED};

/// Active endpoints of active clients, joined with the clients.
macro_rules! open {
    () => {
        endpoints::table
            .inner_join(clients::table.on(clients::id.eq(endpoints::client_id)))
            .filter(endpoints::disabled_at.is_null())
            .filter(endpoints::deleted_at.is_null())
            .filter(clients::disabled_at.is_null())
    };
}

/// Condition that an endpoint's receiver has not asked for time, or that it is over. One that a clock has noted which was
/// ahead counts no longer than any.
macro_rules! is_free {
    ($now:expr) => {
        endpoints::held_until
            .is_null()
            .or(diesel::dsl::not(lies_in!(endpoints::held_until, $now.next(LONGEST_ASKED))).assume_not_null())
    };
}
pub(super) use is_free;

/// An endpoint that may receive messages.
#[derive(Debug, Clone, Queryable)]
pub(in crate::webhooks) struct Listener {
    pub id: EndpointId,
    pub events: String,
    pub format: WebhookFormat,
    pub heard_since: String,
    pub portal: Option<String>,
    pub tenants: String,
}

/// What some endpoints of a tenant receive; of equal ones there is one, however many endpoints they are.
#[derive(Debug, Clone, Queryable)]
pub(in crate::webhooks) struct Audience {
    tenant_id: String,
    portal: Option<String>,
    pub events: String,
    pub format: WebhookFormat,
}

impl Audience {
    pub(in crate::webhooks) fn hears(&self, tenant_id: &str, portal: &str) -> bool {
        ["*", tenant_id].contains(&self.tenant_id.as_str()) && self.portal.as_deref().is_none_or(|own| own == portal)
    }
}

/// An endpoint that waits for calls, and what it shares with others.
#[derive(Debug, Clone, Queryable)]
pub(crate) struct ReadyEndpoint {
    pub id: EndpointId,
    pub client_id: ClientId,
    pub tenants: String,
    pub url: String,
}

/// What the endpoints of clients receive that act for one of these tenants, or for all.
pub(in crate::webhooks) fn audiences<'a>(
    conn: &mut Conn,
    of_tenants: impl Iterator<Item = &'a str>,
) -> QueryResult<Vec<Audience>> {
    open!()
        .inner_join(tenants::table.on(tenants::endpoint_id.eq(endpoints::id)))
        .filter(tenants::tenant_id.eq_any(of_tenants.chain(std::iter::once("*"))))
        .select((tenants::tenant_id, clients::portal, endpoints::events, endpoints::format))
        .distinct()
        .load(conn)
}

/// The endpoints after one of them, in order of id, of clients that act for a tenant.
pub(in crate::webhooks) fn listeners(
    conn: &mut Conn,
    of_tenant: &str,
    after: Option<&EndpointId>,
    limit: usize,
) -> QueryResult<Vec<Listener>> {
    open!()
        .inner_join(tenants::table.on(tenants::endpoint_id.eq(endpoints::id)))
        .filter(tenants::tenant_id.eq_any([of_tenant, "*"]))
        .filter(endpoints::id.gt(after.map_or("", EndpointId::as_str)))
        .order(endpoints::id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select((
            endpoints::id,
            endpoints::events,
            endpoints::format,
            endpoints::heard_since,
            clients::portal,
            clients::tenants,
        ))
        .load(conn)
}

/// Endpoints with due messages, in order of id.
pub(in crate::webhooks) fn ready(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<ReadyEndpoint>> {
    let due = deliveries::table
        .filter(deliveries::endpoint_id.eq(endpoints::id))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::next_attempt_at.le(now))
        .filter(deliveries::lease_until.is_null().or(deliveries::lease_until.le(now).assume_not_null()))
        .filter(deliveries::event_type.eq_any(overtaking()).or(is_free!(now)));
    open!()
        .filter(exists(due))
        .order(endpoints::id)
        .select((endpoints::id, endpoints::client_id, clients::tenants, endpoints::url))
        .load(conn)
}

/// The endpoint and its client, regardless of the caller.
pub(crate) fn find(conn: &mut Conn, id: &EndpointId) -> QueryResult<Option<(Endpoint, EndpointOwner)>> {
    endpoints::table
        .inner_join(clients::table.on(clients::id.eq(endpoints::client_id)))
        .filter(endpoints::id.eq(id))
        .filter(endpoints::deleted_at.is_null())
        .select((endpoints::all_columns, (clients::portal, clients::tenants, clients::disabled_at)))
        .get_result(conn)
        .optional()
}

/// The endpoints that the caller manages, newest first, up to the page's limit.
pub(in crate::webhooks) fn list(
    conn: &mut Conn,
    access: &EndpointAccess,
    page: &PageRequest,
) -> QueryResult<Scan<(Endpoint, EndpointOwner)>> {
    let is_theirs = |(endpoint, owner): &(Endpoint, EndpointOwner)| access.manages(&endpoint.client_id, &owner.reach());
    records::scan::visible(
        page,
        |(endpoint, _)| endpoint.id.as_str(),
        is_theirs,
        |after, limit| {
            let mut query = endpoints::table
                .inner_join(clients::table.on(clients::id.eq(endpoints::client_id)))
                .filter(endpoints::deleted_at.is_null())
                .select((endpoints::all_columns, (clients::portal, clients::tenants, clients::disabled_at)))
                .order(endpoints::id.desc())
                .limit(limit)
                .into_boxed::<crate::db::Backend>();
            if let Some(after) = after {
                query = query.filter(endpoints::id.lt(after.to_owned()));
            }
            if let (None, Some(own)) = (&access.admin_of, &access.client_id) {
                query = query.filter(endpoints::client_id.eq(own));
            }
            query.load(conn)
        },
    )
}

/// Number of a client's endpoints.
pub(in crate::webhooks) fn count_of(conn: &mut Conn, client: &ClientId) -> QueryResult<i64> {
    endpoints::table
        .filter(endpoints::client_id.eq(client))
        .filter(endpoints::deleted_at.is_null())
        .count()
        .get_result(conn)
}

/// Inserts an endpoint and its client's tenants.
pub(in crate::webhooks) fn insert(conn: &mut Conn, endpoint: &Endpoint, of_tenants: &str) -> QueryResult<()> {
    diesel::insert_into(endpoints::table).values(endpoint).execute(conn)?;
    insert_tenants(conn, std::slice::from_ref(&endpoint.id), of_tenants)
}

/// The tenants whose events an endpoint of such a client may hear, one word each.
pub(in crate::webhooks) fn heard_tenants(of_tenants: &str) -> BTreeSet<&str> {
    let words: BTreeSet<&str> = of_tenants.split_whitespace().collect();
    if words.contains("*") { BTreeSet::from(["*"]) } else { words }
}

fn insert_tenants(conn: &mut Conn, ids: &[EndpointId], of_tenants: &str) -> QueryResult<()> {
    let words = heard_tenants(of_tenants);
    let row = |word, id| (tenants::tenant_id.eq(word), tenants::endpoint_id.eq(id));
    let rows: Vec<_> = words.into_iter().flat_map(|word| ids.iter().map(move |id| row(word, id))).collect();
    insert_all!(conn, tenants::table, rows.as_slice())
}

/// The largest number of endpoints that hear one of these tenants.
pub(in crate::webhooks) fn most_of_a_tenant(conn: &mut Conn, of_tenants: &BTreeSet<&str>) -> QueryResult<i64> {
    let counts: Vec<i64> = tenants::table
        .filter(tenants::tenant_id.eq_any(of_tenants))
        .group_by(tenants::tenant_id)
        .select(diesel::dsl::count_star())
        .load(conn)?;
    Ok(counts.into_iter().max().unwrap_or(0))
}

/// A client's endpoints.
pub(in crate::webhooks) fn of_client(conn: &mut Conn, client: &ClientId) -> QueryResult<Vec<EndpointId>> {
    endpoints::table
        .filter(endpoints::client_id.eq(client))
        .filter(endpoints::deleted_at.is_null())
        .order(endpoints::id)
        .select(endpoints::id)
        .load(conn)
}

/// Lets endpoints hear these tenants and no others; none for no tenants.
pub(in crate::webhooks) fn replace_tenants(conn: &mut Conn, ids: &[EndpointId], of_tenants: &str) -> QueryResult<()> {
    diesel::delete(tenants::table.filter(tenants::endpoint_id.eq_any(ids))).execute(conn)?;
    insert_tenants(conn, ids, of_tenants)
}

/// Notes from which events on a client's endpoints listen.
pub(in crate::webhooks) fn listen_from(conn: &mut Conn, client: &ClientId, heard_since: &str) -> QueryResult<()> {
    diesel::update(endpoints::table.filter(endpoints::client_id.eq(client)))
        .set(endpoints::heard_since.eq(heard_since))
        .execute(conn)
        .map(drop)
}

/// Changes to an endpoint; absent members stay unchanged.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = endpoints)]
#[expect(clippy::option_option, reason = "absent leaves the column as it is, and an empty one clears it")]
pub(in crate::webhooks) struct Changes {
    pub url: Option<String>,
    pub description: Option<Option<String>>,
    pub events: Option<String>,
    pub audience: Option<Option<String>>,
    pub heard_since: Option<String>,
    pub held_until: Option<Option<Timestamp>>,
    pub updated_at: Timestamp,
}

impl Changes {
    pub(in crate::webhooks) const fn are_none(&self) -> bool {
        self.url.is_none() && self.description.is_none() && self.events.is_none() && self.audience.is_none()
    }
}

/// Changes an endpoint; `None` if it was deleted meanwhile.
pub(in crate::webhooks) fn change(
    conn: &mut Conn,
    id: &EndpointId,
    changes: &Changes,
) -> QueryResult<Option<Endpoint>> {
    diesel::update(endpoints::table.find(id))
        .filter(endpoints::deleted_at.is_null())
        .set(changes)
        .returning(endpoints::all_columns)
        .get_result(conn)
        .optional()
}

/// Switches an endpoint off; `None` if it is off already, its URL has changed, or it was deleted.
pub(in crate::webhooks) fn disable(
    conn: &mut Conn,
    Endpoint { id, url, .. }: &Endpoint,
    cause: DisableCause,
    now: Timestamp,
) -> QueryResult<Option<Endpoint>> {
    diesel::update(endpoints::table.find(id))
        .filter(endpoints::url.eq(url))
        .filter(endpoints::disabled_at.is_null())
        .filter(endpoints::deleted_at.is_null())
        .set((endpoints::disabled_at.eq(Some(now)), endpoints::disable_cause.eq(Some(cause))))
        .returning(endpoints::all_columns)
        .get_result(conn)
        .optional()
}

/// Switches an endpoint on, for later events; `None` if it is on already, or deleted.
pub(in crate::webhooks) fn enable(
    conn: &mut Conn,
    id: &EndpointId,
    heard_since: &str,
) -> QueryResult<Option<Endpoint>> {
    diesel::update(endpoints::table.find(id))
        .filter(endpoints::disabled_at.is_not_null())
        .filter(endpoints::deleted_at.is_null())
        .set((
            endpoints::disabled_at.eq(None::<Timestamp>),
            endpoints::disable_cause.eq(None::<DisableCause>),
            endpoints::heard_since.eq(heard_since),
            endpoints::held_until.eq(None::<Timestamp>),
        ))
        .returning(endpoints::all_columns)
        .get_result(conn)
        .optional()
}

/// Notes until when an endpoint's receiver wants nothing but what overtakes, unless the endpoint has got another URL.
pub(in crate::webhooks) fn hold_back(
    conn: &mut Conn,
    Endpoint { id, url, .. }: &Endpoint,
    until: Timestamp,
) -> QueryResult<usize> {
    diesel::update(endpoints::table.find(id))
        .filter(endpoints::url.eq(url))
        .set(endpoints::held_until.eq(Some(until)))
        .execute(conn)
}

/// Replaces the secret. `None` if the endpoint is deleted, or a secret of before is promised to sign still.
pub(in crate::webhooks) fn rotate(
    conn: &mut Conn,
    id: &EndpointId,
    sealed: &str,
    rotation: Rotation,
    now: Timestamp,
) -> QueryResult<Option<Endpoint>> {
    let changed = (endpoints::sealed_secret.eq(sealed), endpoints::updated_at.eq(now));
    let found = diesel::update(endpoints::table.find(id)).filter(endpoints::deleted_at.is_null());
    let Some(old_until) = rotation.old_until(now) else {
        return found.set(changed).returning(endpoints::all_columns).get_result(conn).optional();
    };
    let is_over = endpoints::previous_secret_expires_at.is_null().or(endpoints::previous_secret_expires_at.le(now));
    found
        .filter(is_over.assume_not_null().or((rotation == Rotation::AtOnce).into_sql::<Bool>()))
        .set((
            changed,
            endpoints::previous_sealed_secret.eq(endpoints::sealed_secret.nullable()),
            endpoints::previous_secret_expires_at.eq(Some(old_until)),
        ))
        .returning(endpoints::all_columns)
        .get_result(conn)
        .optional()
}

/// Ids and sealed secrets, present and previous, of endpoints that are not deleted.
pub(in crate::webhooks) fn sealed_secrets(conn: &mut Conn) -> QueryResult<Vec<(EndpointId, String, Option<String>)>> {
    endpoints::table
        .filter(endpoints::sealed_secret.ne(""))
        .order(endpoints::id.asc())
        .select((endpoints::id, endpoints::sealed_secret, endpoints::previous_sealed_secret))
        .load(conn)
}

/// Stores secrets that were sealed under another master key.
pub(in crate::webhooks) fn seal_again(
    conn: &mut Conn,
    id: &EndpointId,
    sealed: &str,
    previous: Option<&str>,
) -> QueryResult<usize> {
    diesel::update(endpoints::table.find(id))
        .filter(endpoints::deleted_at.is_null())
        .set((endpoints::sealed_secret.eq(sealed), endpoints::previous_sealed_secret.eq(previous)))
        .execute(conn)
}

/// Deletes an endpoint and its secrets; `None` if it was deleted before.
pub(in crate::webhooks) fn delete(conn: &mut Conn, id: &EndpointId, now: Timestamp) -> QueryResult<Option<Endpoint>> {
    diesel::delete(tenants::table.filter(tenants::endpoint_id.eq(id))).execute(conn)?;
    diesel::update(endpoints::table.find(id))
        .filter(endpoints::deleted_at.is_null())
        .set((
            endpoints::deleted_at.eq(Some(now)),
            endpoints::sealed_secret.eq(""),
            endpoints::previous_sealed_secret.eq(None::<String>),
        ))
        .returning(endpoints::all_columns)
        .get_result(conn)
        .optional()
}

/// Deletes replaced secrets whose overlap is over.
pub(in crate::webhooks) fn forget_secrets(conn: &mut Conn, now: Timestamp) -> QueryResult<usize> {
    diesel::update(endpoints::table)
        .filter(endpoints::previous_secret_expires_at.le(now))
        .set((
            endpoints::previous_sealed_secret.eq(None::<String>),
            endpoints::previous_secret_expires_at.eq(None::<Timestamp>),
        ))
        .execute(conn)
}

/// Deletes the rows of endpoints that were deleted before a time and have no messages left; returns how many.
pub(in crate::webhooks) fn forget_deleted(conn: &mut Conn, limit: usize, before: Timestamp) -> QueryResult<usize> {
    let gone: Vec<EndpointId> = endpoints::table
        .filter(endpoints::deleted_at.le(before))
        .filter(diesel::dsl::not(exists(deliveries::table.filter(deliveries::endpoint_id.eq(endpoints::id)))))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select(endpoints::id)
        .load(conn)?;
    diesel::delete(endpoints::table.filter(endpoints::id.eq_any(&gone))).execute(conn)
}
