//! What was erased after the backup is erased again, as soon as anything may be erased after the restore.

use serde_json::{Value, json};
use time::Duration;

use super::personal_data::{SAID, places, told};
use crate::support::{Backup, Settings, Sql, World, apply, command, eventually, on_both_databases};

/// The one JSON object that a command prints.
async fn said(world: &World, arguments: &[&str]) -> Value {
    let mut command = command(world);
    command.args(arguments).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A moment as both databases read it.
fn moment(world: &World) -> String {
    world.clock.now().to_string()[..19].replace('T', " ")
}

/// What no kind of row says any more once it is erased: what people said, and from where a client called.
fn left(world: &World, client: &str) -> Vec<String> {
    let mut left = places(world, &SAID);
    let kept = ["client_uses WHERE address IS NOT NULL AND client_id", "audit_payloads WHERE payload"];
    let kept = kept.into_iter().zip([format!("= '{client}'"), "LIKE '%Payroll run%'".to_owned()]);
    left.extend(
        kept.map(|(of, what)| format!("{of} {what}")).filter(|rows| Sql::of(world).count(&format!("FROM {rows}")) > 0),
    );
    left
}

// Every kind of row whose retention is over: the backup has them as they were before.
#[apply(on_both_databases)]
#[settings(Settings { clock_behind: Duration::days(430), config: "audit.erase_in_service = false".into(), ..Settings::manual_clock() })]
async fn what_was_erased_after_the_backup_is_erased_again_by_the_first_run(world: &World) {
    let admin = world.admin.clone().patient();
    let (suspended, _) = told(world).await;
    let active = world.consultant().await;
    let portal = world.portal("cloud", "acme").await;
    portal.get("/v1/magic-links").await.ok();
    let keys = admin.get("/v1/keys").await.ok();
    let key = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap()["kid"].clone();
    admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    world.clock.advance(Duration::seconds(61));
    let revoked = format!("/v1/keys/{}/revoke", key.as_str().unwrap());
    admin.post(&revoked, &json!({ "reason": "Meera Iyer lost a backup with it" })).await.ok();
    world.clock.advance(Duration::days(2));
    let open = ["mail_jobs WHERE finished_at IS NULL", "report_checks", "sessions WHERE ended_at IS NULL"];
    let over = async || open.iter().all(|rows| Sql::of(world).count(&format!("FROM {rows}")) == 0).then_some(());
    eventually("all of it is over", over).await;
    let now = moment(world);
    // Ids of mails do not go back in a process. One that only a newer version sends is still in the queue.
    Sql::of(world)
        .run(&format!(
            "UPDATE mail_jobs SET id = 'mjb_00' || substr(id, 7) WHERE magic_link_id IS NULL; \
             UPDATE mail_suppressions SET created_at = '{now}'; \
             UPDATE mail_suppressions SET cleared_at = '{now}' WHERE cleared_at IS NOT NULL; \
             INSERT INTO mail_jobs (id, template, dedup_key, tenant_id, portal, recipient, state, attempts, unknown_attempts, \
                retry_round, next_attempt_at, created_at) VALUES ('mjb_00000000000000000000000001', 'policy_polished', 'x', \
                'acme', '', 'hr@acme.example', 'queued', 0, 0, 0, '{now}', '{now}')"
        ))
        .unwrap();
    let seen = format!("FROM client_uses WHERE client_id = '{}' AND address IS NOT NULL", portal.client_id);
    eventually("the call is noted", async || (Sql::of(world).count(&seen) == 1).then_some(())).await;
    let backup = Backup::of(world);

    // The command line's clock is more than a retention ahead.
    said(world, &["maintain", "--clock-is-right"]).await;
    assert_eq!(left(world, &portal.client_id), [""; 0], "one run is enough");

    backup.restore(world);
    eventually("the service is ready", async || (world.stranger().get("/readyz").await.status == 200).then_some(()))
        .await;
    for word in SAID {
        assert!(!places(world, &[word]).is_empty(), "the backup lacks {word}");
    }
    let restored = said(world, &["restore"]).await;
    assert_eq!(restored["cancelled_mails"], 1, "{restored}");
    said(world, &["client", "confirm", "--all"]).await;
    said(world, &["consultant", "confirm", "--all"]).await;
    assert_eq!(
        said(world, &["maintain", "--clock-is-right"]).await["held"],
        true,
        "nobody has said that holds are there"
    );
    said(world, &["unfreeze"]).await;
    let run = said(world, &["maintain", "--clock-is-right"]).await;
    assert_eq!(left(world, &portal.client_id), [""; 0], "{run}");
    let erased = format!("FROM consultants WHERE id IN ('{suspended}', '{active}') AND erased_at IS NOT NULL");
    assert_eq!(Sql::of(world).count(&erased), 2);
}
