//! Lists are filtered by SQL, single reads by the rows, introspection by a cache: all three say the same of every link and
//! session, whatever ended them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, Sql, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// The ids that a list shows.
async fn ids(portal: &Api, path: &str) -> Vec<String> {
    let page = portal.get(path).await.ok();
    let mut ids: Vec<String> =
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

/// Compares what the lists by state say of everything with what each thing says of itself, and returns the states.
async fn agreed(portal: &Api, tokens: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for (path, states) in [
        (LINKS, &["scheduled", "active", "expired", "revoked", "replaced"][..]),
        ("/v1/sessions", &["active", "ended"]),
    ] {
        let mut all = Vec::new();
        for state in states {
            for id in ids(portal, &format!("{path}?page_size=200&state={state}")).await {
                let read = portal.get(&format!("{path}/{id}")).await.ok();
                assert_eq!(read["state"], **state, "{id}: the list by state and the thing itself");
                if let Some(token) = tokens.get(&id) {
                    assert_eq!(portal.is_active(token).await, *state == "active", "{id}: its access token");
                    assert_eq!(read["ended_at"].is_null(), *state == "active", "{id}: {read}");
                }
                told.insert(id.clone(), (*state).to_owned());
                all.push(id);
            }
        }
        all.sort_unstable();
        assert_eq!(all, ids(portal, &format!("{path}?page_size=200")).await, "each is in the list of one state");
    }
    // A link is in use where one of its sessions is active.
    let sessions = portal.get("/v1/sessions?page_size=200&state=active").await.ok();
    let mut used: Vec<String> = sessions["items"].as_array().unwrap().iter().map(link_of).collect();
    used.sort_unstable();
    assert_eq!(ids(portal, &format!("{LINKS}?page_size=200&in_use=true")).await, used);
    told
}

fn link_of(session: &Value) -> String {
    session["magic_link_id"].as_str().unwrap().to_owned()
}

#[apply(on_both_databases)]
#[settings(Settings { manual_clock: true, ..Settings::default() })]
async fn lists_reads_and_introspection_say_the_same_of_every_link_and_session(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let mut sessions: BTreeMap<&str, Value> = BTreeMap::new();
    for what in ["lives", "is done", "is revoked", "its link is revoked", "its link is replaced", "is ordered away"] {
        sessions.insert(what, world.open_session(&portal).await);
    }
    let tokens: BTreeMap<String, String> = sessions
        .values()
        .map(|session| ["id", "access_token"].map(|name| session[name].as_str().unwrap().to_owned()).into())
        .collect();
    let id = |what: &str| sessions[what]["id"].as_str().unwrap().to_owned();
    let unused = portal.issue(&consultant).await;
    let mut later = Api::issue_request(&consultant);
    later["starts_at"] = world.clock.now().plus(Duration::hours(2)).to_string().into();
    let scheduled = portal.post(LINKS, &later).await.ok()["id"].as_str().unwrap().to_owned();
    let told = agreed(&portal, &tokens).await;
    assert_eq!((told[&unused].as_str(), told[&scheduled].as_str()), ("active", "scheduled"));
    assert!(sessions.keys().all(|what| told[&id(what)] == "active"), "{told:?}");

    let why = json!({ "reason": "The work is done" });
    portal.post(&format!("/v1/sessions/{}/end", id("is done")), &json!({ "sources": {} })).await.ok();
    portal.post(&format!("/v1/sessions/{}/revoke", id("is revoked")), &why).await.ok();
    portal.post(&format!("{LINKS}/{}/revoke", link_of(&sessions["its link is revoked"])), &why).await.ok();
    let replaced = portal.get(&format!("{LINKS}/{}", link_of(&sessions["its link is replaced"]))).await.ok();
    let mut again = Api::issue_request(replaced["consultant"]["id"].as_str().unwrap());
    again["profile"] = replaced["profile"].clone();
    again["replace"] = true.into();
    let replacing = portal.post(LINKS, &again).await.ok()["id"].as_str().unwrap().to_owned();
    let told = agreed(&portal, &tokens).await;
    assert!(sessions.keys().all(|what| (told[&id(what)] == "active") == matches!(*what, "lives" | "is ordered away")));
    let of = |id: &str| told[id].clone();
    assert_eq!(of(&link_of(&sessions["its link is replaced"])), "replaced");
    assert_eq!((of(&replacing), of(&link_of(&sessions["is revoked"]))), ("active".to_owned(), "active".to_owned()));

    // A bulk revocation that is in force, and that nobody carries out yet.
    let ordered = sessions["is ordered away"]["consultant"]["id"].as_str().unwrap();
    let order = json!({ "profile_id": "nobody", "reason": "A laptop was stolen" });
    portal.post("/v1/revocations", &order).await.ok();
    let mut sql = Sql::of(world);
    sql.run(&format!(
        "UPDATE revocations SET profile_id = NULL, consultant_id = '{ordered}', lease_until = '2099-01-01 00:00:00.000000', done_at = NULL"
    ))
    .unwrap();
    sql.run("UPDATE access_epoch SET epoch = epoch + 1").unwrap();
    let told = agreed(&portal, &tokens).await;
    assert_eq!(told[&link_of(&sessions["is ordered away"])], "revoked");
    assert_eq!((told[&id("is ordered away")].as_str(), told[&id("lives")].as_str()), ("ended", "active"));

    // Time ends the rest without a write.
    world.clock.advance(Duration::hours(3));
    assert_eq!(agreed(&portal, &tokens).await[&scheduled], "active");
    world.clock.advance(Duration::hours(2));
    let told = agreed(&portal, &tokens).await;
    assert_eq!((told[&unused].as_str(), told[&id("lives")].as_str()), ("expired", "ended"));
    // When everything is recorded, too.
    sql.run("UPDATE revocations SET lease_until = NULL").unwrap();
    let recorded = "FROM audit_events WHERE event_type IN ('session.ended', 'session.replaced')";
    eventually("the ends are recorded", async || (sql.count(recorded) == sessions.len()).then_some(())).await;
    let after = agreed(&portal, &tokens).await;
    assert_eq!(after, told);
}
