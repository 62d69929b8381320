//! A decision is one decision, whoever else decides at the same time; and what is revoked meanwhile gives nothing.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use time::Duration;

use super::races::{Copies, number_of, patient, tally};
use crate::support::{Api, Auditor, Signer, Sql, World, apply, on_both_databases, rounds};

const LINKS: &str = "/v1/magic-links";

/// A tenant where each link wants an approval, and a client that asks and decides.
async fn acme(world: &World) -> Api {
    world.admin.put("/v1/tenants/acme", &json!({"name": "ACME Ltd"})).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &json!({"approval": {"required_for": "always"}})).await.ok();
    let scopes = ["links:issue", "links:approve", "links:read", "links:revoke", "audit:read"];
    patient(world, world.client(Some("cloud"), &["acme"], &scopes).await)
}

async fn ask(portal: &Api, consultant: &str) -> String {
    let link = portal.post(LINKS, &Api::issue_request(consultant)).await.ok();
    assert_eq!(link["state"], "pending");
    link["id"].as_str().unwrap().to_owned()
}

fn approval() -> Value {
    json!({"approver": {"id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example"}})
}

async fn decide(portal: &Api, link: &str, what: &str) -> crate::support::Reply {
    let mut body = if what == "withdraw" { json!({}) } else { approval() };
    if what == "deny" {
        body["reason"] = json!("Not now");
    }
    portal.post(&format!("{LINKS}/{link}/{what}"), &body).await
}

/// What the record says of a link: approvals, issues, and other ends of its request.
async fn trail(portal: &Api, link: &str) -> (usize, usize, usize) {
    let trail = portal.events(&format!("&magic_link_id={link}")).await;
    let ends =
        ["denied", "withdrawn", "lapsed"].iter().map(|end| number_of(&trail, &format!("magic_link.{end}"))).sum();
    (number_of(&trail, "magic_link.approved"), number_of(&trail, "magic_link.issued"), ends)
}

/// Nothing was queued that would mail the link.
fn mails_of(world: &World, link: &str) -> usize {
    let jobs = format!("SELECT id AS text FROM mail_jobs WHERE magic_link_id = '{link}' AND template = 'magic_link'");
    Sql::of(world).texts(&jobs).len()
}

#[apply(on_both_databases)]
async fn of_several_decisions_at_once_one_counts(world: &World) {
    let (portal, copies) = (acme(world).await, Copies::start(world));
    for round in 0..rounds(12) {
        let link = ask(&portal, &world.consultant().await).await;
        let callers = copies.spread(&portal, 6);
        let acts = ["approve", "deny", "withdraw", "approve", "deny", "withdraw"];
        let replies = join_all(callers.iter().zip(acts).map(|(caller, what)| decide(caller, &link, what))).await;
        let decided: Vec<&str> =
            replies.iter().zip(acts).filter(|(reply, _)| reply.status == 200).map(|(_, what)| what).collect();
        assert_eq!(decided.len(), 1, "round {round}: {:?}", tally(&replies));
        for refused in replies.iter().filter(|reply| reply.status != 200) {
            refused.refused(409, "already_decided");
        }
        let approved = usize::from(decided == ["approve"]);
        assert_eq!(trail(&portal, &link).await, (approved, approved, 1 - approved), "round {round}: {decided:?}");
        assert_eq!(mails_of(world, &link), approved, "round {round}");
    }
}

#[apply(on_both_databases)]
async fn an_approval_beside_what_revokes_gives_no_access_afterwards(world: &World) {
    let (portal, copies) = (acme(world).await, Copies::start(world));
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let link = ask(&portal, &consultant).await;
        let callers = copies.spread(&portal, 2);
        let order = json!({"consultant_id": consultant, "reason": "The contract has ended"});
        let suspension = json!({"reason": "Under investigation"});
        let revoking = async {
            if round % 2 == 0 {
                callers[1].post("/v1/revocations", &order).await.ok();
            } else {
                world.admin.post(&format!("/v1/consultants/{consultant}/suspend"), &suspension).await.ok();
            }
        };
        let (reply, ()) = join(decide(&callers[0], &link, "approve"), revoking).await;
        let state = portal.get(&format!("{LINKS}/{link}")).await.ok()["state"].clone();
        if reply.status == 200 {
            assert_eq!(state, "revoked", "round {round}: approved first");
        } else {
            reply.refused(409, "already_decided");
            assert_eq!(state, "withdrawn", "round {round}");
        }
        let approved = usize::from(reply.status == 200);
        let (approvals, issues, _) = trail(&portal, &link).await;
        assert_eq!((approvals, issues), (approved, approved), "round {round}");
    }
}

#[apply(on_both_databases)]
#[settings(crate::support::Settings::manual_clock())]
async fn an_approval_comes_before_the_lapse_or_not_at_all(world: &World) {
    let portal = acme(world).await;
    for round in 0..rounds(12) {
        let link = ask(&portal, &world.consultant().await).await;
        world.clock.advance(Duration::hours(24) - Duration::milliseconds(2));
        let passing = async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
                world.clock.advance(Duration::milliseconds(1));
            }
        };
        let (reply, ()) = join(decide(&portal, &link, "approve"), passing).await;
        let approved = usize::from(reply.status == 200);
        if approved == 0 {
            reply.refused(410, "lapsed");
        }
        assert_eq!(mails_of(world, &link), approved, "round {round}");
        world.clock.advance(Duration::hours(1));
        let lapsed = crate::support::eventually("the end of the request", async || {
            let (approvals, issues, ends) = trail(&portal, &link).await;
            (approvals + ends == 1).then_some((issues, ends))
        })
        .await;
        assert_eq!(lapsed, (approved, 1 - approved), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn a_revocation_beside_an_approval_leaves_no_access(world: &World) {
    let (portal, copies) = (acme(world).await, Copies::start(world));
    for round in 0..rounds(12) {
        let link = ask(&portal, &world.consultant().await).await;
        let callers = copies.spread(&portal, 2);
        let path = format!("{LINKS}/{link}/revoke");
        let reason = json!({"reason": "The work is done"});
        let (reply, revoked) = join(decide(&callers[0], &link, "approve"), callers[1].post(&path, &reason)).await;
        let answered = revoked.ok()["state"].clone();
        assert!(answered == "revoked" || answered == "withdrawn", "round {round}: {answered} after {reply:?}");
        let state = portal.get(&format!("{LINKS}/{link}")).await.ok()["state"].clone();
        assert_eq!(state, answered, "round {round}");
        if reply.status != 200 {
            reply.refused(409, "already_decided");
        }
        let approved = usize::from(reply.status == 200);
        let (approvals, issues, ends) = trail(&portal, &link).await;
        assert_eq!((approvals, issues, ends), (approved, approved, 1 - approved), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn of_several_who_ask_and_decide_on_an_extension_one_counts(world: &World) {
    let portal = acme(world).await;
    world
        .admin
        .put(
            "/v1/tenants/acme/policy",
            &json!({"approval": {"required_for": "none", "longer_than": {"value": 4, "unit": "hours"}}}),
        )
        .await
        .ok();
    let copies = Copies::start(world);
    for round in 0..rounds(12) {
        let link = portal.issue(&world.consultant().await).await;
        let before = portal.get(&format!("{LINKS}/{link}")).await.ok()["expires_at"].clone();
        let longer = json!({"duration": {"value": 2, "unit": "hours"}, "reason": "The payroll run is repeated",
            "extended_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"}});
        let callers = copies.spread(&portal, 4);
        let path = format!("{LINKS}/{link}/extend");
        let asked = join_all(callers.iter().map(|caller| caller.post(&path, &longer))).await;
        let made: Vec<_> = asked.iter().filter(|reply| reply.status == 201).collect();
        assert_eq!(made.len(), 1, "round {round}: {:?}", tally(&asked));
        let extension = made[0].body["extension"]["id"].as_str().unwrap().to_owned();
        let acts = ["approve", "deny", "withdraw", "approve"];
        let on = |what: &str| format!("{link}/extensions/{extension}/{what}");
        let decide = async |caller: &Api, what: &str| {
            let body = match what {
                "withdraw" => json!({}),
                "deny" => json!({"approver": approval()["approver"], "reason": "Not now"}),
                _ => approval(),
            };
            caller.post(&format!("{LINKS}/{}", on(what)), &body).await
        };
        let replies = join_all(callers.iter().zip(acts).map(|(caller, what)| decide(caller, what))).await;
        let decided: Vec<&str> =
            replies.iter().zip(acts).filter(|(reply, _)| reply.status == 200).map(|(_, what)| what).collect();
        assert_eq!(decided.len(), 1, "round {round}: {:?}", tally(&replies));
        let after = portal.get(&format!("{LINKS}/{link}")).await.ok()["expires_at"].clone();
        assert_eq!(after != before, decided == ["approve"], "round {round}: {decided:?}");
        let trail = portal.events(&format!("&magic_link_id={link}")).await;
        assert_eq!(number_of(&trail, "magic_link.extended"), usize::from(decided == ["approve"]), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn an_approval_beside_a_new_approval_key_is_of_before_or_refused(world: &World) {
    let (portal, copies) = (acme(world).await, Copies::start(world));
    let tenant = json!({"name": "ACME Ltd", "contacts": [{"name": "Vikram Shah", "email": "vikram@acme.example"}]});
    world.admin.put("/v1/tenants/acme", &tenant).await.ok();
    let customer = Signer::new();
    for round in 0..rounds(12) {
        let link = ask(&portal, &world.consultant().await).await;
        let callers = copies.spread(&portal, 2);
        let keeper = patient(world, world.client(None, &["acme"], &["policies:write"]).await);
        let key = json!({"public_key": customer.jwk()});
        let registering = keeper.put("/v1/tenants/acme/approval-key", &key);
        let (reply, saved) = join(decide(&callers[usize::from(round % 2 == 1)], &link, "approve"), registering).await;
        saved.ok();
        if reply.status != 200 {
            reply.refused(403, "customer_signature_required");
        }
        // The log agrees: while the key was in effect nothing was approved without it.
        let mut auditor = Auditor::of("acme", &world.admin).await;
        auditor.approval_keys = vec![customer.pem()];
        auditor.audit(&world.admin).await;
        // Its own word removes it again, for the next round: another one each time, for each is good once.
        let now = world.clock.now().unix_seconds();
        let word = json!({"tenant_id": "acme", "key_thumbprint": "none", "iat": now, "exp": now + 60 + i64::try_from(round).unwrap()});
        let word = customer.signed("magic-link-approval-key+jwt", &word);
        keeper.post("/v1/tenants/acme/approval-key/remove", &json!({"signed_change": word})).await.ok();
    }
}
