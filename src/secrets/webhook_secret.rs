//! Secrets of webhooks (Standard Webhooks 1.0).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use secrecy::SecretString;

/// Length of a new secret: the output of HMAC-SHA256.
pub(crate) const SECRET_BYTES: usize = 32;

/// Secret shared with a receiver of webhooks: `whsec_` and base64. It does not print.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl FromStr for WebhookSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        match bytes {
            Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
            _ => Err("must be whsec_ and base64 of 24 to 64 random bytes".into()),
        }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl WebhookSecret {
    /// A fresh secret as text, for the one response that shows it and for sealing.
    pub(crate) fn generate() -> SecretString {
        let mut bytes = [0; SECRET_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        format!("whsec_{}", STANDARD.encode(bytes)).into()
    }

    /// The `webhook-signature` of a message.
    pub(crate) fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}
