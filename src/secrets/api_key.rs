//! API keys: `mlsk_<client part>_<secret part>`. The plain text is shown once and not stored.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use rand::RngExt;
use rand::distr::Alphanumeric;
use secrecy::{ExposeSecret, SecretString};

use crate::id::ClientId;
use crate::secrets::sha256_hex;

const PREFIX: &str = "mlsk_";

/// 43 characters out of 62 hold 256 bits.
const SECRET_CHARACTERS: usize = 43;

/// An API key in plain text.
#[derive(Clone)]
pub(crate) struct ApiKey {
    client_id: ClientId,
    text: SecretString,
}

impl ApiKey {
    /// A fresh key.
    pub(crate) fn generate(client_id: &ClientId) -> Self {
        let secret: String = rand::rng().sample_iter(Alphanumeric).take(SECRET_CHARACTERS).map(char::from).collect();
        Self { client_id: client_id.clone(), text: format!("{PREFIX}{}_{secret}", client_id.suffix()).into() }
    }

    /// Parses a key; `LiveClient::accepts` checks whether it is the client's.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (client, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let fits = secret.len() == SECRET_CHARACTERS && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let client_id = ClientId::from_suffix(client).ok()?;
        fits.then(|| Self { client_id, text: text.into() })
    }

    pub(crate) const fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// The hash that is stored.
    pub(crate) fn sha256(&self) -> String {
        sha256_hex(self.text.expose_secret().as_bytes())
    }

    /// The plain text, for the one response that shows it.
    pub(crate) fn reveal(&self) -> String {
        self.text.expose_secret().to_owned()
    }
}

/// Compares a presented hash with the stored one, in constant time.
pub(crate) fn same_sha256(shown: &str, stored: &str) -> bool {
    verify_slices_are_equal(shown.as_bytes(), stored.as_bytes()).is_ok()
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_key_names_its_client_and_matches_only_itself() {
        let id = ClientId::new(Clock::System.now());
        let (key, other) = (ApiKey::generate(&id), ApiKey::generate(&id));
        let read = ApiKey::parse(&key.reveal()).unwrap();
        assert_eq!(read.client_id(), &id);
        assert!(same_sha256(&read.sha256(), &key.sha256()) && !same_sha256(&read.sha256(), &other.sha256()));
        assert_eq!(format!("{key:?}"), "ApiKey");
    }

    #[test]
    fn every_prefix_and_suffix_of_a_key_is_refused() {
        let text = ApiKey::generate(&ClientId::new(Clock::System.now())).reveal();
        for cut in 0..text.len() {
            let (prefix, suffix) = text.split_at(cut);
            assert!(ApiKey::parse(prefix).is_none());
            assert!(cut == 0 || ApiKey::parse(suffix).is_none());
        }
    }
}
