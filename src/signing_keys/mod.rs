//! A signing key signs every token; operators rotate, retire and revoke it.
//!
//! Every change raises the key epoch, which each request reads with its snapshot:
//! all instances of the service use the new keys from their next request on.

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Reach, Validator, trimmed};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::journal::Event;
use crate::records;
use crate::records::signing_keys::{KeyRevocation, SigningKeyRow};
use crate::store::{IdempotencyKey, Tx, Worker, idempotency};
use crate::tokens::keyring::{self, SigningKey};
use crate::tokens::{self, KeyState};

mod carry_out;
mod rewrap;
pub(crate) mod routes;

pub(crate) use carry_out::step;
pub(crate) use rewrap::rewrap;

/// How long a key is published before it signs: portals cache the JWK set that long.
const PUBLISHED_BEFORE_USE: Duration = Duration::hours(24);

/// The same for portals that read the JWK set whenever they meet an unknown key identifier.
const AT_ONCE: Duration = Duration::minutes(1);

/// Largest number of keys that are published, and of those that are listed.
const LISTED: u16 = 100;

/// Request to publish a new signing key.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"at_once": false}))]
pub struct RotateKey {
    /// Whether the key begins to sign after a minute, rather than after 24 hours: for portals that read the JWK set
    /// whenever they meet an unknown key identifier.
    #[serde(default)]
    #[schema(default = false)]
    pub at_once: bool,
}

/// Request to revoke a signing key.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "A backup with the master key was lost"}))]
pub struct RevokeKey {
    /// Why the key is revoked; for operators, not for the tenants whose links are revoked with it.
    #[schema(min_length = 3, max_length = 400)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Whether links that hang on the key are kept, rather than revoked: each gets a fresh token that voids the older
    /// ones, and it is mailed to the registered address. Their sessions end all the same.
    #[serde(default)]
    #[schema(default = false)]
    pub fresh_links: bool,
}

/// List of signing keys.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SigningKeys {
    /// Newest first, all published ones among them.
    #[schema(max_items = 100)]
    items: Vec<SigningKey>,
}

/// Revoked signing key, and the effects of its revocation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RevokedKey {
    /// Identifier of the key: its JWK thumbprint (RFC 7638).
    #[schema(max_length = 64)]
    pub kid: String,
    /// State of the key: always `expired`.
    pub state: KeyState,
    /// Number of links revoked so far because the key had signed their unspent tokens.
    #[schema(minimum = 0)]
    pub revoked_links: i64,
    /// Number of sessions ended so far because the key had signed their access tokens, or what opened them.
    #[schema(minimum = 0)]
    pub ended_sessions: i64,
    /// Number of links for which a fresh one was mailed so far, because the order asked for it.
    #[schema(minimum = 0)]
    pub renewed_links: i64,
    /// When the last of them was ended; absent while a worker still does so. None of them is accepted meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
    /// Identifier of the key created as replacement, if no other key could sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub replaced_by: Option<String>,
}

/// The keys, newest first: all that are published, and the newest of those that are expired or revoked.
pub(crate) async fn list(cx: &Context, caller: &Caller<Admin>, now: Timestamp) -> Result<SigningKeys, Error> {
    require_operator(caller)?;
    let rows = cx.store.read(move |conn| Ok(records::signing_keys::list(conn, LISTED.into(), now)?)).await?;
    Ok(SigningKeys { items: SigningKey::of_all(rows.iter(), now) })
}

/// Publishes a new key. Earlier keys stay published until everything they signed has expired.
pub(crate) async fn rotate(
    cx: &Context,
    caller: &Caller<Admin>,
    request: &RotateKey,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<SigningKey, Error> {
    require_operator(caller)?;
    let active_from = now.plus(if request.at_once { AT_ONCE } else { PUBLISHED_BEFORE_USE });
    let fresh = keyring::generate(cx.tokens.master_key(), now, active_from)?;
    let longest_use = cx.tokens.longest_use();
    let key_id = cx.tokens.master_key().id().to_owned();
    let event = Event::key_added(&fresh.kid, active_from, caller.actor(None), now).client(caller.client_id.as_ref());
    let row = cx
        .store
        .write_large(move |tx| {
            // Keys have no reach: they are an operator's.
            let known = |tx: &mut Tx<'_>, kid: &String, _: &Reach| Ok(records::signing_keys::find(tx, kid)?);
            if let Some(made) = idempotency::once(tx, idempotency.as_ref(), &fresh.kid, now, known)? {
                return Ok(made);
            }
            records::signing_keys::lock(tx)?;
            tokens::hold_master_key(tx, &key_id)?;
            require_room(&records::signing_keys::list_usable(tx, now)?, now)?;
            records::signing_keys::insert(tx, &fresh)?;
            records::signing_keys::plan_expiry(tx, longest_use, now)?;
            tx.record(event.clone());
            Ok(fresh.clone())
        })
        .await?;
    cx.tokens.refresh(&cx.store, now).await?;
    let key = SigningKey::of_all(std::iter::once(&row), now).pop().ok_or_else(Error::not_found)?;
    Ok(key)
}

/// Refuses one more key where portals would have to read more than are described.
fn require_room(published: &[SigningKeyRow], now: Timestamp) -> Result<(), Error> {
    if published.len() < usize::from(LISTED) {
        return Ok(());
    }
    let first = published.iter().filter_map(|key| key.expires_at).min();
    let wait = first.map_or(1, |first| first.since(now).whole_seconds().max(1).unsigned_abs());
    let detail = format!("{LISTED} keys are published: wait until the first of them expires, or revoke one");
    Err(Error::new(Code::RateLimited).detail(detail).retry_after(wait))
}

/// Stops a key from signing; what it signed stays valid. A retired or expired key is not changed.
pub(crate) async fn retire(
    cx: &Context,
    caller: &Caller<Admin>,
    kid: String,
    now: Timestamp,
) -> Result<SigningKey, Error> {
    require_operator(caller)?;
    let longest_use = cx.tokens.longest_use();
    let event = Event::new(EventType::KeyRetired, caller.actor(None), now)
        .client(caller.client_id.as_ref())
        .with(&serde_json::json!({ "kid": kid }));
    let rows = cx
        .store
        .write_large(move |tx| {
            records::signing_keys::lock(tx)?;
            let known = records::signing_keys::find(tx, &kid)?.ok_or_else(Error::not_found)?;
            if known.retired_at.is_none() && known.expires_at.is_none_or(|expires_at| expires_at > now) {
                if !records::signing_keys::can_sign(tx, Some(&kid), now)? {
                    return Err(Code::LastSigningKey.into());
                }
                records::signing_keys::retire(tx, &kid, now.plus(longest_use), now)?;
                records::signing_keys::plan_expiry(tx, longest_use, now)?;
                tx.record(event.clone());
            }
            Ok(records::signing_keys::find(tx, &kid)?)
        })
        .await?;
    cx.tokens.refresh(&cx.store, now).await?;
    SigningKey::of_all(rows.iter(), now).pop().ok_or_else(Error::not_found)
}

/// Revokes a key: it expires at once, and so does what it signed.
///
/// That is ended range by range: some of it before the response, the rest by a worker. If no other key can sign, a new
/// key is created that signs from now on; at the command line without the master key, the service does so.
pub(crate) async fn revoke_key(
    cx: &Context,
    caller: &Caller<Admin>,
    kid: String,
    request: RevokeKey,
    now: Timestamp,
) -> Result<RevokedKey, Error> {
    require_operator(caller)?;
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 3, 400);
    fields.finish()?;
    let (actor, client_id) = (caller.actor(None), caller.client_id.clone());
    // Without the master key, an instance that has it creates the next key.
    let spare = match cx.tokens.master_key() {
        absent if absent.is_absent() => None,
        master_key => Some(keyring::generate(master_key, now, now)?),
    };
    let (revoked, key_id) = (kid.clone(), cx.tokens.master_key().id().to_owned());
    let longest_use = cx.tokens.longest_use();
    let revocation = cx
        .store
        .write_large(move |tx| {
            records::signing_keys::lock(tx)?;
            if records::signing_keys::revoke_key(tx, &kid, now)?.is_none() {
                records::signing_keys::find(tx, &kid)?.ok_or_else(Error::not_found)?;
                return Ok(records::signing_keys::find_revocation(tx, &kid)?);
            }
            let signs = records::signing_keys::can_sign(tx, None, now)?;
            let spare = if signs { None } else { spare.as_ref() };
            if !signs && spare.is_none() {
                // Better one that not every portal knows yet than none.
                records::signing_keys::begin_next(tx, now)?;
            }
            if let Some(spare) = spare {
                tokens::hold_master_key(tx, &key_id)?;
                records::signing_keys::insert(tx, spare)?;
                tx.record(Event::key_added(&spare.kid, now, actor.clone(), now).client(client_id.as_ref()));
            }
            records::signing_keys::plan_expiry(tx, longest_use, now)?;
            let revocation = KeyRevocation {
                client_id: client_id.clone(),
                replaced_by: spare.map(|spare| spare.kid.clone()),
                renews: request.fresh_links,
                ..KeyRevocation::new(&kid, &request.reason, &actor, now)
            };
            records::signing_keys::insert_revocation(tx, &revocation)?;
            tx.record(Event::new(EventType::KeyRevoked, actor.clone(), now).client(client_id.as_ref()).with(
                &serde_json::json!({
                    "kid": kid, "reason": request.reason, "replaced_by": revocation.replaced_by,
                    "fresh_links": request.fresh_links,
                }),
            ));
            Ok(Some(revocation))
        })
        .await?;
    let open = revocation.filter(|revocation| revocation.done_at.is_none());
    if let Some(revocation) = &open {
        // It is in force already: a failure is not reported to the caller, because the worker retries.
        let outcome = match cx.tokens.refresh(&cx.store, now).await {
            Ok(()) => carry_out::carry_out(cx, revocation, carry_out::AT_ONCE).await,
            failed => failed,
        };
        if let Err(error) = outcome {
            tracing::warn!(key.kid = revoked, error.cause = %error, "revocation of a key left to the worker");
        }
        cx.store.wake(Worker::Revocations);
    }
    read_revoked(cx, revoked).await
}

/// Revokes every key in the caller's transaction, and adds one that signs from now on; returns how many were revoked.
///
/// What the keys signed is not ended here: whoever calls this ends everything.
pub(crate) fn replace_all(
    tx: &mut Tx<'_>,
    fresh: &SigningKeyRow,
    reason: &str,
    actor: &Actor,
    now: Timestamp,
) -> Result<usize, Error> {
    records::signing_keys::lock(tx)?;
    let known = records::signing_keys::list_usable(tx, now)?;
    for key in &known {
        records::signing_keys::revoke_key(tx, &key.kid, now)?;
        // A clock that was set back may find a key usable that is revoked.
        if records::signing_keys::find_revocation(tx, &key.kid)?.is_none() {
            let replaced_by = Some(fresh.kid.clone());
            let revocation = KeyRevocation { replaced_by, ..KeyRevocation::new(&key.kid, reason, actor, now) };
            records::signing_keys::insert_revocation(tx, &revocation)?;
        }
        let data = serde_json::json!({ "kid": key.kid, "reason": reason, "replaced_by": fresh.kid });
        tx.record(Event::new(EventType::KeyRevoked, actor.clone(), now).with(&data));
    }
    records::signing_keys::insert(tx, fresh)?;
    tx.record(Event::key_added(&fresh.kid, fresh.active_from, actor.clone(), now));
    Ok(known.len())
}

/// Carries the revocation of a key out to its end, for the command line: there may be no worker.
pub(crate) async fn finish(cx: &Context, mut revoked: RevokedKey) -> Result<RevokedKey, Error> {
    // What waits for a restore that broke off is left to the one that repeats it.
    let waits = |conn: &mut Conn| Ok(records::restores::has_queues_to_cancel(conn)?);
    while revoked.done_at.is_none() && !cx.store.read(waits).await? {
        carry_out::step(cx).await?;
        revoked = read_revoked(cx, revoked.kid).await?;
        if revoked.done_at.is_none() {
            // An instance of the service may be carrying it out.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(revoked)
}

/// A revoked or expired key, and what was ended with it.
async fn read_revoked(cx: &Context, kid: String) -> Result<RevokedKey, Error> {
    cx.store
        .read(move |conn| {
            let key = records::signing_keys::find(conn, &kid)?.ok_or_else(Error::not_found)?;
            let revocation = records::signing_keys::find_revocation(conn, &kid)?;
            Ok(RevokedKey {
                kid,
                state: KeyState::Expired,
                revoked_links: revocation.as_ref().map_or(0, |done| done.links),
                ended_sessions: revocation.as_ref().map_or(0, |done| done.sessions),
                renewed_links: revocation.as_ref().map_or(0, |done| done.renewed),
                // A key that expired by itself had signed nothing that was still valid.
                done_at: revocation.as_ref().map_or(key.expires_at, |done| done.done_at),
                replaced_by: revocation.and_then(|done| done.replaced_by),
            })
        })
        .await
}

/// Keys sign for every tenant and portal, so only operators manage them.
fn require_operator(caller: &Caller<Admin>) -> Result<(), Error> {
    caller.require_operator("managing signing keys")
}
