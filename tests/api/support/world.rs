//! A service of one's own, in this process, with a clock that the test can turn.

use std::sync::mpsc;
use std::thread::JoinHandle;

use magic_link::clock::Clock;
use magic_link::config::Config;
use magic_link::serve::Service;
use serde_json::{Value, json};
use time::Duration;
use tokio::sync::oneshot;

use super::databases::{Copy, ROLE, scratch};
use super::{Api, Database, MASTER_KEY, Mails, Sql};

/// What the back end of a portal may do.
pub const PORTAL_SCOPES: &[&str] = &[
    "links:issue",
    "links:read",
    "links:revoke",
    "sessions:redeem",
    "sessions:introspect",
    "audit:write",
    "audit:read",
    "consultants:read",
    "tenants:read",
    "webhooks:manage",
];

/// What differs from the usual test service.
#[derive(Default, Clone)]
pub struct Settings {
    /// Lines of the configuration file, before its first table.
    pub config: String,
    /// Tables of the configuration file, after its last line.
    pub tables: String,
    /// Whether the clock stands still until the test moves it.
    pub manual_clock: bool,
    /// By how much that clock starts behind.
    pub clock_behind: Duration,
    /// Whether the test starts every copy of the service itself.
    pub no_service: bool,
}

impl Settings {
    /// With these lines in the configuration file.
    pub fn config(text: &str) -> Self {
        Self { config: text.to_owned(), ..Self::default() }
    }

    /// With a clock that the test moves.
    pub fn manual_clock() -> Self {
        Self { manual_clock: true, ..Self::default() }
    }

    /// With a sandbox's database, whose clock the test moves through the API.
    pub fn sandbox() -> Self {
        Self::config("sandbox = true")
    }

    /// With a database and a mail server only: the test starts [`super::Process`]es.
    pub fn no_service() -> Self {
        Self { no_service: true, ..Self::default() }
    }
}

/// A running service, its database and its mail server.
pub struct World {
    pub database: Database,
    /// The database's address, for what a test asks of it directly, and for other processes.
    pub database_url: String,
    pub base: String,
    pub clock: Clock,
    pub mails: Mails,
    /// A client with every scope and every tenant.
    pub admin: Api,
    service: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    // Dropped last: the service must have let go of it.
    _copy: Copy,
}

impl World {
    /// Runs a story in a world of its own. Skips where there is no PostgreSQL and nobody insists.
    pub fn run(database: Database, settings: &Settings, story: impl AsyncFnOnce(&Self)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let Some(mut world) = Self::start(database, settings).await else { return };
            story(&world).await;
            world.stop();
        });
    }

    async fn start(database: Database, settings: &Settings) -> Option<Self> {
        super::statements::tell();
        let (copy, admin_key) = database.copy()?;
        if settings.config.contains("sandbox = true") {
            // It holds an administrator already, and `magic-link sandbox init` is for empty ones.
            Sql::open(&copy.url).run("UPDATE service_state SET sandbox_moved_micros = 0").expect("a sandbox's");
        }
        let mails = Mails::start().await;
        let clock = if settings.manual_clock {
            Clock::manual(Clock::System.now().minus(settings.clock_behind))
        } else {
            Clock::System
        };
        let config = config(&for_a_service(&copy.url), &mails.url(), settings);
        let (port, service) = if settings.no_service {
            (0, None)
        } else {
            let (port, service) = serve(config, clock.clone());
            (port, Some(service))
        };
        let base = format!("http://127.0.0.1:{port}");
        Some(Self {
            database,
            database_url: copy.url.clone(),
            admin: Api::new(&base, Some(admin_key)),
            base,
            clock,
            mails,
            service,
            _copy: copy,
        })
    }

    /// Stops the service and waits until it has let go of everything.
    fn stop(&mut self) {
        if let Some((stop, thread)) = self.service.take() {
            // Where the service has stopped by itself there is nobody to tell.
            let _gone = stop.send(());
            thread.join().expect("the service stops without a panic");
        }
    }

    /// Somebody without a key: a browser, or a stranger.
    pub fn stranger(&self) -> Api {
        Api::new(&self.base, None)
    }

    /// A client that was created for the test.
    pub async fn client(&self, portal: Option<&str>, tenants: &[&str], scopes: &[&str]) -> Api {
        let mut request = json!({ "name": "Test client", "tenants": tenants, "scopes": scopes });
        if let Some(portal) = portal {
            request["portal"] = portal.into();
        }
        if scopes.contains(&"policies:write") {
            request["combined_scopes"] = json!(["policies:write"]);
        }
        let client = self.admin.post("/v1/clients", &request).await.ok();
        Api::new(&self.base, Some(client["key"].as_str().expect("a key")))
    }

    /// The back end of one tenant's portal.
    pub async fn portal(&self, portal: &str, tenant: &str) -> Api {
        self.client(Some(portal), &[tenant], PORTAL_SCOPES).await
    }

    /// A registered consultant.
    pub async fn consultant(&self) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let request = json!({ "name": "Ravi Kumar", "email": format!("ravi.{number}@support.example") });
        let consultant = self.admin.post("/v1/consultants", &request).await.ok();
        consultant["id"].as_str().expect("an id").to_owned()
    }

    /// The token in the newest of `count` mails about a link.
    pub async fn token(&self, link_id: &str, count: usize) -> String {
        self.mails.token(link_id, count).await
    }

    /// The consultant presses the button: the code that the portal's callback gets.
    pub async fn click(&self, token: &str) -> String {
        code_of(&self.stranger().post("/l/continue", &json!({ "token": token })).await.ok())
    }

    /// Issues a link and opens a session with it.
    pub async fn open_session(&self, portal: &Api) -> Value {
        let link = portal.issue(&self.consultant().await).await;
        let code = self.click(&self.token(&link, 1).await).await;
        portal.redeem(&code).await.ok()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A further copy of the service on the world's database and mail server, with a clock of its own.
pub struct SecondCopy {
    pub base: String,
    service: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl SecondCopy {
    pub fn start(world: &World, clock: Clock) -> Self {
        Self::start_with(world, clock, &Settings::default())
    }

    pub fn start_with(world: &World, clock: Clock, settings: &Settings) -> Self {
        let (port, service) = serve(config(&for_a_service(&world.database_url), &world.mails.url(), settings), clock);
        Self { base: format!("http://127.0.0.1:{port}"), service: Some(service) }
    }
}

impl Drop for SecondCopy {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.service.take() {
            let _gone = stop.send(());
            thread.join().expect("the copy stops without a panic");
        }
    }
}

/// The code in the answer to a press of the button.
pub fn code_of(answer: &Value) -> String {
    let address = answer["redirect_url"].as_str().expect("an address");
    address.split_once("code=").expect("a code").1.to_owned()
}

/// The configuration of a test service.
fn config(database_url: &str, mailpit_url: &str, settings: &Settings) -> Config {
    let Settings { config: more, tables, .. } = settings;
    // Tests issue more in a second than people do in a day; those about the limits set their own.
    let own = [
        "mails_per_client_minute",
        "mails_per_tenant_day",
        "mails_per_recipient_hour",
        "fresh_links_per_recipient_hour",
    ];
    let own = own.iter().filter(|key| !more.contains(**key)).map(|key| format!("limits.{key} = 10000"));
    let limits = own.collect::<Vec<_>>().join("\n");
    let text = format!(
        "{more}\n{limits}\n\nlisten = '127.0.0.1:0'\npublic_url = 'http://127.0.0.1:8080'\ndatabase_url = '{database_url}'\n\
         database_connections = 8\nmaster_key = '{MASTER_KEY}'\nlimits.public_per_minute = 100000\n\
         mail.provider = 'mailpit'\nmail.mailpit_url = '{mailpit_url}'\nlog.level = 'warn'\n{tables}\n"
    );
    Config::from_toml(&text).expect("the configuration is right")
}

/// Serves on a thread of its own.
fn serve(config: Config, clock: Clock) -> (u16, (oneshot::Sender<()>, JoinHandle<()>)) {
    let (stop, stopped) = oneshot::channel();
    let (tell_port, port) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let service = Service::build(config, clock).await.expect("the service starts");
            tell_port.send(service.port().expect("a port")).expect("the test waits for it");
            let stopped = async { drop(stopped.await) };
            service.run_until(stopped).await.expect("the service runs");
        });
    });
    (port.recv().expect("the service tells its port"), (stop, thread))
}

/// A folder for the files of another process.
pub fn folder(name: &str) -> std::path::PathBuf {
    scratch(name)
}

/// The address of a database for a service.
pub fn for_a_service(url: &str) -> String {
    url.replace("postgres://postgres@", &format!("postgres://{ROLE}@"))
}
