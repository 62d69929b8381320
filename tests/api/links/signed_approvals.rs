//! Approvals that the customer signs with a key of its own: neither the portal nor the service can approve without it.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use super::approvals::{acme, act, approval, id, vikram};
use crate::support::{
    Api, Auditor, Reply, Settings, Signer, Sql, World, apply, eventually, hold_mails, on_both_databases, release_mails,
};

const LINKS: &str = "/v1/magic-links";
const KEY: &str = "/v1/tenants/acme/approval-key";

fn always() -> Value {
    json!({"required_for": "always"})
}

/// A client that changes policies for the tenant, and is no operator.
async fn keeper(world: &World) -> Api {
    world.client(None, &["acme"], &["policies:write", "tenants:read"]).await
}

fn seconds(world: &World) -> i64 {
    world.clock.now().unix_seconds()
}

fn header(key: &Signer, typ: &str) -> Value {
    json!({"alg": "ES256", "typ": typ, "kid": key.thumbprint()})
}

/// What the customer signs: the terms as they were read, who approves, and for how long it is good.
fn claims(world: &World, terms: &Value) -> Value {
    let mut claims = terms.clone();
    claims["approver_id"] = json!("emp-3");
    claims["approver_email"] = json!("vikram.shah@acme.example");
    claims["iat"] = json!(seconds(world));
    claims["exp"] = json!(seconds(world) + 600);
    claims
}

fn sign(key: &Signer, claims: &Value) -> String {
    key.signed("magic-link-approval+jwt", claims)
}

fn signed(text: &str) -> Value {
    json!({"approver": vikram(), "signed_approval": text})
}

/// What the key says of its successor.
fn successor(world: &World, key: &Signer, next: &str) -> String {
    key.successor("acme", next, seconds(world))
}

/// Why a signature was refused.
#[track_caller]
fn why(refused: &Reply) -> String {
    refused.refused(403, "customer_signature_invalid");
    refused.body["errors"][0]["detail"].as_str().expect("a reason").to_owned()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_approval_counts_only_as_the_customer_signed_it(world: &World) {
    let portal = acme(world, &always()).await;
    let (customer, other) = (Signer::new(), Signer::new());
    let saved = keeper(world).await.put(KEY, &json!({"public_key": customer.jwk()})).await.ok();
    assert_eq!((&saved["required"], &saved["key_thumbprint"]), (&json!(true), &json!(customer.thumbprint())));
    let mail =
        eventually("the contact is told", async || world.mails.notices("approval_key_changed").await.pop()).await;
    assert!(mail.to_string().contains(&customer.thumbprint()), "{mail}");

    let mut request = Api::issue_request(&world.consultant().await);
    request["modules"] = json!(["payroll"]);
    request["forbidden"] = json!(["export"]);
    let asked = portal.post(LINKS, &request).await.ok();
    let link = id(&asked);
    let terms = &asked["approval"]["terms"];
    assert_eq!(terms["modules"], json!(["payroll"]));
    let refused = act(&portal, link, "approve", &approval()).await;
    refused.refused(403, "customer_signature_required");

    // Whatever member is another one, missing, or too much; and whoever else signs.
    let right = claims(world, terms);
    let mut names: Vec<String> = right.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 15, "{names:?}");
    names.retain(|name| name != "iat" && name != "exp");
    for name in &names {
        let mut wrong = right.clone();
        wrong[name] = match &right[name] {
            Value::Number(number) => json!(number.as_i64().unwrap() + 1),
            Value::Array(_) => json!(["bank_account"]),
            Value::String(text) if name == "access" => json!(if text == "full" { "read_only" } else { "full" }),
            Value::String(text) => json!(format!("{text}x")),
            value => panic!("{name}: {value}"),
        };
        let said = why(&act(&portal, link, "approve", &signed(&sign(&customer, &wrong))).await);
        assert!(said.contains(name), "{name}: {said}");
        wrong.as_object_mut().unwrap().remove(name);
        let said = why(&act(&portal, link, "approve", &signed(&sign(&customer, &wrong))).await);
        assert!(said.contains("missing") && said.contains(name), "{name}: {said}");
    }
    let now = seconds(world);
    for (name, value, expected) in [
        ("iat", json!(now + 61), "future"),
        ("iat", json!(now - 3_600), "before"),
        ("iat", json!("now"), "whole number"),
        ("exp", json!(now), "over"),
        ("exp", json!(now + 86_401), "24 hours"),
        ("exp", json!(i64::MAX), "24 hours"),
        ("exp", json!(1.5), "whole number"),
        ("reason", json!("more"), "does not belong"),
    ] {
        let mut wrong = right.clone();
        wrong[name] = value;
        let said = why(&act(&portal, link, "approve", &signed(&sign(&customer, &wrong))).await);
        assert!(said.contains(expected), "{name}: {said}");
    }
    let good = sign(&customer, &right);
    let with = |name: &str, value: Value| {
        let mut header = header(&customer, "magic-link-approval+jwt");
        header[name] = value;
        customer.jws(&header, &right)
    };
    let twice = {
        // A member that stands twice is read by nobody.
        use base64::Engine;
        let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let text = right.to_string().replacen("\"access\"", "\"access\":\"read_only\",\"access\"", 1);
        let (head, rest) = good.split_once('.').unwrap();
        format!("{head}.{}.{}", encode(text), rest.split_once('.').unwrap().1)
    };
    for wrong in [
        sign(&other, &right),
        other.jws(&header(&customer, "magic-link-approval+jwt"), &right),
        with("alg", json!("none")),
        with("alg", json!("HS256")),
        with("typ", json!("JWT")),
        with("typ", json!("magic-link-extension-approval+jwt")),
        with("kid", json!(other.thumbprint())),
        with("jwk", other.jwk()),
        with("crit", json!(["b64"])),
        twice,
        good[..good.len() - 2].to_owned(),
        format!("{good}.{}", good.rsplit_once('.').unwrap().1),
        "not-a-token".to_owned(),
    ] {
        why(&act(&portal, link, "approve", &signed(&wrong)).await);
    }
    for wrong in ["A".repeat(16_385), format!("{good}\nx"), format!("{good}\u{0}"), "a token".to_owned()] {
        let refused = act(&portal, link, "approve", &signed(&wrong)).await;
        assert!([400, 422].contains(&refused.status.as_u16()), "{refused:?}");
    }
    let refusals = portal.events(&format!("&magic_link_id={link}&type=magic_link.refused")).await;
    assert!(refusals.iter().any(|event| event["data"]["code"] == "customer_signature_required"), "{refusals:?}");
    assert!(refusals.len() >= 40, "{}", refusals.len());
    assert_eq!(portal.get(&format!("{LINKS}/{link}")).await.ok()["state"], "pending");

    // Less than was asked for is signed as it is approved.
    let mut less = signed(&good);
    less["duration"] = json!({"value": 2, "unit": "hours"});
    assert!(why(&act(&portal, link, "approve", &less).await).contains("duration_seconds"));
    let mut lower = right.clone();
    (lower["duration_seconds"], lower["access"]) = (json!(7_200), json!("read_only"));
    lower["approver_email"] = json!("Vikram.Shah@ACME.example");
    let lower = sign(&customer, &lower);
    // As the scripts print it: with a line break, which is not kept.
    less["signed_approval"] = json!(format!("{lower}\n"));
    less["access"] = json!("read_only");
    let approved = act(&portal, link, "approve", &less).await.ok();
    assert_eq!((&approved["state"], &approved["access"]), (&json!("active"), &json!("read_only")));
    assert_eq!(approved["approval"]["signed_approval"], json!(lower));
    assert_eq!(approved["approval"]["key_thumbprint"], json!(customer.thumbprint()));
    assert_eq!(approved["approval"]["terms"], Value::Null);

    // It is proved offline, with the key that the customer holds; another key proves nothing.
    let pack = portal.get(&format!("{LINKS}/{link}/evidence")).await;
    assert_eq!(pack.body["evidence"]["link"]["approval"]["signed_approval"], json!(lower));
    let mut auditor = Auditor::of("acme", &world.admin).await;
    let (checkpoint, export) = (auditor.checkpoint(&world.admin).await, auditor.export(&world.admin).await);
    auditor.approval_keys = vec![customer.pem()];
    for said in [auditor.accepts(&pack.text, &[]), auditor.accepts(&export, &[&checkpoint])] {
        assert!(said.contains("approvals: 1 signed by the customer"), "{said}");
    }
    auditor.approval_keys = vec![customer.jwk().to_string(), other.jwk().to_string()];
    auditor.refuses(&export, &[&checkpoint], "never had the approval key");
    auditor.approval_keys.remove(0);
    auditor.refuses(&export, &[&checkpoint], "none of those given");
    auditor.refuses(&pack.text, &[], "none of those given");
    auditor.approval_keys = vec!["no key".to_owned()];
    auditor.refuses(&pack.text, &[], "P-256");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_extension_is_signed_like_the_access(world: &World) {
    let portal = acme(world, &json!({"required_for": "none", "longer_than": {"value": 6, "unit": "hours"}})).await;
    let customer = Signer::new();
    // What needed no approval is on record without a signature, as is what was approved before the key was there.
    let link = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let mut longer = Api::issue_request(&world.consultant().await);
    longer["duration"] = json!({"value": 8, "unit": "hours"});
    let asked = portal.post(LINKS, &longer).await.ok();
    act(&portal, id(&asked), "approve", &approval()).await.ok();
    world.admin.put(KEY, &json!({"public_key": customer.jwk()})).await.ok();

    let more = |hours: i64| {
        json!({"duration": {"value": hours, "unit": "hours"}, "reason": "It takes a little longer",
            "extended_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"}})
    };
    let short = act(&portal, id(&link), "extend", &more(1)).await.ok();
    let asked = act(&portal, id(&link), "extend", &more(3)).await.ok();
    let terms = &asked["extension"]["terms"];
    assert_eq!(terms["duration_seconds"], 10_800);
    let path = format!("{LINKS}/{}/extensions/{}/approve", id(&link), asked["extension"]["id"].as_str().unwrap());
    portal.post(&path, &approval()).await.refused(403, "customer_signature_required");
    let right = claims(world, terms);
    // The approval of a link is none of an extension.
    why(&portal.post(&path, &signed(&sign(&customer, &right))).await);
    let extension = |claims: &Value| customer.signed("magic-link-extension-approval+jwt", claims);
    let mut other = right.clone();
    other["extension_id"] = json!("ext_01kaq3v9e8fwmvd2x7n0c5hb1z");
    assert!(why(&portal.post(&path, &signed(&extension(&other))).await).contains("extension_id"));
    let extended = portal.post(&path, &signed(&extension(&right))).await.ok();
    assert_ne!(extended["expires_at"], short["expires_at"]);

    let pack = portal.get(&format!("{LINKS}/{}/evidence", id(&link))).await;
    let decision = &pack.body["evidence"]["extensions"][0]["decision"];
    assert_eq!(decision["signed"]["key_thumbprint"], json!(customer.thumbprint()));
    let mut auditor = Auditor::of("acme", &world.admin).await;
    auditor.approval_keys = vec![customer.pem()];
    auditor.accepts(&pack.text, &[]);
    let (checkpoint, export) = (auditor.checkpoint(&world.admin).await, auditor.export(&world.admin).await);
    let said = auditor.accepts(&export, &[&checkpoint]);
    assert!(said.contains("1 signed by the customer, 1 not signed, 1 links and extensions that wanted none"), "{said}");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_key_signs_its_successor_or_an_operator_waits_three_days(world: &World) {
    let (portal, keeper) = (acme(world, &always()).await, keeper(world).await);
    let [first, second, third] = [Signer::new(), Signer::new(), Signer::new()];
    // A key that nobody can have is none, and a tenant that nobody could be told about has none.
    let mut off = first.jwk();
    off["y"] = off["x"].clone();
    keeper.put(KEY, &json!({"public_key": off})).await.refused_field("/public_key");
    let mut private = first.jwk();
    private["d"] = json!("AAAA");
    keeper.put(KEY, &json!({"public_key": private})).await.refused(400, "invalid_body");
    world.admin.put("/v1/tenants/acme", &json!({"name": "ACME Ltd"})).await.ok();
    keeper.put(KEY, &json!({"public_key": first.jwk()})).await.refused(422, "validation_failed");
    let contacts =
        json!([{"name": "Vikram Shah", "email": "vikram@acme.example"}, {"name": "Dev", "email": "dev@acme.example"}]);
    world.admin.put("/v1/tenants/acme", &json!({"name": "ACME Ltd", "contacts": contacts})).await.ok();
    keeper.put(KEY, &json!({"public_key": first.jwk()})).await.ok();
    keeper.put(KEY, &json!({"public_key": first.jwk()})).await.ok();

    // While it is there, the policy does not come to ask for less.
    let none = json!({"approval": {"required_for": "none"}});
    keeper.put("/v1/tenants/acme/policy", &none).await.refused(403, "customer_signature_required");
    let emergency = json!({"approval": always(), "emergency": "allowed"});
    keeper.put("/v1/tenants/acme/policy", &emergency).await.refused(403, "customer_signature_required");
    let stricter = json!({"approval": always(), "require_ticket": true});
    keeper.put("/v1/tenants/acme/policy", &stricter).await.ok();

    // The tenant's own client needs the word of the key.
    let replace = |key: &Signer, word: Option<String>| json!({"public_key": key.jwk(), "signed_change": word});
    keeper.put(KEY, &replace(&second, None)).await.refused(403, "customer_signature_required");
    keeper.post(&format!("{KEY}/remove"), &json!({})).await.refused(403, "customer_signature_required");
    for wrong in [
        successor(world, &second, &second.thumbprint()),
        successor(world, &first, &third.thumbprint()),
        successor(world, &first, "none"),
        sign(&first, &json!({"tenant_id": "acme", "key_thumbprint": second.thumbprint()})),
    ] {
        why(&keeper.put(KEY, &replace(&second, Some(wrong))).await);
    }
    let other = successor(world, &first, &second.thumbprint());
    why(&keeper.post(&format!("{KEY}/remove"), &json!({"signed_change": other})).await);
    world.clock.advance(Duration::minutes(10));
    let word = successor(world, &first, &second.thumbprint());
    let saved = keeper.put(KEY, &replace(&second, Some(word.clone()))).await.ok();
    assert_eq!((&saved["key_thumbprint"], &saved["since"]), (&json!(second.thumbprint()), &json!(world.clock.now())));
    // What an earlier key said, or the same key at an earlier time, counts no more.
    world.clock.advance(Duration::minutes(5));
    let back = successor(world, &second, &first.thumbprint());
    keeper.put(KEY, &replace(&first, Some(back))).await.ok();
    why(&keeper.put(KEY, &replace(&second, Some(word))).await);

    // An operator can do without, and three days pass: everybody is told, and it can be cancelled.
    let ordered = world.admin.put(KEY, &replace(&third, None)).await.ok();
    assert_eq!(ordered["key_thumbprint"], json!(first.thumbprint()));
    let effective_at = world.clock.now().plus(Duration::hours(72));
    assert_eq!(ordered["ordered_change"]["effective_at"], json!(effective_at));
    eventually("both contacts hear of it", async || {
        let mails = world.mails.notices("approval_key_changed").await.into_iter();
        let ordered = mails.filter(|mail| mail["Subject"].as_str().unwrap().contains("is to be replaced"));
        (ordered.count() == 2).then_some(())
    })
    .await;
    let by = json!({"requested_by": {"id": "emp-5", "name": "Ines Roth"}});
    let cancelled = keeper.post(&format!("{KEY}/cancel"), &by).await.ok();
    let kept = eventually("the contacts hear", async || {
        let mut mails = world.mails.notices("approval_key_changed").await.into_iter();
        mails.find(|mail| mail["Subject"].as_str().unwrap().contains("is kept"))
    });
    let kept = kept.await["Text"].as_str().unwrap().to_owned();
    let key = format!("Key: {} (was to be: {})", first.thumbprint(), third.thumbprint());
    for line in ["Ordered by: ", "Cancelled by: Ines Roth", &key] {
        assert!(kept.contains(line), "{line}: {kept}");
    }
    assert!(!kept.contains("Ordered by: Ines Roth"), "{kept}");
    assert_eq!(
        (&cancelled["ordered_change"], &cancelled["key_thumbprint"]),
        (&Value::Null, &json!(first.thumbprint()))
    );
    keeper.post(&format!("{KEY}/cancel"), &json!({})).await.ok();
    world.clock.advance(Duration::hours(73));
    assert_eq!(keeper.get(KEY).await.ok()["key_thumbprint"], json!(first.thumbprint()));
    // Whoever heard of the key hears of its end, whoever the contacts have become.
    let eve = json!({"name": "ACME Ltd", "contacts": [{"name": "Eve", "email": "eve@elsewhere.example"}]});
    world.admin.put("/v1/tenants/acme", &eve).await.ok();
    world.admin.post(&format!("{KEY}/remove"), &json!({})).await.ok();
    let ask = async || {
        let request = Api::issue_request(&world.consultant().await);
        portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned()
    };
    world.clock.advance(Duration::hours(71));
    act(&portal, &ask().await, "approve", &approval()).await.refused(403, "customer_signature_required");
    world.clock.advance(Duration::minutes(59));
    let link = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let text = sign(&first, &claims(world, &link["approval"]["terms"]));
    act(&portal, id(&link), "approve", &signed(&text)).await.ok();
    world.clock.advance(Duration::minutes(1));
    assert_eq!(keeper.get(KEY).await.ok(), json!({"tenant_id": "acme", "required": false}));
    let free = ask().await;
    why(&act(&portal, &free, "approve", &signed(&text)).await);
    act(&portal, &free, "approve", &approval()).await.ok();
    let bound = world.client(Some("cloud"), &["acme"], &["policies:write"]).await;
    for (path, key) in
        [(KEY.to_owned(), Some(first.jwk())), (format!("{KEY}/remove"), None), (format!("{KEY}/cancel"), None)]
    {
        let with = |name: &str, value: Value| {
            let mut body = json!({ name: value });
            body["public_key"] = json!(key);
            body
        };
        let send = async |api: &Api, mut body: Value| {
            if key.is_some() {
                return api.put(&path, &body).await;
            }
            body.as_object_mut().unwrap().remove("public_key");
            api.post(&path, &body).await
        };
        send(&keeper, with("acting_session_id", json!("ses_1"))).await.refused(403, "support_session_cannot_grant");
        let nobody = json!({"id": "emp-7", "name": ""});
        send(&keeper, with("requested_by", nobody)).await.refused(422, "validation_failed");
        send(&bound, with("requested_by", Value::Null)).await.refused(403, "client_not_permitted");
    }

    // Six mails to each of both contacts, one to the new one.
    let told = eventually("everybody is told", async || {
        let told = world.mails.notices("approval_key_changed").await;
        (told.len() == 13).then_some(told)
    })
    .await;
    let is_to_dev = |mail: &&Value| mail["To"][0]["Email"] == "dev@acme.example";
    assert_eq!(told.iter().filter(is_to_dev).count(), 6);
    let told: Vec<String> = told.iter().map(|mail| mail["Subject"].as_str().unwrap().to_owned()).collect();
    for words in ["from now on", "was replaced", "is kept", "is to be removed"] {
        assert!(told.iter().any(|subject| subject.contains(words)), "{words}: {told:?}");
    }
    let events = world.admin.event_types("&tenant_id=acme").await;
    let count = |kind: &str| events.iter().filter(|event| *event == kind).count();
    assert_eq!(count("approval_key.changed"), 3);
    assert_eq!((count("approval_key.change_ordered"), count("approval_key.change_cancelled")), (2, 1));
    let mut auditor = Auditor::of("acme", &world.admin).await;
    auditor.approval_keys = vec![first.pem(), second.pem()];
    let (checkpoint, export) = (auditor.checkpoint(&world.admin).await, auditor.export(&world.admin).await);
    let said = auditor.accepts(&export, &[&checkpoint]);
    assert!(said.contains("1 signed by the customer, 1 not signed") && said.contains("an operator ordered"), "{said}");
}

// The mails about a change leave late: of one that was cancelled by then only the cancellation is told, and one that is in
// effect is no order any more.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn who_hears_late_of_a_change_of_the_key_hears_what_is_so(world: &World) {
    let (_portal, keeper) = (acme(world, &always()).await, keeper(world).await);
    let [first, second] = [Signer::new(), Signer::new()];
    keeper.put(KEY, &json!({"public_key": first.jwk()})).await.ok();
    let said = async |before: usize| -> Vec<String> {
        let mails = world.mails.notices("approval_key_changed").await.into_iter().skip(before);
        mails.map(|mail| mail["Subject"].as_str().unwrap().to_owned()).collect()
    };
    let about = async |before: usize, words: &str| {
        eventually(words, async || {
            world.clock.advance(Duration::minutes(1));
            said(before).await.iter().any(|subject| subject.contains(words)).then_some(())
        })
        .await;
        let open = "FROM mail_jobs WHERE finished_at IS NULL AND template = 'approval_key_changed'";
        eventually("nothing waits", async || {
            world.clock.advance(Duration::minutes(1));
            (Sql::of(world).count(open) == 0).then_some(())
        })
        .await;
        said(before).await
    };
    let release = async || {
        let before = world.mails.notices("approval_key_changed").await.len();
        world.mails.behave();
        release_mails(world);
        before
    };
    about(0, "from now on").await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let order = json!({"public_key": second.jwk()});
    world.admin.put(KEY, &order).await.ok();
    // What is being sent is not called back.
    let untried = "FROM mail_jobs WHERE finished_at IS NULL AND (attempts = 0 OR lease_until IS NOT NULL)";
    eventually("each mail was tried", async || (Sql::of(world).count(untried) == 0).then_some(())).await;
    keeper.post(&format!("{KEY}/cancel"), &json!({})).await.ok();
    hold_mails(world).await;
    world.clock.advance(Duration::minutes(5));
    let told = about(release().await, "is kept").await;
    assert!(told.iter().all(|subject| subject.contains("is kept")), "{told:?}");

    world.mails.misbehave(ResponseTemplate::new(503));
    world.admin.put(KEY, &order).await.ok();
    hold_mails(world).await;
    world.clock.advance(Duration::hours(73));
    let told = about(release().await, "was replaced").await;
    assert!(told.iter().all(|subject| subject.contains("was replaced")), "{told:?}");
}

// Each mail about a key says what is so when it leaves, though the key was changed again meanwhile.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn who_hears_late_of_a_key_that_was_changed_again_hears_which_one_counts(world: &World) {
    let (_portal, keeper) = (acme(world, &always()).await, keeper(world).await);
    let [first, second] = [Signer::new(), Signer::new()];
    world.mails.misbehave(ResponseTemplate::new(503));
    keeper.put(KEY, &json!({"public_key": first.jwk()})).await.ok();
    world.clock.advance(Duration::minutes(5));
    let change = json!({"public_key": second.jwk(), "signed_change": successor(world, &first, &second.thumbprint())});
    keeper.put(KEY, &change).await.ok();
    let trying = "FROM mail_jobs WHERE state = 'sending' OR (finished_at IS NULL AND attempts = 0)";
    eventually("each was tried", async || (Sql::of(world).count(trying) == 0).then_some(())).await;
    let before = world.mails.notices("approval_key_changed").await.len();
    world.mails.behave();
    let open = "FROM mail_jobs WHERE finished_at IS NULL AND template = 'approval_key_changed'";
    eventually("nothing waits", async || {
        world.clock.advance(Duration::minutes(1));
        (Sql::of(world).count(open) == 0).then_some(())
    })
    .await;
    let mails = world.mails.notices("approval_key_changed").await.into_iter().skip(before);
    let words = |mail: &Value| mail["Text"].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let told: Vec<String> = mails.map(|mail| words(&mail)).collect();
    let (of_first, of_second): (Vec<&String>, Vec<&String>) =
        told.iter().partition(|text| text.contains(&format!("Key: {}", first.thumbprint())));
    assert!(!of_first.is_empty() && of_first.len() == of_second.len(), "{told:?}");
    for text in of_first {
        for untrue in ["from now on", "From now on", "with the key below"] {
            assert!(!text.contains(untrue), "{untrue}: {text}");
        }
        let line = format!("Key: {} (before: none, by now: {})", first.thumbprint(), second.thumbprint());
        assert!(text.contains("changed again since") && text.contains(&line), "{text}");
    }
    for text in of_second {
        assert!(!text.contains("changed again since") && !text.contains("by now"), "{text}");
    }
}
