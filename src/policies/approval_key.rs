//! A tenant's approval key: with it the customer signs each approval, so that nobody else can approve.
//!
//! The key itself signs what takes its place. An operator can order a change without that: it takes effect after three
//! days, of which every contact of the tenant is told at once, and until then it can be cancelled.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{
    Actor, EventType, Person, PublicKey, Validator, check_person, is_tenant_id, refuse_support_session,
};
use crate::error::{Code, Error};
use crate::http::{Caller, ReadTenants, WritePolicies};
use crate::journal::Event;
use crate::journal::leaf::ApprovalProof;
use crate::mail::{self, notices};
use crate::records::approval_keys::{self as keys, ApprovalKeyRow};
use crate::records::restores;
use crate::records::tenants::{self, Tenant};
use crate::store::Tx;
use crate::tokens::{CustomerSigned, KEY_CHANGE_WAIT, NO_KEY, Signed, check_signed};

/// Number of persons who are no contacts any more and hear of changes all the same.
const MAX_TOLD: usize = 50;

/// Key with which a tenant signs approvals.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "public_key": {"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
    "requested_by": {"id": "emp-7", "name": "Meera Iyer"}
}))]
pub struct SaveApprovalKey {
    /// The public key.
    pub public_key: PublicKey,
    /// What the key in effect says of the change: a JWS (ES256) in compact form with `typ`
    /// `magic-link-approval-key+jwt` and its thumbprint as `kid`, over exactly `tenant_id`, `key_thumbprint` (of the next
    /// key), `iat` and `exp`. Needed where a key is in effect, unless an operator orders the change.
    #[schema(max_length = 16384)]
    pub signed_change: Option<String>,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Removal of a tenant's approval key.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct RemoveApprovalKey {
    /// What the key says of its removal, as where it is replaced; `key_thumbprint` is `none`.
    #[schema(max_length = 16384)]
    pub signed_change: Option<String>,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Cancellation of an ordered change of a tenant's approval key.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct CancelApprovalKeyChange {
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Key with which a tenant signs approvals.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ApprovalKeyResponse {
    /// Portal's identifier of the tenant.
    #[schema(max_length = 64)]
    tenant_id: String,
    /// Whether approvals there have to be signed: whether a key is in effect.
    required: bool,
    /// The key in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<PublicKey>,
    /// Its thumbprint (RFC 7638): the `kid` of what it signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 43)]
    key_thumbprint: Option<String>,
    /// Since when it is (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// The change that an operator has ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    ordered_change: Option<OrderedKeyChange>,
}

/// Change of a tenant's approval key that an operator has ordered, and that waits.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OrderedKeyChange {
    /// The next key; absent where nothing is to be signed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<PublicKey>,
    /// Its thumbprint (RFC 7638).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 43)]
    key_thumbprint: Option<String>,
    /// When the change was ordered (RFC 3339, UTC).
    ordered_at: Timestamp,
    /// When it takes effect, unless it is cancelled (RFC 3339, UTC).
    effective_at: Timestamp,
}

/// The key in effect, and since when.
pub(crate) fn in_effect(
    conn: &mut Conn,
    tenant_id: &str,
    now: Timestamp,
) -> Result<Option<(PublicKey, Timestamp)>, Error> {
    match keys::in_effect(conn, tenant_id, now)? {
        Some(row) => row.key_since(),
        None => Ok(None),
    }
}

fn shown(conn: &mut Conn, tenant_id: &str, now: Timestamp) -> Result<ApprovalKeyResponse, Error> {
    let (public_key, since) = in_effect(conn, tenant_id, now)?.unzip();
    let ordered_change = match keys::ordered(conn, tenant_id, now)? {
        None => None,
        Some(row) => {
            let public_key = row.key()?;
            let key_thumbprint = public_key.as_ref().map(PublicKey::thumbprint);
            let (ordered_at, effective_at) = (row.created_at, row.effective_at);
            Some(OrderedKeyChange { public_key, key_thumbprint, ordered_at, effective_at })
        }
    };
    Ok(ApprovalKeyResponse {
        tenant_id: tenant_id.to_owned(),
        required: public_key.is_some(),
        key_thumbprint: public_key.as_ref().map(PublicKey::thumbprint),
        public_key,
        since,
        ordered_change,
    })
}

/// Locks a registered tenant within the caller's reach.
fn registered(tx: &mut Tx<'_>, tenant_id: &str) -> Result<Tenant, Error> {
    let unknown = || Error::not_found().detail("register the tenant first: PUT /v1/tenants/{id}");
    tenants::lock(tx, tenant_id)?.ok_or_else(unknown)
}

/// Checks who asks, and for which tenant.
fn check<S>(
    caller: &Caller<S>,
    tenant_id: &str,
    requested_by: Option<&Person>,
    acting_session_id: Option<&str>,
) -> Result<(), Error> {
    refuse_support_session(acting_session_id)?;
    let mut fields = Validator::default();
    check_person(&mut fields, "/requested_by", requested_by);
    fields.finish()?;
    if !is_tenant_id(tenant_id) || !caller.reach.covers_tenant(tenant_id) {
        return Err(Error::not_found());
    }
    // It binds every portal of the tenant.
    caller.require_every_portal("an approval key")
}

/// When a change takes effect: at once where there was no key, or where the key in effect has signed it.
fn takes_effect(
    (current, since): (&PublicKey, Timestamp),
    (tenant_id, next): (&str, Option<&PublicKey>),
    signed: Option<&str>,
    is_operator: bool,
    now: Timestamp,
) -> Result<Timestamp, Error> {
    let Some(signed) = signed else {
        if is_operator {
            return Ok(now.plus(KEY_CHANGE_WAIT));
        }
        let detail = "the key in effect must sign the change (`signed_change`), or an operator order it";
        return Err(Error::new(Code::CustomerSignatureRequired).detail(detail));
    };
    let expected = json!({ "tenant_id": tenant_id, "key_thumbprint": thumbprint(next) });
    let checked = CustomerSigned::verify(signed, Signed::KeyChange, current).and_then(|signed| {
        // One that was signed before the key was in effect is of an earlier time at which it was.
        signed.check_time(since, now)?;
        signed.check_terms(&expected)
    });
    checked.map_err(invalid).map(|()| now)
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::CustomerSignatureInvalid).field("/signed_change", "invalid", why)
}

fn thumbprint(key: Option<&PublicKey>) -> String {
    key.map_or_else(|| NO_KEY.to_owned(), PublicKey::thumbprint)
}

/// Puts another key, or none, in the place of the one in effect.
async fn change(
    cx: &Context,
    caller: &Caller<WritePolicies>,
    tenant_id: String,
    next: Option<PublicKey>,
    (signed, requested_by): (Option<String>, Option<Person>),
    now: Timestamp,
) -> Result<ApprovalKeyResponse, Error> {
    let mut fields = Validator::default();
    if next.as_ref().is_some_and(|key| !key.is_on_the_curve()) {
        fields.error("/public_key", "malformed", "must be the coordinates of a point on P-256");
    }
    check_signed(&mut fields, "/signed_change", signed.as_deref());
    fields.finish()?;
    let stored = next.as_ref().map(serde_json::to_string).transpose().map_err(Error::internal)?;
    let (actor, client_id) = (caller.actor(requested_by.as_ref()), caller.client_id.clone());
    let is_operator = caller.authority().is_operator();
    let per_hour = cx.config.limits.mails_per_recipient_hour;
    cx.store
        .write(move |tx| {
            let tenant = registered(tx, &tenant_id)?;
            let row = keys::in_effect(tx, &tenant_id, now)?;
            let current = row.as_ref().map(ApprovalKeyRow::key_since).transpose()?.flatten();
            if current.as_ref().map(|(key, _)| key) == next.as_ref() {
                return shown(tx, &tenant_id, now);
            }
            if tenant.contacts().is_empty() {
                let detail = "the tenant has no contact who could be told: name one first, PUT /v1/tenants/{id}";
                return Err(Error::new(Code::ValidationFailed).detail(detail));
            }
            // Where no key is in effect, nobody's word is asked for.
            let signed = signed.clone().filter(|_| current.is_some());
            let effective_at = match &current {
                None => now,
                Some((key, since)) => {
                    takes_effect((key, *since), (&tenant_id, next.as_ref()), signed.as_deref(), is_operator, now)?
                }
            };
            if let Some(signed) = &signed
                && keys::is_used(tx, &tenant_id, signed)?
            {
                return Err(invalid("it has made a change before"));
            }
            // Whoever heard of the key in effect hears of this one, though the contacts were changed before.
            let contacts = mail::told_contacts(tx, &tenant_id, now)?;
            let mut told = row.map(|row| row.told()).unwrap_or_default();
            told.retain(|one| contacts.iter().all(|other| other.email != one.email));
            // Of more than can be told, those who heard first: nobody pushes them out by changing contacts.
            told.drain(..told.len().saturating_sub(MAX_TOLD));
            told.splice(0..0, contacts);
            let lately = mail::within_the_hour(now);
            let changed = keys::changed(tx, (&tenant_id, client_id.as_ref()), lately, per_hour.into())?;
            mail::require_room(changed, per_hour, now)?;
            // It takes the place of one that waits.
            if let Some(waiting) = keys::ordered(tx, &tenant_id, now)? {
                keys::cancel(tx, (&tenant_id, waiting.seq), &actor, now)?;
            }
            let seq = keys::newest(tx, &tenant_id)?.map_or(1, |newest| newest.seq + 1);
            let by = (&actor, client_id.as_ref());
            let row =
                ApprovalKeyRow::new((&tenant_id, seq), stored.clone(), signed.clone(), effective_at, by, &told, now);
            keys::insert(tx, &row)?;
            notices::approval_key_changed(tx, &tenant, &row, now)?;
            let kind =
                if effective_at == now { EventType::ApprovalKeyChanged } else { EventType::ApprovalKeyChangeOrdered };
            let proof = ApprovalProof::of(signed.as_deref(), thumbprint(next.as_ref()));
            let event = Event::new(kind, actor.clone(), now).client(client_id.as_ref()).tenant(&tenant_id);
            let event = event.approval(Some(&proof));
            tx.record(event.with(&json!({
                "before": thumbprint(current.as_ref().map(|(key, _)| key)), "after": thumbprint(next.as_ref()),
                "public_key": next, "effective_at": effective_at, "signed_change": signed,
            })));
            shown(tx, &tenant_id, now)
        })
        .await
}

/// Registers a tenant's approval key, or replaces it.
pub(crate) async fn save(
    cx: &Context,
    caller: &Caller<WritePolicies>,
    tenant_id: String,
    request: SaveApprovalKey,
    now: Timestamp,
) -> Result<ApprovalKeyResponse, Error> {
    let SaveApprovalKey { public_key, signed_change, requested_by, acting_session_id } = request;
    check(caller, &tenant_id, requested_by.as_ref(), acting_session_id.as_deref())?;
    change(cx, caller, tenant_id, Some(public_key), (signed_change, requested_by), now).await
}

/// Removes a tenant's approval key: nothing has to be signed any more.
pub(crate) async fn remove(
    cx: &Context,
    caller: &Caller<WritePolicies>,
    tenant_id: String,
    request: RemoveApprovalKey,
    now: Timestamp,
) -> Result<ApprovalKeyResponse, Error> {
    let RemoveApprovalKey { signed_change, requested_by, acting_session_id } = request;
    check(caller, &tenant_id, requested_by.as_ref(), acting_session_id.as_deref())?;
    change(cx, caller, tenant_id, None, (signed_change, requested_by), now).await
}

/// Cancels the change that an operator has ordered; without one nothing happens.
pub(crate) async fn cancel(
    cx: &Context,
    caller: &Caller<WritePolicies>,
    tenant_id: String,
    request: CancelApprovalKeyChange,
    now: Timestamp,
) -> Result<ApprovalKeyResponse, Error> {
    check(caller, &tenant_id, request.requested_by.as_ref(), request.acting_session_id.as_deref())?;
    let (actor, client_id) = (caller.actor(request.requested_by.as_ref()), caller.client_id.clone());
    cx.store
        .write(move |tx| {
            let tenant = registered(tx, &tenant_id)?;
            let waiting = keys::ordered(tx, &tenant_id, now)?;
            let cancelled = match waiting {
                Some(waiting) => keys::cancel(tx, (&tenant_id, waiting.seq), &actor, now)?,
                None => None,
            };
            if let Some(row) = cancelled {
                notices::approval_key_changed(tx, &tenant, &row, now)?;
                let event = Event::new(EventType::ApprovalKeyChangeCancelled, actor.clone(), now);
                let data = json!({ "after": thumbprint(row.key()?.as_ref()), "effective_at": row.effective_at });
                tx.record(event.client(client_id.as_ref()).tenant(&tenant_id).with(&data));
            }
            shown(tx, &tenant_id, now)
        })
        .await
}

/// Key with which a tenant signs approvals, after a restore: it may have been replaced or removed since the backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestoredApprovalKey {
    tenant_id: String,
    key_thumbprint: String,
    since: Timestamp,
}

/// Cancels the changes that were ordered and that a restored backup has not seen in effect: each may have been cancelled
/// since, although its time has come. Returns the tenant of each; [`cancelled_by_restore`] records it.
pub(crate) fn cancel_key_changes(tx: &mut Tx<'_>, actor: &Actor, now: Timestamp) -> Result<Vec<String>, Error> {
    // What is signed is signed by a service that runs, and not by a command that somebody ran before the restore.
    let seen = restores::newest_checkpoint_at(tx)?.map(|seen| seen.min(now));
    Ok(keys::cancel_unseen(tx, seen, actor, now)?)
}

/// The event of each of them, which follows `log.restored` in the log of the tenant.
pub(crate) fn cancelled_by_restore(tenant_id: &str, actor: &Actor, now: Timestamp) -> Event {
    Event::new(EventType::ApprovalKeyChangeCancelled, actor.clone(), now).tenant(tenant_id)
}

/// What counts of all tenants that ever had a key: the key, or that there is none any more.
pub(crate) async fn restored_keys(cx: &Context, now: Timestamp) -> Result<Vec<RestoredApprovalKey>, Error> {
    let rows = cx.store.read(move |conn| Ok(keys::all_in_effect(conn, now)?)).await?;
    let shown = |row: ApprovalKeyRow| {
        let key_thumbprint = thumbprint(row.key()?.as_ref());
        Ok(RestoredApprovalKey { tenant_id: row.tenant_id, key_thumbprint, since: row.effective_at })
    };
    rows.into_iter().map(shown).collect()
}

/// The approval key of a tenant, registered or not.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<ReadTenants>,
    tenant_id: String,
    now: Timestamp,
) -> Result<ApprovalKeyResponse, Error> {
    if !is_tenant_id(&tenant_id) || !caller.reach.covers_tenant(&tenant_id) {
        return Err(Error::not_found());
    }
    cx.store.read(move |conn| shown(conn, &tenant_id, now)).await
}
