//! A tenant is a customer company, under the portal's identifier for it.
//!
//! Registration gives it a name, a time zone, contacts and settings. Mails and pages
//! show the identifier of an unregistered tenant, and times in the default zone.

pub(crate) mod extending;
pub(crate) mod granting;
pub(crate) mod routes;
pub(crate) mod rules;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{
    ChangeValues, EventType, MIN_RETENTION_DAYS, Notice, Page, Paging, Scope, Validator, is_time_zone, trimmed,
};
use crate::error::{Code, Error};
use crate::http::{Caller, ReadTenants, WriteTenants};
use crate::journal::Event;
use crate::records;
use crate::records::tenants::{Contact, Tenant, muted};

pub(crate) use crate::domain::is_tenant_id;

/// Contacts as they are stored where there are none.
const NO_CONTACTS: &str = "[]";

/// Data of a tenant; it replaces the registered data.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "ACME Ltd", "time_zone": "Asia/Kolkata",
    "contacts": [{"name": "Meera Iyer", "email": "hr@acme.example"}]
}))]
pub struct SaveTenant {
    /// Display name of the tenant.
    #[serde(deserialize_with = "trimmed")]
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// IANA time zone of the tenant; default the zone configured for the service.
    #[schema(max_length = 64)]
    pub time_zone: Option<String>,
    /// Contact persons at the tenant.
    #[serde(default)]
    #[schema(max_items = 10, default = json!([]))]
    pub contacts: Vec<Contact>,
    /// Notices that are not sent to people of the tenant; by default every notice is sent.
    #[serde(default)]
    #[schema(max_items = 9, default = json!([]))]
    pub muted_notices: Vec<Notice>,
    /// How values of reported changes are stored, from the next report on. If absent it stays as it is; a new tenant
    /// gets `masked`. To change it needs a client that is bound to no portal.
    pub change_values: Option<ChangeValues>,
    /// Number of days for which the audit log keeps names, reasons and values. If absent it stays as it is; a new
    /// tenant gets the service's default. To change it needs the scope `audit:manage` and a client that is bound to no
    /// portal: what is older is erased.
    #[schema(minimum = 366, maximum = 36500)]
    pub retention_days: Option<i32>,
}

/// Registered tenant (customer company).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TenantResponse {
    /// Portal's identifier of the tenant.
    #[schema(max_length = 64)]
    id: String,
    /// Display name of the tenant.
    #[schema(max_length = 100)]
    name: String,
    /// IANA time zone of the tenant.
    #[schema(max_length = 64)]
    time_zone: String,
    /// Contact persons at the tenant.
    #[schema(max_items = 10)]
    contacts: Vec<Contact>,
    /// How values of reported changes are stored.
    change_values: ChangeValues,
    /// Number of days for which the audit log keeps names, reasons and values; absent for the service's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_days: Option<i32>,
    /// Notices that are not sent to people of the tenant.
    #[schema(max_items = 9)]
    muted_notices: Vec<Notice>,
    /// When the tenant was registered (RFC 3339, UTC).
    created_at: Timestamp,
    /// When the tenant was last saved (RFC 3339, UTC).
    updated_at: Timestamp,
}

impl From<Tenant> for TenantResponse {
    fn from(tenant: Tenant) -> Self {
        Self {
            contacts: tenant.contacts(),
            id: tenant.id,
            name: tenant.name,
            time_zone: tenant.time_zone,
            change_values: tenant.change_values,
            retention_days: tenant.retention_days,
            muted_notices: muted(&tenant.muted_notices),
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

/// Registers a tenant, or replaces its data.
pub(crate) async fn save(
    cx: &Context,
    caller: &Caller<WriteTenants>,
    id: String,
    mut request: SaveTenant,
    now: Timestamp,
) -> Result<TenantResponse, Error> {
    let mut fields = Validator::default();
    if !is_tenant_id(&id) {
        fields.error("/id", "malformed", "has 1 to 64 characters of A-Z, a-z, 0-9, dot, dash and underscore");
    }
    fields.text("/name", &request.name, 1, 100);
    if request.time_zone.as_deref().is_some_and(|zone| !is_time_zone(zone)) {
        fields.error("/time_zone", "unknown", "must be an IANA time zone such as Asia/Kolkata");
    }
    if request.muted_notices.len() > Notice::ALL.len() {
        fields.error("/muted_notices", "out_of_range", "must name each notice at most once");
    }
    if request.contacts.len() > 10 {
        fields.error("/contacts", "out_of_range", "must name at most 10 contacts");
    }
    for (index, contact) in request.contacts.iter_mut().enumerate() {
        fields.text(&format!("/contacts/{index}/name"), &contact.name, 1, 100);
        contact.email = fields.email(&format!("/contacts/{index}/email"), &contact.email);
    }
    if request.retention_days.is_some_and(|days| !(MIN_RETENTION_DAYS..=36_500).contains(&days)) {
        fields.error(
            "/retention_days",
            "out_of_range",
            "must be 366 to 36500 days: the law asks for a year, and a year may have a leap day",
        );
    }
    fields.finish()?;
    if !caller.reach.covers_tenant(&id) {
        return Err(Error::not_found());
    }
    let tenant = Tenant {
        id,
        name: request.name,
        time_zone: request.time_zone.unwrap_or_else(|| cx.config.default_time_zone.clone()),
        contacts: serde_json::to_string(&request.contacts).map_err(Error::internal)?,
        muted_notices: request.muted_notices.iter().map(|notice| notice.as_str()).collect::<Vec<_>>().join(" "),
        created_at: now,
        updated_at: now,
        change_values: request.change_values.unwrap_or(ChangeValues::Masked),
        retention_days: request.retention_days,
    };
    let event = Event::new(EventType::TenantSaved, caller.actor(None), now)
        .client(caller.client_id.as_ref())
        .tenant(&tenant.id);
    let (keeps_log, of_every_portal) = (may_set_retention(caller), caller.require_every_portal("change_values"));
    let of_all_notices = caller.require_every_portal("contacts and muted_notices");
    let saved = cx
        .store
        .write(move |tx| {
            // Absent settings of the audit log keep their values, rather than being reset.
            let known = records::tenants::lock(tx, &tenant.id)?;
            let kept = known.as_ref().and_then(|known| known.retention_days);
            if request.retention_days.is_some_and(|days| Some(days) != kept) {
                keeps_log.clone()?;
            }
            let stored_as = known.as_ref().map_or(ChangeValues::Masked, |known| known.change_values);
            if request.change_values.is_some_and(|values| values != stored_as) {
                of_every_portal.clone()?;
            }
            let mut tenant = tenant.clone();
            // They are told of every portal, also where the tenant's default has been in force until now.
            let told = known.as_ref().map_or((NO_CONTACTS, ""), |known| (&*known.contacts, &*known.muted_notices));
            if told != (&*tenant.contacts, &*tenant.muted_notices) {
                of_all_notices.clone()?;
            }
            if let Some(known) = known {
                tenant.change_values = request.change_values.unwrap_or(known.change_values);
                tenant.retention_days = request.retention_days.or(known.retention_days);
            }
            let saved = match records::tenants::update(tx, &tenant)? {
                Some(saved) => saved,
                None => records::tenants::insert(tx, &tenant)?,
            };
            tx.record(event.clone().with(&serde_json::json!({
                "name": saved.name, "time_zone": saved.time_zone, "contacts": request.contacts,
                "change_values": saved.change_values, "retention_days": saved.retention_days,
                "muted_notices": request.muted_notices,
            })));
            Ok(saved)
        })
        .await?;
    Ok(saved.into())
}

/// Refuses a caller who may not erase: a shorter retention period erases what is older.
fn may_set_retention(caller: &Caller<WriteTenants>) -> Result<(), Error> {
    if !caller.has(Scope::ManageAudit) {
        let detail = "changing retention_days needs the scope audit:manage";
        return Err(Error::new(Code::InsufficientScope).detail(detail));
    }
    caller.require_every_portal("retention_days")
}

/// A page of the tenants within the caller's reach, in order of id.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadTenants>,
    paging: Paging,
) -> Result<Page<TenantResponse>, Error> {
    let page = paging.open(cx.tokens.master_key(), "tenants")?;
    let (reach, asked) = (caller.reach.clone(), page.clone());
    let rows = cx.store.read(move |conn| Ok(records::tenants::list(conn, &reach, &asked)?)).await?;
    Ok(page.answer(cx.tokens.master_key(), rows, |row| row.id.as_str(), TenantResponse::from))
}

/// One tenant.
pub(crate) async fn read(cx: &Context, caller: &Caller<ReadTenants>, id: String) -> Result<TenantResponse, Error> {
    if !is_tenant_id(&id) || !caller.reach.covers_tenant(&id) {
        return Err(Error::not_found());
    }
    let tenant = cx.store.read(move |conn| Ok(records::tenants::find(conn, &id)?)).await?;
    tenant.map(TenantResponse::from).ok_or_else(Error::not_found)
}
