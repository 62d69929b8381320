//! Cache of verified access tokens: the signature is verified once per token and process.
//!
//! Only what cannot change is cached: the signing key and the claims. Whether the
//! session is active is loaded each time. An entry is valid no longer than its
//! token and its signing key, and is evicted for tokens that are used more.

use std::sync::Arc;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;

use super::AccessClaims;

/// Number of cached tokens: more than most services have active sessions, in about 30 MiB. A cached session keeps one
/// more, the token of its first introspection.
const MOST: usize = 16_384;

/// SHA-256 of a token: the token itself is a secret, and stays out of the cache.
type Fingerprint = [u8; 32];

/// A token that one of our keys signed.
#[derive(Debug)]
pub(crate) struct Verified {
    pub claims: AccessClaims,
    /// The key that signed it.
    pub(super) kid: String,
}

/// The cache.
pub(super) struct VerifiedTokens(Cache<Fingerprint, Arc<Verified>>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::new(MOST))
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

    /// Removes a token that is no longer valid.
    pub(super) fn forget(&self, fingerprint: &Fingerprint) {
        self.0.remove(fingerprint);
    }

    /// Removes every token: a key was revoked or has expired.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}
