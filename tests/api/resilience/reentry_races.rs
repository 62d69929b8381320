//! Two browsers that open and open again one link, at several copies of the service: one visit comes after the other.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::races::{Copies, number_of, patient};
use crate::support::device::{Device, careful, mailed_code, reentry_request, send, shown};
use crate::support::{Api, Reply, Settings, Sql, World, apply, code_of, on_both_databases, rounds};

const STEP_UP: &[(&str, &str)] = &[("MAGIC_LINK_PORTALS__CLOUD__STEP_UP", "email_code")];

/// The processes have the system's clock.
fn by_the_clock() -> Settings {
    Settings { manual_clock: false, ..careful() }
}

fn won(replies: &[Reply]) -> Vec<usize> {
    let won = replies.iter().enumerate().filter(|(_, reply)| reply.status.is_success());
    won.map(|(place, _)| place).collect()
}

async fn redeem_all(callers: &[Api], codes: &[String]) -> Vec<Reply> {
    join_all(codes.iter().zip(callers).map(|(code, caller)| caller.redeem(code))).await
}

/// The events about a link in the order in which they happened.
async fn trail_of(caller: &Api, link: &str) -> Vec<Value> {
    let mut trail = caller.events(&format!("&magic_link_id={link}")).await;
    trail.sort_by_key(|event| event["log_index"].as_i64().unwrap());
    trail
}

#[apply(on_both_databases)]
#[settings(by_the_clock())]
async fn of_two_browsers_that_redeem_at_once_one_is_remembered_and_only_it_comes_back(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start_with(world, STEP_UP));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 4));
    let pages: Vec<Api> = callers.iter().map(Api::stranger).collect();
    let mut mailed = 0;
    for round in 0..rounds(8) {
        let link = portal.post("/v1/magic-links", &reentry_request(&consultant)).await.ok();
        let link = link["id"].as_str().unwrap().to_owned();
        let token = world.token(&link, 1).await;
        let devices = [Device::new(), Device::new()];
        let mut codes = Vec::new();
        for (device, page) in devices.iter().zip(&pages) {
            // Time passes: another code may be asked for.
            Sql::of(world).run("UPDATE step_ups SET created_at = '2026-01-01 00:00:00'").unwrap();
            let asked = page.post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
            mailed += 1;
            let code = mailed_code(world, mailed).await;
            codes.push(code_of(&device.verify(page, &token, &asked, &code).await.ok()));
        }
        // Each code twice, at both copies.
        let twice: Vec<String> = codes.iter().cycle().take(4).cloned().collect();
        let opened = redeem_all(&callers, &twice).await;
        let winners = won(&opened);
        assert_eq!(winners.len(), 1, "round {round}: {opened:?}");
        let (own, other) = (&devices[winners[0] % 2], &devices[1 - winners[0] % 2]);
        other.reenter(&pages[1], &token).await.refused(403, "device_unknown");
        // One proof, sent by four at once.
        let proof = own.proof("/l/reenter", &shown(&pages[0], &token).await);
        let entered = join_all(pages.iter().map(|page| send(page, "/l/reenter", &token, &proof))).await;
        assert_eq!(won(&entered).len(), 1, "round {round}: {entered:?}");
        entered.iter().filter(|reply| reply.status != 200).for_each(|reply| reply.refused(403, "proof_invalid"));
        // Two codes for the next visit, each redeemed twice.
        let first = code_of(&entered[won(&entered)[0]].body);
        let second = code_of(&own.reenter(&pages[2], &token).await.ok());
        let twice = [first.clone(), second.clone(), first, second];
        let opened = redeem_all(&callers, &twice).await;
        assert_eq!(won(&opened).len(), 1, "round {round}: {opened:?}");
        opened.iter().filter(|reply| reply.status != 201).for_each(|reply| reply.refused(410, "link_spent"));
        let trail = trail_of(&portal, &link).await;
        for (kind, times) in [
            ("session.opened", 2),
            ("session.replaced", 1),
            ("magic_link.device_remembered", 1),
            ("magic_link.reentered", 2),
        ] {
            assert_eq!(number_of(&trail, kind), times, "round {round}: {kind}");
        }
    }
    assert_eq!(Sql::of(world).count("FROM sessions WHERE ended_at IS NULL"), rounds(8));
}

#[apply(on_both_databases)]
#[settings(by_the_clock())]
async fn a_visit_comes_before_what_ends_the_device_or_not_at_all(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start_with(world, STEP_UP));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 4));
    let page = portal.stranger();
    for round in 0..rounds(8) {
        let link = portal.post("/v1/magic-links", &reentry_request(&consultant)).await.ok();
        let link = link["id"].as_str().unwrap().to_owned();
        let token = world.token(&link, 1).await;
        let device = Device::new();
        let first = device.first_code(world, &token, round + 1).await;
        let session = portal.redeem(&first).await.ok();
        let code = code_of(&device.reenter(&page, &token).await.ok());
        let proof = device.proof("/l/forget", &shown(&page, &token).await);
        let end = async {
            match round % 3 {
                0 => {
                    let path = format!("/v1/sessions/{}/revoke", session["id"].as_str().unwrap());
                    callers[0].post(&path, &json!({ "reason": "Nobody knows this visitor" })).await
                }
                1 => callers[0].post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await,
                _ => send(&page, "/l/forget", &token, &proof).await,
            }
        };
        Sql::of(world).run("UPDATE magic_links SET created_at = '2026-01-01 00:00:00'").unwrap();
        let (ended, opened) = futures_util::future::join(end, redeem_all(&callers[1..], &[code.clone(), code])).await;
        assert!(won(&opened).len() <= 1, "round {round}: {opened:?}");
        let trail = trail_of(&portal, &link).await;
        assert_eq!(number_of(&trail, "session.opened"), 1 + won(&opened).len(), "round {round}");
        // A visit that began before its device was forgotten goes on, and none begins after.
        let after: Vec<Value> =
            trail.iter().skip_while(|event| event["type"] != "magic_link.device_forgotten").cloned().collect();
        if number_of(&trail, "magic_link.device_forgotten") == 1 {
            ended.ok();
            assert_eq!(number_of(&after, "session.opened"), 0, "round {round}: {after:?}");
            assert!(!device.reenter(&page, &token).await.status.is_success(), "round {round}");
        } else {
            // The next visit came first: the one to revoke was over then, or the proof was about it.
            assert!(round % 3 != 1 && won(&opened).len() == 1, "round {round}: {trail:?}");
            if round % 3 == 0 { drop(ended.ok()) } else { ended.refused(403, "proof_invalid") }
        }
    }
}
