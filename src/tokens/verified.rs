//! Access tokens whose signature was verified: once per token and process.
//!
//! Only what cannot change is kept: who signed, and what was claimed. Whether
//! the session holds is asked anew each time. An entry counts no longer than its
//! token and the key that signed it, and makes room for those that are asked for.

use std::sync::Arc;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;

use super::AccessClaims;

/// So many tokens are kept; more than most services have live sessions, in about 30 MiB. A session that is remembered
/// keeps one more: that of which it was told first.
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

    /// Forgets a token that counts no more.
    pub(super) fn forget(&self, fingerprint: &Fingerprint) {
        self.0.remove(fingerprint);
    }

    /// Forgets every token: a key has gone.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}
