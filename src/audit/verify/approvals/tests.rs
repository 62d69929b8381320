//! What is signed, what is on record, and what does not fit.

use super::*;
use crate::domain::TestKey;

const LINK: &str = "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z";
const CONSULTANT: &str = "con_01kaq3v9e8fwmvd2x7n0c5hb3z";
const AT: &str = "2026-11-23T03:30:00.25Z";
const ASKED: &str = "2026-11-23T03:29:00Z";
/// The whole second of that time.
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
        "signed_approval": text, "requested_at": ASKED,
    });
    if kind == "magic_link.extended" {
        data = json!({
            "approver_email": "vikram@acme.example", "extension_id": "ext_01kaq3v9e8fwmvd2x7n0c5hb1z",
            "previous_expires_at": AT, "expires_at": "2026-11-23T05:30:00Z", "signed_approval": text,
            "requested_at": ASKED,
        });
    }
    let mut leaf = json!({
        "type": kind, "recorded_at": AT, "tenant_id": "acme", "portal": "cloud", "magic_link_id": LINK,
        "consultant_id": CONSULTANT, "profile_id": "emp-1042", "actor_id": "emp-3", "log_index": 7,
    });
    if let Some(text) = text {
        leaf["approval"] = json!(ApprovalProof::of(Some(text), key.public().thumbprint()));
    }
    json!({ "leaf": leaf, "payload": { "data": data } })
}

fn key_event(kind: &str, at: &str, text: Option<&str>, next: &str) -> Value {
    json!({
        "leaf": { "type": kind, "recorded_at": at, "tenant_id": "acme", "log_index": 1,
            "approval": ApprovalProof::of(text, next.to_owned()) },
        "payload": { "data": { "signed_change": text } },
    })
}

fn follow(keys: &[ApprovalKey], events: &[Value]) -> Result<VerifiedApprovals, String> {
    let mut approvals = Approvals::new(keys, true);
    events.iter().try_for_each(|event| approvals.follow(event))?;
    Ok(approvals.found()?.unwrap())
}

/// The registration of a key, three days before.
fn registered(key: &TestKey) -> Value {
    key_event("approval_key.changed", "2026-11-20T00:00:00Z", None, &key.public().thumbprint())
}

#[test]
fn what_was_approved_is_what_was_signed() {
    let key = TestKey::new();
    let keys = [ApprovalKey(key.public())];
    let link = jws(&key, "magic-link-approval+jwt", &claims(false));
    let extension = jws(&key, "magic-link-extension-approval+jwt", &claims(true));
    let approved = event("magic_link.approved", Some(&link), &key);
    let extended = event("magic_link.extended", Some(&extension), &key);
    let first = registered(&key);
    assert_eq!(follow(&keys, &[first.clone(), approved.clone(), extended.clone()]).unwrap().signed, 2);
    let mut erased = approved.clone();
    erased["erased"] = json!({});
    assert_eq!(follow(&keys, &[first.clone(), erased]).unwrap().erased, 1);

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
            assert!(follow(&keys, &[first.clone(), wrong.clone()]).is_err(), "{pointer}: {wrong}");
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
        let outcome = follow(&keys, &[registered(&key), event("magic_link.approved", Some(&forged), &key)]);
        assert!(outcome.is_err(), "bit {bit} of {place}: {forged}");
    }
}

#[test]
fn while_a_key_is_in_effect_nothing_else_approves() {
    let (key, next) = (TestKey::new(), TestKey::new());
    let keys = [ApprovalKey(key.public())];
    let unsigned = event("magic_link.approved", None, &key);
    let first = registered(&key);
    let mut earlier = unsigned.clone();
    earlier["leaf"]["recorded_at"] = json!("2026-11-19T00:00:00Z");
    assert_eq!(follow(&keys, &[earlier, first.clone()]).unwrap().unsigned, 1);
    assert!(follow(&keys, &[first.clone(), unsigned.clone()]).is_err());
    // An evidence pack holds no changes of keys: what has no signature is counted.
    let mut pack = Approvals::new(&keys, false);
    pack.follow(&unsigned).unwrap();
    assert_eq!(pack.found().unwrap().unwrap().unsigned, 1);
    assert!(follow(&keys, std::slice::from_ref(&unsigned)).is_err(), "the log has never had the key");

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
    assert!(follow(&keys, &[first.clone(), foreign.clone()]).is_err());
    assert!(follow(&[ApprovalKey(next.public())], &[registered(&next), foreign.clone()]).is_ok());
    // Nor does one that was replaced, whoever has it now.
    let both = [ApprovalKey(key.public()), ApprovalKey(next.public())];
    let replaced = key_event("approval_key.changed", AT, Some(&other), &next.public().thumbprint());
    let late = jws(&key, "magic-link-approval+jwt", &self::claims(false));
    let late = event("magic_link.approved", Some(&late), &key);
    assert!(follow(&both, &[first.clone(), late.clone(), replaced.clone()]).is_ok());
    assert!(follow(&both, &[first.clone(), replaced.clone(), late]).is_err());
    assert!(follow(&both, &[first.clone(), replaced.clone(), foreign]).is_ok());
    assert!(follow(&both[1..], &[first.clone(), replaced.clone()]).is_err(), "the key before was not given");
    let mut erased = replaced;
    erased["erased"] = json!({});
    let found = follow(&both, &[first.clone(), erased]).unwrap();
    assert_eq!(found.key_changes[1].by, KeyChangedBy::ErasedSignature);

    // An order that was dated back has not waited, and one that took effect is not cancelled.
    let order = |at: &str| key_event("approval_key.change_ordered", at, None, "none");
    let mark = json!({ "leaf": { "type": "audit.read", "recorded_at": AT }, "payload": {} });
    let events = [first.clone(), mark.clone(), order("2026-11-20T01:00:00Z")];
    assert!(follow(&keys, &events).is_err());
    let mut cancelled = key_event("approval_key.change_cancelled", AT, None, "none");
    cancelled["leaf"].as_object_mut().unwrap().remove("approval");
    let late = [first.clone(), order("2026-11-20T01:00:00Z"), mark, cancelled.clone()];
    assert!(follow(&keys, &late).is_err());
    // Unless a restore does so, once for each: nothing unsigned is approved after it.
    let restored = json!({ "leaf": { "type": "log.restored", "recorded_at": AT }, "payload": {} });
    let [first_event, ordered, ..] = late;
    let restore = [first_event, ordered, restored, cancelled.clone()];
    assert_eq!(follow(&keys, &restore).unwrap().key_changes.len(), 2);
    assert!(follow(&keys, &[restore.as_slice(), std::slice::from_ref(&unsigned)].concat()).is_err());
    assert!(follow(&keys, &[restore.as_slice(), &[cancelled]].concat()).is_err());

    // Of a link whose approval was erased nothing tells what it gives: what was signed of its extension stands.
    let text = jws(&key, "magic-link-approval+jwt", &self::claims(false));
    let mut erased = [event("magic_link.approved", Some(&text), &key), event("magic_link.issued", None, &key)];
    for event in &mut erased {
        event["erased"] = json!({});
        event.as_object_mut().unwrap().remove("payload");
    }
    let text = jws(&key, "magic-link-extension-approval+jwt", &self::claims(true));
    let extended = event("magic_link.extended", Some(&text), &key);
    let [approved, issued] = erased;
    let found = follow(&keys, &[first.clone(), approved, issued, extended]).unwrap();
    assert_eq!((found.erased, found.signed, found.without_approval), (1, 1, 0));

    // What is issued is what was approved, once; what wanted no approval is counted.
    let text = jws(&key, "magic-link-approval+jwt", &self::claims(false));
    let approved = event("magic_link.approved", Some(&text), &key);
    let mut issued = event("magic_link.issued", None, &key);
    assert!(follow(&keys, &[first.clone(), approved.clone(), issued.clone()]).is_ok());
    assert_eq!(follow(&keys, &[first.clone(), issued.clone()]).unwrap().without_approval, 1);
    assert!(follow(&keys, &[first.clone(), approved.clone(), approved.clone()]).is_err());
    issued["payload"]["data"]["expires_at"] = json!("2026-12-23T05:30:00.25Z");
    assert!(follow(&keys, &[first.clone(), approved, issued]).is_err());
    // An extension does not give what its signature says, but what the link has.
    let mut lower = self::claims(true);
    lower["access"] = json!("read_only");
    let text = jws(&key, "magic-link-extension-approval+jwt", &lower);
    let extended = event("magic_link.extended", Some(&text), &key);
    assert!(follow(&keys, &[first, event("magic_link.issued", None, &key), extended]).is_err());
}
