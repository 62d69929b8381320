//! Proof that a browser holds a device's key, shaped like that of `DPoP` (RFC 9449).
//!
//! It is a JWT of a type of its own: the header carries the public key, and the payload what the proof is for. Nothing in
//! it is trusted but what the signature and our nonce say.

use serde::Deserialize;

use crate::domain::{Jws, PublicKey, json};
use crate::id::LinkId;

/// `typ` of a proof.
const TYP: &str = "magic-link-proof+jwt";

/// A proof longer than this is refused before it is parsed.
pub(crate) const MAX_BYTES: usize = 2048;

/// A proof whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// JWK thumbprint of the key that signed it (RFC 7638).
    pub thumbprint: String,
    pub claims: ProofClaims,
}

/// What a proof is for. It carries no time: the nonce does, by our own clock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProofClaims {
    /// Method and address of the request that it is for.
    htm: String,
    htu: String,
    pub nonce: String,
    pub magic_link_id: LinkId,
    #[serde(rename = "gen")]
    pub generation: i32,
    pub visit: i32,
}

/// A header has exactly these members: a key of one kind, and neither a private one nor a pointer to another.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    jwk: PublicKey,
}

impl Proof {
    /// Verifies form, key, signature, and that the proof is for a POST to this address; `None` where anything is wrong.
    pub(crate) fn verify(text: &str, address: &str) -> Option<Self> {
        let jws = Jws::parse(text, MAX_BYTES)?;
        let header: Header = jws.header()?;
        if header.typ != TYP || header.alg != "ES256" {
            return None;
        }
        let claims: ProofClaims = json::from_slice(jws.signed_by(&header.jwk)?).ok()?;
        let is_for_this = claims.htm == "POST" && claims.htu == address;
        is_for_this.then(|| Self { thumbprint: header.jwk.thumbprint(), claims })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{COORDINATE_BYTES, TestKey};

    const HERE: &str = "https://links.example/l/reenter";

    fn header(key: &TestKey) -> Value {
        json!({ "typ": TYP, "alg": "ES256", "jwk": key.public() })
    }

    fn payload() -> Value {
        json!({ "htm": "POST", "htu": HERE, "nonce": "n", "magic_link_id": "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z", "gen": 1,
            "visit": 2 })
    }

    #[test]
    fn a_proof_tells_its_key_and_what_it_is_for() {
        let key = TestKey::new();
        let proof = key.jws(&header(&key).to_string(), &payload().to_string());
        let known = Proof::verify(&proof, HERE).unwrap();
        assert_eq!((known.claims.generation, known.claims.visit, known.claims.nonce.as_str()), (1, 2, "n"));
        assert_eq!(known.thumbprint.len(), 43);
        assert_eq!(Proof::verify(&proof, "https://links.example/l/forget"), None, "for another address");
    }

    #[test]
    fn a_header_with_anything_else_is_refused() {
        let key = TestKey::new();
        let good = header(&key);
        let with = |pointer: &str, value: Value| {
            let mut other = good.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            other
        };
        let plus = |parent: &str, name: &str, value: Value| {
            let mut other = good.clone();
            other.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
            other
        };
        let x = good["jwk"]["x"].as_str().unwrap();
        for wrong in [
            with("/alg", json!("none")),
            with("/alg", json!("HS256")),
            with("/typ", json!("dpop+jwt")),
            with("/typ", json!("magic-link+jwt")),
            with("/jwk/kty", json!("RSA")),
            with("/jwk/crv", json!("P-384")),
            with("/jwk/crv", json!("secp256k1")),
            with("/jwk/x", json!("")),
            with("/jwk/x", json!("A".repeat(43))),
            with("/jwk/x", json!(format!("{x}="))),
            with("/jwk/x", json!(format!("AA{x}"))),
            with("/jwk/y", json!(URL_SAFE_NO_PAD.encode([255; COORDINATE_BYTES]))),
            plus("/jwk", "d", json!("AAAA")),
            plus("/jwk", "kid", json!("1")),
            plus("", "kid", json!("1")),
            plus("", "jku", json!("https://elsewhere.example/keys")),
            plus("", "crit", json!(["b64"])),
            json!({ "typ": TYP, "alg": "ES256" }),
        ] {
            let proof = key.jws(&wrong.to_string(), &payload().to_string());
            assert_eq!(Proof::verify(&proof, HERE), None, "{wrong}");
        }
        let twice = good.to_string().replacen("\"alg\"", "\"alg\":\"none\",\"alg\"", 1);
        assert_eq!(Proof::verify(&key.jws(&twice, &payload().to_string()), HERE), None, "{twice}");
    }

    #[test]
    fn a_signature_of_another_key_or_over_anything_else_is_refused() {
        let (own, other) = (TestKey::new(), TestKey::new());
        let good = own.jws(&header(&own).to_string(), &payload().to_string());
        let (text, signature) = good.rsplit_once('.').unwrap();
        for wrong in [
            other.jws(&header(&own).to_string(), &payload().to_string()),
            format!("{text}."),
            format!("{text}.{}", signature.get(2..).unwrap()),
            format!("{text}.{}", "A".repeat(86)),
            format!("{text}A.{signature}"),
            format!("{good}.{signature}"),
            text.to_owned(),
            String::new(),
            ".".repeat(MAX_BYTES),
            "a".repeat(MAX_BYTES + 1),
        ] {
            assert_eq!(Proof::verify(&wrong, HERE), None, "{wrong}");
        }
    }

    #[test]
    fn a_payload_with_anything_else_is_refused() {
        let key = TestKey::new();
        for (name, value) in [
            ("htm", json!("GET")),
            ("htu", json!("https://links.example/l/reenter/")),
            ("htu", json!("http://links.example/l/reenter")),
            ("visit", json!("2")),
            ("visit", json!(2.5)),
            ("gen", json!(99_999_999_999_i64)),
            ("magic_link_id", json!("ses_01kaq3v9e8fwmvd2x7n0c5hb1z")),
            ("exp", json!(4_102_444_800_i64)),
        ] {
            let mut wrong = payload();
            wrong[name] = value;
            let proof = key.jws(&header(&key).to_string(), &wrong.to_string());
            assert_eq!(Proof::verify(&proof, HERE), None, "{wrong}");
        }
    }
}
