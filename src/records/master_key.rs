//! The master key's name, what is kept of earlier ones, and the lock that a change of it waits for.

use diesel::prelude::*;

use crate::db::Conn;
use crate::db::schema::{kept_secrets as kept, service_state};

/// Name of the row that keeps the key of digests.
pub(crate) const DIGESTS: &str = "digests";

/// The name of the master key under which secrets are sealed; `None` before the first start.
pub(crate) fn id(conn: &mut Conn) -> QueryResult<Option<String>> {
    service_state::table.select(service_state::master_key_id).first(conn)
}

/// Stores the name of the first master key, unless another instance was faster.
pub(crate) fn claim(conn: &mut Conn, id: &str) -> QueryResult<usize> {
    diesel::update(service_state::table.filter(service_state::master_key_id.is_null()))
        .set(service_state::master_key_id.eq(Some(id)))
        .execute(conn)
}

/// Whether secrets are sealed under this master key. It stays so until the transaction ends: a change waits for it.
///
/// Whoever stores a sealed secret asks first: after a change nobody could open what an old master key sealed.
pub(crate) fn hold(conn: &mut Conn, id: &str) -> QueryResult<bool> {
    let own = service_state::table.filter(service_state::master_key_id.eq(id)).select(service_state::id);
    let held: Option<i32> = match conn {
        Conn::Postgres(conn) => own.for_share().get_result(conn).optional()?,
        Conn::Sqlite(conn) => own.get_result(conn).optional()?,
    };
    Ok(held.is_some())
}

/// Replaces the name of the master key; `false` if it is neither unknown nor `old`.
pub(crate) fn replace(conn: &mut Conn, old: &str, new: &str) -> QueryResult<bool> {
    let is_old = service_state::master_key_id.is_null().or(service_state::master_key_id.eq(old).assume_not_null());
    diesel::update(service_state::table.filter(is_old))
        .set(service_state::master_key_id.eq(Some(new)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// A kept secret, sealed.
pub(crate) fn kept_secret(conn: &mut Conn, name: &str) -> QueryResult<Option<String>> {
    kept::table.find(name).select(kept::sealed).get_result(conn).optional()
}

/// Keeps a sealed secret.
pub(crate) fn keep_secret(conn: &mut Conn, name: &str, sealed: &str) -> QueryResult<usize> {
    diesel::delete(kept::table.find(name)).execute(conn)?;
    diesel::insert_into(kept::table).values((kept::name.eq(name), kept::sealed.eq(sealed))).execute(conn)
}
