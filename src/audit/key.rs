//! The key that signs checkpoints: Ed25519, one per service, sealed at rest.
//!
//! Each log signs under its own name, its *origin* (C2SP `signed-note`), so a
//! checkpoint of one log does not verify as one of another. The origin is fixed
//! when the key is created, even if the service's URL changes: checkpoints that
//! are kept outside must stay valid.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use secrecy::{ExposeSecret, SecretSlice};
use signed_note::{StandardSigner, key_id};

use super::store::KeyRow;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::journal::Event;
use crate::secrets::MasterKey;
use crate::store::Store;
use crate::tokens::{hold_master_key, wrong_master_key};

/// Id of the key's row.
const ID: &str = "checkpoints";

/// Algorithm byte of Ed25519 in signed-note keys.
const ED25519: u8 = 1;

/// Signs checkpoints. No `Debug`: it holds the private key.
pub(crate) struct LogKey {
    seed: SecretSlice<u8>,
    public: Vec<u8>,
    /// Prefix of every origin: the service's URL without its scheme when the key was created.
    service: String,
}

impl LogKey {
    /// Opens the stored key, or creates it.
    ///
    /// # Errors
    /// When the store is unavailable, or the master key does not open the stored key.
    pub(crate) async fn open(
        store: &Store,
        master_key: &MasterKey,
        public_url: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let service = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
        let fresh = generate(master_key, service, now)?;
        let key_id = master_key.id().to_owned();
        let row = store
            .write(move |tx| {
                if let Some(known) = super::store::find_key(tx, ID)? {
                    return Ok(known);
                }
                hold_master_key(tx, &key_id)?;
                super::store::insert_key(tx, &fresh)?;
                let event = Event::new(EventType::KeyAdded, Actor::system("keyring"), now);
                tx.record(event.with(&serde_json::json!({ "use": ID, "public_key": fresh.public_key })));
                Ok(fresh.clone())
            })
            .await?;
        let seed = master_key.open(ID, &row.sealed_private_key);
        let seed = seed.ok_or_else(|| wrong_master_key("it does not open the key that signs checkpoints"))?;
        let public = STANDARD.decode(&row.public_key).map_err(Error::internal)?;
        Ok(Self { public, seed: seed.into(), service: row.origin })
    }

    /// A key from a fixed seed.
    #[cfg(test)]
    pub(super) fn for_tests(seed: [u8; 32]) -> Self {
        let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
        Self { seed: seed.to_vec().into(), public, service: "links.example".to_owned() }
    }

    /// The origin of a log. Its name is that of the tenant, and what the last restore has added.
    pub(crate) fn origin(&self, log_name: &str) -> String {
        format!("{}/audit/{log_name}", self.service)
    }

    /// The name of the log with an origin; `None` if it is not one of this service.
    pub(crate) fn log_name<'o>(&self, origin: &'o str) -> Option<&'o str> {
        origin.strip_prefix(self.service.as_str())?.strip_prefix("/audit/")
    }

    /// The key that verifies a log's checkpoints (C2SP `vkey`).
    pub(crate) fn verifier_key(&self, log_name: &str) -> String {
        let (origin, key) = (self.origin(log_name), marked(&self.public));
        format!("{origin}+{:08x}+{}", key_id(&origin, &key), STANDARD.encode(&key))
    }

    /// The signer of a log.
    pub(super) fn signer(&self, log_name: &str) -> Result<StandardSigner, Error> {
        let origin = self.origin(log_name);
        let id = key_id(&origin, &marked(&self.public));
        let private = STANDARD.encode(marked(self.seed.expose_secret()));
        StandardSigner::new(&format!("PRIVATE+KEY+{origin}+{id:08x}+{private}")).map_err(Error::internal)
    }
}

/// Seals the private keys of the logs again, under another master key; returns their number.
pub(crate) fn seal_keys_again(
    conn: &mut Conn,
    again: &impl Fn(&str, &str) -> Result<String, Error>,
) -> Result<usize, Error> {
    let keys = super::store::sealed_keys(conn)?;
    for (id, sealed) in &keys {
        super::store::seal_key_again(conn, id, &again(id, sealed)?)?;
    }
    Ok(keys.len())
}

/// A key in signed-note form: algorithm byte, then key.
fn marked(key: &[u8]) -> Vec<u8> {
    [&[ED25519], key].concat()
}

fn generate(master_key: &MasterKey, service: &str, now: Timestamp) -> Result<KeyRow, Error> {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(Error::internal)?;
    let sealed = master_key.seal(ID, &seed).ok_or_else(|| Error::internal("cannot seal the key of the log"))?;
    Ok(KeyRow {
        id: ID.to_owned(),
        origin: service.to_owned(),
        public_key: STANDARD.encode(pair.public_key()),
        sealed_private_key: sealed,
        created_at: now,
    })
}
