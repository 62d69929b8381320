//! Signing keys and their lives.
//!
//! A key is *published* before it signs, so that portals which cache the JWK set
//! know it in time; then *active*; then *retiring*, while what it signed may
//! still be shown; then *gone*. The state follows from its times.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Serialize;

use super::master_key::MasterKey;
use super::store::Row;
use crate::clock::Timestamp;
use crate::db::text_enum;
use crate::error::Error;

text_enum! {
    /// Where a signing key is in its life.
    pub enum KeyState {
        /// In the JWK set, but not signing yet.
        Published = "published",
        /// Signs.
        Active = "active",
        /// No longer signs; what it signed still counts.
        Retiring = "retiring",
    }
}

impl KeyState {
    /// The state of a key at a moment, beside the key that signs then.
    pub(super) fn at(row: &Row, active: Option<&Row>, now: Timestamp) -> Self {
        match active {
            Some(active) if row.created_at < active.created_at => Self::Retiring,
            _ if row.active_from > now => Self::Published,
            _ => Self::Active,
        }
    }
}

/// A signing key as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct SigningKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// Where it is in its life.
    pub state: KeyState,
    /// Its JWS algorithm.
    pub algorithm: String,
    /// When it was made and published.
    pub created_at: Timestamp,
    /// When it begins to sign.
    pub active_from: Timestamp,
    /// When nothing it signed can count any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Timestamp>,
}

impl SigningKey {
    pub(super) fn of(row: &Row, state: KeyState) -> Self {
        Self {
            kid: row.kid.clone(),
            state,
            algorithm: row.algorithm.clone(),
            created_at: row.created_at,
            active_from: row.active_from,
            gone_at: row.gone_at,
        }
    }
}

/// A key that is ready to use.
pub(super) struct Key {
    pub kid: String,
    pub algorithm: String,
    pub encoding: EncodingKey,
    pub decoding: DecodingKey,
    jwk: Jwk,
    row: Row,
}

/// Every key that is not gone, the newest first.
#[derive(Default)]
pub(super) struct Keyring {
    keys: Vec<Key>,
    /// How often the keys had changed when they were read.
    epoch: i64,
}

impl Keyring {
    /// Unseals the keys.
    pub(super) fn open(rows: Vec<Row>, epoch: i64, master_key: &MasterKey) -> Result<Self, Error> {
        let keys = rows.into_iter().map(|row| {
            let private = master_key.open(&row.kid, &row.sealed_private_key).ok_or_else(|| {
                Error::internal(format_args!(
                    "this master key does not open signing key {}: is it the right one?",
                    row.kid
                ))
            })?;
            let jwk: Jwk = serde_json::from_str(&row.public_jwk).map_err(Error::internal)?;
            Ok(Key {
                kid: row.kid.clone(),
                algorithm: row.algorithm.clone(),
                encoding: EncodingKey::from_ec_der(&private),
                decoding: DecodingKey::from_jwk(&jwk).map_err(Error::internal)?,
                jwk,
                row,
            })
        });
        Ok(Self { keys: keys.collect::<Result<_, Error>>()?, epoch })
    }

    pub(super) const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether another ring still has every key of this one.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.keys.iter().all(|key| other.keys.iter().any(|one| one.kid == key.kid))
    }

    /// The key that signs.
    pub(super) fn active(&self, now: Timestamp) -> Option<&Key> {
        self.usable(now).find(|key| key.row.active_from <= now)
    }

    /// The key of this name, if it is not gone.
    pub(super) fn find(&self, kid: &str, now: Timestamp) -> Option<&Key> {
        self.usable(now).find(|key| key.kid == kid)
    }

    pub(super) fn list(&self, now: Timestamp) -> Vec<SigningKey> {
        let active = self.active(now).map(|key| &key.row);
        self.usable(now).map(|key| SigningKey::of(&key.row, KeyState::at(&key.row, active, now))).collect()
    }

    pub(super) fn jwks(&self, now: Timestamp) -> serde_json::Value {
        let keys: Vec<&Jwk> = self.usable(now).map(|key| &key.jwk).collect();
        serde_json::json!({ "keys": keys })
    }

    fn usable(&self, now: Timestamp) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.row.gone_at.is_none_or(|gone_at| gone_at > now))
    }
}

/// Makes an ES256 key, sealed at once; the plain private key leaves this function never.
pub(super) fn generate(master_key: &MasterKey, now: Timestamp, active_from: Timestamp) -> Result<Row, Error> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(Error::internal)?;
    let encoding = EncodingKey::from_ec_der(pkcs8.as_ref());
    let mut jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256).map_err(Error::internal)?;
    let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(Error::internal)?;
    jwk.common.key_id = Some(kid.clone());
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    jwk.common.key_algorithm = Some(KeyAlgorithm::ES256);
    let sealed = master_key.seal(&kid, pkcs8.as_ref()).ok_or_else(|| Error::internal("cannot seal a signing key"))?;
    Ok(Row {
        kid,
        algorithm: "ES256".to_owned(),
        public_jwk: serde_json::to_string(&jwk).map_err(Error::internal)?,
        sealed_private_key: sealed,
        created_at: now,
        active_from,
        gone_at: None,
    })
}
