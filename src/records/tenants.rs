//! Rows of tenants, and their statements.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::db::schema::tenants;
use crate::db::{Backend, Conn};
use crate::domain::{ChangeValues, Notice, PageRequest, Reach, Tenants, trimmed};

pub(crate) fn find(conn: &mut Conn, id: &str) -> QueryResult<Option<Tenant>> {
    tenants::table.find(id).get_result(conn).optional()
}

/// Reads and locks a tenant, so that what is kept of its settings is what they are.
pub(crate) fn lock(conn: &mut Conn, id: &str) -> QueryResult<Option<Tenant>> {
    match conn {
        Conn::Postgres(conn) => tenants::table.find(id).for_no_key_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => tenants::table.find(id).get_result(conn).optional(),
    }
}

/// Replaces a tenant's settings; `None` if the tenant is not registered.
pub(crate) fn update(conn: &mut Conn, tenant: &Tenant) -> QueryResult<Option<Tenant>> {
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

pub(crate) fn insert(conn: &mut Conn, tenant: &Tenant) -> QueryResult<Tenant> {
    diesel::insert_into(tenants::table).values(tenant).returning(tenants::all_columns).get_result(conn)
}

/// Tenants within the reach, in order of id.
pub(crate) fn list(conn: &mut Conn, reach: &Reach, page: &PageRequest) -> QueryResult<Vec<Tenant>> {
    let mut query = tenants::table.into_boxed::<Backend>();
    if let Tenants::Only(ids) = &reach.tenants {
        query = query.filter(tenants::id.eq_any(ids));
    }
    if let Some(after) = &page.after {
        query = query.filter(tenants::id.gt(after));
    }
    query.order(tenants::id.asc()).limit(page.limit).load(conn)
}

/// A tenant as it is stored.
#[derive(Debug, Clone, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = crate::db::schema::tenants)]
pub(crate) struct Tenant {
    pub id: String,
    pub name: String,
    pub time_zone: String,
    pub(crate) contacts: String,
    /// Notices, separated by spaces.
    pub(crate) muted_notices: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) change_values: ChangeValues,
    pub(crate) retention_days: Option<i32>,
}

impl Tenant {
    /// Whom to ask there.
    pub(crate) fn contacts(&self) -> Vec<Contact> {
        serde_json::from_str(&self.contacts).unwrap_or_default()
    }
}

/// Largest number of contacts that mails and pages name.
const MAX_CONTACTS: usize = 3;

/// Display data of a tenant, registered or not.
#[derive(Debug, Clone)]
pub(crate) struct TenantView {
    pub name: String,
    pub time_zone: String,
    /// Its contacts: at most 10.
    pub contacts: Vec<Contact>,
    /// Notices that it has switched off.
    pub muted: Vec<Notice>,
}

/// Contact person at a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Name of the contact person.
    #[serde(deserialize_with = "trimmed")]
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// E-mail address of the contact person.
    #[schema(max_length = 254)]
    pub email: String,
}

pub(crate) fn muted(words: &str) -> Vec<Notice> {
    words.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

impl TenantView {
    /// Whom to ask there: its first contacts.
    pub(crate) fn whom_to_ask(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.iter().take(MAX_CONTACTS)
    }

    /// The name and time zone of a tenant, or its id and the default time zone.
    pub(crate) fn of(tenant: Option<Tenant>, default_time_zone: &str, id: &str) -> Self {
        match tenant {
            Some(tenant) => {
                let (contacts, muted) = (tenant.contacts(), muted(&tenant.muted_notices));
                Self { name: tenant.name, time_zone: tenant.time_zone, contacts, muted }
            }
            None => Self {
                name: id.to_owned(),
                time_zone: default_time_zone.to_owned(),
                contacts: Vec::new(),
                muted: Vec::new(),
            },
        }
    }
}

/// Display data of a tenant.
pub(crate) fn view(conn: &mut Conn, default_time_zone: &str, id: &str) -> QueryResult<TenantView> {
    Ok(TenantView::of(find(conn, id)?, default_time_zone, id))
}

/// The contacts of a tenant: at most 10, and none if it is not registered.
pub(crate) fn contacts(conn: &mut Conn, id: &str) -> QueryResult<Vec<Contact>> {
    Ok(find(conn, id)?.map_or_else(Vec::new, |tenant| tenant.contacts()))
}

/// Retention of a tenant's payloads in days, if the tenant set it.
/// Tenants with a retention period of their own, in order.
pub(crate) fn own_retention(conn: &mut Conn) -> QueryResult<Vec<(String, i32)>> {
    let own = tenants::table.filter(tenants::retention_days.is_not_null()).order(tenants::id.asc());
    own.select((tenants::id, tenants::retention_days.assume_not_null())).load(conn)
}

pub(crate) fn retention_days(conn: &mut Conn, id: &str) -> QueryResult<Option<i32>> {
    Ok(find(conn, id)?.and_then(|tenant| tenant.retention_days))
}
