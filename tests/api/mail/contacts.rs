//! Whoever exchanges the contacts of a tenant is not alone in hearing what happens next.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, eventually, on_both_databases};

const TENANT: &str = "/v1/tenants/acme";
const LINKS: &str = "/v1/magic-links";
const ASHA: &str = "asha@acme.example";
const EVE: &str = "eve@evil.example";

fn tenant(contacts: &[&str]) -> Value {
    let contacts: Vec<Value> = contacts.iter().map(|email| json!({ "name": "A contact", "email": email })).collect();
    json!({ "name": "ACME", "contacts": contacts })
}

/// Who got mails of a template, in order; when there are so many.
async fn told(world: &World, template: &str, count: usize) -> Vec<String> {
    let mut recipients = eventually(template, async || {
        let mails = world.mails.notices(template).await;
        (mails.len() >= count).then(|| mails.iter().map(recipient).collect::<Vec<_>>())
    })
    .await;
    recipients.sort();
    recipients
}

fn recipient(mail: &Value) -> String {
    mail["To"][0]["Email"].as_str().expect("an address").to_owned()
}

async fn breaks_the_glass(world: &World, client: &Api, profile: &str) {
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"]["email"] = json!(EVE);
    request["profile"]["id"] = json!(profile);
    request["emergency"] = json!({ "justification": "Salaries are paid in one hour, and the run is stuck" });
    client.post(LINKS, &request).await.ok();
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn who_was_a_contact_hears_of_the_exchange_and_of_what_follows(world: &World) {
    world.admin.put(TENANT, &tenant(&[ASHA])).await.ok();
    world.admin.put(&format!("{TENANT}/policy"), &json!({ "emergency": "forbidden" })).await.ok();
    let client = world.client(None, &["acme"], &["tenants:write", "links:issue", "links:emergency"]).await;
    let keeper = world.client(None, &["acme"], &["policies:write"]).await;
    let name = world.admin.get(&format!("/v1/clients/{}", client.client_id)).await.ok()["name"].clone();

    client.put(TENANT, &tenant(&[EVE])).await.ok();
    keeper.put(&format!("{TENANT}/policy"), &json!({ "emergency": "allowed" })).await.ok();
    breaks_the_glass(world, &client, "emp-1").await;
    // Another spelling of the address is the same contact, and another name no exchange.
    client.put(TENANT, &tenant(&[ASHA])).await.ok();
    client.put(TENANT, &tenant(&["Asha@acme.example"])).await.ok();

    for template in ["policy_loosened", "emergency_issued"] {
        assert_eq!(told(world, template, 2).await, [ASHA, EVE], "{template}");
    }
    assert_eq!(told(world, "contacts_changed", 2).await, [ASHA, EVE]);
    let mails = world.mails.notices("contacts_changed").await;
    let to_asha = mails.iter().find(|mail| recipient(mail) == ASHA).expect("a mail").to_string();
    assert!(to_asha.contains("contact of ACME") && to_asha.contains(name.as_str().unwrap()), "{to_asha}");
    let emergency = world.mails.notices("emergency_issued").await;
    let to_asha = emergency.iter().find(|mail| recipient(mail) == ASHA).expect("a mail");
    assert!(!to_asha.to_string().contains("Hello Meera"), "{to_asha}");

    // Three days later who is none any more hears nothing.
    world.clock.advance(Duration::hours(73));
    breaks_the_glass(world, &client, "emp-2").await;
    let recipients = told(world, "emergency_issued", 4).await;
    assert_eq!(recipients, ["Asha@acme.example", ASHA, EVE, EVE]);
}

#[apply(on_both_databases)]
#[settings(Settings::config("limits.mails_per_recipient_hour = 2"))]
async fn contacts_are_not_mailed_without_end_by_exchanging_them(world: &World) {
    world.admin.put(TENANT, &tenant(&[ASHA])).await.ok();
    let client = world.client(None, &["acme"], &["tenants:write"]).await;
    for contact in [EVE, ASHA] {
        client.put(TENANT, &tenant(&[contact])).await.ok();
    }
    let refused = client.put(TENANT, &tenant(&[EVE])).await;
    refused.refused(429, "rate_limited");
    assert_eq!(world.admin.get(TENANT).await.ok()["contacts"][0]["email"], ASHA, "nothing was changed");
    // What exchanges nobody is taken, and each client has a room of its own.
    client.put(TENANT, &tenant(&[ASHA, EVE])).await.ok();
    world.admin.put(TENANT, &tenant(&[ASHA])).await.ok();
    assert_eq!(told(world, "contacts_changed", 3).await, [ASHA, EVE, EVE]);
}

#[apply(on_both_databases)]
#[settings(Settings::config("limits.mails_per_recipient_hour = 2"))]
async fn many_clients_of_a_tenant_do_not_fill_a_mailbox(world: &World) {
    let consultant = world.consultant().await;
    let mut refused = 0;
    for _ in 0..6 {
        let client = world.client(None, &["acme"], &["links:issue"]).await;
        for _ in 0..2 {
            let reply = client.post(LINKS, &Api::issue_request(&consultant)).await;
            if reply.status == 429 {
                reply.refused(429, "rate_limited");
                refused += 1;
            } else {
                reply.ok();
            }
        }
    }
    assert_eq!(refused, 4, "eight of twelve are mailed for the tenant");
    // Another tenant's are.
    let other = world.client(None, &["globex"], &["links:issue"]).await;
    let mut request = Api::issue_request(&consultant);
    request["tenant_id"] = json!("globex");
    other.post(LINKS, &request).await.ok();
}
