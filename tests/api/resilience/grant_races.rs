//! One access, one link: of several who want it at once one gets it, whatever ends it meanwhile.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::races::{Copies, counts, number_of, patient, tally};
use crate::support::{Api, Reply, Sql, World, apply, on_both_databases, rounds};

const LINKS: &str = "/v1/magic-links";

async fn issue_all(callers: &[Api], request: &Value) -> Vec<Reply> {
    join_all(callers.iter().map(|caller| caller.post(LINKS, request))).await
}

/// The links that were issued; every other caller was told that there is one.
#[track_caller]
fn issued(replies: &[Reply]) -> Vec<String> {
    let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
    for reply in &refused {
        reply.refused(409, "access_exists");
    }
    made.iter().map(|reply| reply.body["id"].as_str().unwrap().to_owned()).collect()
}

/// The links that are open for the consultant, and what the database says of it.
async fn open(world: &World, portal: &Api, consultant: &str) -> Vec<String> {
    let list = portal.get(&format!("{LINKS}?consultant_id={consultant}&state=active,scheduled")).await.ok();
    let open: Vec<String> =
        list["items"].as_array().unwrap().iter().map(|link| link["id"].as_str().unwrap().to_owned()).collect();
    let grants = format!("SELECT magic_link_id AS text FROM open_grants WHERE consultant_id = '{consultant}'");
    assert_eq!(Sql::of(world).texts(&grants), open);
    open
}

#[apply(on_both_databases)]
async fn of_several_issues_of_one_access_one_wins(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let callers = copies.spread(&portal, 8);
        let replies = issue_all(&callers, &Api::issue_request(&consultant)).await;
        let made = issued(&replies);
        assert_eq!(made.len(), 1, "round {round}: {:?}", tally(&replies));
        assert_eq!(open(world, &portal, &consultant).await, made, "round {round}");
        let trail = portal.events(&format!("&consultant_id={consultant}")).await;
        assert_eq!(number_of(&trail, "magic_link.issued"), 1, "round {round}");
    }
}

#[apply(on_both_databases)]
async fn an_issue_beside_a_revocation_comes_before_it_or_after_it(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let request = Api::issue_request(&consultant);
        let first = portal.post(LINKS, &request).await.ok();
        let callers = copies.spread(&portal, 5);
        let path = format!("{LINKS}/{}/revoke", first["id"].as_str().unwrap());
        let reason = json!({ "reason": "The work is done" });
        let (replies, revoked) = join(issue_all(&callers[1..], &request), callers[0].post(&path, &reason)).await;
        assert_eq!(revoked.ok()["state"], "revoked");
        let made = issued(&replies);
        assert!(made.len() <= 1, "round {round}: {:?}", tally(&replies));
        assert_eq!(open(world, &portal, &consultant).await, made, "round {round}");
        if made.is_empty() {
            portal.post(LINKS, &request).await.ok();
        }
    }
}

#[apply(on_both_databases)]
async fn of_several_replacements_beside_a_revocation_one_link_is_left_at_most(world: &World) {
    let (portal, copies) = (patient(world, world.portal("cloud", "acme").await), Copies::start(world));
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let mut request = Api::issue_request(&consultant);
        let first = portal.post(LINKS, &request).await.ok();
        request["replace"] = json!(true);
        let callers = copies.spread(&portal, 5);
        let path = format!("{LINKS}/{}/revoke", first["id"].as_str().unwrap());
        let reason = json!({ "reason": "The work is done" });
        let (replies, revoked) = join(issue_all(&callers[1..], &request), callers[0].post(&path, &reason)).await;
        let state = revoked.ok()["state"].clone();
        assert!(state == "revoked" || state == "replaced", "round {round}: {state}");
        assert_eq!(tally(&replies), counts([("201", 4)]), "round {round}");
        let made = issued(&replies);
        let left = open(world, &portal, &consultant).await;
        assert!(left.len() == 1 && made.contains(&left[0]), "round {round}: {left:?} of {made:?}");
        let trail = portal.events(&format!("&consultant_id={consultant}")).await;
        let ends = number_of(&trail, "magic_link.replaced") + number_of(&trail, "magic_link.revoked");
        assert_eq!((ends, number_of(&trail, "magic_link.issued")), (made.len(), made.len() + 1), "round {round}");
    }
}

#[apply(on_both_databases)]
async fn of_several_replacements_each_replaces_the_one_before(world: &World) {
    // They wait for each other: on a slow machine longer than a writer is waited for, which is a 503 that did nothing.
    let (portal, copies) = (world.portal("cloud", "acme").await.patient(), Copies::start(world));
    for round in 0..rounds(12) {
        let consultant = world.consultant().await;
        let mut request = Api::issue_request(&consultant);
        // With a first link, and without one: then nothing is there that could be locked.
        let before = usize::from(round % 2 == 0);
        if before == 1 {
            portal.post(LINKS, &request).await.ok();
        }
        request["replace"] = json!(true);
        let replies = issue_all(&copies.spread(&portal, 10), &request).await;
        assert_eq!(tally(&replies), counts([("201", 10)]), "round {round}");
        let left = open(world, &portal, &consultant).await;
        assert!(left.len() == 1 && issued(&replies).contains(&left[0]), "round {round}: {left:?}");
        let trail = portal.events(&format!("&consultant_id={consultant}")).await;
        let (replaced, made) = (number_of(&trail, "magic_link.replaced"), number_of(&trail, "magic_link.issued"));
        assert_eq!((replaced, made), (9 + before, 10 + before), "round {round}");
        assert_eq!(number_of(&trail, "magic_link.refused"), 0, "round {round}");
    }
}
