//! The key that signs the audit logs is changed: whoever trusts one of them can follow to the others.

use serde_json::{Value, json};

use crate::support::{
    Api, Auditor, Backup, Process, Settings, World, apply, command, eventually, folder, on_both_databases,
};

/// Runs a command and gives the one JSON object that it prints.
async fn run(world: &World, arguments: &[&str]) -> Value {
    let mut command = command(world);
    command.args(arguments).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Lets the logs of two tenants grow.
async fn grow(admin: &Api, events: usize) {
    for number in 0..events {
        for tenant in ["acme", "globex"] {
            admin.put(&format!("/v1/tenants/{tenant}"), &json!({ "name": format!("Name {number}") })).await.ok();
        }
    }
}

async fn changes(admin: &Api, tenant: &str) -> Vec<Value> {
    admin.events(&format!("&tenant_id={tenant}&type=log.key_changed")).await
}

#[apply(on_both_databases)]
async fn checkpoints_of_every_key_verify_with_every_key(world: &World) {
    let admin = &world.admin;
    grow(admin, 3).await;
    let first = Auditor::of("acme", admin).await;
    let early = first.checkpoint(admin).await;
    let export_before = first.export(admin).await;
    run(world, &["audit", "rotate-key"]).await;
    for tenant in ["acme", "globex", "_system"] {
        assert_eq!(changes(admin, tenant).await.len(), 1, "{tenant}");
    }
    grow(admin, 3).await;
    let second = Auditor::of("acme", admin).await;
    let middle = second.checkpoint(admin).await;
    run(world, &["audit", "rotate-key"]).await;
    grow(admin, 2).await;
    let third = Auditor::of("acme", admin).await;
    let late = third.checkpoint(admin).await;
    let keys = [&first.key, &second.key, &third.key];
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");

    let export = third.export(admin).await;
    for auditor in [&first, &second, &third] {
        let said = auditor.accepts(&export, &[&late, &middle, &early]);
        assert_eq!(said.matches("the key was changed at event").count(), 2, "{said}");
        auditor.accepts(&export, &[&early]);
    }
    // What was exported before is as it was; it knows nothing of the keys that came later.
    first.accepts(&export_before, &[&early]);
    second.refuses(&export_before, &[&early], "checkpoint 1");
    // A tenant whose log begins now is signed by the newest key from its first event on.
    admin.put("/v1/tenants/initech", &json!({ "name": "Initech" })).await.ok();
    let initech = Auditor::of("initech", admin).await;
    initech.audit(admin).await;
    assert!(changes(admin, "initech").await.is_empty());
    assert_eq!(initech.key.rsplit('+').next(), third.key.rsplit('+').next());
    // An evidence pack is signed by the key of its time.
    let link = admin.issue(&world.consultant().await).await;
    let pack = admin.get(&format!("/v1/magic-links/{link}/evidence")).await.text;
    let file = folder("log-key-evidence").join("pack.json");
    std::fs::write(&file, pack).unwrap();
    run(world, &["audit", "verify", file.to_str().unwrap(), "--key", &third.key]).await;
}

#[apply(on_both_databases)]
async fn without_its_introduction_no_key_counts(world: &World) {
    let admin = &world.admin;
    grow(admin, 2).await;
    let first = Auditor::of("acme", admin).await;
    let early = first.checkpoint(admin).await;
    run(world, &["audit", "rotate-key"]).await;
    grow(admin, 2).await;
    let second = Auditor::of("acme", admin).await;
    let late = second.checkpoint(admin).await;
    let export = second.export(admin).await;
    let cut: String = export.split_inclusive('\n').filter(|line| !line.contains("log.key_changed")).collect();
    for auditor in [&first, &second] {
        auditor.accepts(&export, &[&late]);
        auditor.refuses(&cut, &[&early], "");
        auditor.refuses(&cut, &[&late], "");
    }
    // The log of another service, whatever it says of ours.
    let stranger =
        Auditor { key: format!("{}A", second.key.trim_end_matches('=')), ..Auditor::of("acme", admin).await };
    stranger.refuses(&export, &[&late], "");
}

#[apply(on_both_databases)]
async fn keys_change_across_a_restore_and_a_change_of_the_master_key(world: &World) {
    let admin = world.admin.clone().patient();
    grow(&admin, 2).await;
    let first = Auditor::of("acme", &admin).await;
    let early = first.checkpoint(&admin).await;
    run(world, &["audit", "rotate-key"]).await;
    grow(&admin, 2).await;
    let backup = Backup::of(world);
    grow(&admin, 2).await;
    let lost = first.checkpoint(&admin).await;
    backup.restore(world);
    let file = folder(&format!("log-key-{}", world.base.rsplit(':').next().unwrap())).join("lost");
    std::fs::write(&file, &lost).unwrap();
    run(world, &["restore", "--checkpoint", file.to_str().unwrap()]).await;
    eventually("the service is ready", async || (world.stranger().get("/readyz").await.status == 200).then_some(()))
        .await;
    run(world, &["client", "confirm", &admin.client_id]).await;
    run(world, &["audit", "rotate-key"]).await;
    grow(&admin, 2).await;
    let last = Auditor::of("acme", &admin).await;
    let late = last.checkpoint(&admin).await;
    let export = last.export(&admin).await;
    for auditor in [&first, &last] {
        let said = auditor.accepts(&export, &[&late, &lost, &early]);
        assert!(said.contains("the database was restored") && said.contains("the key was changed"), "{said}");
    }
}

// A playbook that runs the command on each host.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn keys_that_are_made_at_once_are_introduced_one_after_the_other(world: &World) {
    let copies = [Process::start(world), Process::start(world)];
    let admin = world.admin.at(&copies[0].base).patient();
    grow(&admin, 1).await;
    let first = Auditor::of("acme", &admin).await;
    let early = first.checkpoint(&admin).await;
    for _ in 0..3 {
        let rotate = async || run(world, &["audit", "rotate-key"]).await;
        futures_util::future::join4(rotate(), rotate(), rotate(), rotate()).await;
        grow(&admin, 1).await;
    }
    for tenant in ["acme", "globex", "_system"] {
        let auditor = Auditor::of(tenant, &admin).await;
        let late = auditor.checkpoint(&admin).await;
        auditor.accepts(&auditor.export(&admin).await, &[&late]);
    }
    let late = Auditor::of("acme", &admin).await.checkpoint(&admin).await;
    first.accepts(&first.export(&admin).await, &[&late, &early]);
}
