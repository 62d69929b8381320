//! The audit log goes on after a restore under another name, and can be checked across the break.

use serde_json::{Value, json};

use super::{confirm, json, ready, run};
use crate::support::{Api, Auditor, Backup, World, apply, folder, on_both_databases};

/// Grows the log of ACME.
async fn grow(world: &World, admin: &Api, events: usize) {
    for number in 0..events {
        admin.put("/v1/tenants/acme", &json!({ "name": format!("ACME {number}") })).await.ok();
    }
    ready(world).await;
}

/// Writes a checkpoint into a file, and gives its path.
fn file(world: &World, name: &str, text: &str) -> String {
    let path = folder(&format!("restore-{}", world.base.rsplit(':').next().unwrap())).join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn size_of(checkpoint: &str) -> usize {
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

/// The log's own `log.restored` events.
async fn breaks(admin: &Api, tenant: &str) -> Vec<Value> {
    admin.events(&format!("&tenant_id={tenant}&type=log.restored")).await
}

#[apply(on_both_databases)]
async fn the_break_is_accepted_and_no_other(world: &World) {
    let admin = world.admin.clone().patient();
    grow(world, &admin, 3).await;
    let auditor = Auditor::of("acme", &admin).await;
    let early = auditor.checkpoint(&admin).await;
    let export_before = auditor.export(&admin).await;
    let backup = Backup::of(world);
    grow(world, &admin, 3).await;
    let within = auditor.checkpoint(&admin).await;
    grow(world, &admin, 2).await;
    let named = auditor.checkpoint(&admin).await;
    grow(world, &admin, 1).await;
    let beyond = auditor.checkpoint(&admin).await;

    backup.restore(world);
    let done = json(world, &["restore", "--checkpoint", &file(world, "named", &named)]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    let restored = breaks(&admin, "acme").await;
    let lost = size_of(&named) - usize::try_from(restored[0]["log_index"].as_u64().unwrap()).unwrap();
    assert!(lost >= 5, "{restored:?}");
    let data = &restored[0]["data"];
    assert_eq!((&data["events_lost"], &data["checkpoint"]["size"]), (&json!(lost), &json!(size_of(&named))));
    assert_eq!(data["checkpoint"]["root"], named.lines().nth(2).unwrap());
    assert_eq!(data["previous_origin"], "127.0.0.1:8080/audit/acme");
    let origin = data["origin"].as_str().unwrap();
    assert_eq!(origin, format!("127.0.0.1:8080/audit/acme/{}", done["origin_suffix"].as_str().unwrap()));
    assert_eq!(
        done["checkpoints"][0],
        json!({ "tenant_id": "acme", "checkpoint_size": size_of(&named), "events_lost": lost })
    );

    // With the key that the auditor has had all along, and with the one of today.
    grow(world, &admin, 8).await;
    let today = Auditor::of("acme", &admin).await;
    assert!(today.key.starts_with(&format!("{origin}+")), "{}", today.key);
    let export = auditor.export(&admin).await;
    let late = auditor.checkpoint(&admin).await;
    assert!(late.starts_with(&format!("{origin}\n")), "{late}");
    let full = auditor.export(&admin).await;
    for auditor in [&auditor, &today] {
        for checkpoint in [&early, &within, &named] {
            let said = auditor.accepts(&export, &[checkpoint]);
            assert!(said.contains(&format!("and {lost} events were lost")), "{said}");
        }
        auditor.accepts(&full, &[&late, &early, &within, &named]);
        auditor.refuses(&export, &[&beyond], "without naming it");
        auditor.refuses(&full, &[&late, &beyond], "without naming it");
        auditor.refuses(&export, &[&late], "are missing");
    }
    // What was exported before verifies as before; the checkpoints of today are not of that log.
    auditor.accepts(&export_before, &[&early]);
    auditor.refuses(&export_before, &[&late], "checkpoint 1");

    // Not without the event: whoever cuts it out has another log.
    let without: String = export.split_inclusive('\n').filter(|line| !line.contains("log.restored")).collect();
    auditor.refuses(&without, &[&early], "line");
    // The other logs go on in the same way.
    let system = Auditor::of("_system", &admin).await;
    assert!(system.key.contains(done["origin_suffix"].as_str().unwrap()));
    system.audit(&admin).await;
    assert_eq!(breaks(&admin, "_system").await.len(), 1);
}

#[apply(on_both_databases)]
async fn a_checkpoint_that_nobody_signed_is_refused_and_nothing_is_done(world: &World) {
    let admin = world.admin.clone().patient();
    grow(world, &admin, 2).await;
    let auditor = Auditor::of("acme", &admin).await;
    let signed = auditor.checkpoint(&admin).await;
    let larger = signed.replacen(&format!("\n{}\n", size_of(&signed)), "\n4711\n", 1);
    let globex = signed.replacen("/audit/acme", "/audit/globex", 1);
    for (name, wrong) in
        [("larger", larger.as_str()), ("globex", &globex), ("text", "no checkpoint\n"), ("nothing", "")]
    {
        let refused = run(world, &["restore", "--checkpoint", &file(world, name, wrong)]).await;
        assert_eq!(refused.status.code(), Some(1), "{name}");
    }
    assert!(breaks(&admin, "acme").await.is_empty());
    admin.get("/v1/magic-links").await.ok();
    // A genuine one of which nothing is lost.
    let done = json(world, &["restore", "--checkpoint", &file(world, "signed", &signed)]).await;
    assert_eq!(done["checkpoints"][0]["events_lost"], 0);
}

#[apply(on_both_databases)]
async fn without_a_checkpoint_no_signed_event_may_be_missing(world: &World) {
    let admin = world.admin.clone().patient();
    grow(world, &admin, 2).await;
    let auditor = Auditor::of("acme", &admin).await;
    let early = auditor.checkpoint(&admin).await;
    let backup = Backup::of(world);
    grow(world, &admin, 3).await;
    let lost = auditor.checkpoint(&admin).await;
    backup.restore(world);
    json(world, &["restore"]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    let export = auditor.export(&admin).await;
    auditor.accepts(&export, &[&early]);
    auditor.refuses(&export, &[&lost], "without naming it");
    // Whoever finds it later names it with a restore of its own.
    json(world, &["restore", "--checkpoint", &file(world, "found-later", &lost)]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    let export = auditor.export(&admin).await;
    auditor.accepts(&export, &[&lost, &early]);
    assert_eq!(breaks(&admin, "acme").await.len(), 2);
}

#[apply(on_both_databases)]
async fn a_log_that_grew_on_from_the_backup_says_that_it_forked(world: &World) {
    let admin = world.admin.clone().patient();
    grow(world, &admin, 2).await;
    let auditor = Auditor::of("acme", &admin).await;
    let early = auditor.checkpoint(&admin).await;
    let backup = Backup::of(world);
    grow(world, &admin, 3).await;
    let lost = auditor.checkpoint(&admin).await;
    backup.restore(world);
    ready(world).await;
    // Nobody noticed, and the log grew beyond the checkpoint.
    grow(world, &admin, 9).await;
    auditor.refuses(&auditor.export(&admin).await, &[&lost], "not the ones that were signed");
    let done = json(world, &["restore", "--checkpoint", &file(world, "lost", &lost)]).await;
    assert!(done["checkpoints"][0].get("events_lost").is_none(), "nobody can count them: {done}");
    ready(world).await;
    confirm(world, &[&admin]).await;
    let export = auditor.export(&admin).await;
    let said = auditor.accepts(&export, &[&lost, &early]);
    assert!(said.contains("an unknown number of events were lost"), "{said}");
}

#[apply(on_both_databases)]
async fn the_log_of_a_tenant_that_is_younger_than_the_backup_says_what_is_lost(world: &World) {
    let admin = world.admin.clone().patient();
    grow(world, &admin, 2).await;
    let backup = Backup::of(world);
    let save = async |name: &str| admin.put("/v1/tenants/newco", &json!({ "name": name })).await.ok();
    for number in 0..3 {
        save(&format!("Newco {number}")).await;
    }
    let auditor = Auditor::of("newco", &admin).await;
    let lost = auditor.checkpoint(&admin).await;
    backup.restore(world);
    let done = json(world, &["restore", "--checkpoint", &file(world, "lost", &lost)]).await;
    let named = json!([{ "tenant_id": "newco", "checkpoint_size": size_of(&lost), "events_lost": size_of(&lost) }]);
    assert_eq!(done["checkpoints"], named);
    ready(world).await;
    confirm(world, &[&admin]).await;
    assert_eq!(breaks(&admin, "newco").await[0]["log_index"], 0);
    for number in 0..5 {
        save(&format!("Newco again {number}")).await;
    }
    let again = auditor.checkpoint(&admin).await;
    assert!(again.starts_with(&format!("127.0.0.1:8080/audit/newco/{}\n", done["origin_suffix"].as_str().unwrap())));
    auditor.accepts(&auditor.export(&admin).await, &[&again, &lost]);

    // The same backup once more: the name under which the checkpoint was signed is lost with it.
    backup.restore(world);
    let done = json(world, &["restore", "--checkpoint", &file(world, "again", &again)]).await;
    assert_eq!(done["checkpoints"][0]["events_lost"], size_of(&again));
    ready(world).await;
    confirm(world, &[&admin]).await;
    save("Newco for the third time").await;
    let third = auditor.checkpoint(&admin).await;
    auditor.accepts(&auditor.export(&admin).await, &[&third, &again]);
    auditor.refuses(&auditor.export(&admin).await, &[&lost], "without naming it");
}

/// The trees of two names are two, whatever their sizes.
#[apply(on_both_databases)]
async fn a_second_restore_of_one_backup_names_what_was_signed_before_and_after_the_first(world: &World) {
    let admin = world.admin.clone().patient();
    grow(world, &admin, 2).await;
    let auditor = Auditor::of("acme", &admin).await;
    let backup = Backup::of(world);
    grow(world, &admin, 9).await;
    let first = auditor.checkpoint(&admin).await;
    backup.restore(world);
    json(world, &["restore", "--checkpoint", &file(world, "first", &first)]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    grow(world, &admin, 2).await;
    let second = auditor.checkpoint(&admin).await;
    assert!(size_of(&second) < size_of(&first) && second.lines().next() != first.lines().next());

    backup.restore(world);
    let (one, other) = (file(world, "first", &first), file(world, "second", &second));
    let done = json(world, &["restore", "--checkpoint", &other, "--checkpoint", &one]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    let data = breaks(&admin, "acme").await[0]["data"].clone();
    let kept = usize::try_from(breaks(&admin, "acme").await[0]["log_index"].as_u64().unwrap()).unwrap();
    let named = |checkpoint: &str, origin: bool| {
        let mut named = json!({
            "tenant_id": "acme", "checkpoint_size": size_of(checkpoint), "events_lost": size_of(checkpoint) - kept,
        });
        if origin {
            named["checkpoint_origin"] = json!(checkpoint.lines().next().unwrap());
        }
        named
    };
    assert_eq!(done["checkpoints"], json!([named(&first, false), named(&second, true)]));
    assert_eq!(data["events_lost"], size_of(&first) - kept);
    assert_eq!(data["more_checkpoints"][0]["origin"], second.lines().next().unwrap());
    assert_eq!(data["more_checkpoints"][0]["events_lost"], size_of(&second) - kept);
    grow(world, &admin, 20).await;
    let export = auditor.export(&admin).await;
    for given in [&[&first] as &[_], &[&second], &[&first, &second], &[&second, &first]] {
        let given: Vec<&str> = given.iter().map(|text| text.as_str()).collect();
        auditor.accepts(&export, &given);
    }

    // One that is found later is named by one more restore; what was named stays so.
    backup.restore(world);
    json(world, &["restore", "--checkpoint", &other]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    let export = auditor.export(&admin).await;
    auditor.accepts(&export, &[&second]);
    auditor.refuses(&export, &[&first, &second], "without naming it");
    json(world, &["restore", "--checkpoint", &one]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    auditor.accepts(&auditor.export(&admin).await, &[&first, &second]);
}
