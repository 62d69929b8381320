//! Whoever holds a key on P-256 of their own: a remembered browser, or a customer who signs approvals.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Holds a key, and signs with it (ES256).
pub struct Signer {
    key: EcdsaKeyPair,
}

impl Signer {
    pub fn new() -> Self {
        Self { key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key") }
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let coordinate = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({ "kty": "EC", "crv": "P-256", "x": coordinate(1), "y": coordinate(33) })
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        let prefix = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
        let head = STANDARD.decode(prefix).expect("base64");
        let der = [head.as_slice(), &self.key.public_key().as_ref()[1..]].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(self.jwk()).expect("a key");
        jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).expect("a thumbprint")
    }

    /// A JWS of this type, with the thumbprint in its header.
    pub fn signed(&self, typ: &str, claims: &Value) -> String {
        self.jws(&json!({ "alg": "ES256", "typ": typ, "kid": self.thumbprint() }), claims)
    }

    /// What the key says of its successor, in a tenant: a thumbprint, or `none`.
    pub fn successor(&self, tenant_id: &str, next: &str, now: i64) -> String {
        let claims = json!({ "tenant_id": tenant_id, "key_thumbprint": next, "iat": now, "exp": now + 600 });
        self.signed("magic-link-approval-key+jwt", &claims)
    }

    /// A JWS in compact form.
    pub fn jws(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
