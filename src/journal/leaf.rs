//! The leaf of an event, which the log commits to, and its payload, which can be erased.
//!
//! The leaf is the canonical JSON (RFC 8785) of opaque ids, times and type. Names,
//! reasons and data are the *payload*: the leaf holds only its commitment,
//! `SHA-256(salt ‖ canonical payload)`, with a salt of 32 random bytes. Once
//! payload and salt are erased the commitment reveals nothing, and every proof
//! stays valid.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tlog_tiles::Hash;

use super::tree::base64;
use crate::clock::Timestamp;
use crate::domain::{ActorType, EventResult};
use crate::error::Error;
use crate::id::{ClientId, ConsultantId, EventId, LinkId, SessionId};

/// Length of a salt in bytes.
pub(crate) const SALT_BYTES: usize = 32;

/// The canonical form of a JSON value (RFC 8785).
///
/// # Errors
/// When the value cannot be written as JSON.
pub(crate) fn canonical(value: &impl Serialize) -> Result<String, Error> {
    serde_json_canonicalizer::to_string(value).map_err(Error::internal)
}

/// The commitment to a payload: `SHA-256(salt ‖ canonical payload)`.
pub(crate) fn commit(salt: &[u8], payload: &str) -> Vec<u8> {
    digest(&SHA256, &[salt, payload.as_bytes()].concat()).as_ref().to_vec()
}

/// The proof that a customer signed an approval, or a change of the key for that: what was signed is a part of the payload, and can be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApprovalProof {
    /// SHA-256 of the signed text (base64); absent where the key was changed and nothing was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jws_sha256: Option<String>,
    /// JWK thumbprint (RFC 7638) of the key that signed it, or of the next key where it was changed.
    pub key_thumbprint: String,
}

impl ApprovalProof {
    /// The proof of what this key signed, or of a change to this key.
    pub(crate) fn of(signed: Option<&str>, key_thumbprint: String) -> Self {
        Self { jws_sha256: signed.map(Self::hash), key_thumbprint }
    }

    /// The hash of a signed text (base64).
    pub(crate) fn hash(signed: &str) -> String {
        base64(digest(&SHA256, signed.as_bytes()).as_ref())
    }
}

/// The members of a leaf, in the order of RFC 8785; absent ones are omitted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Leaf<'a> {
    pub actor_id: &'a str,
    pub actor_type: ActorType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalProof>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consultant_id: Option<&'a ConsultantId>,
    pub id: &'a EventId,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    pub log_index: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub magic_link_id: Option<&'a LinkId>,
    pub occurred_at: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_session: bool,
    pub payload_commitment: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub policy_violation: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principal_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<&'a str>,
    pub recorded_at: Timestamp,
    pub result: EventResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<&'a SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'a str>,
    pub tenant_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<&'a str>,
    #[serde(rename = "type")]
    pub kind: &'a str,
}

impl Leaf<'_> {
    /// A commitment in the leaf's form (base64).
    pub(crate) fn commitment(commitment: &[u8]) -> String {
        base64(commitment)
    }

    /// The canonical JSON that is hashed.
    pub(crate) fn canonical(&self) -> Result<String, Error> {
        // Members are sorted and plain, so serde_json writes the canonical form, and faster.
        serde_json::to_string(self).map_err(Error::internal)
    }

    /// The leaf hash (RFC 6962).
    pub(crate) fn hash(&self) -> Result<Hash, Error> {
        Ok(tlog_tiles::record_hash(self.canonical()?.as_bytes()))
    }
}

/// The erasable part of an event. Members that a newer version has written are left alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub data: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf<'a>(id: &'a EventId, tenant_id: &'a str, actor_id: &'a str) -> Leaf<'a> {
        let moment: Timestamp = serde_json::from_str("\"2026-11-22T10:00:00Z\"").unwrap();
        Leaf {
            actor_id,
            actor_type: ActorType::Consultant,
            approval: None,
            client_id: None,
            consultant_id: None,
            id,
            late: false,
            log_index: 7,
            magic_link_id: None,
            occurred_at: moment,
            out_of_session: false,
            payload_commitment: Leaf::commitment(&[0; 32]),
            policy_violation: false,
            portal: None,
            principal_id: None,
            principal_ids: Vec::new(),
            profile_id: None,
            recorded_at: moment,
            result: EventResult::Success,
            seq: None,
            session_id: None,
            source: None,
            tenant_id,
            trace_id: None,
            kind: "data.changed",
        }
    }

    #[test]
    fn the_commitment_is_over_salt_and_payload() {
        // echo -n 'abc' | sha256sum | xxd -r -p | base64
        assert_eq!(Leaf::commitment(&commit(b"a", "bc")), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }

    proptest! {
        #[test]
        fn a_leaf_is_written_in_canonical_form(actor in ".*", tenant in ".*", trace in ".*", seq in 0_i64..1_000_000_000) {
            let id = EventId::new(serde_json::from_str("\"2026-11-22T10:00:00Z\"").unwrap());
            let leaf = Leaf { trace_id: Some(&trace), seq: Some(seq), ..leaf(&id, &tenant, &actor) };
            prop_assert_eq!(leaf.canonical().unwrap(), canonical(&leaf).unwrap());
        }

        #[test]
        fn two_different_events_never_share_a_leaf(
            one in ("[a-c\"\\\\]{0,3}", "[a-c\"\\\\]{0,3}", any::<Option<bool>>(), 0_i64..3),
            other in ("[a-c\"\\\\]{0,3}", "[a-c\"\\\\]{0,3}", any::<Option<bool>>(), 0_i64..3),
        ) {
            let id = EventId::new(serde_json::from_str("\"2026-11-22T10:00:00Z\"").unwrap());
            let hash = |(tenant, actor, portal, index): &(String, String, Option<bool>, i64)| {
                let portal = portal.map(|cloud| if cloud { "cloud" } else { "ess" });
                Leaf { portal, log_index: *index, ..leaf(&id, tenant, actor) }.hash().unwrap()
            };
            prop_assert_eq!(one == other, hash(&one) == hash(&other));
        }
    }
}
