//! Approvals that a customer has signed, checked with the keys that the customer gives, not with those of the service.
//!
//! The log says which key was in effect: from an event that changed it at once, which the key before has signed, or from
//! three days after an order that it has not. While one was, each approval must be signed, by a key of the customer.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use time::Duration;

use super::{member, time};
use crate::clock::Timestamp;
use crate::domain::{EventType, PublicKey};
use crate::journal::leaf::ApprovalProof;
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
    /// Approvals without a signature: while no key was in effect, or, in an evidence pack, of a time that only the whole
    /// log tells.
    pub unsigned: u64,
    /// Links and extensions that wanted no approval by the tenant's policy, or were issued in an emergency, while a key was
    /// in effect.
    pub without_approval: u64,
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
    /// Why it was changed.
    pub by: KeyChangedBy,
}

/// Why a key that signs approvals was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyChangedBy {
    /// There was none before.
    First,
    /// The key before has signed it.
    Signature,
    /// The key before has signed it, as the log says: the text was erased, and its hash remains.
    ErasedSignature,
    /// An operator ordered it, and it waited for 72 hours.
    Operator,
}

/// What the log tells of a link.
#[derive(Debug, Default)]
struct Known {
    is_approved: bool,
    /// What it gives; unknown where that was erased.
    given: Option<Given>,
}

/// What a link gives.
#[derive(Debug, Clone, PartialEq)]
struct Given {
    access: Value,
    modules: Value,
    forbidden: Value,
    window: (Value, Value),
}

impl Given {
    /// As an event says that approves or issues the link; `None` where that was erased.
    fn of(event: &Value) -> Option<Self> {
        let data = member(member(event, "payload"), "data");
        event.get("erased").is_none().then(|| Self {
            access: member(data, "access").clone(),
            modules: words(member(data, "modules")),
            forbidden: words(member(data, "forbidden")),
            window: (member(data, "starts_at").clone(), member(data, "expires_at").clone()),
        })
    }
}

/// A list; empty where there is none.
fn words(value: &Value) -> Value {
    if value.is_array() { value.clone() } else { json!([]) }
}

/// How far the times of events may go back from one to the next: several copies of a service write them.
const DISORDER: Duration = Duration::minutes(5);

/// The approvals of a log, or of an evidence pack.
pub(super) struct Approvals<'k> {
    keys: &'k [ApprovalKey],
    /// Whether the events that change the key are among those that are read.
    knows_changes: bool,
    in_effect: Option<(String, Timestamp)>,
    ordered: Option<(Timestamp, Option<String>)>,
    /// What was in effect before each order that has taken effect, until the key was changed otherwise.
    before_orders: Vec<Option<(String, Timestamp)>>,
    /// Whether the event before is a restore, or what it cancelled.
    is_restored: bool,
    /// The newest time of the events so far: whoever keeps the log cannot date an event earlier to have it count.
    newest: Option<Timestamp>,
    links: HashMap<String, Known>,
    had: BTreeSet<String>,
    found: VerifiedApprovals,
}

impl<'k> Approvals<'k> {
    pub(super) fn new(keys: &'k [ApprovalKey], knows_changes: bool) -> Self {
        Self {
            keys,
            knows_changes,
            in_effect: None,
            ordered: None,
            before_orders: Vec::new(),
            is_restored: false,
            newest: None,
            links: HashMap::new(),
            had: BTreeSet::new(),
            found: VerifiedApprovals::default(),
        }
    }

    /// What was found; `None` where nobody asked.
    ///
    /// # Errors
    /// Where a key that was given has never been in effect.
    pub(super) fn found(&self) -> Result<Option<VerifiedApprovals>, String> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let unknown = self.keys.iter().map(|key| key.0.thumbprint()).find(|key| !self.had.contains(key));
        match unknown.filter(|_| self.knows_changes) {
            Some(key) => Err(format!("the log has never had the approval key {key}")),
            None => Ok(Some(self.found.clone())),
        }
    }

    /// Takes the next event, whose leaf and payload were verified.
    pub(super) fn follow(&mut self, event: &Value) -> Result<(), String> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let leaf = member(event, "leaf");
        let at = time(leaf, "recorded_at").ok_or("has no valid `recorded_at`")?;
        let newest = self.newest.map_or(at, |newest| newest.max(at));
        self.newest = Some(newest);
        if let Some((effective_at, next)) = self.ordered.take_if(|(effective_at, _)| *effective_at <= at) {
            self.before_orders.push(self.in_effect.clone());
            self.put_in_effect(next, effective_at);
        }
        let kind = member(leaf, "type").as_str().and_then(|kind| kind.parse::<EventType>().ok());
        let is_cancelled = kind == Some(EventType::ApprovalKeyChangeCancelled);
        let goes_on = kind == Some(EventType::LogRestored) || (self.is_restored && is_cancelled);
        let is_restored = std::mem::replace(&mut self.is_restored, goes_on);
        let judged = [
            EventType::LinkApproved,
            EventType::LinkExtended,
            EventType::LinkIssued,
            EventType::ApprovalKeyChanged,
            EventType::ApprovalKeyChangeOrdered,
            EventType::ApprovalKeyChangeCancelled,
        ];
        let Some(kind) = kind.filter(|kind| judged.contains(kind)) else { return Ok(()) };
        if self.knows_changes && at < newest.minus(DISORDER) {
            return Err("it is dated before events that come before it".to_owned());
        }
        match kind {
            EventType::LinkApproved => self.approval(event, Signed::Approval, at),
            EventType::LinkExtended => self.approval(event, Signed::ExtensionApproval, at),
            EventType::LinkIssued => self.issued(event),
            EventType::ApprovalKeyChangeCancelled if self.forget_order() => Ok(()),
            EventType::ApprovalKeyChangeCancelled if is_restored && self.undo_order() => Ok(()),
            EventType::ApprovalKeyChangeCancelled => {
                Err("it cancels a change of the approval key that has taken effect".to_owned())
            }
            EventType::ApprovalKeyChangeOrdered => self.key_ordered(event, newest),
            _ => self.key_changed(event, at),
        }
    }

    fn put_in_effect(&mut self, next: Option<String>, at: Timestamp) {
        self.had.extend(next.clone());
        self.in_effect = next.map(|key| (key, at));
    }

    /// An order that waits was cancelled, or another change has taken its place; whether there was one.
    fn forget_order(&mut self) -> bool {
        let had = self.ordered.take().is_some();
        if had {
            self.found.key_changes.pop();
        }
        had
    }

    /// A restore undoes an order whose time has come since the backup: whether it was cancelled meanwhile is lost. It stays
    /// among the changes of the key, for what was approved until then. Whether there was one.
    fn undo_order(&mut self) -> bool {
        let before = self.before_orders.pop();
        if let Some(before) = &before {
            self.in_effect.clone_from(before);
        }
        before.is_some()
    }

    fn key(&self, thumbprint: &str) -> Result<&'k PublicKey, String> {
        let key = self.keys.iter().map(|key| &key.0).find(|key| key.thumbprint() == thumbprint);
        key.ok_or_else(|| format!("the approval key {thumbprint} is none of those given"))
    }

    fn key_ordered(&mut self, event: &Value, newest: Timestamp) -> Result<(), String> {
        self.forget_order();
        let proof = proof(member(event, "leaf"))?.ok_or(NO_KEY_NAMED)?;
        let (change, next) = key_change(event, proof, KeyChangedBy::Operator);
        self.ordered = Some((newest.plus(KEY_CHANGE_WAIT), next));
        self.found.key_changes.push(change);
        Ok(())
    }

    fn key_changed(&mut self, event: &Value, at: Timestamp) -> Result<(), String> {
        self.forget_order();
        let leaf = member(event, "leaf");
        let proof = proof(leaf)?.ok_or(NO_KEY_NAMED)?;
        let mut by = KeyChangedBy::First;
        if let Some((thumbprint, since)) = &self.in_effect {
            let Some(hash) = &proof.jws_sha256 else {
                return Err("the customer's key was changed at once, and has not signed that".to_owned());
            };
            let key = self.key(thumbprint)?;
            by = KeyChangedBy::ErasedSignature;
            if let Some(text) = signed_text(event, "signed_change", hash)? {
                let expected =
                    json!({ "tenant_id": member(leaf, "tenant_id"), "key_thumbprint": proof.key_thumbprint });
                check(text, Signed::KeyChange, key, (*since, at), |_| expected)?;
                by = KeyChangedBy::Signature;
            }
        }
        let (change, next) = key_change(event, proof, by);
        self.before_orders.clear();
        self.put_in_effect(next, at);
        self.found.key_changes.push(change);
        Ok(())
    }

    /// A link that was approved is issued as it was approved.
    fn issued(&mut self, event: &Value) -> Result<(), String> {
        let id = member(member(event, "leaf"), "magic_link_id").as_str().unwrap_or_default().to_owned();
        let is_new = !self.links.contains_key(&id);
        self.found.without_approval += u64::from(is_new && self.in_effect.is_some());
        let known = self.links.entry(id).or_default();
        let given = Given::of(event);
        if known.is_approved && given.is_some() && known.given.is_some() && given != known.given {
            return Err("it was issued otherwise than it was approved".to_owned());
        }
        known.given = given.or(known.given.take());
        Ok(())
    }

    fn approval(&mut self, event: &Value, kind: Signed, at: Timestamp) -> Result<(), String> {
        let leaf = member(event, "leaf");
        let data = member(member(event, "payload"), "data");
        let id = member(leaf, "magic_link_id").as_str().unwrap_or_default().to_owned();
        let is_link = kind == Signed::Approval;
        if is_link && self.links.insert(id.clone(), Known { is_approved: true, given: Given::of(event) }).is_some() {
            return Err("it was approved before".to_owned());
        }
        let Some(proof) = proof(leaf)? else {
            // An extension that waited for nobody has no approver.
            let is_approval = is_link || data.get("approver_email").is_some();
            if is_approval && self.in_effect.is_some() {
                return Err("it was approved without a signature of the customer".to_owned());
            }
            self.found.unsigned += u64::from(is_approval);
            self.found.without_approval += u64::from(!is_approval && self.in_effect.is_some());
            return Ok(());
        };
        let key = self.key(&proof.key_thumbprint)?;
        if self.knows_changes && self.in_effect.as_ref().is_none_or(|(key, _)| *key != proof.key_thumbprint) {
            return Err(format!("the approval key {} was not in effect", proof.key_thumbprint));
        }
        let hash = proof.jws_sha256.ok_or("the approval names no signed text")?;
        let Some(text) = signed_text(event, "signed_approval", &hash)? else {
            self.found.erased += 1;
            return Ok(());
        };
        let given = self.links.get(&id).and_then(|known| known.given.clone());
        let since = time(data, "requested_at").ok_or("the approval has no valid `requested_at`")?;
        let signed = check(text, kind, key, (since, at), |signed| terms_of(leaf, data, given.as_ref(), signed))?;
        check_window(data, kind, at, &signed)?;
        self.found.signed += 1;
        Ok(())
    }
}

fn key_change(event: &Value, proof: ApprovalProof, by: KeyChangedBy) -> (VerifiedApprovalKeyChange, Option<String>) {
    let log_index = member(member(event, "leaf"), "log_index").as_u64().unwrap_or_default();
    let key_thumbprint = proof.key_thumbprint;
    let next = Some(key_thumbprint.clone()).filter(|thumbprint| thumbprint != NO_KEY);
    (VerifiedApprovalKeyChange { log_index, key_thumbprint, by }, next)
}

const NO_KEY_NAMED: &str = "the change of the approval key names no key";

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
    match text.filter(|text| ApprovalProof::hash(text) == hash) {
        Some(text) => Ok(Some(text)),
        None => Err("the text that the customer signed is not the one that the log names".to_owned()),
    }
}

/// Checks that a text says what is expected of it, and that its signature was made and good in this time.
fn check(
    text: &str,
    kind: Signed,
    key: &PublicKey,
    (since, at): (Timestamp, Timestamp),
    expected: impl FnOnce(&CustomerSigned) -> Value,
) -> Result<CustomerSigned, String> {
    let about = |why| format!("what the customer signed: {why}");
    let signed = CustomerSigned::verify(text, kind, key).map_err(about)?;
    signed.check_time(since, at).map_err(about)?;
    signed.check_terms(&expected(&signed)).map_err(about)?;
    Ok(signed)
}

/// What the customer must have signed, by the event and by what is known of the link. A nonce is the service's own.
fn terms_of(leaf: &Value, data: &Value, given: Option<&Given>, signed: &CustomerSigned) -> Value {
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
    if let Some(extension) = data.get("extension_id") {
        set("extension_id", extension);
    }
    // Where the event of the link itself was erased, nothing tells what it gives.
    set("access", given.map_or(signed.member("access"), |given| &given.access));
    set("modules", given.map_or(signed.member("modules"), |given| &given.modules));
    // More may be forbidden by the time of the approval than when it was asked for.
    let said = signed.member("forbidden");
    let is_within = |given: &Given| {
        let known = given.forbidden.as_array().map(Vec::as_slice).unwrap_or_default();
        said.as_array().is_some_and(|said| said.iter().all(|word| known.contains(word)))
    };
    set("forbidden", if given.is_none_or(is_within) { said } else { given.map_or(said, |given| &given.forbidden) });
    for name in ["duration_seconds", "not_before", "nonce"] {
        set(name, signed.member(name));
    }
    terms
}

/// Checks that the window is the one that was signed. That of a link begins with the approval at the earliest.
fn check_window(data: &Value, kind: Signed, at: Timestamp, signed: &CustomerSigned) -> Result<(), String> {
    let number = |name: &str| {
        let number = signed.member(name).as_i64();
        number.ok_or_else(|| format!("what the customer signed: {name} is no whole number"))
    };
    let (not_before, length) = (number("not_before")?, number("duration_seconds")?);
    let times = |name: &str| time(data, name).ok_or_else(|| format!("the approval has no valid `{name}`"));
    let ends_at = times("expires_at")?;
    let is_the_one = if kind == Signed::Approval {
        let starts_at = times("starts_at")?;
        starts_at.unix_seconds() == not_before.max(at.unix_seconds())
            && ends_at.since(starts_at).whole_seconds() == length
    } else {
        ends_at.unix_seconds() <= not_before.saturating_add(length)
    };
    if is_the_one { Ok(()) } else { Err("the window is not the one that the customer signed".to_owned()) }
}

#[cfg(test)]
mod tests;
