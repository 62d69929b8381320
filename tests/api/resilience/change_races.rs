//! Changes of a link that was issued, against what ends it: every outcome is one that could have come one after the other.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use time::Duration;

use super::races::{Copies, number_of, patient, tally};
use crate::links::changing::extension;
use crate::support::{Api, Reply, Sql, World, apply, eventually, on_both_databases, rounds};

fn path(link: &str, what: &str) -> String {
    format!("/v1/magic-links/{link}/{what}")
}

async fn read(caller: &Api, link: &str) -> Value {
    caller.get(&format!("/v1/magic-links/{link}")).await.ok()
}

fn made(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.status == 201).count()
}

/// The events about a link in the order in which they happened: times of two copies do not tell it.
async fn trail_of(caller: &Api, link: &str) -> Vec<Value> {
    let mut trail = caller.events(&format!("&magic_link_id={link}")).await;
    trail.sort_by_key(|event| event["log_index"].as_i64().unwrap());
    trail
}

async fn extend_all(callers: &[Api], link: &str, hours: i64) -> Vec<Reply> {
    let (path, extension) = (path(link, "extend"), extension(hours));
    join_all(callers.iter().map(|caller| caller.post(&path, &extension))).await
}

#[apply(on_both_databases)]
async fn an_extension_comes_before_a_revocation_or_not_at_all(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 6));
    for round in 0..rounds(12) {
        let link = portal.issue(&consultant).await;
        let (wait, reason) = (path(&link, "revoke"), json!({ "reason": "The work is done" }));
        let revocation = callers[round % 6].post(&wait, &reason);
        let (extended, revoked) = join(extend_all(&callers, &link, 1), revocation).await;
        assert_eq!(revoked.ok()["state"], "revoked");
        let refused = extended.iter().filter(|reply| reply.status != 201);
        refused.for_each(|reply| reply.refused(410, "link_revoked"));
        assert_eq!(read(&portal, &link).await["state"], "revoked", "round {round}");
        let trail = trail_of(&portal, &link).await;
        assert_eq!(number_of(&trail, "magic_link.extended"), made(&extended), "round {round}");
        assert_eq!(number_of(&trail, "magic_link.revoked"), 1, "round {round}");
        let after = trail.iter().skip_while(|event| event["type"] != "magic_link.revoked");
        let after: Vec<Value> = after.cloned().collect();
        assert_eq!(number_of(&after, "magic_link.extended"), 0, "round {round}: {after:?}");
    }
    let links = "FROM link_extensions e JOIN magic_links l ON l.id = e.magic_link_id WHERE e.expires_at > l.expires_at";
    assert_eq!(Sql::of(world).count(links), 0);
}

#[apply(on_both_databases)]
async fn an_extension_comes_before_a_bulk_revocation_or_its_link_is_revoked(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 6));
    for round in 0..rounds(12) {
        let link = portal.issue(&consultant).await;
        let order = json!({ "tenant_id": "acme", "reason": "The support contract has ended" });
        let revocation = callers[round % 6].post("/v1/revocations", &order);
        let (extended, revoked) = join(extend_all(&callers, &link, 1), revocation).await;
        revoked.ok();
        let refused = extended.iter().filter(|reply| reply.status != 201);
        refused.for_each(|reply| reply.refused(410, "link_revoked"));
        assert_eq!(read(&portal, &link).await["state"], "revoked", "round {round}");
        let trail = eventually("its end is on record", async || {
            let trail = trail_of(&portal, &link).await;
            (number_of(&trail, "magic_link.revoked") == 1).then_some(trail)
        })
        .await;
        assert_eq!(number_of(&trail, "magic_link.extended"), made(&extended), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn of_many_extensions_none_goes_beyond_the_longest_window(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 8));
    for round in 0..rounds(12) {
        let link = portal.issue(&consultant).await;
        let extended = extend_all(&callers, &link, 200).await;
        let refused = extended.iter().filter(|reply| reply.status != 201);
        refused.for_each(|reply| reply.refused_field("/duration"));
        assert_eq!(made(&extended), 3, "round {round}: {:?}", tally(&extended));
        let mut trail = trail_of(&portal, &link).await;
        trail.retain(|event| event["type"] == "magic_link.extended");
        let ends: Vec<&Value> = trail.iter().map(|event| &event["data"]["previous_expires_at"]).collect();
        let next: Vec<&Value> = trail.iter().map(|event| &event["data"]["expires_at"]).collect();
        assert_eq!(ends[1..], next[..2], "round {round}: each goes on from the one before");
        assert_eq!(read(&portal, &link).await["expires_at"], *next[2], "round {round}");
    }
}

#[apply(on_both_databases)]
async fn a_link_expires_or_is_extended(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 2));
    let mut links = Vec::new();
    for _ in 0..rounds(12) {
        links.push(portal.issue(&consultant).await);
    }
    // Their ends come one after the other, while they are extended: some at a time, as an address has so many connections.
    let mut sql = Sql::of(world);
    let mut extended = Vec::new();
    for some in links.chunks(20) {
        for (number, link) in (1..).zip(some) {
            let end = world.clock.now().plus(Duration::milliseconds(300 + 10 * number)).to_string();
            let end = end.replace('T', " ").replace('Z', "");
            sql.run(&format!("UPDATE magic_links SET expires_at = '{end}' WHERE id = '{link}'")).unwrap();
        }
        extended.extend(join_all(some.iter().map(|link| extend_all(&callers, link, 1))).await);
    }
    for (link, replies) in links.iter().zip(&extended) {
        let refused = replies.iter().filter(|reply| reply.status != 201);
        refused.for_each(|reply| reply.refused(410, "link_expired"));
        let trail = eventually("it is extended, or it has expired", async || {
            let trail = trail_of(&portal, link).await;
            let told = ["magic_link.extended", "magic_link.expired"].map(|kind| number_of(&trail, kind));
            (told != [0, 0]).then_some(trail)
        })
        .await;
        let told = ["magic_link.extended", "magic_link.expired"].map(|kind| number_of(&trail, kind));
        assert_eq!(told[0], made(replies), "{trail:?}");
        assert_eq!(told[1], usize::from(told[0] == 0), "{trail:?}");
    }
    // Whatever was extended has not expired meanwhile either.
    let both = "FROM audit_events x JOIN link_extensions e ON e.magic_link_id = x.magic_link_id \
        WHERE x.event_type = 'magic_link.expired'";
    assert_eq!(sql.count(both), 0);
}

#[apply(on_both_databases)]
async fn no_session_outlives_the_link_that_is_shortened_while_it_opens(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 4));
    for round in 0..rounds(12) {
        let link = portal.issue(&consultant).await;
        let code = world.click(&world.token(&link, 1).await).await;
        let end = world.clock.now().plus(Duration::hours(1));
        let (wait, shorter) = (path(&link, "shorten"), json!({ "expires_at": end, "reason": "Less is needed" }));
        let (opened, shortened) =
            join(callers[round % 4].redeem(&code), callers[(round + 1) % 4].post(&wait, &shorter)).await;
        shortened.ok();
        let opened = opened.ok();
        let session = portal.get(&format!("/v1/sessions/{}", opened["id"].as_str().unwrap())).await.ok();
        assert_eq!(session["expires_at"], json!(end), "round {round}");
        let asked = portal.form("/v1/introspect", &[("token", opened["access_token"].as_str().unwrap())]).await.ok();
        assert_eq!((&asked["active"], &asked["exp"]), (&json!(true), &json!(end.unix_seconds())), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn a_corrected_ticket_is_out_of_a_bulk_revocations_reach_or_the_correction_is_refused(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    let (consultant, callers) = (world.consultant().await, copies.spread(&portal, 2));
    for round in 0..rounds(12) {
        let ticket = format!("SUP-{round}");
        let mut request = Api::issue_request(&consultant);
        request["ticket"] = json!(ticket);
        let link = portal.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
        let (at, other) = (format!("/v1/magic-links/{link}"), json!({ "ticket": "ANOTHER" }));
        let order = json!({ "tenant_id": "acme", "ticket": ticket, "reason": "The ticket was closed" });
        let (corrected, revoked) =
            join(callers[round % 2].patch(&at, &other), callers[(round + 1) % 2].post("/v1/revocations", &order)).await;
        revoked.ok();
        let after = read(&portal, &link).await;
        if corrected.status == 200 {
            assert_eq!((&after["state"], &after["ticket"]), (&json!("active"), &json!("ANOTHER")), "round {round}");
        } else {
            corrected.refused(410, "link_revoked");
            assert_eq!((&after["state"], &after["ticket"]), (&json!("revoked"), &json!(ticket)), "round {round}");
        }
    }
}
