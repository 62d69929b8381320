//! Access tokens whose signature was verified: once per token and process.
//!
//! Only what cannot change is kept: who signed, and what was claimed. Whether
//! the session holds is asked anew each time. An entry dies with its token, or
//! with the key that signed it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use moka::Expiry;
use moka::sync::Cache;

use super::AccessClaims;
use crate::clock::Timestamp;

/// So many tokens are kept; more than most services have live sessions, in about 30 MiB.
const MOST: u64 = 16_384;

/// SHA-256 of a token: the token itself is a secret, and stays out of the cache.
type Fingerprint = [u8; 32];

/// A token that one of our keys signed.
#[derive(Debug)]
pub(crate) struct Verified {
    pub claims: AccessClaims,
    /// The key that signed it.
    pub(super) kid: String,
    /// From when it was verified until it expires.
    rest: Duration,
}

impl Verified {
    pub(super) fn new(claims: AccessClaims, kid: String, now: Timestamp) -> Self {
        let rest = u64::try_from(claims.exp - now.unix_seconds()).unwrap_or(0).saturating_add(1);
        Self { claims, kid, rest: Duration::from_secs(rest) }
    }
}

/// The cache.
pub(super) struct VerifiedTokens(Cache<Fingerprint, Arc<Verified>>);

struct WithTheToken;

impl Expiry<Fingerprint, Arc<Verified>> for WithTheToken {
    fn expire_after_create(&self, _key: &Fingerprint, token: &Arc<Verified>, _at: Instant) -> Option<Duration> {
        Some(token.rest)
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST).expire_after(WithTheToken).build())
    }
}

impl VerifiedTokens {
    pub(super) fn fingerprint(token: &str) -> Fingerprint {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        fingerprint
    }

    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<Arc<Verified>> {
        self.0.get(fingerprint)
    }

    pub(super) fn keep(&self, fingerprint: Fingerprint, token: &Arc<Verified>) {
        self.0.insert(fingerprint, Arc::clone(token));
    }

    /// Forgets every token: a key has gone.
    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}
