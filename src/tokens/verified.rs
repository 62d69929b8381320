//! Tokens whose signatures this process knows: those that it made, and access tokens that it has verified.
//!
//! Only what cannot change is cached: that a signature is good, and of access tokens
//! the signing key, the session and the times. Whether the session is active is loaded
//! each time. An entry is valid no longer than its token and its signing key, and is
//! evicted for tokens that are used more.

use std::sync::Arc;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;

use super::AccessClaims;
use crate::id::SessionId;

/// Number of cached tokens: more than most services have active sessions, in about 5 MiB.
const MOST: usize = 16_384;

/// Number of tokens of our own that are remembered, in about 3 MiB.
const MOST_OWN: usize = 32_768;

/// SHA-256 of a token, or of its claims: the token itself is a secret, and stays out of the cache.
type Fingerprint = [u8; 32];

fn fingerprint(text: &str) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    fingerprint
}

/// Tokens that this process signed: to verify what it made itself costs more than all else that a call needs.
pub(super) struct OwnTokens(Cache<Fingerprint, ()>);

impl Default for OwnTokens {
    fn default() -> Self {
        Self(Cache::new(MOST_OWN))
    }
}

impl OwnTokens {
    pub(super) fn remember(&self, token: &str) {
        self.0.insert(fingerprint(token), ());
    }

    /// Whether this process signed exactly this token; `false` of what it has forgotten.
    pub(super) fn signed(&self, token: &str) -> bool {
        self.0.get(&fingerprint(token)).is_some()
    }
}

/// What is kept of a token that one of our keys signed: its claims stand in the token itself.
#[derive(Debug)]
pub(crate) struct Verified {
    pub sid: SessionId,
    /// Of the claims as they stand in the token: another signature over them changes nothing that is told.
    pub claims: Fingerprint,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) exp: i64,
    /// The key that signed it.
    pub(super) kid: String,
}

impl Verified {
    pub(super) fn of(token: &str, AccessClaims { sid, iat, nbf, exp, .. }: AccessClaims, kid: String) -> Self {
        let payload = token.split('.').nth(1).unwrap_or_default();
        Self { sid, claims: fingerprint(payload), iat, nbf, exp, kid }
    }
}

/// The cache.
pub(super) struct VerifiedTokens(Cache<Fingerprint, Arc<Verified>>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl VerifiedTokens {
    pub(super) fn get(&self, token: &str) -> Option<Arc<Verified>> {
        self.0.get(&fingerprint(token))
    }

    pub(super) fn keep(&self, token: &str, verified: &Arc<Verified>) {
        self.0.insert(fingerprint(token), Arc::clone(verified));
    }

    /// Removes a token that is no longer valid.
    pub(super) fn forget(&self, token: &str) {
        self.0.remove(&fingerprint(token));
    }

    /// Removes every token: a key was revoked or has expired.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}
