//! Approvals that a customer has signed, checked with the keys that the customer gives, not with those of the service.
//!
//! The log says which key was in effect: from an event that changed it at once, which the key before has signed, or from
//! three days after an order that it has not. While one was, each approval must be signed, by a key of the customer.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{member, time};
use crate::clock::Timestamp;
use crate::domain::{EventType, PublicKey};
use crate::journal::leaf::ApprovalProof;
use crate::journal::tree::base64;
use crate::tokens::{CustomerSigned, KEY_CHANGE_WAIT, NO_KEY, Signed};

/// A key with which a customer signs approvals.
#[derive(Debug, Clone)]
pub struct ApprovalKey(PublicKey);

impl ApprovalKey {
    /// The key of a file: a JWK, or PEM (`BEGIN PUBLIC KEY`), of a public key on P-256. `None` for anything else.
    #[must_use]
    pub fn of_file(text: &str) -> Option<Self> {
        PublicKey::of_file(text).map(Self)
    }
}

/// What was found of a customer's signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedApprovals {
    /// Approvals that a key of the customer has signed.
    pub signed: u64,
    /// Approvals whose signed text was erased; its hash is a part of the log.
    pub erased: u64,
    /// Approvals while no key was in effect.
    pub unsigned: u64,
    /// Changes of the key that the log records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key_changes: Vec<VerifiedApprovalKeyChange>,
}

/// A change of the key that signs approvals.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedApprovalKeyChange {
    /// Index of its event.
    pub log_index: u64,
    /// Thumbprint of the key from then on; `none` where nothing had to be signed any more.
    pub key_thumbprint: String,
    /// Whether the key before has signed it, or an operator has ordered it. The first key needs neither.
    pub is_ordered: bool,
}

/// The approvals of a log, or of an evidence pack.
pub(super) struct Approvals<'k> {
    keys: &'k [ApprovalKey],
    /// Whether the events that change the key are among those that are read.
    knows_changes: bool,
    in_effect: Option<String>,
    ordered: Option<(Timestamp, Option<String>)>,
    found: VerifiedApprovals,
}

impl<'k> Approvals<'k> {
    pub(super) fn new(keys: &'k [ApprovalKey], knows_changes: bool) -> Self {
        Self { keys, knows_changes, in_effect: None, ordered: None, found: VerifiedApprovals::default() }
    }

    /// What was found; `None` where nobody asked.
    pub(super) fn found(self) -> Option<VerifiedApprovals> {
        (!self.keys.is_empty()).then_some(self.found)
    }

    /// Takes the next event, whose leaf and payload were verified.
    pub(super) fn follow(&mut self, event: &Value) -> Result<(), String> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let leaf = member(event, "leaf");
        let kind = member(leaf, "type").as_str().and_then(|kind| kind.parse::<EventType>().ok());
        let is_one = matches!(kind, Some(EventType::LinkApproved | EventType::LinkExtended));
        let changes =
            [EventType::ApprovalKeyChanged, EventType::ApprovalKeyChangeOrdered, EventType::ApprovalKeyChangeCancelled];
        let Some(kind) = kind.filter(|kind| is_one || changes.contains(kind)) else { return Ok(()) };
        let at = time(leaf, "recorded_at").ok_or("has no valid `recorded_at`")?;
        if let Some((_, next)) = self.ordered.take_if(|(effective_at, _)| *effective_at <= at) {
            self.in_effect = next;
        }
        match kind {
            EventType::LinkApproved => self.approval(event, Signed::Approval, at),
            EventType::LinkExtended => self.approval(event, Signed::ExtensionApproval, at),
            EventType::ApprovalKeyChangeCancelled => {
                self.forget_order();
                Ok(())
            }
            kind => self.key_change(event, kind == EventType::ApprovalKeyChangeOrdered, at),
        }
    }

    /// An order that waits was cancelled, or another change has taken its place.
    fn forget_order(&mut self) {
        if self.ordered.take().is_some() {
            self.found.key_changes.pop();
        }
    }

    fn key(&self, thumbprint: &str) -> Option<&'k PublicKey> {
        self.keys.iter().map(|key| &key.0).find(|key| key.thumbprint() == thumbprint)
    }

    fn key_change(&mut self, event: &Value, is_ordered: bool, at: Timestamp) -> Result<(), String> {
        let leaf = member(event, "leaf");
        let proof = proof(leaf)?.ok_or("the change of the approval key names no key")?;
        let next = Some(proof.key_thumbprint.clone()).filter(|thumbprint| thumbprint != NO_KEY);
        let change = VerifiedApprovalKeyChange {
            log_index: member(leaf, "log_index").as_u64().unwrap_or_default(),
            key_thumbprint: proof.key_thumbprint.clone(),
            is_ordered,
        };
        self.forget_order();
        if is_ordered {
            self.ordered = Some((at.plus(KEY_CHANGE_WAIT), next));
        } else {
            let before = self.in_effect.as_deref().and_then(|thumbprint| self.key(thumbprint));
            if let Some(key) = before {
                let Some(hash) = &proof.jws_sha256 else {
                    return Err("the customer's key was changed at once, and has not signed that".to_owned());
                };
                if let Some(text) = signed_text(event, "signed_change", hash)? {
                    let expected = json!({
                        "tenant_id": member(leaf, "tenant_id"), "key_thumbprint": proof.key_thumbprint,
                    });
                    check(text, Signed::KeyChange, key, at, |_| expected)?;
                }
            }
            self.in_effect = next;
        }
        self.found.key_changes.push(change);
        Ok(())
    }

    fn approval(&mut self, event: &Value, kind: Signed, at: Timestamp) -> Result<(), String> {
        let leaf = member(event, "leaf");
        let data = member(member(event, "payload"), "data");
        let Some(proof) = proof(leaf)? else {
            // An extension that waited for nobody has no approver.
            let is_approval = kind == Signed::Approval || data.get("approver_email").is_some();
            if is_approval && (self.in_effect.is_some() || !self.knows_changes) {
                return Err("it was approved without a signature of the customer".to_owned());
            }
            self.found.unsigned += u64::from(is_approval);
            return Ok(());
        };
        let key = self.key(&proof.key_thumbprint);
        let key =
            key.ok_or_else(|| format!("the key that approved it, {}, is none of those given", proof.key_thumbprint))?;
        let hash = proof.jws_sha256.ok_or("the approval names no signed text")?;
        let Some(text) = signed_text(event, "signed_approval", &hash)? else {
            self.found.erased += 1;
            return Ok(());
        };
        check(text, kind, key, at, |signed| terms_of(leaf, data, signed))?;
        check_window(data, kind, &CustomerSigned::verify(text, kind, key)?)?;
        self.found.signed += 1;
        Ok(())
    }
}

fn proof(leaf: &Value) -> Result<Option<ApprovalProof>, String> {
    let proof = leaf.get("approval").cloned().map(serde_json::from_value).transpose();
    proof.map_err(|_malformed| "the proof of its approval is malformed".to_owned())
}

/// The text whose hash the leaf has; `None` where it was erased.
fn signed_text<'e>(event: &'e Value, name: &str, hash: &str) -> Result<Option<&'e str>, String> {
    if event.get("erased").is_some() {
        return Ok(None);
    }
    let text = member(member(member(event, "payload"), "data"), name).as_str();
    match text.filter(|text| base64(digest(&SHA256, text.as_bytes()).as_ref()) == hash) {
        Some(text) => Ok(Some(text)),
        None => Err("the text that the customer signed is not the one that the log names".to_owned()),
    }
}

fn check(
    text: &str,
    kind: Signed,
    key: &PublicKey,
    at: Timestamp,
    expected: impl FnOnce(&CustomerSigned) -> Value,
) -> Result<(), String> {
    let about = |why| format!("what the customer signed: {why}");
    let signed = CustomerSigned::verify(text, kind, key).map_err(about)?;
    if !signed.was_good(at) {
        return Err(about("it was not good any more, or not yet".to_owned()));
    }
    signed.check_terms(&expected(&signed)).map_err(about)
}

/// What the customer must have signed, by the event. Of an extension it says neither access nor limits, which it leaves as
/// they were approved; a nonce is the service's own.
fn terms_of(leaf: &Value, data: &Value, signed: &CustomerSigned) -> Value {
    let mut terms = json!({
        "approver_id": member(leaf, "actor_id"), "approver_email": member(data, "approver_email"),
    });
    let mut set = |name: &str, value: &Value| {
        if let Some(terms) = terms.as_object_mut() {
            terms.insert(name.to_owned(), value.clone());
        }
    };
    for name in ["magic_link_id", "tenant_id", "portal", "consultant_id", "profile_id"] {
        set(name, member(leaf, name));
    }
    let none = json!([]);
    if let Some(extension) = data.get("extension_id") {
        set("extension_id", extension);
        for name in ["access", "modules"] {
            set(name, signed.member(name));
        }
    } else {
        set("access", member(data, "access"));
        set("modules", data.get("modules").filter(|modules| !modules.is_null()).unwrap_or(&none));
    }
    for name in ["forbidden", "duration_seconds", "not_before", "nonce"] {
        set(name, signed.member(name));
    }
    terms
}

/// Checks that no more was opened than was signed: in time, and in what is forbidden.
fn check_window(data: &Value, kind: Signed, signed: &CustomerSigned) -> Result<(), String> {
    let number = |name: &str| {
        let number = signed.member(name).as_i64();
        number.ok_or_else(|| format!("what the customer signed: {name} is no whole number"))
    };
    let (not_before, length) = (number("not_before")?, number("duration_seconds")?);
    let times = |name: &str| time(data, name).ok_or_else(|| format!("the approval has no valid `{name}`"));
    let ends_at = times("expires_at")?;
    let is_within = if kind == Signed::Approval {
        let starts_at = times("starts_at")?;
        starts_at.unix_seconds() >= not_before && ends_at.since(starts_at).whole_seconds() == length
    } else {
        ends_at.unix_seconds() <= not_before.saturating_add(length)
    };
    if !is_within {
        return Err("the window is not the one that the customer signed".to_owned());
    }
    let words = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let forbidden = words(member(data, "forbidden"));
    if kind == Signed::Approval && words(signed.member("forbidden")).iter().any(|word| !forbidden.contains(word)) {
        return Err("it forbids less than the customer signed".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TestKey;
    use crate::tokens::proof_of;

    const LINK: &str = "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z";
    const CONSULTANT: &str = "con_01kaq3v9e8fwmvd2x7n0c5hb3z";
    const AT: &str = "2026-11-23T03:30:00.25Z";
    /// The whole second of that.
    const SECONDS: i64 = 1_795_404_600;

    fn jws(key: &TestKey, typ: &str, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": typ, "kid": key.public().thumbprint() });
        key.jws(&header.to_string(), &claims.to_string())
    }

    fn claims(extension: bool) -> Value {
        let mut claims = json!({
            "magic_link_id": LINK, "tenant_id": "acme", "portal": "cloud", "consultant_id": CONSULTANT,
            "profile_id": "emp-1042", "access": "full", "modules": ["payroll"], "forbidden": ["export"],
            "duration_seconds": 7200, "not_before": SECONDS, "nonce": "n", "approver_id": "emp-3",
            "approver_email": "vikram@acme.example", "iat": SECONDS - 60, "exp": SECONDS + 60,
        });
        if extension {
            claims["extension_id"] = json!("ext_01kaq3v9e8fwmvd2x7n0c5hb1z");
        }
        claims
    }

    /// An event as in an export, with what the customer signed; its leaf and payload were verified before.
    fn event(kind: &str, text: Option<&str>, key: &TestKey) -> Value {
        let mut data = json!({
            "approver_email": "vikram@acme.example", "access": "full", "modules": ["payroll"],
            "forbidden": ["export", "mfa"], "starts_at": AT, "expires_at": "2026-11-23T05:30:00.25Z",
            "signed_approval": text,
        });
        if kind == "magic_link.extended" {
            data = json!({
                "approver_email": "vikram@acme.example", "extension_id": "ext_01kaq3v9e8fwmvd2x7n0c5hb1z",
                "previous_expires_at": AT, "expires_at": "2026-11-23T05:30:00Z", "signed_approval": text,
            });
        }
        let mut leaf = json!({
            "type": kind, "recorded_at": AT, "tenant_id": "acme", "portal": "cloud", "magic_link_id": LINK,
            "consultant_id": CONSULTANT, "profile_id": "emp-1042", "actor_id": "emp-3", "log_index": 7,
        });
        if let Some(text) = text {
            leaf["approval"] = json!(proof_of(Some(text), &key.public().thumbprint()));
        }
        json!({ "leaf": leaf, "payload": { "data": data } })
    }

    fn key_event(kind: &str, at: &str, text: Option<&str>, next: &str) -> Value {
        json!({
            "leaf": { "type": kind, "recorded_at": at, "tenant_id": "acme", "log_index": 1,
                "approval": proof_of(text, next) },
            "payload": { "data": { "signed_change": text } },
        })
    }

    fn follow(keys: &[ApprovalKey], events: &[Value]) -> Result<VerifiedApprovals, String> {
        let mut approvals = Approvals::new(keys, true);
        events.iter().try_for_each(|event| approvals.follow(event))?;
        Ok(approvals.found().unwrap())
    }

    #[test]
    fn what_was_approved_is_what_was_signed() {
        let key = TestKey::new();
        let keys = [ApprovalKey(key.public())];
        let link = jws(&key, "magic-link-approval+jwt", &claims(false));
        let extension = jws(&key, "magic-link-extension-approval+jwt", &claims(true));
        let approved = event("magic_link.approved", Some(&link), &key);
        let extended = event("magic_link.extended", Some(&extension), &key);
        assert_eq!(follow(&keys, &[approved.clone(), extended.clone()]).unwrap().signed, 2);
        let mut erased = approved.clone();
        erased["erased"] = json!({});
        assert_eq!(follow(&keys, &[erased]).unwrap().erased, 1);

        // Whatever the log says otherwise: its leaves and payloads are as whoever keeps the log wrote them.
        for (good, changes) in [
            (
                &approved,
                vec![
                    ("/payload/data/access", json!("read_only")),
                    ("/payload/data/modules", json!(["payroll", "leave"])),
                    ("/payload/data/modules", Value::Null),
                    ("/payload/data/forbidden", json!(["mfa"])),
                    ("/payload/data/forbidden", Value::Null),
                    ("/payload/data/starts_at", json!("2026-11-23T03:29:59Z")),
                    ("/payload/data/starts_at", json!("2026-11-23T04:30:00Z")),
                    ("/payload/data/expires_at", json!("2026-11-23T05:30:01.25Z")),
                ],
            ),
            (
                &extended,
                vec![
                    ("/payload/data/expires_at", json!("2026-11-23T05:30:01Z")),
                    ("/payload/data/extension_id", json!("ext_01kaq3v9e8fwmvd2x7n0c5hb2z")),
                ],
            ),
        ] {
            let everywhere = [
                ("/leaf/magic_link_id", json!("mlk_01kaq3v9e8fwmvd2x7n0c5hb2z")),
                ("/leaf/tenant_id", json!("globex")),
                ("/leaf/portal", json!("ess")),
                ("/leaf/consultant_id", json!("con_01kaq3v9e8fwmvd2x7n0c5hb4z")),
                ("/leaf/profile_id", json!("emp-1043")),
                ("/leaf/actor_id", json!("emp-4")),
                ("/leaf/recorded_at", json!("2026-11-23T03:31:01Z")),
                ("/leaf/recorded_at", json!("2026-11-23T03:20:00Z")),
                ("/leaf/approval/jws_sha256", json!("AAAA")),
                ("/leaf/approval/key_thumbprint", json!("AAAA")),
                ("/payload/data/approver_email", json!("meera@acme.example")),
                ("/payload/data/signed_approval", json!(if good == &approved { &extension } else { &link })),
            ];
            for (pointer, value) in changes.into_iter().chain(everywhere) {
                let mut wrong = good.clone();
                *wrong.pointer_mut(pointer).unwrap() = value;
                assert!(follow(&keys, &[wrong.clone()]).is_err(), "{pointer}: {wrong}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_of_what_was_signed_is_noticed() {
        let key = TestKey::new();
        let keys = [ApprovalKey(key.public())];
        let text = jws(&key, "magic-link-approval+jwt", &claims(false));
        for (place, bit) in (0..text.len()).flat_map(|place| (0..7).map(move |bit| (place, bit))) {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            let forged = String::from_utf8(bytes).unwrap();
            // Whoever forges it has written its hash into the log, too.
            let outcome = follow(&keys, &[event("magic_link.approved", Some(&forged), &key)]);
            assert!(outcome.is_err(), "bit {bit} of {place}: {forged}");
        }
    }

    #[test]
    fn while_a_key_is_in_effect_nothing_else_approves() {
        let (key, next) = (TestKey::new(), TestKey::new());
        let keys = [ApprovalKey(key.public())];
        let thumbprint = key.public().thumbprint();
        let unsigned = event("magic_link.approved", None, &key);
        let first = key_event("approval_key.changed", "2026-11-20T00:00:00Z", None, &thumbprint);
        assert_eq!(follow(&keys, &[unsigned.clone(), first.clone()]).unwrap().unsigned, 1);
        assert!(follow(&keys, &[first.clone(), unsigned.clone()]).is_err());
        assert!(Approvals::new(&keys, false).follow(&unsigned).is_err(), "an evidence pack holds no changes of keys");

        // It takes its own word to go at once, and three days without.
        let change = |claims: Value| jws(&key, "magic-link-approval-key+jwt", &claims);
        let claims =
            |next: &str| json!({ "tenant_id": "acme", "key_thumbprint": next, "iat": SECONDS, "exp": SECONDS + 60 });
        let gone = |text: Option<&str>| key_event("approval_key.changed", AT, text, "none");
        let word = change(claims("none"));
        let found = follow(&keys, &[first.clone(), gone(Some(&word)), unsigned.clone()]).unwrap();
        assert_eq!((found.unsigned, found.key_changes.len()), (1, 2));
        assert!(follow(&keys, &[first.clone(), gone(None)]).is_err());
        let other = change(claims(&next.public().thumbprint()));
        assert!(follow(&keys, &[first.clone(), gone(Some(&other))]).is_err());
        let forged = jws(&next, "magic-link-approval-key+jwt", &claims("none"));
        assert!(follow(&keys, &[first.clone(), gone(Some(&forged))]).is_err());
        for (ordered, is_over) in [("2026-11-20T03:30:00.25Z", true), ("2026-11-20T03:30:01Z", false)] {
            let order = key_event("approval_key.change_ordered", ordered, None, "none");
            let events = [first.clone(), order.clone(), unsigned.clone()];
            assert_eq!(follow(&keys, &events).is_ok(), is_over, "{ordered}");
            let mut cancelled = key_event("approval_key.change_cancelled", "2026-11-21T00:00:00Z", None, "none");
            cancelled["leaf"].as_object_mut().unwrap().remove("approval");
            assert!(follow(&keys, &[first.clone(), order, cancelled, unsigned.clone()]).is_err());
        }
        // A key that the customer does not have approves nothing for them.
        let text = jws(&next, "magic-link-approval+jwt", &self::claims(false));
        let foreign = event("magic_link.approved", Some(&text), &next);
        assert!(follow(&keys, std::slice::from_ref(&foreign)).is_err());
        assert!(follow(&[ApprovalKey(next.public())], &[foreign]).is_ok());
    }
}
