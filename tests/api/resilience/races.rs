//! Every race has one winner: sixteen callers at once, then outcomes and trail are counted.
//!
//! On PostgreSQL the callers are spread over two copies of the service.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::support::{
    Api, Database, Process, Reply, Settings, Sql, World, apply, eventually, on_both_databases, rounds,
};

const CALLERS: usize = 16;

/// The copies of the service that callers can choose from.
pub(super) struct Copies {
    bases: Vec<String>,
    _processes: Vec<Process>,
}

impl Copies {
    pub(super) fn start(world: &World) -> Self {
        Self::start_with(world, &[])
    }

    pub(super) fn start_with(world: &World, environment: &[(&str, &str)]) -> Self {
        let number = if world.database == Database::Postgres { 2 } else { 0 };
        let start = |_| Process::start_with(world, environment, std::process::Stdio::inherit());
        let processes: Vec<Process> = (0..number).map(start).collect();
        let mut bases: Vec<String> = processes.iter().map(|process| process.base.clone()).collect();
        if bases.is_empty() {
            bases.push(world.base.clone());
        }
        Self { bases, _processes: processes }
    }

    /// The caller at one copy after the other.
    pub(super) fn spread(&self, caller: &Api, number: usize) -> Vec<Api> {
        self.bases.iter().cycle().take(number).map(|base| caller.at(base)).collect()
    }
}

/// A caller who comes back as long as SQLite's one writer has too long a queue.
///
/// The machine decides how often that is, and what came of it is counted all the same. On PostgreSQL nobody
/// has to come back: a deadlock would hide behind it.
pub(super) fn patient(world: &World, caller: Api) -> Api {
    if world.database == Database::Sqlite { caller.patient() } else { caller }
}

/// How often each outcome came: the status, and the code of a refusal.
pub(super) fn tally(replies: &[Reply]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for reply in replies {
        let outcome = match reply.body["code"].as_str() {
            Some(code) => format!("{} {code}", reply.status.as_u16()),
            None => reply.status.as_u16().to_string(),
        };
        *tally.entry(outcome).or_default() += 1;
    }
    tally
}

pub(super) fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.into_iter().filter(|(_, number)| *number > 0).map(|(name, number)| (name.to_owned(), number)).collect()
}

/// The codes of the refusals in the trail of a link.
fn refusals(trail: &[Value]) -> Vec<&str> {
    let refused = trail.iter().filter(|event| event["type"] == "magic_link.refused");
    refused.map(|event| event["data"]["code"].as_str().expect("a code")).collect()
}

pub(super) fn number_of(trail: &[Value], kind: &str) -> usize {
    trail.iter().filter(|event| event["type"] == kind).count()
}

/// A link that was revoked while it was redeemed: no session lives at any copy, and the trail tells the same.
async fn is_over(link: &str, redeemed: &[Reply], callers: &[Api], round: usize) {
    let opened: Vec<&Reply> = redeemed.iter().filter(|reply| reply.status == 201).collect();
    assert!(opened.len() <= 1, "round {round}");
    for caller in callers {
        for session in &opened {
            assert!(!caller.is_active(session.body["access_token"].as_str().unwrap()).await, "round {round}");
        }
    }
    // What ends many links is in force at once; while older transactions are open, it is recorded a little later.
    let trail = eventually("the end is on record", async || {
        let trail = callers[0].events(&format!("&magic_link_id={link}")).await;
        (number_of(&trail, "magic_link.revoked") == 1).then_some(trail)
    })
    .await;
    let kinds = ["session.opened", "session.ended"];
    assert_eq!(kinds.map(|kind| number_of(&trail, kind)), [opened.len(), opened.len()], "round {round}");
    let refused = refusals(&trail);
    assert_eq!(refused.len() + opened.len(), redeemed.len(), "round {round}");
    assert!(refused.iter().all(|code| ["link_revoked", "link_spent"].contains(code)), "{refused:?}");
}

/// Each caller issues a link for a profile of its own.
async fn issue_each(callers: &[Api], consultant: &str) -> Vec<Reply> {
    let requests: Vec<Value> = callers.iter().map(|_| Api::issue_request(consultant)).collect();
    let issue = |(caller, request): (&Api, &Value)| {
        let (caller, request) = (caller.clone(), request.clone());
        async move { caller.post("/v1/magic-links", &request).await }
    };
    join_all(callers.iter().zip(&requests).map(issue)).await
}

#[apply(on_both_databases)]
async fn of_sixteen_redeemers_one_gets_a_session_and_fifteen_are_on_record(world: &World) {
    let (copies, consultant) = (Copies::start(world), world.consultant().await);
    for round in 0..rounds(12) {
        // A client of its own each time: of many equal refusals a minute only the first sixty are events.
        let portal = patient(world, world.portal("cloud", "acme").await);
        let callers = copies.spread(&portal, CALLERS);
        let link = portal.issue(&consultant).await;
        let token = world.token(&link, 1).await;
        // Two clicks: the codes differ, what they name does not.
        let codes = [world.click(&token).await, world.click(&token).await];
        let redeem = |(number, caller): (usize, &Api)| {
            let (caller, code) = (caller.clone(), codes[number / 2 % 2].clone());
            async move { caller.redeem(&code).await }
        };
        let replies = join_all(callers.iter().enumerate().map(redeem)).await;
        assert_eq!(tally(&replies), counts([("201", 1), ("410 link_spent", 15)]), "round {round}");
        let trail = portal.events(&format!("&magic_link_id={link}")).await;
        assert_eq!(number_of(&trail, "session.opened"), 1, "round {round}");
        assert_eq!(refusals(&trail), ["link_spent"; 15], "round {round}");
    }
}

#[apply(on_both_databases)]
async fn of_sixteen_identical_issues_one_makes_a_link_and_a_mail(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, CALLERS));
    let mut links = Vec::new();
    for round in 0..rounds(12) {
        let request = Api::issue_request(&consultant);
        let key = format!("round-{round}");
        let replies = join_all(callers.iter().map(|caller| caller.post_once("/v1/magic-links", &key, &request))).await;
        let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
        assert!(refused.iter().all(|reply| reply.code() == "idempotency_key_in_flight"), "{:?}", tally(&replies));
        let first = made.iter().filter(|reply| reply.header("idempotency-replayed").is_empty()).count();
        assert_eq!(first, 1, "round {round}");
        let link = made[0].body["id"].as_str().unwrap();
        assert!(made.iter().all(|reply| reply.body["id"] == link), "round {round}: {:?}", tally(&replies));
        links.push(link.to_owned());
    }
    for link in &links {
        world.mails.wait_for(link, 1).await;
        assert_eq!(world.mails.about(link).await.len(), 1);
    }
    let mut sql = Sql::of(world);
    assert_eq!(sql.count("FROM magic_links"), links.len());
    assert_eq!(sql.count("FROM mail_jobs WHERE template = 'magic_link'"), links.len());
    assert_eq!(sql.count("FROM audit_events WHERE event_type = 'magic_link.issued'"), links.len());
}

#[apply(on_both_databases)]
async fn no_issue_slips_past_a_suspension(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let suspender = copies.spread(&patient(world, world.admin.clone()), CALLERS);
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let callers = copies.spread(&portal, CALLERS);
        let issues = issue_each(&callers, &consultant);
        let suspend = format!("/v1/consultants/{consultant}/suspend");
        let reason = json!({ "reason": "Left the support team" });
        let suspension = suspender[round % CALLERS].post(&suspend, &reason);
        let (issued, suspended) = join(issues, suspension).await;
        assert_eq!(suspended.ok()["state"], "suspended");
        let refused = issued.iter().filter(|reply| reply.status != 201);
        refused.for_each(|reply| reply.refused(409, "consultant_suspended"));
        for state in ["active", "scheduled"] {
            let open = portal.get(&format!("/v1/magic-links?consultant_id={consultant}&state={state}")).await.ok();
            assert_eq!(open["items"], json!([]), "round {round}");
        }
        let made = issued.iter().filter(|reply| reply.status == 201).count();
        // In force at once; while older transactions are open, it is recorded a little later.
        eventually("each link's end is on record", async || {
            let trail = portal.events(&format!("&consultant_id={consultant}")).await;
            let recorded = ["magic_link.issued", "magic_link.revoked"].map(|kind| number_of(&trail, kind));
            (recorded == [made, made]).then_some(())
        })
        .await;
    }
}

#[apply(on_both_databases)]
async fn no_issue_slips_past_the_disabling_of_its_client(world: &World) {
    let (copies, consultant) = (Copies::start(world), world.consultant().await);
    let disablers = copies.spread(&patient(world, world.admin.clone()), CALLERS);
    for round in 0..rounds(12) {
        let stolen = patient(world, world.portal("cloud", "acme").await);
        let callers = copies.spread(&stolen, CALLERS);
        let issues = issue_each(&callers, &consultant);
        let disable = format!("/v1/clients/{}/disable", stolen.client_id);
        let and_its_links = json!({ "revoke_links": true });
        let (issued, disabled) = join(issues, disablers[round % CALLERS].post(&disable, &and_its_links)).await;
        assert_eq!(disabled.ok()["state"], "disabled");
        let refused = issued.iter().filter(|reply| reply.status != 201);
        refused.for_each(|reply| reply.refused(401, "unauthenticated"));
        let open = world.admin.get(&format!("/v1/magic-links?consultant_id={consultant}&state=active")).await.ok();
        assert_eq!(open["items"], json!([]), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn a_revocation_wins_against_every_redeemer(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 4));
    let reason = json!({ "reason": "The work is done" });
    for round in 0..rounds(12) {
        let link = portal.issue(&consultant).await;
        let code = world.click(&world.token(&link, 1).await).await;
        let redeemers = join_all(callers.iter().map(|caller| caller.redeem(&code)));
        let path = format!("/v1/magic-links/{link}/revoke");
        let (redeemed, revoked) = join(redeemers, callers[round % 4].post(&path, &reason)).await;
        assert_eq!(revoked.ok()["state"], "revoked");
        is_over(&link, &redeemed, &callers, round).await;
    }
}

#[apply(on_both_databases)]
async fn a_suspension_wins_against_every_redeemer(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (admin, callers) = (patient(world, world.admin.clone()), copies.spread(&portal, 4));
    let suspenders = copies.spread(&admin, 4);
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let link = portal.issue(&consultant).await;
        let code = world.click(&world.token(&link, 1).await).await;
        let redeemers = join_all(callers.iter().map(|caller| caller.redeem(&code)));
        let path = format!("/v1/consultants/{consultant}/suspend");
        let reason = json!({ "reason": "Left the support team" });
        let (redeemed, suspended) = join(redeemers, suspenders[round % 4].post(&path, &reason)).await;
        assert_eq!(suspended.ok()["state"], "suspended");
        is_over(&link, &redeemed, &callers, round).await;
    }
}

#[apply(on_both_databases)]
async fn what_is_issued_while_keys_rotate_works_with_the_key_that_signed_it(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 4));
    let keepers = copies.spread(&patient(world, world.admin.clone()), 2);
    let added = "FROM audit_events WHERE event_type = 'key.added'";
    let before = Sql::of(world).count(added);
    for round in 0..rounds(6) {
        let issues = issue_each(&callers, &consultant);
        let nothing = json!({});
        let rotations = join_all(keepers.iter().map(|keeper| keeper.post("/v1/keys/rotate", &nothing)));
        let (issued, rotated) = join(issues, rotations).await;
        assert_eq!(tally(&rotated), counts([("201", 2)]), "round {round}");
        assert_eq!(tally(&issued), counts([("201", 4)]), "round {round}");
        for (reply, caller) in issued.iter().zip(&callers) {
            let link = reply.body["id"].as_str().unwrap();
            let session = caller.redeem(&world.click(&world.token(link, 1).await).await).await.ok();
            for caller in &callers {
                assert!(caller.is_active(session["access_token"].as_str().unwrap()).await, "round {round}");
            }
        }
    }
    assert_eq!(Sql::of(world).count(added), before + 2 * rounds(6));
}

#[apply(on_both_databases)]
#[settings(Settings::config("links.resend_cool_down_seconds = 0"))]
async fn an_order_wins_against_everything_that_was_there_before_it(world: &World) {
    let portal = patient(world, world.portal("cloud", "acme").await);
    let copies = Copies::start_with(world, &[("MAGIC_LINK_LINKS__RESEND_COOL_DOWN_SECONDS", "0")]);
    let callers = copies.spread(&portal, 4);
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let mut links = Vec::new();
        for _ in 0..4 {
            links.push(portal.issue(&consultant).await);
        }
        let code = world.click(&world.token(&links[0], 1).await).await;
        let (fresh, reason) = (json!({}), json!({ "reason": "The work is done" }));
        let redeemers = join_all(callers.iter().map(|caller| caller.redeem(&code)));
        let [resend, revoke] =
            [format!("/v1/magic-links/{}/resend", links[1]), format!("/v1/magic-links/{}/revoke", links[2])];
        let others = join(callers[0].post(&resend, &fresh), callers[1].post(&revoke, &reason));
        let issues = issue_each(&callers, &consultant);
        let order = json!({ "consultant_id": consultant, "reason": "A laptop was stolen" });
        let order = callers[round % 4].post("/v1/revocations", &order);
        let (((redeemed, (resent, revoked)), issued), order) = join(join(join(redeemers, others), issues), order).await;
        let order = order.ok();

        // From the answer on, whatever was there before is over at every copy; what came beside it, agrees with itself.
        let opened: Vec<&Reply> = redeemed.iter().filter(|reply| reply.status == 201).collect();
        assert!(opened.len() <= 1 && [202, 410].contains(&resent.status.as_u16()), "round {round}: {resent:?}");
        assert_eq!(revoked.ok()["state"], "revoked");
        for (caller, session) in callers.iter().zip(opened.iter().cycle()) {
            assert!(!caller.is_active(session.body["access_token"].as_str().unwrap()).await, "round {round}");
        }
        for (link, caller) in links.iter().zip(&callers) {
            assert_eq!(caller.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked", "round {round}");
        }
        let path = format!("/v1/revocations/{}", order["id"].as_str().unwrap());
        eventually("the order is carried out", async || {
            (portal.get(&path).await.ok()["state"] == "done").then_some(())
        })
        .await;
        let trail = portal.events(&format!("&consultant_id={consultant}")).await;
        for link in
            links.iter().map(String::as_str).chain(issued.iter().map(|reply| reply.body["id"].as_str().unwrap()))
        {
            let state = portal.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].clone();
            let told =
                trail.iter().filter(|event| event["type"] == "magic_link.revoked" && event["magic_link_id"] == link);
            assert_eq!(told.count(), usize::from(state == "revoked"), "round {round}: {link} is {state}");
        }
        assert_eq!(number_of(&trail, "session.ended"), opened.len(), "round {round}");
    }
    let half_done = "FROM magic_links l JOIN revocations o ON o.consultant_id = l.consultant_id \
        WHERE l.revoked_at IS NULL AND (l.issued_after IS NULL OR l.issued_after < o.seq)";
    assert_eq!(Sql::of(world).count(half_done), 0, "a link that was there before an order lives on");
}

#[apply(on_both_databases)]
#[settings(Settings::config("links.resend_cool_down_seconds = 0"))]
async fn a_resend_and_a_redemption_leave_one_usable_token(world: &World) {
    let portal = patient(world, world.portal("cloud", "acme").await);
    let copies = Copies::start_with(world, &[("MAGIC_LINK_LINKS__RESEND_COOL_DOWN_SECONDS", "0")]);
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 4));
    for round in 0..rounds(12) {
        let link = portal.issue(&consultant).await;
        let code = world.click(&world.token(&link, 1).await).await;
        let redeemers = join_all(callers.iter().map(|caller| caller.redeem(&code)));
        let path = format!("/v1/magic-links/{link}/resend");
        let (redeemed, resent) = join(redeemers, callers[round % 4].post(&path, &json!({}))).await;
        assert_eq!(resent.status, 202);
        let opened: Vec<&Reply> = redeemed.iter().filter(|reply| reply.status == 201).collect();
        assert!(opened.len() <= 1, "round {round}: {:?}", tally(&redeemed));
        let refused = redeemed.iter().filter(|reply| reply.status != 201);
        refused.for_each(|reply| assert!(["link_spent", "link_superseded"].contains(&reply.code())));
        portal.redeem(&code).await.refused(410, "link_superseded");
        // The fresh token works, once, and ends what the older one opened.
        let fresh = world.click(&world.token(&link, 2).await).await;
        let session = portal.redeem(&fresh).await.ok();
        assert!(portal.is_active(session["access_token"].as_str().unwrap()).await);
        for session in &opened {
            assert!(!portal.is_active(session.body["access_token"].as_str().unwrap()).await, "round {round}");
        }
        let trail = portal.events(&format!("&magic_link_id={link}")).await;
        let kinds = ["session.opened", "session.replaced", "magic_link.resent"];
        let expected = [opened.len() + 1, opened.len(), 1];
        assert_eq!(kinds.map(|kind| number_of(&trail, kind)), expected, "round {round}");
    }
}

#[apply(on_both_databases)]
async fn of_sixteen_resends_at_once_one_sends_a_mail(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let callers = copies.spread(&portal, CALLERS);
    let mut links = Vec::new();
    for round in 0..rounds(12) {
        let link = portal.issue(&world.consultant().await).await;
        world.mails.wait_for(&link, 1).await;
        let long_ago = "UPDATE magic_links SET created_at = '2026-01-01 00:00:00.000000'";
        Sql::of(world).run(&format!("{long_ago} WHERE id = '{link}'")).unwrap();
        let path = format!("/v1/magic-links/{link}/resend");
        let nothing = json!({});
        let replies = join_all(callers.iter().map(|caller| caller.post(&path, &nothing))).await;
        assert_eq!(tally(&replies), counts([("202", 1), ("429 resend_cool_down", 15)]), "round {round}");
        links.push(link);
    }
    for link in &links {
        world.mails.wait_for(link, 2).await;
        assert_eq!(world.mails.about(link).await.len(), 2);
    }
    assert_eq!(Sql::of(world).count("FROM mail_jobs WHERE template = 'magic_link'"), 2 * links.len());
    assert_eq!(Sql::of(world).count("FROM audit_events WHERE event_type = 'magic_link.resent'"), links.len());
}

#[apply(on_both_databases)]
async fn overlapping_reports_write_every_act_once(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let callers = copies.spread(&portal, CALLERS);
    for round in 0..rounds(6) {
        let session = world.open_session(&portal).await;
        let id = session["id"].as_str().unwrap();
        let path = format!("/v1/sessions/{id}/events");
        let now = world.clock.now();
        let act = |source: &str, seq: usize| {
            json!({
                "seq": seq, "source": source, "kind": "view", "occurred_at": now, "action": "employee.viewed",
                "resource_type": "employee", "resource_id": "emp-9",
            })
        };
        // Caller n reports 3n+1 to 3n+12, of two sources: every act comes from several callers.
        let batches: Vec<Value> = (0..CALLERS)
            .map(|number| (3 * number + 1..=3 * number + 12).collect::<Vec<_>>())
            .map(|numbers| {
                let acts = numbers.iter().flat_map(|seq| [act("web", *seq), act("api", *seq)]);
                json!({ "events": acts.collect::<Vec<_>>() })
            })
            .collect();
        let replies = join_all(callers.iter().zip(&batches).map(|(caller, batch)| caller.post(&path, batch))).await;
        assert_eq!(tally(&replies), counts([("200", CALLERS)]), "round {round}");
        let recorded: i64 = replies.iter().map(|reply| reply.body["recorded"].as_i64().unwrap()).sum();
        let highest = 3 * (CALLERS - 1) + 12;
        assert_eq!(recorded, i64::try_from(2 * highest).unwrap(), "round {round}");
        let seen = portal.get(&format!("/v1/sessions/{id}")).await.ok();
        let counted = |source: &str| json!({ "source": source, "event_count": highest, "last_seq": highest });
        assert_eq!(seen["sources"], json!([counted("api"), counted("web")]), "round {round}");
        let trail = portal.events(&format!("&session_id={id}&type=data.viewed")).await;
        let key = |event: &Value| (event["source"].to_string(), event["seq"].as_i64());
        let distinct: std::collections::BTreeSet<_> = trail.iter().map(key).collect();
        assert_eq!((trail.len(), distinct.len()), (2 * highest, 2 * highest), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn changes_of_one_consultant_do_not_undo_each_other(world: &World) {
    let copies = Copies::start(world);
    let callers = copies.spread(&patient(world, world.admin.clone()), 2);
    for round in 0..rounds(12) {
        let id = world.consultant().await;
        let path = format!("/v1/consultants/{id}");
        let (name, email) = (format!("Ravi {round}"), format!("ravi.new.{round}@support.example"));
        let (rename, readdress) = (json!({ "name": name }), json!({ "email": email }));
        let code = world.click(&world.token(&world.admin.issue(&id).await, 1).await).await;
        let changes = join(callers[0].patch(&path, &rename), callers[1].patch(&path, &readdress));
        let ((renamed, readdressed), redeemed) = join(changes, callers[1].redeem(&code)).await;
        assert_eq!((renamed.status.as_u16(), readdressed.status.as_u16()), (200, 200), "round {round}");
        assert!([201, 410].contains(&redeemed.status.as_u16()), "round {round}: {redeemed:?}");
        let seen = world.admin.get(&path).await.ok();
        assert_eq!((&seen["name"], &seen["email"]), (&json!(name), &json!(email)), "round {round}");
        let open = world.admin.get(&format!("/v1/magic-links?consultant_id={id}&state=active")).await.ok();
        assert_eq!(open["items"], json!([]), "round {round}: a link survived the change of address");
    }
}

#[apply(on_both_databases)]
async fn a_tenant_saved_sixteen_times_at_once_is_saved_every_time(world: &World) {
    let copies = Copies::start(world);
    let callers = copies.spread(&patient(world, world.admin.clone()), CALLERS);
    for round in 0..rounds(12) {
        let path = format!("/v1/tenants/tenant-{round}");
        let request = json!({ "name": "ACME Ltd", "time_zone": "Asia/Kolkata" });
        let replies = join_all(callers.iter().map(|caller| caller.put(&path, &request))).await;
        assert_eq!(tally(&replies), counts([("200", CALLERS)]), "round {round}");
        let trail = world.admin.events(&format!("&tenant_id=tenant-{round}")).await;
        assert_eq!(number_of(&trail, "tenant.saved"), CALLERS, "round {round}");
    }
}

#[apply(on_both_databases)]
async fn an_address_registered_sixteen_times_at_once_belongs_to_one_consultant(world: &World) {
    let copies = Copies::start(world);
    let callers = copies.spread(&patient(world, world.admin.clone()), CALLERS);
    for round in 0..rounds(12) {
        let request = |number: usize| {
            // One mailbox, however it is written.
            let name = if number.is_multiple_of(2) { "Meera" } else { "meera" };
            json!({ "name": "Meera Rao", "email": format!("{name}.{round}@support.example") })
        };
        let requests: Vec<Value> = (0..CALLERS).map(request).collect();
        let register = |(caller, request): (&Api, &Value)| {
            let (caller, request) = (caller.clone(), request.clone());
            async move { caller.post("/v1/consultants", &request).await }
        };
        let replies = join_all(callers.iter().zip(&requests).map(register)).await;
        assert_eq!(tally(&replies), counts([("201", 1), ("409 consultant_exists", 15)]), "round {round}");
    }
}
