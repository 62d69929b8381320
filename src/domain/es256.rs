//! Signatures by keys that others hold: ES256 (RFC 7518, 3.4) over a JWS in compact form (RFC 7515), read strictly.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json;
use crate::db::text_enum;

/// Length of a coordinate of a point on P-256.
pub(crate) const COORDINATE_BYTES: usize = 32;

/// What comes before the point in the DER of a public key on P-256 (RFC 5480).
const SPKI: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

text_enum! {
    /// Kind of a key (`kty`).
    pub enum KeyKind {
        /// A key on an elliptic curve.
        EllipticCurve = "EC",
    }
}

text_enum! {
    /// Curve of a key (`crv`).
    pub enum Curve {
        /// NIST's P-256, the curve of ES256.
        P256 = "P-256",
    }
}

/// Public key on P-256 as a JWK (RFC 7517), with these members and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}))]
pub struct PublicKey {
    /// Kind of the key.
    kty: KeyKind,
    /// Curve of the key.
    crv: Curve,
    /// First coordinate of its point, in base64url without padding.
    #[schema(min_length = 43, max_length = 43, example = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4")]
    x: String,
    /// Second coordinate of its point, in base64url without padding.
    #[schema(min_length = 43, max_length = 43, example = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM")]
    y: String,
}

impl PublicKey {
    /// The key of a file: a JWK, or PEM (`BEGIN PUBLIC KEY`). `None` for anything else.
    pub(crate) fn of_file(text: &str) -> Option<Self> {
        let text = text.trim();
        let key = if text.starts_with('{') { json::from_slice(text.as_bytes()).ok()? } else { Self::of_pem(text)? };
        key.is_on_the_curve().then_some(key)
    }

    fn of_pem(text: &str) -> Option<Self> {
        let text = text.strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
        let der = STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?;
        let (x, y) = der.strip_prefix(SPKI)?.strip_prefix(&[4])?.split_at_checked(COORDINATE_BYTES)?;
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        Some(Self { kty: KeyKind::EllipticCurve, crv: Curve::P256, x, y })
    }

    /// The point in uncompressed form, if the members tell one on P-256 in the one way there is.
    fn point(&self) -> Option<Vec<u8>> {
        let coordinate = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            (bytes.len() == COORDINATE_BYTES).then_some(bytes)
        };
        Some([vec![4], coordinate(&self.x)?, coordinate(&self.y)?].concat())
    }

    /// Whether the members tell a point on the curve.
    pub(crate) fn is_on_the_curve(&self) -> bool {
        self.point().is_some_and(|point| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok())
    }

    /// JWK thumbprint (RFC 7638).
    pub(crate) fn thumbprint(&self) -> String {
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, self.x, self.y);
        URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
    }
}

/// A JWS in compact form, whose signature nobody has looked at yet.
pub(crate) struct Jws<'t> {
    signed: &'t str,
    header: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Takes a text of at most so many bytes apart.
    pub(crate) fn parse(text: &'t str, max_bytes: usize) -> Option<Self> {
        if text.len() > max_bytes {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let [header, payload, signature] = [header, payload, signature].map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        Some(Self { signed, header: header?, payload: payload?, signature: signature? })
    }

    /// The header, which has exactly the members of `T`.
    pub(crate) fn header<T: DeserializeOwned>(&self) -> Option<T> {
        json::from_slice(&self.header).ok()
    }

    /// The payload, if this key signed it (ES256). A point that is not on the curve signs nothing.
    pub(crate) fn signed_by(&self, key: &PublicKey) -> Option<&[u8]> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point()?);
        key.verify(self.signed.as_bytes(), &self.signature).ok()?;
        Some(&self.payload)
    }
}

/// A pair of keys for tests.
#[cfg(test)]
pub(crate) struct TestKey(aws_lc_rs::signature::EcdsaKeyPair);

#[cfg(test)]
impl TestKey {
    pub(crate) fn new() -> Self {
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        Self(aws_lc_rs::signature::EcdsaKeyPair::generate(algorithm).unwrap())
    }

    pub(crate) fn public(&self) -> PublicKey {
        let point = aws_lc_rs::signature::KeyPair::public_key(&self.0).as_ref();
        let [x, y] = [1, 33].map(|from| URL_SAFE_NO_PAD.encode(&point[from..from + COORDINATE_BYTES]));
        PublicKey { kty: KeyKind::EllipticCurve, crv: Curve::P256, x, y }
    }

    /// A JWS in compact form over these texts.
    pub(crate) fn jws(&self, header: &str, payload: &str) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.0.sign(&aws_lc_rs::rand::SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 7517, appendix A.1.
    fn known() -> PublicKey {
        let coordinates =
            ["MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"];
        let [x, y] = coordinates.map(ToOwned::to_owned);
        PublicKey { kty: KeyKind::EllipticCurve, crv: Curve::P256, x, y }
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let key = known();
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(serde_json::json!(key)).unwrap();
        let hash = jsonwebtoken::jwk::ThumbprintHash::SHA256;
        assert_eq!(key.thumbprint(), jwk.thumbprint(hash).unwrap());
        assert!(key.is_on_the_curve());
    }

    #[test]
    fn a_file_holds_a_jwk_or_pem_and_nothing_private() {
        let key = known();
        let jwk = serde_json::json!(key).to_string();
        assert_eq!(PublicKey::of_file(&format!(" {jwk}\n")), Some(key.clone()));
        let der = [SPKI, &key.point().unwrap()].concat();
        let pem = |name: &str, der: &[u8]| {
            format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", STANDARD.encode(der))
        };
        assert_eq!(PublicKey::of_file(&pem("PUBLIC KEY", &der)), Some(key.clone()));
        let off_the_curve = jwk.replace(&key.y, &key.x);
        for wrong in [
            String::new(),
            jwk.replace("P-256", "P-384"),
            jwk.replace('}', ",\"d\":\"AAAA\"}"),
            off_the_curve,
            pem("PRIVATE KEY", &der),
            pem("PUBLIC KEY", &der[1..]),
            pem("PUBLIC KEY", &der[..der.len() - 1]),
        ] {
            assert_eq!(PublicKey::of_file(&wrong), None, "{wrong}");
        }
    }
}
