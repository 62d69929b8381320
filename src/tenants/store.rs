//! Tenants at rest.

use diesel::prelude::*;

use super::Tenant;
use crate::domain::{Reach, Tenants};
use crate::db::schema::tenants;
use crate::db::{Backend, Conn};
use crate::domain::Window;

pub(super) fn find(conn: &mut Conn, id: &str) -> QueryResult<Option<Tenant>> {
    tenants::table.find(id).get_result(conn).optional()
}

/// Replaces what is known; `None` if the tenant is not registered.
pub(super) fn update(conn: &mut Conn, tenant: &Tenant) -> QueryResult<Option<Tenant>> {
    diesel::update(tenants::table.find(&tenant.id))
        .set((
            tenants::name.eq(&tenant.name),
            tenants::time_zone.eq(&tenant.time_zone),
            tenants::contacts.eq(&tenant.contacts),
            tenants::muted_notices.eq(&tenant.muted_notices),
            tenants::updated_at.eq(tenant.updated_at),
            tenants::change_values.eq(tenant.change_values),
            tenants::retention_days.eq(tenant.retention_days),
        ))
        .returning(tenants::all_columns)
        .get_result(conn)
        .optional()
}

pub(super) fn insert(conn: &mut Conn, tenant: &Tenant) -> QueryResult<Tenant> {
    diesel::insert_into(tenants::table).values(tenant).returning(tenants::all_columns).get_result(conn)
}

/// Tenants within the reach, in order of id.
pub(super) fn list(conn: &mut Conn, reach: &Reach, window: &Window) -> QueryResult<Vec<Tenant>> {
    let mut query = tenants::table.into_boxed::<Backend>();
    if let Tenants::Only(ids) = &reach.tenants {
        query = query.filter(tenants::id.eq_any(ids));
    }
    if let Some(after) = &window.after {
        query = query.filter(tenants::id.gt(after));
    }
    query.order(tenants::id.asc()).limit(window.limit).load(conn)
}
