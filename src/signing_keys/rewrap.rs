//! Changing the master key: everything that is sealed under the old one is sealed under the new one, in one transaction.
//!
//! Sealed are the private halves of signing keys and of the audit logs' keys, and the secrets of webhook endpoints.
//! Derived are:
//! - the key of digests (repeats of reported events, values of changes as keyed hashes). It stays the same, sealed
//!   under the new master key: what was compared before must stay comparable;
//! - step-up codes. They become others, so open challenges are voided: the page asks for a new code;
//! - signatures of cursors. They become others: whoever is paging starts again (`invalid_cursor`).
//!
//! Instances of the service that run with the old master key notice it by the key epoch, with their next request, and
//! refuse to go on until they are started with the new one.

use serde::Serialize;

use super::require_operator;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::EventType;
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::journal::Event;
use crate::records::master_key::DIGESTS;
use crate::secrets::MasterKey;
use crate::{audit, links, mail, records, webhooks};

/// Result of a change of the master key.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rewrapped {
    /// Name of the master key under which everything is sealed now.
    master_key_id: String,
    /// Whether this call changed it; `false` if it was changed before.
    pub(crate) changed: bool,
    /// Number of signing keys that were sealed again.
    signing_keys: usize,
    /// Number of keys of audit logs that were sealed again.
    log_keys: usize,
    /// Number of secrets of webhook endpoints that were sealed again.
    webhook_secrets: usize,
}

/// Seals every secret under a new master key. Safe to repeat.
///
/// # Errors
/// `master_key_mismatch` if secrets are sealed under a third master key; nothing is changed if any of them does not open.
pub(crate) async fn rewrap(
    cx: &Context,
    caller: &Caller<Admin>,
    old: MasterKey,
    new: MasterKey,
    now: Timestamp,
) -> Result<Rewrapped, Error> {
    require_operator(caller)?;
    let actor = caller.actor(None);
    cx.store
        .write_large(move |tx| {
            let nothing = Rewrapped {
                master_key_id: new.id().to_owned(),
                changed: false,
                signing_keys: 0,
                log_keys: 0,
                webhook_secrets: 0,
            };
            if records::master_key::id(tx)?.as_deref() == Some(new.id()) {
                return Ok(nothing);
            }
            records::signing_keys::lock(tx)?;
            // First: whoever stores a sealed secret holds this row, and is waited for.
            if !records::master_key::replace(tx, old.id(), new.id())? {
                return Err(Error::new(Code::MasterKeyMismatch));
            }
            let again = |name: &str, sealed: &str| old.seal_again(&new, name, sealed).ok_or_else(|| mismatch(name));
            let keys = records::signing_keys::sealed(tx)?;
            for (kid, sealed) in &keys {
                records::signing_keys::seal_again(tx, kid, &again(kid, sealed)?)?;
            }
            let log_keys = audit::seal_keys_again(tx, &again)?;
            let webhook_secrets = webhooks::seal_secrets_again(tx, &again)?;
            let digests = match records::master_key::kept_secret(tx, DIGESTS)? {
                Some(sealed) => Some(again(DIGESTS, &sealed)?),
                None => new.seal(DIGESTS, old.digest_seed()),
            };
            records::master_key::keep_secret(tx, DIGESTS, &digests.ok_or_else(|| mismatch(DIGESTS))?)?;
            links::void_challenges(tx, now)?;
            mail::cancel_codes(tx, now)?;
            // Also where no signing key is left to seal.
            records::signing_keys::raise_epoch(tx)?;
            let done = Rewrapped { changed: true, signing_keys: keys.len(), log_keys, webhook_secrets, ..nothing };
            tx.record(Event::new(EventType::MasterKeyChanged, actor.clone(), now).with(&serde_json::json!({
                "from": old.id(), "to": new.id(), "signing_keys": done.signing_keys, "log_keys": done.log_keys,
                "webhook_secrets": done.webhook_secrets,
            })));
            Ok(done)
        })
        .await
}

fn mismatch(name: &str) -> Error {
    tracing::error!(secret.name = name, "the old master key does not open this secret");
    Error::new(Code::MasterKeyMismatch).detail(format!("the old master key does not open {name}; nothing was changed"))
}
