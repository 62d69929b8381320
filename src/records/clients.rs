//! Rows of clients, and their statements.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::Bool;

use crate::clock::Timestamp;
use crate::db::schema::{client_uses as uses, clients};
use crate::db::{Backend, Conn};
use crate::domain::{Authority, PageRequest, Reach, Rotation, Scan, Scope};
use crate::id::ClientId;
use crate::records::scan;
use crate::secrets::same_sha256;

pub(crate) fn find(conn: &mut Conn, id: &ClientId) -> QueryResult<Option<Client>> {
    clients::table.find(id).get_result(conn).optional()
}

pub(crate) fn insert(conn: &mut Conn, client: &Client) -> QueryResult<usize> {
    diesel::insert_into(clients::table).values(client).execute(conn)
}

/// Clients for which `is_visible` is true, newest first, up to the page's limit.
pub(crate) fn list(
    conn: &mut Conn,
    page: &PageRequest,
    is_visible: impl Fn(&Client) -> bool,
) -> QueryResult<Scan<Client>> {
    scan::visible(
        page,
        |client: &Client| client.id.as_str(),
        is_visible,
        |after, limit| {
            let mut query = clients::table.into_boxed::<Backend>();
            if let Some(after) = after {
                query = query.filter(clients::id.lt(after.to_owned()));
            }
            query.order(clients::id.desc()).limit(limit).load(conn)
        },
    )
}

/// Whether a client may count, now or once it is confirmed: one that was disabled for good is not changed any more.
#[diesel::dsl::auto_type]
fn not_for_good() -> _ {
    clients::disabled_at.is_null().or(clients::unconfirmed_since.is_not_null())
}

/// Changes what a client is called and may do; `None` if the client is disabled for good. One that waits for its
/// confirmation stays disabled.
pub(crate) fn change(conn: &mut Conn, client: &Client, now: Timestamp) -> QueryResult<Option<Client>> {
    diesel::update(clients::table.find(&client.id))
        .filter(not_for_good())
        .set((
            clients::name.eq(&client.name),
            clients::portal.eq(client.portal.as_ref()),
            clients::tenants.eq(&client.tenants),
            clients::scopes.eq(&client.scopes),
            clients::changed_at.eq(Some(now)),
        ))
        .returning(clients::all_columns)
        .get_result(conn)
        .optional()
}

/// When and from where some clients were last seen.
pub(crate) fn last_uses<'a>(
    conn: &mut Conn,
    ids: impl Iterator<Item = &'a ClientId>,
) -> QueryResult<HashMap<ClientId, (Timestamp, Option<String>)>> {
    let found: Vec<(ClientId, Timestamp, Option<String>)> =
        uses::table.filter(uses::client_id.eq_any(ids)).load(conn)?;
    Ok(found.into_iter().map(|(id, at, address)| (id, (at, address))).collect())
}

/// Notes when and from where a client was last seen; an earlier time changes nothing.
pub(crate) fn note_use(conn: &mut Conn, id: &ClientId, at: Timestamp, address: Option<&str>) -> QueryResult<()> {
    let known: Option<Timestamp> = uses::table.find(id).select(uses::last_used_at).first(conn).optional()?;
    let seen = (uses::last_used_at.eq(at), uses::address.eq(address));
    if known.is_none() {
        diesel::insert_into(uses::table).values((uses::client_id.eq(id), seen)).execute(conn)?;
    } else {
        diesel::update(uses::table.find(id).filter(uses::last_used_at.lt(at))).set(seen).execute(conn)?;
    }
    Ok(())
}

/// The names of some clients.
pub(crate) fn names(conn: &mut Conn, ids: &[ClientId]) -> QueryResult<HashMap<ClientId, String>> {
    let found: Vec<(ClientId, String)> =
        clients::table.filter(clients::id.eq_any(ids)).select((clients::id, clients::name)).load(conn)?;
    Ok(found.into_iter().collect())
}

/// Replaces the key. `None` if the client is disabled for good, or a key of before is promised to be valid still. One that
/// waits for its confirmation stays disabled, with either key.
pub(crate) fn rotate(
    conn: &mut Conn,
    id: &ClientId,
    key_sha256: &str,
    rotation: Rotation,
    now: Timestamp,
) -> QueryResult<Option<Client>> {
    let changed = (clients::key_sha256.eq(key_sha256), clients::rotated_at.eq(Some(now)));
    let found = diesel::update(clients::table.find(id)).filter(not_for_good());
    let Some(old_until) = rotation.old_until(now) else {
        return found.set(changed).returning(clients::all_columns).get_result(conn).optional();
    };
    let is_over = clients::previous_key_expires_at.is_null().or(clients::previous_key_expires_at.le(now));
    found
        .filter(is_over.assume_not_null().or((rotation == Rotation::AtOnce).into_sql::<Bool>()))
        .set((
            changed,
            clients::previous_key_sha256.eq(clients::key_sha256.nullable()),
            clients::previous_key_expires_at.eq(Some(old_until)),
        ))
        .returning(clients::all_columns)
        .get_result(conn)
        .optional()
}

/// Disables a client for good; `None` if it is already. One that a restore keeps disabled is not confirmed any more.
pub(crate) fn disable(conn: &mut Conn, id: &ClientId, now: Timestamp) -> QueryResult<Option<Client>> {
    diesel::update(clients::table.find(id))
        .filter(not_for_good())
        .set((clients::disabled_at.eq(Some(now)), clients::unconfirmed_since.eq(None::<Timestamp>)))
        .returning(clients::all_columns)
        .get_result(conn)
        .optional()
}

/// Disables every active client until it is confirmed, and ends the overlap of rotated keys; returns how many.
pub(crate) fn disable_until_confirmed(conn: &mut Conn, now: Timestamp) -> QueryResult<usize> {
    diesel::update(clients::table)
        .filter(clients::disabled_at.is_null())
        .set((
            clients::disabled_at.eq(Some(now)),
            clients::unconfirmed_since.eq(Some(now)),
            clients::previous_key_sha256.eq(None::<String>),
            clients::previous_key_expires_at.eq(None::<Timestamp>),
        ))
        .execute(conn)
}

/// Enables a client that a restore has disabled; `None` for any other.
pub(crate) fn confirm(conn: &mut Conn, id: &ClientId) -> QueryResult<Option<Client>> {
    diesel::update(clients::table.find(id))
        .filter(clients::unconfirmed_since.is_not_null())
        .set((clients::disabled_at.eq(None::<Timestamp>), clients::unconfirmed_since.eq(None::<Timestamp>)))
        .returning(clients::all_columns)
        .get_result(conn)
        .optional()
}

/// Clients that a restore has disabled, in order of id.
pub(crate) fn unconfirmed(conn: &mut Conn, after: Option<&ClientId>, limit: i64) -> QueryResult<Vec<Client>> {
    let mut query = clients::table.filter(clients::unconfirmed_since.is_not_null()).into_boxed::<Backend>();
    if let Some(after) = after {
        query = query.filter(clients::id.gt(after));
    }
    query.order(clients::id.asc()).limit(limit).load(conn)
}

/// A client as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::clients)]
pub(crate) struct Client {
    pub id: ClientId,
    pub name: String,
    pub portal: Option<String>,
    pub(crate) tenants: String,
    pub(crate) scopes: String,
    pub(crate) key_sha256: String,
    pub(crate) previous_key_sha256: Option<String>,
    pub(crate) previous_key_expires_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) rotated_at: Option<Timestamp>,
    pub disabled_at: Option<Timestamp>,
    /// Set while a restore keeps it disabled.
    pub(crate) unconfirmed_since: Option<Timestamp>,
    /// When name, portal, tenants or scopes were changed last; `None` where that was never, or before it was noted.
    pub(crate) changed_at: Option<Timestamp>,
}

impl Client {
    /// Whether it may count, now or once it is confirmed.
    pub(crate) const fn may_change(&self) -> bool {
        self.disabled_at.is_none() || self.unconfirmed_since.is_some()
    }

    pub(crate) fn reach(&self) -> Reach {
        Reach::of(self.portal.clone(), &self.tenants)
    }

    /// The tenants as stored: ids separated by spaces, or `*` for every tenant.
    pub(crate) fn tenant_words(&self) -> &str {
        &self.tenants
    }

    pub(crate) fn scopes(&self) -> Vec<Scope> {
        Scope::of_words(&self.scopes).collect()
    }

    /// Whether the hash is that of a key of the client's that counts.
    pub(crate) fn accepts(&self, shown: &str, now: Timestamp) -> bool {
        let previous = (self.previous_key_sha256.as_deref(), self.previous_key_expires_at);
        accepts(&self.key_sha256, previous, shown, now)
    }

    /// What the client's key gives.
    pub(crate) fn authority(&self) -> Authority {
        Authority { reach: self.reach(), scopes: self.scopes() }
    }
}

/// Whether a hash is that of the key, or of the one before while that counts.
pub(crate) fn accepts(key: &str, previous: (Option<&str>, Option<Timestamp>), shown: &str, now: Timestamp) -> bool {
    let (previous, until) = previous;
    let previous = previous.filter(|_| until.is_some_and(|until| until > now));
    same_sha256(shown, key) || previous.is_some_and(|previous| same_sha256(shown, previous))
}

/// What decides what the key of a client opens, in one text: it is another one as soon as any of it was changed.
/// [`same_standing!`] is the same in SQL.
pub(crate) fn standing(key_sha256: &str, portal: Option<&str>, tenants: &str, scopes: &str) -> String {
    [key_sha256, portal.unwrap_or_default(), tenants, scopes].join("\n")
}

/// SQL: whether the client `c` counts, and its standing is what the operand says.
macro_rules! same_standing {
    ($operand:literal) => {
        concat!(
            "c.disabled_at IS NULL AND c.key_sha256 || '\n' || coalesce(c.portal, '') || '\n' || c.tenants || '\n' || \
             c.scopes = ",
            $operand
        )
    };
}

pub(crate) use same_standing;

/// Reads a client that stays as it is until the end of the transaction.
pub(crate) fn hold(conn: &mut Conn, id: &ClientId) -> QueryResult<Option<Client>> {
    match conn {
        Conn::Postgres(conn) => clients::table.find(id).for_share().get_result(conn).optional(),
        Conn::Sqlite(conn) => clients::table.find(id).get_result(conn).optional(),
    }
}

/// Reads and locks a client, so that one transaction at a time counts what belongs to it.
pub(crate) fn lock(conn: &mut Conn, id: &ClientId) -> QueryResult<Option<Client>> {
    match conn {
        Conn::Postgres(conn) => clients::table.find(id).for_no_key_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => clients::table.find(id).get_result(conn).optional(),
    }
}
