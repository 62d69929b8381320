//! Signed tokens: their claims, their signing keys, and the verification of each kind.
//!
//! There are three kinds, distinguished by `typ`, and none is accepted as
//! another: the *link token* in the mail, the one-minute *code* that the landing
//! page hands to the portal, and the *access token* of a session (RFC 9068). All
//! are signed with ES256.
//!
//! Verification proves the signer and the kind. Whether the token is still valid
//! depends on the store, so the times of link tokens and codes are returned to
//! the caller and not checked here.

mod approval;
mod claims;
pub(crate) mod keyring;
mod proof;
mod verified;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, Header, Validation};
use keyring::Keyring;
use serde::Deserialize;
use verified::{OwnTokens, VerifiedTokens};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::{Actor, json};
use crate::error::{Code, Error};
use crate::id::SessionId;
use crate::journal::Event;
use crate::records;
use crate::records::master_key::DIGESTS;
use crate::records::signing_keys::KeyEpoch;
use crate::secrets::MasterKey;
use crate::store::{ANSWER_TIMEOUT, Store, within};

pub use approval::ApprovalTerms;
pub(crate) use approval::{CustomerSigned, KEY_CHANGE_WAIT, NO_KEY, Signed, check_signed};
pub(crate) use claims::{
    AccessClaims, Act, AuthorizationCodeClaims, Claims, Confirmation, LinkClaims, Status, status_list_uri,
};
pub use keyring::{KeyState, SigningKey};
pub(crate) use proof::Proof;

pub(crate) use verified::Verified;

/// Largest number of revoked keys whose tokens are told apart from those of strangers: the newest.
const REVOKED_KEYS: i64 = 32;

/// A token longer than this is refused before it is parsed.
const MAX_BYTES: usize = 4096;

/// How far the clock of another instance may run ahead, in seconds.
///
/// For as long, too, an instance may sign with a key that another one has retired: it reads the keys again with its next
/// request, and a mail takes up to half a minute from the choice of its key to its token.
const SKEW_SECONDS: i64 = 60;

/// Signs and verifies tokens of this service.
pub struct Tokens {
    issuer: String,
    master_key: MasterKey,
    /// Longest time that a token of a key may be in use after it was signed.
    longest_use: time::Duration,
    keyring: RwLock<Arc<Keyring>>,
    /// Number of readings of the keys that have begun.
    readings: AtomicU64,
    /// The connection epoch for which the keys were read: the next server may have lost some of them.
    connection: AtomicU64,
    /// Lets one request at a time read the keys.
    turn: tokio::sync::Mutex<()>,
    /// Validation of access tokens of any portal.
    access: Validation,
    verified: VerifiedTokens,
    own: OwnTokens,
}

/// A header has exactly these members; any other one is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: String,
    kid: String,
}

impl Tokens {
    /// Opens the keyring, and creates the first signing key if there is none.
    ///
    /// # Errors
    /// When the store is unavailable, or the master key does not open a key in it.
    pub(crate) async fn open(
        config: &Config,
        master_key: MasterKey,
        db: &Store,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let id = master_key.id().to_owned();
        let (stored, kept) = db
            .read(|conn| {
                let kept = records::master_key::kept_secret(conn, DIGESTS)?;
                Ok((records::master_key::id(conn)?, kept))
            })
            .await?;
        check_master_key(&master_key, stored.as_deref())?;
        let master_key = match kept {
            Some(sealed) => {
                let seed = master_key.open(DIGESTS, &sealed);
                let seed = seed.ok_or_else(|| wrong_master_key("it does not open the digests' secret"))?;
                master_key.with_digests_of(seed)
            }
            None => master_key,
        };
        let tokens = Self::of(config, master_key);
        // It opens every key there is before it gives its name, and has its name before it seals one.
        tokens.read_keys(db, now).await?;
        if stored.is_none() {
            db.write(move |tx| Ok(records::master_key::claim(tx, &id)?)).await?;
        }
        tokens.refresh(db, now).await?;
        Ok(tokens)
    }

    /// Tokens without any key: nothing is signed or verified, and the master key is not needed.
    ///
    /// # Errors
    /// When no stand-in for the master key can be made.
    pub(crate) fn without_keys(config: &Config) -> Result<Self, Error> {
        let absent = MasterKey::absent().ok_or_else(|| Error::internal("cannot derive keys"))?;
        Ok(Self::of(config, absent))
    }

    fn of(config: &Config, master_key: MasterKey) -> Self {
        let issuer = config.issuer();
        let audiences: Vec<&str> = config.portals.values().map(|portal| portal.audience.as_str()).collect();
        Self {
            access: validation(&issuer, &audiences),
            issuer,
            master_key,
            // A window may begin `max_duration` ahead, and last as long.
            longest_use: config.links.max_duration * 2 + time::Duration::hours(24),
            keyring: RwLock::new(Arc::new(Keyring::default())),
            readings: AtomicU64::new(0),
            connection: AtomicU64::new(0),
            turn: tokio::sync::Mutex::new(()),
            verified: VerifiedTokens::default(),
            own: OwnTokens::default(),
        }
    }

    /// `iss` of every token, and the audience of link tokens and codes.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The master key, which also signs cursors.
    pub(crate) const fn master_key(&self) -> &MasterKey {
        &self.master_key
    }

    /// Longest time that a token of a key may be in use after it was signed.
    pub(crate) const fn longest_use(&self) -> time::Duration {
        self.longest_use
    }

    /// Reads the keys again: another instance may have added or revoked one. If none is left that signs now or later, a
    /// new one is created.
    ///
    /// # Errors
    /// When the store is unavailable, or the master key does not open a key in it.
    pub(crate) async fn refresh(&self, db: &Store, now: Timestamp) -> Result<(), Error> {
        if self.master_key.is_absent() {
            return Ok(());
        }
        self.read_keys(db, now).await?;
        if self.ring().signs_never(now) {
            self.add_first_key(db, now).await?;
            self.read_keys(db, now).await?;
        }
        Ok(())
    }

    async fn read_keys(&self, db: &Store, now: Timestamp) -> Result<(), Error> {
        let reading = self.readings.fetch_add(1, Ordering::SeqCst) + 1;
        // The epoch first: a change in between is then read again, and never missed.
        let since = now.minus(self.longest_use);
        let (epoch, stored, rows, revoked) = db
            .read(move |conn| {
                let epoch = records::signing_keys::epoch(conn)?;
                let stored = records::master_key::id(conn)?;
                let rows = records::signing_keys::list_usable(conn, now)?;
                Ok((epoch, stored, rows, records::signing_keys::list_revoked(conn, since, REVOKED_KEYS)?))
            })
            .await?;
        check_master_key(&self.master_key, stored.as_deref())?;
        let fresh = Keyring::open(rows, epoch, &self.master_key)?.knowing(revoked)?.read_by(reading);
        let mut ring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        // The reading that began last is taken, whatever its epoch is: after a failover the database may have lost a change
        // of its keys, and after a restore it has.
        if fresh.reading() > ring.reading() {
            let lost_a_key = !ring.is_within(&fresh);
            *ring = Arc::new(fresh);
            drop(ring);
            if lost_a_key {
                self.verified.clear();
            }
        }
        Ok(())
    }

    /// Reads the keys again for a request that found others, at a connection epoch, than [`Tokens::are_of`] knows.
    ///
    /// # Errors
    /// As [`Tokens::refresh`].
    pub(crate) async fn read_for(&self, db: &Store, connection: u64, now: Timestamp) -> Result<(), Error> {
        let begun = self.readings.load(Ordering::SeqCst);
        // All who wait for the lock share the time-out: they must not wait for it one after the other.
        within(ANSWER_TIMEOUT, async {
            let _turn = self.turn.lock().await;
            // One that began meanwhile may have ended, too.
            if self.reading() <= begun {
                self.refresh(db, now).await?;
            }
            self.connection.fetch_max(connection, Ordering::SeqCst);
            Ok(())
        })
        .await
    }

    /// Whether the keys were read at this key epoch, and through a connection that is as good: a lower one is another one,
    /// because the database may have lost a change of its keys in a failover.
    pub(crate) fn are_of(&self, epoch: KeyEpoch, connection: u64) -> bool {
        let ring = self.keyring.read().unwrap_or_else(PoisonError::into_inner);
        ring.epoch() == epoch && self.connection.load(Ordering::SeqCst) >= connection
    }

    /// Number of the reading of the keys that counts.
    pub(crate) fn reading(&self) -> u64 {
        self.ring().reading()
    }

    /// Creates the first signing key, or the next one after the last was revoked, unless another instance was faster.
    async fn add_first_key(&self, db: &Store, now: Timestamp) -> Result<(), Error> {
        let fresh = keyring::generate(&self.master_key, now, now)?;
        let key_id = self.master_key.id().to_owned();
        db.write_large(move |tx| {
            records::signing_keys::lock(tx)?;
            hold_master_key(tx, &key_id)?;
            // Another instance may have made one at a moment that this one's `now`, or its clock, has not reached.
            if records::signing_keys::will_sign(tx, now)? {
                return Ok(());
            }
            records::signing_keys::insert(tx, &fresh)?;
            tx.record(Event::key_added(&fresh.kid, fresh.active_from, Actor::system("keyring"), now));
            Ok(())
        })
        .await
    }

    /// Every key that has not expired, newest first.
    pub(crate) fn keys(&self, now: Timestamp) -> Vec<SigningKey> {
        self.ring().list(now)
    }

    /// The public keys as a JWK set (RFC 7517).
    pub(crate) fn jwks(&self, now: Timestamp) -> serde_json::Value {
        self.ring().jwks(now)
    }

    /// The id of the key that signs now.
    ///
    /// # Errors
    /// `clock_behind` when the clock is set to a time before any key signs. Whoever acknowledges what has to be signed
    /// later asks first.
    pub(crate) fn signing_kid(&self, now: Timestamp) -> Result<String, Error> {
        let ring = self.ring();
        let active = ring.active(now).ok_or_else(|| {
            let behind = ring.begins_in(now).whole_seconds();
            tracing::error!(clock.behind_seconds = behind, "the clock is behind the birth of every signing key");
            Error::new(Code::ClockBehind).retry_after(30)
        })?;
        Ok(active.kid.clone())
    }

    /// How far the clock is behind the first key that signs; zero if one does.
    pub(crate) fn clock_behind(&self, now: Timestamp) -> time::Duration {
        self.ring().begins_in(now)
    }

    /// Signs a token with the key that signs now.
    ///
    /// # Errors
    /// As [`Tokens::signing_kid`].
    pub(crate) fn sign<C: Claims>(&self, claims: &C, now: Timestamp) -> Result<String, Error> {
        self.sign_with(&self.signing_kid(now)?, claims)
    }

    /// Signs a token with the key that is stored for it.
    ///
    /// # Errors
    /// `unavailable` when the key was just revoked: the next attempt uses another key.
    pub(crate) fn sign_with<C: Claims>(&self, kid: &str, claims: &C) -> Result<String, Error> {
        let ring = self.ring();
        let key = ring.any(kid).ok_or_else(Error::unavailable)?;
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(C::TYP.to_owned());
        header.kid = Some(key.kid.clone());
        let token = jsonwebtoken::encode(&header, claims, &key.encoding).map_err(Error::internal)?;
        if claims.parties().is_some() {
            self.own.remember(&token);
        }
        Ok(token)
    }

    /// Verifies a token of one kind: size, header, key, signature, `typ`, `iss`, `aud`. Returns the claims, and the key
    /// that signed them.
    ///
    /// # Errors
    /// `token_invalid`, without the reason; `signing_key_revoked` where it is of a key that was revoked, whoever had
    /// that key.
    pub(crate) fn verify<C: Claims>(
        &self,
        token: &str,
        audience: &[&str],
        now: Timestamp,
    ) -> Result<(C, String), Error> {
        let validation = validation(&self.issuer, audience);
        self.try_verify(token, &validation, now).ok_or_else(|| {
            let of_revoked = self.is_of_revoked_key::<C>(token, &validation);
            if of_revoked { Code::SigningKeyRevoked } else { Code::TokenInvalid }.into()
        })
    }

    fn is_of_revoked_key<C: Claims>(&self, token: &str, validation: &Validation) -> bool {
        let Some(header) = strict_header(token).filter(|header| header.typ == C::TYP) else { return false };
        let ring = self.ring();
        ring.revoked(&header.kid).is_some_and(|key| jsonwebtoken::decode::<C>(token, key, validation).is_ok())
    }

    /// The session that an access token names, not verified: only good for what is loaded meanwhile.
    pub(crate) fn claimed_session(token: &str) -> Option<SessionId> {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        #[derive(Deserialize)]
        struct Claimed {
            sid: SessionId,
        }
        let payload = token.split('.').nth(1).filter(|_| token.len() <= MAX_BYTES)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok().map(|Claimed { sid }| sid)
    }

    /// Verifies an access token, but its signature only if this process has not done so before.
    ///
    /// The token is for one of the configured portals; the caller checks which one.
    pub(crate) fn verify_access(&self, token: &str, now: Timestamp) -> Option<Arc<Verified>> {
        if token.len() > MAX_BYTES {
            return None;
        }
        if let Some(known) = self.verified.get(token) {
            if self.still_counts(&known, now) {
                return Some(known);
            }
            self.verified.forget(token);
            return None;
        }
        let (claims, kid) = self.try_verify::<AccessClaims>(token, &self.access, now)?;
        let verified = Arc::new(Verified::of(token, claims, kid));
        if !self.still_counts(&verified, now) {
            return None;
        }
        self.verified.keep(token, &verified);
        Some(verified)
    }

    /// The token, if it was verified before; its times and its key may be over.
    pub(crate) fn verified_before(&self, token: &str) -> Option<Arc<Verified>> {
        if token.len() > MAX_BYTES {
            return None;
        }
        self.verified.get(token)
    }

    /// Whether a verified token is within its times, and its signing key has not expired.
    pub(crate) fn still_counts(&self, token: &Verified, now: Timestamp) -> bool {
        let seconds = now.unix_seconds();
        // `exp` is in whole seconds; the session's end, in microseconds, is checked against the store.
        let times = token.nbf <= seconds.max(token.iat) && seconds <= token.exp;
        times && self.ring().signer(&token.kid, token.iat, now).is_some()
    }

    /// The claims of an access token that was verified.
    ///
    /// # Errors
    /// `internal` of any other text.
    pub(crate) fn claims_of_verified(token: &str) -> Result<AccessClaims, Error> {
        insecure_decode_claims(token).map_err(Error::internal)
    }

    fn try_verify<C: Claims>(&self, token: &str, validation: &Validation, now: Timestamp) -> Option<(C, String)> {
        let header = strict_header(token).filter(|header| header.typ == C::TYP)?;
        let ring = self.ring();
        let key = ring.find(&header.kid, now)?;
        if header.alg != key.algorithm {
            return None;
        }
        let claims = if self.own.signed(token) {
            let claims: C = insecure_decode_claims(token).ok()?;
            let (issuer, audience) = claims.parties()?;
            let is_meant = validation.aud.as_ref().is_some_and(|meant| meant.contains(audience));
            (issuer == self.issuer && is_meant).then_some(claims)?
        } else {
            jsonwebtoken::decode::<C>(token, &key.decoding, validation).ok()?.claims
        };
        // Nothing of ours was issued in the future, whatever this copy's clock says.
        ring.signer(&header.kid, claims.issued_at(), now).is_some().then_some((claims, header.kid))
    }

    fn ring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Refuses to go on with another master key than the one that secrets are sealed under.
fn check_master_key(own: &MasterKey, stored: Option<&str>) -> Result<(), Error> {
    match stored {
        Some(stored) if stored != own.id() => {
            let own = own.id();
            Err(wrong_master_key(&format!("the database is sealed under {stored}, and this one is {own}")))
        }
        _ => Ok(()),
    }
}

/// To be called before a sealed secret is stored: nobody could open it after a change of the master key.
///
/// # Errors
/// `master_key_mismatch` after such a change.
pub(crate) fn hold_master_key(conn: &mut Conn, id: &str) -> Result<(), Error> {
    if records::master_key::hold(conn, id)? {
        Ok(())
    } else {
        Err(wrong_master_key(&format!("the database is not sealed under {id} any more")))
    }
}

/// `master_key_mismatch`, with what tells that it is the wrong one: names of master keys, which are no secrets.
pub(crate) fn wrong_master_key(detail: &str) -> Error {
    let detail = format!("this is not the master key of the database: {detail}");
    tracing::error!(error.cause = detail, "wrong master key; was it changed with `magic-link key rewrap`?");
    Error::new(Code::MasterKeyMismatch).detail(detail).retry_after(30)
}

/// Validation of a token: ES256, this issuer, and one of these audiences.
fn validation(issuer: &str, audience: &[&str]) -> Validation {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.leeway = 0;
    // Time is an argument here: the caller checks it against its own `now`.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.set_issuer(&[issuer]);
    validation.set_audience(audience);
    validation
}

/// The header of a token in compact form, if it has exactly the expected members.
fn strict_header(token: &str) -> Option<StrictHeader> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    if token.len() > MAX_BYTES {
        return None;
    }
    let (header, rest) = token.split_once('.')?;
    if rest.bytes().filter(|byte| *byte == b'.').count() != 1 {
        return None;
    }
    let header: StrictHeader = json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let kid_fits = (1..=64).contains(&header.kid.len())
        && header.kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    kid_fits.then_some(header)
}

#[cfg(test)]
mod tests;
