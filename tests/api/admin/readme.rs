//! The commands of the READMEs, run as they are printed.

use std::path::Path;

use serde_json::Value;

use crate::support::{Database, Reader, Settings, World, apply, blocks, code_of, command, on_both_databases};

/// The word in what was printed that begins like this.
fn word<'s>(said: &'s str, begin: &str) -> &'s str {
    said.split_whitespace().find(|word| word.starts_with(begin)).expect("it is printed")
}

#[apply(on_both_databases)]
async fn the_life_of_a_link_goes_as_the_readme_prints_it(world: &World) {
    live_as_printed(world, Reader::new(world, "life")).await;
}

/// `make run` has made the demo data, and somebody issues the first link that it prints, twice.
#[test]
fn the_life_of_a_link_goes_as_printed_after_make_run() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let mut reader = Reader::new(world, "after-make-run");
        let seeded: Value = serde_json::from_str(&reader.run("magic-link demo --json")).unwrap();
        reader.learn("CONSULTANT", seeded["id"].as_str().unwrap());
        reader.learn("CLOUD_KEY", seeded["key"].as_str().unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/portal/demo.sh");
        let script = std::fs::read_to_string(script).unwrap();
        let printed = script.lines().find_map(|line| line.split_once("; curl $service_url")).expect("a line").1;
        let printed = printed.strip_suffix(')').expect("a subshell").replace("\\$", "$");
        for _ in 0..2 {
            let link = reader.call(&format!("curl http://127.0.0.1:8080{printed}"));
            assert_eq!(link["profile"]["id"], "emp-1042");
        }
        live_as_printed(world, reader).await;
        // And what the other pages set up.
        let said = Reader::new(world, "after-make-run-too").run("magic-link demo");
        assert!(said.contains("con_"), "{said}");
    });
}

/// What is set up first by a page does not end in an error that tells nothing.
#[test]
fn demo_data_is_refused_by_name_where_its_people_are_known() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let run = |arguments: &[&str]| command(world).args(arguments).output().unwrap();
        let ravi = ["consultant", "add", "--name", "Ravi Kumar", "--email", "Ravi.Kumar@support.example"];
        assert!(run(&ravi).status.success());
        let refused = run(&["demo"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.contains("ravi.kumar@support.example already"), "{said}");
    });
}

/// Each page may be the first that somebody follows, and Swagger's examples run beside them.
#[apply(on_both_databases)]
async fn no_two_pages_set_up_the_same_person(world: &World) {
    let reader = Reader::new(world, "persons");
    let add = blocks("README.md", "## The life of a link").swap_remove(0);
    let add = add.lines().next().unwrap();
    assert!(reader.run(add).contains("con_"));
    let document: Value = serde_json::from_str(include_str!("../../../openapi/openapi.json")).unwrap();
    let example = &document["components"]["schemas"]["RegisterConsultant"]["example"];
    world.admin.post("/v1/consultants", example).await.ok();
}

async fn live_as_printed(world: &World, mut reader: Reader<'_>) {
    let blocks = blocks("README.md", "## The life of a link");
    let [set_up, issue, press, redeem, introspect, report, end] = &blocks[..] else { panic!("{blocks:#?}") };
    let said = reader.run(set_up);
    reader.learn("CONSULTANT", word(&said, "con_"));
    reader.learn("KEY", word(&said, "mlsk_"));
    let link = reader.call(issue);
    reader.learn("TOKEN", &world.token(link["id"].as_str().unwrap(), 1).await);
    reader.learn("CODE", &code_of(&reader.call(press)));
    let session = reader.call(redeem);
    reader.learn("SESSION", session["id"].as_str().unwrap());
    reader.learn("ACCESS_TOKEN", session["access_token"].as_str().unwrap());
    assert_eq!(reader.call(introspect)["active"], true);
    assert_eq!(reader.call(report)["recorded"], 1);
    assert_eq!(reader.call(end)["state"], "ended");
    assert_eq!(reader.call(introspect)["active"], false);
}

#[apply(on_both_databases)]
async fn the_audit_log_is_checked_as_its_readme_prints_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.open_session(&portal).await;
    let mut reader = Reader::new(world, "audit");
    let block = blocks("src/audit/README.md", "## Checking the audit log").swap_remove(0);
    let (once, rest) = block.split_once("export AUDIT_KEY").expect("the key is kept");
    let said = reader.run(once);
    reader.learn("AUDIT_KEY", word(&said, "mlsk_"));
    let said = reader.run(rest.split_once('\n').expect("more follows").1);
    assert!(said.contains("acme"), "{said}");
}

/// What is learnt from the answers of the blocks before: keys and ids.
fn set_up<'a>(world: &'a World, name: &str) -> Reader<'a> {
    let mut reader = Reader::new(world, name);
    let said = reader.run(&blocks("docker/README.md", "First set-up").swap_remove(0));
    reader.learn("CONSULTANT", word(&said, "con_"));
    reader.learn("CLIENT", word(&said, "cli_"));
    reader.learn("KEY", word(&said, "mlsk_"));
    reader
}

#[apply(on_both_databases)]
async fn an_integrator_registers_an_endpoint_as_the_page_prints_it(world: &World) {
    let reader = set_up(world, "webhooks");
    let endpoint = reader.call(&blocks("openapi/README.md", "## Webhooks").swap_remove(0));
    assert!(endpoint["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{endpoint}");
}

#[apply(on_both_databases)]
async fn an_operator_curls_as_the_page_prints_it(world: &World) {
    let mut reader = set_up(world, "curl");
    let issue = blocks("README.md", "## The life of a link").swap_remove(1);
    let link = reader.call(&issue)["id"].as_str().unwrap().to_owned();
    reader.learn("LINK", &link);
    reader.learn("OPERATOR_KEY", world.admin.key());
    let block = blocks("openapi/README.md", "## Operations by curl").swap_remove(0);
    let calls: Vec<&str> = block.split("\n\n").collect();
    let [list, revoke, revoke_many, how_far, suspend, trail] = &calls[..] else { panic!("{calls:#?}") };
    assert_eq!(reader.call(list)["items"][0]["id"], *link);
    assert_eq!(reader.call(revoke)["state"], "revoked");
    reader.learn("REVOCATION", reader.call(revoke_many)["id"].as_str().unwrap());
    assert_eq!(reader.call(how_far)["tenant_ids"][0], "acme");
    assert_eq!(reader.call(suspend)["state"], "suspended");
    assert!(reader.call(trail)["items"].as_array().unwrap().len() >= 2);
    let help_desk = reader.run(&blocks("openapi/README.md", "## Access that ends with its ticket").swap_remove(0));
    assert!(help_desk.contains("mlsk_"), "{help_desk}");
}

#[apply(on_both_databases)]
async fn a_night_is_reviewed_as_the_page_prints_it(world: &World) {
    let mut reader = set_up(world, "review");
    let issue = blocks("README.md", "## The life of a link").swap_remove(1);
    let link = reader.call(&issue)["id"].as_str().unwrap().to_owned();
    let blocks = blocks("openapi/README.md", "## A nightly review");
    let said = reader.run(&blocks[0]);
    reader.learn("REVIEW_KEY", word(&said, "mlsk_"));
    reader.learn("SINCE", "2026-11-27T20:30:00Z");
    let calls: Vec<&str> = blocks[1].lines().filter(|line| line.starts_with("curl")).collect();
    let found: Vec<usize> =
        calls.iter().map(|call| reader.call(call)["items"].as_array().expect("a list").len()).collect();
    // One link is open, and nothing is amiss.
    assert_eq!(found, [1, 0, 0, 0, 0, 0, 0, 0], "{link}");
}

#[apply(on_both_databases)]
async fn an_emergency_is_ended_as_the_page_prints_it(world: &World) {
    let mut reader = set_up(world, "emergency");
    let keys = reader.run("magic-link key list --json");
    let keys: Value = serde_json::from_str(&keys).unwrap();
    reader.learn("KID", keys["items"][0]["kid"].as_str().unwrap());
    reader.run(&blocks("docker/README.md", "In an emergency").swap_remove(0));
    let revoked = reader.run("magic-link key list --json");
    assert!(revoked.contains("\"revoked_at\""), "{revoked}");
}
