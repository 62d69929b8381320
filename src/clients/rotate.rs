//! Giving a client a new key.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{ClientResponse, find_within};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{EventType, Validator};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::id::ClientId;
use crate::journal::Event;
use crate::records;
use crate::secrets::ApiKey;

/// Request to rotate a client's API key.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 3600}))]
pub struct RotateClient {
    /// How long the old key stays valid, in seconds: at most 30 days; default 0.
    #[schema(minimum = 0, maximum = 2_592_000, default = 0)]
    pub overlap_seconds: Option<i64>,
    /// Whether nobody has got the newest key: it ends, and the one before it stays valid as was told. Without
    /// `overlap_seconds`.
    #[serde(default)]
    #[schema(default = false)]
    pub newest_lost: bool,
}

/// Gives a client a new key; the old key stays valid for the overlap. Only for a client that the caller could create:
/// the new key gives the caller all that it opens.
pub(crate) async fn rotate(
    cx: &Context,
    caller: &Caller<Admin>,
    id: ClientId,
    request: &RotateClient,
    now: Timestamp,
) -> Result<ClientResponse, Error> {
    let mut fields = Validator::default();
    let rotation = fields.rotation((request.overlap_seconds, 0), request.newest_lost, now);
    fields.finish()?;
    let key = ApiKey::generate(&id);
    let hash = key.sha256();
    let authority = caller.authority();
    let event = Event::new(EventType::ClientRotated, caller.actor(None), now).client(caller.client_id.as_ref()).with(
        &serde_json::json!({
            "client_id": id, "overlap_seconds": rotation.overlap_seconds(now), "newest_lost": rotation.newest_lost(),
        }),
    );
    let client = cx
        .store
        .write(move |tx| {
            tx.judge_before_change(&id)?;
            let known = find_within(tx, &id, &authority.reach)?.ok_or_else(Error::not_found)?;
            authority.require_grantable(&known.authority())?;
            let Some(rotated) = records::clients::rotate(tx, &id, &hash, rotation, now)? else {
                let may_change = records::clients::find(tx, &id)?.is_some_and(|client| client.may_change());
                return Err(if may_change { Code::OverlapRunning } else { Code::ClientDisabled }.into());
            };
            tx.record(event.clone());
            Ok(rotated)
        })
        .await?;
    Ok(ClientResponse::of(client, Some(&key)))
}
