//! The keys that sign checkpoints: Ed25519, sealed at rest; the newest one signs.
//!
//! Each log signs under its own name, its *origin* (C2SP `signed-note`), so a
//! checkpoint of one log does not verify as one of another. The origin is fixed
//! when the first key is created, even if the service's URL changes: checkpoints
//! that are kept outside must stay valid.
//!
//! A change of the key ([`change`]) is an event of each log, `log.key_changed`,
//! with a statement that the key before has signed: whoever trusts any key of a
//! log can follow it to the others ([`super::verify`]). The head of a log names
//! the key that signs it, and changes together with the event.

use std::sync::{Arc, PoisonError, RwLock};

use actix_web::web::Data;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use secrecy::{ExposeSecret, SecretSlice};
use serde::Serialize;
use signed_note::{Note, StandardSigner, key_id};

use super::folder::{CheckpointFolder, Whole, require_whole};
use super::store::{self, KeyRow};
use super::verify::introduction;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::http::{Admin, Caller};
use crate::journal::{Event, rows};
use crate::secrets::MasterKey;
use crate::store::{Store, Tx};
use crate::tokens::{hold_master_key, wrong_master_key};

/// Id of the first key's row, and the beginning of all others.
const ID: &str = "checkpoints";

/// Algorithm byte of Ed25519 in signed-note keys.
const ED25519: u8 = 1;

/// Number of logs that one transaction tells of a new key.
const LOGS_A_TIME: i64 = 50;

/// Signs checkpoints. No `Debug`: it holds the private keys.
pub(crate) struct LogKey {
    /// Prefix of every origin: the service's URL without its scheme when the first key was created.
    service: String,
    /// The newest last.
    signers: RwLock<Vec<Arc<LogSigner>>>,
}

/// One key of the logs.
pub(super) struct LogSigner {
    id: String,
    seed: SecretSlice<u8>,
    public: Vec<u8>,
}

impl LogSigner {
    fn open(master_key: &MasterKey, row: &KeyRow) -> Result<Self, Error> {
        let seed = master_key.open(&row.id, &row.sealed_private_key);
        let seed = seed.ok_or_else(|| wrong_master_key("it does not open the key that signs checkpoints"))?;
        let public = STANDARD.decode(&row.public_key).map_err(Error::internal)?;
        Ok(Self { id: row.id.clone(), public, seed: seed.into() })
    }

    /// The key that verifies notes of an origin (C2SP `vkey`).
    pub(super) fn verifier_key(&self, origin: &str) -> String {
        verifier_key(&self.public, origin)
    }

    /// Signs a text, which ends with a line break, as a note of an origin.
    pub(super) fn sign(&self, origin: &str, text: &[u8]) -> Result<String, Error> {
        let id = key_id(origin, &marked(&self.public));
        let private = STANDARD.encode(marked(self.seed.expose_secret()));
        let signer =
            StandardSigner::new(&format!("PRIVATE+KEY+{origin}+{id:08x}+{private}")).map_err(Error::internal)?;
        let mut note = Note::new(text, &[]).map_err(Error::internal)?;
        note.add_sigs(&[&signer]).map_err(Error::internal)?;
        String::from_utf8(note.to_bytes()).map_err(Error::internal)
    }
}

impl LogKey {
    /// Opens the stored keys, or creates the first one.
    ///
    /// # Errors
    /// When the store is unavailable, or the master key does not open a stored key.
    pub(crate) async fn open(
        store: &Store,
        master_key: &MasterKey,
        public_url: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let service = service_of(public_url);
        let fresh = generate(master_key, ID, service, now)?;
        let key_id = master_key.id().to_owned();
        let rows = store
            .write(move |tx| {
                let known = store::all_keys(tx)?;
                if !known.is_empty() {
                    return Ok(known);
                }
                hold_master_key(tx, &key_id)?;
                added(tx, &fresh, Actor::system("keyring"), now)?;
                Ok(vec![fresh.clone()])
            })
            .await?;
        let service = rows.first().map_or_else(|| service.to_owned(), |first| first.origin.clone());
        Ok(Self { service, signers: RwLock::new(opened(master_key, &rows)?) })
    }

    /// A key from a fixed seed.
    #[cfg(test)]
    pub(super) fn for_tests(seed: [u8; 32]) -> Self {
        Self { service: "links.example".to_owned(), signers: RwLock::new(vec![Arc::new(LogSigner::for_tests(seed))]) }
    }

    /// Reads the keys again, if another instance has added one.
    pub(super) async fn refresh(&self, cx: &Context) -> Result<(), Error> {
        let newest = cx.store.read(|conn| Ok(store::newest_key_id(conn)?)).await?;
        if newest.is_some_and(|id| id != self.newest().id) {
            let rows = cx.store.read(|conn| Ok(store::all_keys(conn)?)).await?;
            let signers = opened(cx.tokens.master_key(), &rows)?;
            *self.signers.write().unwrap_or_else(PoisonError::into_inner) = signers;
        }
        Ok(())
    }

    fn all(&self) -> Vec<Arc<LogSigner>> {
        self.signers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that signs the logs, or will once they were told of it.
    #[expect(clippy::expect_used, reason = "there is a first key from the start, and none is ever removed")]
    pub(super) fn newest(&self) -> Arc<LogSigner> {
        Arc::clone(self.signers.read().unwrap_or_else(PoisonError::into_inner).last().expect("a key"))
    }

    /// The key with the id that stands at the head of a log; the newest one for a log without events.
    ///
    /// # Errors
    /// `unavailable` while this instance has not read it yet.
    pub(super) fn of_log(&self, id: Option<&str>) -> Result<Arc<LogSigner>, Error> {
        let Some(id) = id else { return Ok(self.newest()) };
        self.all().into_iter().find(|signer| signer.id == id).ok_or_else(Error::unavailable)
    }

    /// The origin of a log. Its name is that of the tenant, and what the last restore has added.
    pub(crate) fn origin(&self, log_name: &str) -> String {
        format!("{}/audit/{log_name}", self.service)
    }

    /// The key that verifies what a signer signs for a log (C2SP `vkey`).
    pub(super) fn verifier_key(&self, signer: &LogSigner, log_name: &str) -> String {
        signer.verifier_key(&self.origin(log_name))
    }
}

/// The public halves of the keys, as the database has them: enough to tell which checkpoints are ours, without the master
/// key.
#[derive(Debug, Clone)]
pub(crate) struct KnownKeys {
    service: String,
    /// The newest last.
    public: Vec<Vec<u8>>,
}

impl KnownKeys {
    /// Reads them. Without any, the service is the one of the URL.
    pub(super) fn read(conn: &mut Conn, public_url: &str) -> Result<Self, Error> {
        let rows = store::public_keys(conn)?;
        let service = rows.first().map_or_else(|| service_of(public_url).to_owned(), |(origin, _)| origin.clone());
        let public = rows.iter().map(|(_, key)| STANDARD.decode(key).map_err(Error::internal));
        Ok(Self { service, public: public.collect::<Result<_, _>>()? })
    }

    /// Reads them.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(crate) async fn of(cx: &Context) -> Result<Self, Error> {
        let url = cx.tokens.issuer().to_owned();
        cx.store.read(move |conn| Self::read(conn, &url)).await
    }

    /// Names the installation, in one line: its service, and the first key of its logs, which it keeps for ever.
    pub(super) fn first(&self) -> String {
        format!("{} {}", self.service, self.public.first().map(|key| STANDARD.encode(key)).unwrap_or_default())
    }

    /// The name of the log with an origin; `None` if it is not one of this service.
    pub(super) fn log_name<'o>(&self, origin: &'o str) -> Option<&'o str> {
        origin.strip_prefix(self.service.as_str())?.strip_prefix("/audit/")
    }

    /// The keys that verify the checkpoints of a log, the newest first.
    pub(super) fn verifier_keys(&self, log_name: &str) -> Vec<String> {
        let origin = format!("{}/audit/{log_name}", self.service);
        self.public.iter().rev().map(|key| verifier_key(key, &origin)).collect()
    }
}

/// What every origin begins with.
fn service_of(public_url: &str) -> &str {
    public_url.split_once("://").map_or(public_url, |(_, rest)| rest)
}

fn verifier_key(public: &[u8], origin: &str) -> String {
    let key = marked(public);
    format!("{origin}+{:08x}+{}", key_id(origin, &key), STANDARD.encode(&key))
}

#[cfg(test)]
impl LogSigner {
    pub(super) fn for_tests(seed: [u8; 32]) -> Self {
        let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
        Self { id: format!("{ID}-{}", seed[0]), seed: seed.to_vec().into(), public }
    }
}

/// Result of a change of the key that signs the audit logs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogKeyChange {
    /// Public key, as it stands in every verifier key: algorithm byte and Ed25519 key, base64.
    pub(crate) public_key: String,
    /// Number of logs that have recorded the change.
    pub(crate) logs: usize,
}

/// Changes the key that signs the audit logs. What it does not finish, the workers do.
///
/// # Errors
/// When the store is unavailable, and those of [`require_whole`].
pub(crate) async fn change(
    cx: &Context,
    key: &Data<LogKey>,
    folder: &CheckpointFolder,
    caller: &Caller<Admin>,
    now: Timestamp,
) -> Result<LogKeyChange, Error> {
    let whole = require_whole(cx, folder).await?;
    let mut suffix = [0; 8];
    rand::rng().fill_bytes(&mut suffix);
    let id = format!("{ID}-{:016x}", u64::from_be_bytes(suffix));
    let fresh = generate(cx.tokens.master_key(), &id, &key.service, now)?;
    let (master_key_id, actor) = (cx.tokens.master_key().id().to_owned(), caller.actor(None));
    cx.store
        .write(move |tx| {
            hold_master_key(tx, &master_key_id)?;
            added(tx, &fresh, actor.clone(), now)
        })
        .await?;
    key.refresh(cx).await?;
    let mut logs = 0;
    loop {
        match introduce(cx, key, whole, now).await? {
            0 => break,
            told => logs += told,
        }
    }
    Ok(LogKeyChange { public_key: STANDARD.encode(marked(&key.newest().public)), logs })
}

/// Records the newest key in logs that another one signs; returns their number.
pub(super) async fn introduce(cx: &Context, key: &Data<LogKey>, _: Whole, now: Timestamp) -> Result<usize, Error> {
    let newest = key.newest();
    let id = newest.id.clone();
    let logs = cx.store.read(move |conn| Ok(store::logs_without_key(conn, &id, LOGS_A_TIME)?)).await?;
    if logs.is_empty() {
        return Ok(0);
    }
    let key = key.clone();
    let told = cx.store.write_large(move |tx| {
        // The row that all have in common, whichever key they know: what follows sees what others have told before.
        store::lock_key(tx, ID)?;
        if store::newest_key_id(tx)?.as_deref() != Some(&newest.id) {
            // Whoever knows the newer one tells of it.
            return Ok(0);
        }
        for tenant_id in &logs {
            let log = rows::named_head(tx, tenant_id)?;
            // Another instance may have told it meanwhile.
            if log.key_id.as_deref() != Some(&newest.id) {
                let before = key.of_log(log.key_id.as_deref())?;
                tx.record(changed(&key.origin(&log.name), &before, &newest, now)?.tenant(tenant_id));
            }
        }
        Ok(logs.len())
    });
    told.await
}

/// The event by which the key before introduces the next one.
fn changed(origin: &str, before: &LogSigner, next: &LogSigner, now: Timestamp) -> Result<Event, Error> {
    let (previous_key, key) = (before.verifier_key(origin), next.verifier_key(origin));
    let statement = before.sign(origin, introduction(origin, &key).as_bytes())?;
    let event = Event::new(EventType::LogKeyChanged, Actor::system("checkpoints"), now);
    Ok(event.with(&serde_json::json!({
        "previous_key": previous_key, "key": key, "key_id": next.id, "statement": statement,
    })))
}

/// Stores a key, and records it.
fn added(tx: &mut Tx<'_>, fresh: &KeyRow, by: Actor, now: Timestamp) -> Result<(), Error> {
    store::insert_key(tx, fresh)?;
    let event = Event::new(EventType::KeyAdded, by, now);
    tx.record(event.with(&serde_json::json!({ "use": ID, "public_key": fresh.public_key })));
    Ok(())
}

fn opened(master_key: &MasterKey, rows: &[KeyRow]) -> Result<Vec<Arc<LogSigner>>, Error> {
    rows.iter().map(|row| Ok(Arc::new(LogSigner::open(master_key, row)?))).collect()
}

/// Seals the private keys of the logs again, under another master key; returns their number.
pub(crate) fn seal_keys_again(
    conn: &mut Conn,
    again: &impl Fn(&str, &str) -> Result<String, Error>,
) -> Result<usize, Error> {
    let keys = store::sealed_keys(conn)?;
    for (id, sealed) in &keys {
        store::seal_key_again(conn, id, &again(id, sealed)?)?;
    }
    Ok(keys.len())
}

/// A key in signed-note form: algorithm byte, then key.
fn marked(key: &[u8]) -> Vec<u8> {
    [&[ED25519], key].concat()
}

fn generate(master_key: &MasterKey, id: &str, service: &str, now: Timestamp) -> Result<KeyRow, Error> {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(Error::internal)?;
    let sealed = master_key.seal(id, &seed).ok_or_else(|| Error::internal("cannot seal the key of the log"))?;
    Ok(KeyRow {
        id: id.to_owned(),
        origin: service.to_owned(),
        public_key: STANDARD.encode(pair.public_key()),
        sealed_private_key: sealed,
        created_at: now,
    })
}
