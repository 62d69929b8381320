//! Changing what a client is called and may do.

use std::sync::Arc;

use serde::Deserialize;
use utoipa::ToSchema;

use super::{ClientResponse, TenantSelector, check_rights, combined, require_apart, with_use, words};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{EventType, Scope, Validator, trimmed_if_present};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::id::ClientId;
use crate::journal::Event;
use crate::records;
use crate::records::clients::Client;
use crate::webhooks;

/// Changes of a client; absent members stay as they are.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Cloud portal back end"}))]
pub struct ChangeClient {
    /// New name of the client for operators.
    #[schema(min_length = 1, max_length = 100)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub name: Option<String>,
    /// Identifier of the portal the client is bound to; an empty text for every portal.
    #[schema(max_length = 32)]
    pub portal: Option<String>,
    /// Tenants the client is bound to, in place of the present ones; `*` for every tenant.
    #[schema(min_items = 1, max_items = 100, value_type = Option<Vec<TenantSelector>>)]
    pub tenants: Option<Vec<String>>,
    /// Scopes of the client, in place of the present ones.
    #[schema(min_items = 1, max_items = 18)]
    pub scopes: Option<Vec<Scope>>,
    /// Scopes that the client is to have although they are kept apart from others, as where a client is created.
    #[serde(default)]
    #[schema(max_items = 18, default = json!([]))]
    pub combined_scopes: Vec<Scope>,
}

/// Changes a client. Both what it was and what it becomes must be such that the caller could create it: nobody raises
/// another client above themselves, or lowers one that stands above them. One that a restore keeps disabled is changed, too:
/// what it lost since the backup is taken from it before it counts again.
pub(crate) async fn change(
    cx: &Context,
    caller: &Caller<Admin>,
    id: ClientId,
    request: ChangeClient,
    now: Timestamp,
) -> Result<ClientResponse, Error> {
    let mut fields = Validator::default();
    fields.optional_text("/name", request.name.as_deref(), 1, 100);
    check_rights(cx, &mut fields, request.portal.as_deref(), request.tenants.as_deref(), request.scopes.as_deref());
    fields.finish()?;
    if let Some(scopes) = &request.scopes {
        require_apart(caller, scopes, &request.combined_scopes)?;
    }
    let (authority, actor, client_id) = (caller.authority(), caller.actor(None), caller.client_id.clone());
    let config = Arc::clone(&cx.config);
    let changed = cx
        .store
        .write(move |tx| {
            tx.judge_before_change(&id)?;
            let before = records::clients::lock(tx, &id)?;
            let before = before.filter(|client| authority.reach.covers_reach(&client.reach()));
            let before = before.ok_or_else(Error::not_found)?;
            authority.require_grantable(&before.authority())?;
            let mut after = before.clone();
            if let Some(name) = &request.name {
                name.trim().clone_into(&mut after.name);
            }
            if let Some(portal) = &request.portal {
                after.portal = Some(portal.clone()).filter(|portal| !portal.is_empty());
            }
            if let Some(tenants) = &request.tenants {
                after.tenants = tenants.join(" ");
            }
            if let Some(scopes) = &request.scopes {
                after.scopes = words(scopes).join(" ");
            }
            authority.require_grantable(&after.authority())?;
            let said = |client: &Client| {
                serde_json::json!({ "name": client.name, "portal": client.portal, "tenants": client.tenants,
                    "scopes": client.scopes })
            };
            if said(&before) == said(&after) && before.may_change() {
                return Ok(before);
            }
            let after = records::clients::change(tx, &after, now)?.ok_or(Code::ClientDisabled)?;
            webhooks::follow(tx, &before, &after, &config.webhooks)?;
            let event = Event::new(EventType::ClientChanged, actor.clone(), now).client(client_id.as_ref());
            tx.record(event.with(&serde_json::json!({
                "client_id": id, "before": said(&before), "after": said(&after),
                "combined_scopes": combined(&request.combined_scopes),
            })));
            Ok(after)
        })
        .await?;
    with_use(cx, ClientResponse::of(changed, None)).await
}
