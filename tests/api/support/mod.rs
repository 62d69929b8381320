//! What every test stands on: a database of its own, a real service on a real
//! socket, a mail server that keeps what it takes, and actors who talk to them.

mod actors;
mod auditor;
mod authority;
mod backup;
#[cfg(feature = "otlp")]
mod collector;
pub mod contract;
mod databases;
pub mod device;
pub mod examples;
mod gate;
mod mails;
mod process;
mod raw;
mod reader;
mod receiver;
mod replicated;
mod signer;
mod sink;
mod sql;
mod statements;
mod world;

pub use actors::{Api, Reply};
pub use auditor::{Auditor, unguarded};
pub use authority::Authority;
pub use backup::Backup;
#[cfg(feature = "otlp")]
pub use collector::{Collector, Recorded};
pub use databases::{DURABLE, Database, MASTER_KEY, ROLE, binaries, create_admin, grant};
pub use gate::{Gate, Moment};
pub use macro_rules_attribute::apply;
pub use mails::{Mails, generation_of, link_of, token_of};
pub use process::{Process, command};
pub use raw::Raw;
pub use reader::{Reader, blocks};
pub use receiver::{Message, Receiver};
pub use replicated::Replicated;
pub use signer::Signer;
pub use sink::{Sink, Taking};
pub use sql::Sql;
pub use statements::Statements;
pub use world::{PORTAL_SCOPES, SecondCopy, Settings, World, code_of, folder, for_a_service};

/// Makes two tests of a story, `name::sqlite` and `name::postgres`:
///
/// ```ignore
/// #[apply(on_both_databases)]
/// #[settings(Settings::manual_clock())]
/// async fn a_session_ends_to_the_microsecond(world: &World) {
/// ```
///
/// `#[settings(…)]` may be left out. It stands right behind `#[apply]`; the test's other attributes follow it.
macro_rules! on_both_databases {
    (#[settings($settings:expr)] $(#[$meta:meta])* async fn $name:ident($world:ident: $of:ty) $story:block) => {
        fn $name(database: $crate::support::Database) {
            async fn story($world: $of) $story

            $crate::support::World::run(database, &$settings, story);
        }

        mod $name {
            #[test]
            $(#[$meta])*
            fn sqlite() {
                super::$name($crate::support::Database::Sqlite);
            }

            #[test]
            $(#[$meta])*
            fn postgres() {
                super::$name($crate::support::Database::Postgres);
            }
        }
    };
    ($(#[$meta:meta])* async fn $name:ident($world:ident: $of:ty) $story:block) => {
        $crate::support::on_both_databases! {
            #[settings($crate::support::Settings::default())]
            $(#[$meta])*
            async fn $name($world: $of) $story
        }
    };
}

pub(crate) use on_both_databases;

/// How often a race is run: a few times in `make check`, `RACE_ROUNDS` times in `make soak`.
pub fn rounds(usual: usize) -> usize {
    std::env::var("RACE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Waits until `ready` gives something, for at most a minute.
pub async fn eventually<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(value) = ready().await {
            return value;
        }
        assert!(started.elapsed() < std::time::Duration::from_mins(1), "waited in vain: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// A moment as both databases keep it.
pub fn stored(at: magic_link::clock::Timestamp) -> String {
    at.to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

/// Waits until the provider's answer to a link's mail is on record: what the link says no longer moves by itself.
pub async fn mailed(caller: &Api, link: &str) {
    let path = format!("/v1/magic-links/{link}");
    eventually("its mail is on record", async || {
        (caller.get(&path).await.ok()["delivery"]["state"] == "accepted").then_some(())
    })
    .await;
}

/// From now on no mail of those that wait leaves, and none is on its way: what was tried is not taken for told.
pub async fn hold_mails(world: &World) {
    let mut sql = Sql::of(world);
    // Longer than any test takes, and no longer than a mail may be put off.
    let later = stored(world.clock.now().plus(time::Duration::HOUR));
    let hold =
        format!("UPDATE mail_jobs SET next_attempt_at = '{later}' WHERE finished_at IS NULL AND lease_until IS NULL");
    let due = format!(
        "FROM mail_jobs WHERE finished_at IS NULL AND (lease_until IS NOT NULL OR next_attempt_at < '{later}')"
    );
    eventually("nothing is on its way", async || {
        sql.run(&hold).expect("rows of the service");
        (sql.count(&due) == 0).then_some(())
    })
    .await;
    // What the worker had read before that is claimed in vain.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

/// What waited is due.
pub fn release_mails(world: &World) {
    let release = "UPDATE mail_jobs SET next_attempt_at = '2026-01-01 00:00:00' WHERE finished_at IS NULL";
    Sql::of(world).run(release).expect("rows of the service");
}

/// Waits until no mail that a client may see is due or on its way.
pub async fn mails_have_left(client: &Api) {
    eventually("every mail has left", async || {
        let all = client.get("/v1/mail-deliveries?page_size=200").await.ok();
        let mut all = all["items"].as_array().expect("a page").iter();
        all.all(|one| one["state"] != "queued" && one["state"] != "sending").then_some(())
    })
    .await;
}
