//! A client is an API caller: a portal back end, or an operator's tool.
//!
//! It has a secret key, scopes, optionally one portal, and its tenants. The key
//! is shown once and stored as SHA-256; after a rotation the old key stays valid
//! for a chosen overlap.

mod change;
mod rotate;
pub(crate) mod routes;
mod uses;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::{Conn, text_enum};
use crate::domain::{EventType, Page, PageRequest, Reach, Scope, Validator, trimmed};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::id::{ClientId, RevocationId};
use crate::journal::Event;
use crate::records;
use crate::records::clients::Client;
use crate::records::revocations::BulkRevocation;
use crate::revocations::Prepared;
use crate::secrets::ApiKey;
use crate::store::{IdempotencyKey, Tx, idempotency};
use crate::webhooks;

pub(crate) use uses::{record_reads, write_uses};

pub use change::ChangeClient;
pub(crate) use change::change;
pub use rotate::RotateClient;
pub(crate) use rotate::rotate;

/// Number of unconfirmed clients that one query reads.
const PAGE: i64 = 200;

/// Portal's identifier of a tenant, or `*` for every tenant.
#[derive(ToSchema)]
#[schema(max_length = 64, example = "acme")]
#[expect(dead_code, reason = "only its schema is used")]
struct TenantSelector(String);

/// API client to create.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Cloud portal back end",
    "portal": "cloud",
    "tenants": ["acme"],
    "scopes": ["links:issue", "links:read", "links:revoke", "sessions:redeem", "sessions:introspect", "audit:write"]
}))]
pub struct CreateClient {
    /// Name of the client for operators.
    #[schema(min_length = 1, max_length = 100)]
    #[serde(deserialize_with = "trimmed")]
    pub name: String,
    /// Identifier of the portal the client is bound to; absent for every portal.
    #[schema(max_length = 32)]
    pub portal: Option<String>,
    /// Tenants the client is bound to; `*` for every tenant.
    #[schema(min_items = 1, max_items = 100, value_type = Vec<TenantSelector>)]
    pub tenants: Vec<String>,
    /// Scopes of the client.
    #[schema(min_items = 1, max_items = 18)]
    pub scopes: Vec<Scope>,
    /// Scopes that the client is to have although they are kept apart from others: `policies:write` from those that give
    /// access (`links:issue`, `links:request`, `links:approve`), which a policy is to limit. Only an operator, a client of every tenant and portal, may say
    /// so. Default none.
    #[serde(default)]
    #[schema(max_items = 18, default = json!([]))]
    pub combined_scopes: Vec<Scope>,
}

/// Request to disable a client.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"revoke_links": false}))]
pub struct DisableClient {
    /// Whether to revoke every link that the client issued, in the same transaction; needs the scope `links:revoke`.
    #[serde(default)]
    #[schema(default = false)]
    pub revoke_links: bool,
}

/// API client; its key is shown only when it is created or rotated.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClientResponse {
    /// Identifier of the client, and its user name for Basic authentication (RFC 7617).
    pub(super) id: ClientId,
    /// Name of the client for operators.
    #[schema(max_length = 100)]
    name: String,
    /// State of the client.
    state: ClientState,
    /// Identifier of the portal the client is bound to; absent for every portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    portal: Option<String>,
    /// Tenants the client is bound to; `*` for every tenant.
    #[schema(max_items = 100, value_type = Vec<TenantSelector>)]
    tenants: Vec<String>,
    /// Scopes of the client.
    #[schema(max_items = 18)]
    scopes: Vec<Scope>,
    /// When the client was created (RFC 3339, UTC).
    created_at: Timestamp,
    /// When the client's key was last rotated (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_at: Option<Timestamp>,
    /// When the key before the last rotation expires (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_key_expires_at: Option<Timestamp>,
    /// When the client was disabled (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    /// When the client last called, to the minute (RFC 3339, UTC); absent if it never has. What other copies of the
    /// service saw shows within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    /// Network address from which the client last called; behind proxies as they state it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, example = "203.0.113.7")]
    last_used_from: Option<String>,
    /// Bulk revocation of the client's links that its disabling has brought about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revocation_id: Option<RevocationId>,
    /// API key: returned once, when the client is created or its key is rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub(crate) key: Option<String>,
}

text_enum! {
    /// State of a client.
    pub enum ClientState {
        /// The client can call the API.
        Active = "active",
        /// The client was disabled for good: its keys are refused.
        Disabled = "disabled",
    }
}

impl ClientResponse {
    fn of(client: Client, key: Option<&ApiKey>) -> Self {
        Self {
            state: if client.disabled_at.is_some() { ClientState::Disabled } else { ClientState::Active },
            tenants: client.tenants.split_whitespace().map(ToOwned::to_owned).collect(),
            scopes: client.scopes(),
            id: client.id,
            name: client.name,
            portal: client.portal,
            created_at: client.created_at,
            rotated_at: client.rotated_at,
            previous_key_expires_at: client.previous_key_expires_at,
            disabled_at: client.disabled_at,
            last_used_at: None,
            last_used_from: None,
            revocation_id: None,
            key: key.map(ApiKey::reveal),
        }
    }
}

/// Fills in when clients last called.
async fn with_uses(cx: &Context, mut clients: Vec<ClientResponse>) -> Result<Vec<ClientResponse>, Error> {
    let ids: Vec<ClientId> = clients.iter().map(|client| client.id.clone()).collect();
    let known = cx.store.read(move |conn| Ok(records::clients::last_uses(conn, ids.iter())?)).await?;
    for client in &mut clients {
        let written = known.get(&client.id).cloned();
        let here = cx.client_uses.of(&client.id);
        let here = here.map(|seen| (seen.at, seen.address.as_ref().map(ToString::to_string)));
        // What is written down counts where it is as new: an address that is erased there does not come back from here.
        let newer = here.filter(|(at, _)| written.as_ref().is_none_or(|(known, _)| at > known));
        if let Some((at, address)) = newer.or(written) {
            (client.last_used_at, client.last_used_from) = (Some(at), address);
        }
    }
    Ok(clients)
}

async fn with_use(cx: &Context, client: ClientResponse) -> Result<ClientResponse, Error> {
    with_uses(cx, vec![client]).await?.pop().ok_or_else(Error::not_found)
}

/// A client within the reach.
fn find_within(conn: &mut Conn, id: &ClientId, reach: &Reach) -> Result<Option<Client>, Error> {
    Ok(records::clients::find(conn, id)?.filter(|client| reach.covers_reach(&client.reach())))
}

/// A client within the caller's reach.
pub(crate) async fn read(cx: &Context, caller: &Caller<Admin>, id: ClientId) -> Result<ClientResponse, Error> {
    let reach = caller.reach.clone();
    let client = cx.store.read(move |conn| find_within(conn, &id, &reach)).await?.ok_or_else(Error::not_found)?;
    with_use(cx, ClientResponse::of(client, None)).await
}

/// Scopes in stored form.
fn words(scopes: &[Scope]) -> Vec<&'static str> {
    let mut words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Creates a client. Its key is in the response, but not in that of a replay.
pub(crate) async fn create(
    cx: &Context,
    caller: &Caller<Admin>,
    request: CreateClient,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<ClientResponse, Error> {
    check(cx, &request)?;
    let tenants = request.tenants.join(" ");
    let scopes = words(&request.scopes);
    let id = ClientId::new(now);
    let key = ApiKey::generate(&id);
    let client = Client {
        name: request.name.trim().to_owned(),
        // An empty text binds to no portal, as in a change.
        portal: request.portal.filter(|portal| !portal.is_empty()),
        tenants,
        scopes: scopes.join(" "),
        key_sha256: key.sha256(),
        previous_key_sha256: None,
        previous_key_expires_at: None,
        created_at: now,
        rotated_at: None,
        disabled_at: None,
        unconfirmed_since: None,
        changed_at: None,
        id,
    };
    caller.authority().require_grantable(&client.authority())?;
    require_apart(caller, &client.scopes(), &request.combined_scopes)?;
    let event = Event::new(EventType::ClientCreated, caller.actor(None), now)
        .client(caller.client_id.as_ref())
        .with(&serde_json::json!({ "client_id": client.id, "name": client.name, "portal": client.portal,
            "tenants": request.tenants, "scopes": scopes, "combined_scopes": combined(&request.combined_scopes) }));
    let replayed = idempotency.as_ref().map(|key| key.replayed.clone()).unwrap_or_default();
    let made = cx
        .store
        .write(move |tx| {
            let known = |tx: &mut Tx<'_>, id: &ClientId, reach: &Reach| find_within(tx, id, reach);
            if let Some(made) = idempotency::once(tx, idempotency.as_ref(), &client.id, now, known)? {
                return Ok(made);
            }
            records::clients::insert(tx, &client)?;
            tx.record(event.clone());
            Ok(client.clone())
        })
        .await?;
    Ok(ClientResponse::of(made, (!replayed.is_so()).then_some(&key)))
}

/// Refuses scopes that are kept apart, unless an operator combines them by name.
fn require_apart(caller: &Caller<Admin>, scopes: &[Scope], combined: &[Scope]) -> Result<(), Error> {
    if !combined.is_empty() {
        caller.require_operator("combined_scopes")?;
    }
    let Some((one, other)) = Scope::kept_apart(scopes, combined) else { return Ok(()) };
    let detail = format!("{one} is kept apart from {other}: an operator can name it in combined_scopes, too");
    Err(Error::new(Code::ValidationFailed).field("/scopes", "kept_apart", detail))
}

/// The scopes for an event; nothing if there are none.
fn combined(scopes: &[Scope]) -> Option<&[Scope]> {
    Some(scopes).filter(|scopes| !scopes.is_empty())
}

fn check(cx: &Context, request: &CreateClient) -> Result<(), Error> {
    let mut fields = Validator::default();
    fields.text("/name", &request.name, 1, 100);
    check_rights(cx, &mut fields, request.portal.as_deref(), Some(&request.tenants), Some(&request.scopes));
    fields.finish()
}

fn check_rights(
    cx: &Context,
    fields: &mut Validator,
    portal: Option<&str>,
    tenants: Option<&[String]>,
    scopes: Option<&[Scope]>,
) {
    if let Some(portal) = portal
        && !portal.is_empty()
        && !cx.config.portals.contains_key(portal)
    {
        fields.error("/portal", "unknown", "is not a configured portal");
    }
    if tenants.is_some_and(|tenants| tenants.is_empty() || tenants.len() > 100) {
        fields.error("/tenants", "out_of_range", "must name 1 to 100 tenants, or * for every one");
    }
    for (index, tenant) in tenants.into_iter().flatten().enumerate() {
        if tenant != "*" && !crate::domain::is_tenant_id(tenant) {
            fields.error(format!("/tenants/{index}"), "malformed", "is not a tenant id");
        }
    }
    if scopes.is_some_and(<[Scope]>::is_empty) {
        fields.error("/scopes", "out_of_range", "must name at least one scope");
    }
}

/// A page of the clients within the caller's reach.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<Admin>,
    page: PageRequest,
) -> Result<Page<ClientResponse>, Error> {
    // There are few clients: filtering them by reach here keeps the query simple.
    let reach = caller.reach.clone();
    let asked = page.clone();
    let rows = cx
        .store
        .read(move |conn| Ok(records::clients::list(conn, &asked, |client| reach.covers_reach(&client.reach()))?))
        .await?;
    let show = |row| ClientResponse::of(row, None);
    let Page { items, next_cursor } = page.answer(cx.tokens.master_key(), rows, |row| row.id.as_str(), show);
    Ok(Page { items: with_uses(cx, items).await?, next_cursor })
}

/// Disables a client for good, and revokes the links it issued if requested.
///
/// Disabling it again only revokes links, if requested.
pub(crate) async fn disable(
    cx: &Context,
    caller: &Caller<Admin>,
    id: ClientId,
    request: DisableClient,
) -> Result<ClientResponse, Error> {
    if request.revoke_links && !caller.has(Scope::RevokeLinks) {
        return Err(Error::new(Code::InsufficientScope).detail("the field revoke_links needs the scope links:revoke"));
    }
    let (reach, actor, client_id) = (caller.reach.clone(), caller.actor(None), caller.client_id.clone());
    let ending = if request.revoke_links {
        let reason = "the client that issued the link was disabled".to_owned();
        // What the client issued while it reached further than the caller is not theirs to end.
        let tenant_ids = reach.tenants.ids();
        let order = BulkRevocation {
            every_tenant: tenant_ids.is_none(),
            portal: reach.portal.clone(),
            issued_by_client_id: Some(id.clone()),
            ..BulkRevocation::new(reason, &actor, client_id.as_ref(), cx.clock.now())
        };
        Some(Prepared::new(cx, order, tenant_ids.unwrap_or_default()).await)
    } else {
        None
    };
    let (revoking, now) = (ending.clone(), ending.as_ref().map_or_else(|| cx.clock.now(), Prepared::at));
    let (client, order) = cx
        .store
        .write(move |tx| {
            tx.judge_before_change(&id)?;
            let known = find_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
            let disabled = records::clients::disable(tx, &id, now)?;
            webhooks::let_go(tx, &id)?;
            // One that is disabled just now may have issued links since they were counted.
            let revoking = revoking.as_ref().filter(|revoking| disabled.is_some() || revoking.may_match());
            let order = revoking.map(|revoking| revoking.enforce(tx)).transpose()?;
            if disabled.is_some() || order.is_some() {
                tx.record(Event::new(EventType::ClientDisabled, actor.clone(), now).client(client_id.as_ref()).with(
                    &serde_json::json!({
                        "client_id": id, "revoked_links": order.as_ref().map_or(0, |order| order.links),
                        "revocation_id": order.as_ref().map(|order| &order.id),
                    }),
                ));
            }
            Ok((disabled.unwrap_or(known), order))
        })
        .await?;
    let revocation_id = match ending {
        Some(ending) => ending.finish(cx, order).await,
        None => None,
    };
    Ok(ClientResponse { revocation_id, ..ClientResponse::of(client, None) })
}

/// A client that a restore has disabled, as the operator reads it before they confirm it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UnconfirmedClient {
    pub id: ClientId,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    portal: Option<String>,
    tenants: Vec<String>,
    scopes: Vec<Scope>,
    created_at: Timestamp,
    /// When name, portal, tenants or scopes were changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_at: Option<Timestamp>,
}

impl From<Client> for UnconfirmedClient {
    fn from(client: Client) -> Self {
        Self {
            tenants: client.tenants.split_whitespace().map(ToOwned::to_owned).collect(),
            scopes: client.scopes(),
            id: client.id,
            name: client.name,
            portal: client.portal,
            created_at: client.created_at,
            changed_at: client.changed_at,
            rotated_at: client.rotated_at,
        }
    }
}

/// Every client that a restore has disabled and nobody has confirmed, in order of id.
pub(crate) async fn unconfirmed(cx: &Context) -> Result<Vec<UnconfirmedClient>, Error> {
    let mut found: Vec<UnconfirmedClient> = Vec::new();
    loop {
        let after = found.last().map(|client| client.id.clone());
        let page = cx.store.read(move |conn| Ok(records::clients::unconfirmed(conn, after.as_ref(), PAGE)?)).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page.into_iter().map(UnconfirmedClient::from));
    }
}

/// Enables a client that a restore has disabled. One that is active is not changed.
///
/// # Errors
/// `client_disabled` where it was disabled otherwise.
pub(crate) async fn confirm(
    cx: &Context,
    caller: &Caller<Admin>,
    id: ClientId,
    now: Timestamp,
) -> Result<ClientResponse, Error> {
    let actor = caller.actor(None);
    let client = cx
        .store
        .write(move |tx| {
            let Some(client) = records::clients::confirm(tx, &id)? else {
                let known = records::clients::find(tx, &id)?.ok_or_else(Error::not_found)?;
                return if known.disabled_at.is_none() { Ok(known) } else { Err(Code::ClientDisabled.into()) };
            };
            webhooks::listen_again(tx, &id)?;
            let event = Event::new(EventType::ClientConfirmed, actor.clone(), now);
            tx.record(event.with(&serde_json::json!({ "client_id": id, "name": client.name })));
            Ok(client)
        })
        .await?;
    Ok(ClientResponse::of(client, None))
}
