//! Claims of each kind of token. They contain opaque ids only, because every holder of a JWS can read it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{ConsultantId, LinkId, SessionId};

/// A kind of token.
pub(crate) trait Claims: Serialize + DeserializeOwned {
    /// `typ` in the header, which alone tells the kind.
    const TYP: &'static str;

    /// `iat`, seconds since 1970.
    fn issued_at(&self) -> i64;

    /// `iss` and `aud` of a kind that is shown to us again; `None` of what only others verify.
    fn parties(&self) -> Option<(&str, &str)> {
        None
    }
}

/// The actor (RFC 8693, section 4.1): one level, always the consultant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Act {
    pub sub: ConsultantId,
}

/// An opaque id of the portal or the tenant.
pub(crate) type StringId = String;

/// The link token in the mail, which can be spent once in its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkClaims {
    pub iss: String,
    pub aud: String,
    /// The profile.
    pub sub: StringId,
    pub act: Act,
    /// The link.
    pub jti: LinkId,
    #[serde(rename = "gen")]
    pub generation: i32,
    pub portal: StringId,
    pub tenant_id: StringId,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
}

/// The code that the landing page hands to the portal, valid for one minute in the same generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuthorizationCodeClaims {
    pub iss: String,
    pub aud: String,
    /// The profile.
    pub sub: StringId,
    pub magic_link_id: LinkId,
    #[serde(rename = "gen")]
    pub generation: i32,
    pub portal: StringId,
    pub tenant_id: StringId,
    /// The key that signed the link token: what the code opens ends with that key, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_kid: Option<StringId>,
    /// Number of visits before the one that the code opens.
    #[serde(default)]
    pub visit: i32,
    /// The device that is remembered, or is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
}

/// The key of a device (RFC 7800), by its JWK thumbprint (RFC 7638, RFC 9449).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmation {
    pub jkt: String,
}

/// The access token of a session at a portal (RFC 9068).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessClaims {
    pub iss: String,
    /// The portal's audience.
    pub aud: String,
    /// The profile.
    pub sub: StringId,
    pub act: Act,
    /// The client that opened the session.
    pub client_id: StringId,
    pub jti: String,
    pub sid: SessionId,
    pub portal: StringId,
    pub tenant_id: StringId,
    pub access: crate::domain::Access,
    /// The only modules of the portal that may be entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<StringId>>,
    /// What must not be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<crate::domain::Forbidden>,
    /// Where verifiers find whether the session has ended.
    pub status: Status,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
}

impl Claims for LinkClaims {
    const TYP: &'static str = "magic-link+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }

    fn parties(&self) -> Option<(&str, &str)> {
        Some((&self.iss, &self.aud))
    }
}

impl Claims for AuthorizationCodeClaims {
    const TYP: &'static str = "magic-link-code+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }

    fn parties(&self) -> Option<(&str, &str)> {
        Some((&self.iss, &self.aud))
    }
}

impl Claims for AccessClaims {
    const TYP: &'static str = "at+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }

    fn parties(&self) -> Option<(&str, &str)> {
        Some((&self.iss, &self.aud))
    }
}

/// Where the status of a token is published (claim `status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) status_list: Reference,
}

/// An index in a status list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) idx: i32,
    pub(crate) uri: String,
}

impl Status {
    pub(crate) fn new(public_url: &str, list: i64, index: i32) -> Self {
        Self { status_list: Reference { idx: index, uri: status_list_uri(public_url, list) } }
    }
}

pub(crate) fn status_list_uri(public_url: &str, list: i64) -> String {
    format!("{public_url}/v1/status-lists/{list}")
}
