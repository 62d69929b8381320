//! Signing keys and their states.
//!
//! A key is *published* before it signs, so that portals that cache the JWK set
//! know it in time; then *active*; then *retiring*, while tokens that it signed
//! are still in use; then *expired*. The state follows from its times. A
//! *revoked* key expires at once, and with it all tokens that it signed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Serialize;
use utoipa::ToSchema;

use super::SKEW_SECONDS;
use crate::clock::Timestamp;
use crate::db::text_enum;
use crate::error::Error;
use crate::records::signing_keys::{KeyEpoch, SigningKeyRow as Row};
use crate::secrets::MasterKey;

text_enum! {
    /// State of a signing key.
    pub enum KeyState {
        /// In the JWK set, but not signing yet.
        Published = "published",
        /// Signs new tokens.
        Active = "active",
        /// No longer signs; tokens that it signed are still valid.
        Retiring = "retiring",
        /// No token that it signed is valid any more.
        Expired = "expired",
    }
}

impl KeyState {
    /// The state of a key at a moment; `active` is the key that signs then.
    pub(crate) fn at(row: &Row, active: Option<&Row>, now: Timestamp) -> Self {
        if row.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Self::Expired;
        }
        match active {
            _ if row.retired_at.is_some() => Self::Retiring,
            Some(active) if is_newer(active, row) => Self::Retiring,
            _ if row.active_from > now => Self::Published,
            _ => Self::Active,
        }
    }
}

/// A signing key as operators see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SigningKey {
    /// RFC 7638 thumbprint.
    #[schema(max_length = 64)]
    pub kid: String,
    /// State of the key.
    pub state: KeyState,
    /// JWS algorithm.
    #[schema(max_length = 8)]
    pub algorithm: String,
    /// When it was created and published.
    pub created_at: Timestamp,
    /// When it begins to sign.
    pub active_from: Timestamp,
    /// When it was retired or revoked, and stopped signing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Timestamp>,
    /// When the last tokens that it signed become invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, with all tokens that it had signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl SigningKey {
    /// Keys as operators see them; `rows` are sorted, newest first.
    pub(crate) fn of_all<'r>(rows: impl Iterator<Item = &'r Row> + Clone, now: Timestamp) -> Vec<Self> {
        let active = rows.clone().find(|row| may_sign(row, now));
        rows.map(|row| Self::of(row, KeyState::at(row, active, now))).collect()
    }

    fn of(row: &Row, state: KeyState) -> Self {
        Self {
            kid: row.kid.clone(),
            state,
            algorithm: row.algorithm.clone(),
            created_at: row.created_at,
            active_from: row.active_from,
            retired_at: row.retired_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// Whether a key was created later: of two of one moment, the one that begins to sign later.
fn is_newer(one: &Row, other: &Row) -> bool {
    (one.created_at, one.active_from) > (other.created_at, other.active_from)
}

/// Whether a key may sign; of several, the newest signs.
fn may_sign(row: &Row, now: Timestamp) -> bool {
    row.active_from <= now && row.retired_at.is_none() && row.expires_at.is_none_or(|expires_at| expires_at > now)
}

/// A key that is ready to use.
pub(crate) struct Key {
    pub kid: String,
    pub algorithm: String,
    pub encoding: EncodingKey,
    pub decoding: DecodingKey,
    jwk: Jwk,
    row: Row,
}

/// A key that was revoked. It verifies nothing, but what it signed is known as ours.
struct RevokedKey {
    kid: String,
    decoding: DecodingKey,
}

/// Every key that has not expired, newest first.
#[derive(Default)]
pub(crate) struct Keyring {
    keys: Vec<Key>,
    revoked: Vec<RevokedKey>,
    /// The key epoch at which the keys were read.
    epoch: KeyEpoch,
    /// Number of the reading, in the order in which they began.
    reading: u64,
}

impl Keyring {
    /// Unseals the keys.
    pub(crate) fn open(rows: Vec<Row>, epoch: KeyEpoch, master_key: &MasterKey) -> Result<Self, Error> {
        let keys = rows.into_iter().map(|row| {
            let private = master_key
                .open(&row.kid, &row.sealed_private_key)
                .ok_or_else(|| super::wrong_master_key(&format!("it does not open signing key {}", row.kid)))?;
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
        Ok(Self { keys: keys.collect::<Result<_, Error>>()?, revoked: Vec::new(), epoch, reading: 0 })
    }

    /// The same with keys that were revoked.
    pub(crate) fn knowing(mut self, revoked: Vec<Row>) -> Result<Self, Error> {
        let keys = revoked.into_iter().map(|row| {
            let jwk: Jwk = serde_json::from_str(&row.public_jwk).map_err(Error::internal)?;
            Ok(RevokedKey { kid: row.kid, decoding: DecodingKey::from_jwk(&jwk).map_err(Error::internal)? })
        });
        self.revoked = keys.collect::<Result<_, Error>>()?;
        Ok(self)
    }

    /// The same as it was read by a reading.
    pub(crate) const fn read_by(mut self, reading: u64) -> Self {
        self.reading = reading;
        self
    }

    pub(crate) const fn reading(&self) -> u64 {
        self.reading
    }

    /// The public half of a key that was revoked.
    pub(crate) fn revoked(&self, kid: &str) -> Option<&DecodingKey> {
        self.revoked.iter().find(|key| key.kid == kid).map(|key| &key.decoding)
    }

    pub(crate) const fn epoch(&self) -> KeyEpoch {
        self.epoch
    }

    /// Whether another keyring has every key of this one.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.keys.iter().all(|key| other.keys.iter().any(|one| one.kid == key.kid))
    }

    /// The key that signs.
    pub(crate) fn active(&self, now: Timestamp) -> Option<&Key> {
        self.keys.iter().find(|key| may_sign(&key.row, now))
    }

    /// Whether no key signs, neither now nor later.
    pub(crate) fn signs_never(&self, now: Timestamp) -> bool {
        self.usable(now).all(|key| key.row.retired_at.is_some())
    }

    /// Time until a key signs; zero if one does.
    pub(crate) fn begins_in(&self, now: Timestamp) -> time::Duration {
        if self.active(now).is_some() {
            return time::Duration::ZERO;
        }
        let later = self.usable(now).filter(|key| key.row.retired_at.is_none()).map(|key| key.row.active_from);
        later.min().map_or(time::Duration::ZERO, |first| first.since(now))
    }

    /// The key with this id, if it has not expired.
    pub(crate) fn find(&self, kid: &str, now: Timestamp) -> Option<&Key> {
        self.usable(now).find(|key| key.kid == kid)
    }

    /// The key with this id, if it has not expired and could sign at `issued_at` (seconds since 1970).
    ///
    /// A key that is retired, or that a newer one replaced, signs no more: whoever has its private half cannot date a
    /// token later than that.
    pub(crate) fn signer(&self, kid: &str, issued_at: i64, now: Timestamp) -> Option<&Key> {
        let key = self.find(kid, now)?;
        let ends = |at: Timestamp| at.unix_seconds() + SKEW_SECONDS < issued_at;
        let replaced = self.keys.iter().any(|newer| {
            // One that is retired again has replaced the older ones only until then.
            let until = newer.row.retired_at.map_or(i64::MAX, Timestamp::unix_seconds);
            is_newer(&newer.row, &key.row) && ends(newer.row.active_from) && issued_at < until
        });
        (!replaced && !key.row.retired_at.is_some_and(ends)).then_some(key)
    }

    /// The key with this id, even if it has just expired: for a token that was committed with it a moment ago.
    pub(crate) fn any(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    pub(crate) fn list(&self, now: Timestamp) -> Vec<SigningKey> {
        SigningKey::of_all(self.usable(now).map(|key| &key.row), now)
    }

    pub(crate) fn jwks(&self, now: Timestamp) -> serde_json::Value {
        let keys: Vec<&Jwk> = self.usable(now).map(|key| &key.jwk).collect();
        serde_json::json!({ "keys": keys })
    }

    fn usable(&self, now: Timestamp) -> impl Iterator<Item = &Key> + Clone {
        self.keys.iter().filter(move |key| key.row.expires_at.is_none_or(|expires_at| expires_at > now))
    }
}

/// Creates an ES256 key, sealed at once; the plain private key never leaves this function.
pub(crate) fn generate(master_key: &MasterKey, now: Timestamp, active_from: Timestamp) -> Result<Row, Error> {
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
        expires_at: None,
        retired_at: None,
        revoked_at: None,
    })
}
