//! What mails a secret is counted exactly, however many ask for it at however many copies.

use futures_util::future::join_all;
use serde_json::json;

use super::races::{Copies, counts, patient, tally};
use crate::support::{Settings, Sql, World, apply, on_both_databases, rounds};

const CALLERS: usize = 24;

/// The Cloud portal wants a mailed code.
const STEP_UP: &[(&str, &str)] = &[
    ("MAGIC_LINK_PORTALS__CLOUD__AUDIENCE", "https://cloud.example"),
    ("MAGIC_LINK_PORTALS__CLOUD__CALLBACK_URL", "https://cloud.example/cb"),
    ("MAGIC_LINK_PORTALS__CLOUD__STEP_UP", "email_code"),
];

fn step_up() -> Settings {
    let cloud = "[portals.cloud]\naudience = 'https://cloud.example'\ncallback_url = 'https://cloud.example/cb'\n\
        step_up = 'email_code'";
    Settings { tables: cloud.to_owned(), ..Settings::default() }
}

/// Presses the button of each link many times at once, at copies with this environment.
async fn of_many_presses_one_code_lives(world: &World, environment: &[(&str, &str)]) {
    let copies = Copies::start_with(world, environment);
    let pages = copies.spread(&patient(world, world.stranger()), CALLERS);
    let consultant = world.consultant().await;
    for round in 0..rounds(6) {
        let link = world.admin.issue(&consultant).await;
        let request = json!({ "token": world.token(&link, 1).await });
        let replies = join_all(pages.iter().map(|page| page.post("/l/continue", &request))).await;
        assert_eq!(tally(&replies), counts([("200", 1), ("429 resend_cool_down", CALLERS - 1)]), "round {round}");
        let made = Sql::of(world).count(&format!("FROM step_ups WHERE magic_link_id = '{link}'"));
        let sent = world.admin.events(&format!("&magic_link_id={link}&type=magic_link.code_sent")).await;
        assert_eq!((made, sent.len()), (1, 1), "round {round}");
    }
}

#[apply(on_both_databases)]
#[settings(step_up())]
async fn of_many_presses_of_the_button_one_mails_a_code(world: &World) {
    of_many_presses_one_code_lives(world, STEP_UP).await;
}

#[apply(on_both_databases)]
#[settings(step_up())]
async fn of_many_presses_one_mails_a_code_also_where_no_commit_is_shared(world: &World) {
    of_many_presses_one_code_lives(world, &[STEP_UP, &[("MAGIC_LINK_DATABASE_BATCH", "1")]].concat()).await;
}

#[apply(on_both_databases)]
#[settings(Settings::config("links.resend_cool_down_seconds = 0\nlimits.mails_per_recipient_hour = 10"))]
async fn a_recipient_gets_so_many_mails_however_many_links_they_have(world: &World) {
    let copies = Copies::start_with(
        world,
        &[("MAGIC_LINK_LINKS__RESEND_COOL_DOWN_SECONDS", "0"), ("MAGIC_LINK_LIMITS__MAILS_PER_RECIPIENT_HOUR", "10")],
    );
    let portal = patient(world, world.portal("cloud", "acme").await);
    let callers = copies.spread(&portal, 8);
    for round in 0..rounds(4) {
        let consultant = world.consultant().await;
        let mut links = Vec::new();
        for _ in 0..callers.len() {
            links.push(portal.issue(&consultant).await);
        }
        let resend = links.iter().zip(&callers);
        let replies = join_all(
            resend.map(async |(link, caller)| caller.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await),
        )
        .await;
        assert_eq!(tally(&replies), counts([("202", 2), ("429 rate_limited", 6)]), "round {round}");
        let trail = portal.event_types(&format!("&consultant_id={consultant}&type=magic_link.resent")).await;
        assert_eq!(trail.len(), 2, "round {round}");
    }
}
