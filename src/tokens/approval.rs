//! What a customer signs with a key of its own: approvals, and changes of that key.
//!
//! It is a JWS (RFC 7515) in compact form, of a type of its own, with exactly the members `alg`, `kid` and `typ` in its
//! header. `kid` is the thumbprint of the key (RFC 7638). Its payload has exactly the members that are expected of it,
//! each once: what is approved as it is read from us, who approves, and for how long the signature is good.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::Duration;
use utoipa::ToSchema;

use super::SKEW_SECONDS;
use crate::clock::Timestamp;
use crate::domain::{Access, Forbidden, Jws, ModuleName, PublicKey, Validator, is_same, json};
use crate::id::{ConsultantId, ExtensionId, LinkId};
use crate::journal::leaf::canonical;

/// A signed text longer than this is refused before it is parsed.
const MAX_SIGNED_BYTES: usize = 16_384;

/// How long a signature can be good.
const LONGEST_LIFE: Duration = Duration::hours(24);

/// How long a change of the key waits that it has not signed.
pub(crate) const KEY_CHANGE_WAIT: Duration = Duration::hours(72);

/// In the place of the next key's thumbprint, where nothing has to be signed any more.
pub(crate) const NO_KEY: &str = "none";

/// Bytes of a nonce.
const NONCE_BYTES: usize = 16;

/// What a customer signs, by the `typ` of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    /// The approval of a link.
    Approval,
    /// The approval of an extension.
    ExtensionApproval,
    /// Another key, or none, in the place of the one that signs.
    KeyChange,
}

impl Signed {
    const fn typ(self) -> &'static str {
        match self {
            Self::Approval => "magic-link-approval+jwt",
            Self::ExtensionApproval => "magic-link-extension-approval+jwt",
            Self::KeyChange => "magic-link-approval-key+jwt",
        }
    }
}

/// What a signed approval says. To these members it adds `approver_id`, `approver_email`, `iat` and `exp`; `access` and
/// `duration_seconds` are the ones that are approved, which may be lower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalTerms {
    /// Identifier of the link.
    pub magic_link_id: LinkId,
    /// Identifier of the extension; absent where the link itself is approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_id: Option<ExtensionId>,
    /// Portal's identifier of the tenant.
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// Portal that the access is for.
    #[schema(max_length = 64)]
    pub portal: String,
    /// Identifier of the consultant.
    pub consultant_id: ConsultantId,
    /// Identifier of the profile that the consultant acts as.
    #[schema(max_length = 128)]
    pub profile_id: String,
    /// Access level.
    pub access: Access,
    /// The only modules that may be entered; empty where the access is limited to none in particular.
    #[schema(max_items = 20, value_type = Vec<ModuleName>)]
    pub modules: Vec<String>,
    /// What must not be done.
    #[schema(max_items = 10)]
    pub forbidden: Vec<Forbidden>,
    /// Length of the window, or of the extension, in seconds.
    pub duration_seconds: i64,
    /// Earliest beginning of the window, or the end that an extension moves (seconds since 1970, UTC; the fraction is
    /// cut off).
    pub not_before: i64,
    /// Stands for all that was asked, reason and persons included; another one for anything else.
    #[schema(max_length = 64)]
    pub nonce: String,
}

impl ApprovalTerms {
    /// The same with the nonce for all that was asked.
    pub(crate) fn about(self, asked: &Value) -> Self {
        let text = canonical(&serde_json::json!([self, asked])).unwrap_or_default();
        let nonce = digest(&SHA256, text.as_bytes());
        let nonce = nonce.as_ref().get(..NONCE_BYTES).unwrap_or_default();
        Self { nonce: URL_SAFE_NO_PAD.encode(nonce), ..self }
    }

    /// The members of the payload by which this person approves it.
    pub(crate) fn approved_by(&self, id: &str, email: &str) -> Value {
        let mut said = serde_json::json!(self);
        if let Some(members) = said.as_object_mut() {
            members.insert("approver_id".to_owned(), id.into());
            members.insert("approver_email".to_owned(), email.into());
        }
        said
    }
}

/// A text that a customer's key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CustomerSigned {
    /// Its payload without `iat` and `exp`.
    said: Map<String, Value>,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    kid: String,
}

impl CustomerSigned {
    /// Verifies form, type and signature of a text.
    ///
    /// # Errors
    /// What is wrong, for whoever signs.
    pub(crate) fn verify(text: &str, kind: Signed, key: &PublicKey) -> Result<Self, String> {
        let jws = Jws::parse(text, MAX_SIGNED_BYTES).ok_or("is no JWS in compact form")?;
        let header: Header = jws.header().ok_or("the header must have exactly the members alg, kid and typ")?;
        if header.alg != "ES256" || header.typ != kind.typ() {
            return Err(format!("the header must say alg ES256 and typ {}", kind.typ()));
        }
        let thumbprint = key.thumbprint();
        if header.kid != thumbprint {
            return Err(format!("the header must say kid {thumbprint}, the thumbprint of the approval key"));
        }
        let payload = jws.signed_by(key).ok_or("the signature is not one of the approval key")?;
        let payload = json::parse(payload).map_err(|invalid| format!("the payload {}", invalid.message))?;
        let Value::Object(mut said) = payload else { return Err("the payload must be an object".to_owned()) };
        let mut seconds = |name: &str| {
            let value = said.remove(name).and_then(|value| value.as_i64());
            value.ok_or_else(|| format!("{name} must be a whole number of seconds"))
        };
        let (iat, exp) = (seconds("iat")?, seconds("exp")?);
        Ok(Self { said, iat, exp })
    }

    /// Checks that it was signed since `since`, and is good now.
    pub(crate) fn check_time(&self, since: Timestamp, now: Timestamp) -> Result<(), String> {
        let (since, now) = (since.unix_seconds(), now.unix_seconds());
        if self.iat > now.saturating_add(SKEW_SECONDS) {
            return Err("iat lies in the future".to_owned());
        }
        if self.iat.saturating_add(SKEW_SECONDS) < since {
            return Err("iat lies before what it is about".to_owned());
        }
        if self.exp <= now {
            return Err("exp is over".to_owned());
        }
        if self.exp.saturating_sub(self.iat) > LONGEST_LIFE.whole_seconds() {
            return Err("exp lies more than 24 hours after iat".to_owned());
        }
        Ok(())
    }

    /// Checks that it says exactly this.
    pub(crate) fn check_terms(&self, expected: &Value) -> Result<(), String> {
        let none = Map::new();
        let expected = expected.as_object().unwrap_or(&none);
        for (name, value) in expected {
            match self.said.get(name) {
                None => return Err(format!("{name} is missing")),
                Some(said) if !fits(name, said, value) => {
                    return Err(format!("{name} is {said}, and must be {value}"));
                }
                Some(_) => {}
            }
        }
        match self.said.keys().find(|name| !expected.contains_key(*name)) {
            Some(name) => Err(format!("{name} does not belong there")),
            None => Ok(()),
        }
    }

    /// A member of its payload.
    pub(crate) fn member(&self, name: &str) -> &Value {
        self.said.get(name).unwrap_or(&Value::Null)
    }
}

/// Whether a member says what it must: addresses without regard to case, as approvers are compared.
fn fits(name: &str, said: &Value, expected: &Value) -> bool {
    match (name, said, expected) {
        ("approver_email", Value::String(said), Value::String(expected)) => is_same(said, expected),
        _ => said == expected,
    }
}

/// Checks a text that is to be signed before anybody looks at what it says.
pub(crate) fn check_signed(fields: &mut Validator, pointer: &str, text: Option<&str>) {
    let Some(text) = text else { return };
    if text.len() > MAX_SIGNED_BYTES {
        fields.error(pointer, "too_long", format_args!("must have at most {MAX_SIGNED_BYTES} characters"));
    } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        fields.error(pointer, "malformed", "must be a JWS in compact form: base64url and dots");
    }
}
