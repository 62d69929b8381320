//! The service and the example portal as processes, on free ports, over a database of their own.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use magic_link::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::actors::Api;
use crate::browser::{Browser, Installed};
use crate::in_time::InTime;

const MASTER_KEY: &str = "dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgISE=";

const PORTAL_SCOPES: &[&str] = &[
    "links:issue",
    "links:approve",
    "links:read",
    "links:revoke",
    "sessions:redeem",
    "sessions:introspect",
    "audit:write",
    "audit:read",
    "consultants:read",
];

/// Everything a story needs; gone when it is dropped.
pub struct World {
    pub base: String,
    pub portal_base: String,
    pub consultant_id: String,
    /// The back end of the Cloud portal of every tenant.
    pub cloud: Api,
    /// The service's; only [`World::run_in_time`] lets a story move it.
    pub clock: Clock,
    service: RefCell<Option<Process>>,
    _in_time: Option<InTime>,
    _portal: Process,
    folder: TempDir,
    service_port: u16,
    portal_port: u16,
}

impl World {
    /// Runs a story in a world and a browser of its own, where there is a browser.
    pub fn run(story: impl AsyncFnOnce(&Self, &Browser)) {
        Self::run_with(&Clock::System, false, story);
    }

    /// The same, with a Cloud portal that wants a mailed code.
    pub fn run_careful(story: impl AsyncFnOnce(&Self, &Browser)) {
        Self::run_with(&Clock::System, true, story);
    }

    /// The same, with a clock that the story moves.
    pub fn run_in_time(story: impl AsyncFnOnce(&Self, &Browser)) {
        Self::run_with(&Clock::manual(Clock::System.now()), true, story);
    }

    fn run_with(clock: &Clock, careful: bool, story: impl AsyncFnOnce(&Self, &Browser)) {
        let Some(installed) = Installed::find() else {
            println!("skipped: chromium and chromedriver are not installed");
            return;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            // Somebody else may take a free port before we do.
            let world = (0..5).find_map(|_| Self::start(clock, careful)).expect("the service and the portal start");
            let browser = Browser::start(&installed, world.folder.path()).await;
            story(&world, &browser).await;
            browser.close().await;
        });
    }

    /// `None` if one of the two did not come up.
    fn start(clock: &Clock, careful: bool) -> Option<Self> {
        let template = Template::get();
        let folder = scratch("world-");
        fs::write(folder.path().join("magic-link.db"), &template.database).expect("the template can be copied");
        let (service_port, portal_port) = free_ports();
        let (base, portal_base) =
            (format!("http://127.0.0.1:{service_port}"), format!("http://127.0.0.1:{portal_port}"));
        let mut service = service(folder.path(), service_port, portal_port);
        if careful {
            service.env("MAGIC_LINK_PORTALS__CLOUD__STEP_UP", "email_code");
        }
        let (process, in_time) = if matches!(clock, Clock::System) {
            (Some(Process::start(service.args(["serve", "--json"]), folder.path())?), None)
        } else {
            let ports = (service_port, portal_port);
            (None, Some(InTime::start(folder.path(), ports, MASTER_KEY, clock.clone())?))
        };
        let mut portal = Command::new(portal_binary());
        portal
            .env("PORTAL_LISTEN", format!("127.0.0.1:{portal_port}"))
            .env("PORTAL_PUBLIC_URL", &portal_base)
            .env("PORTAL_SERVICE_URL", &base)
            .env("PORTAL_CLOUD_KEY", &template.cloud_key)
            .env("PORTAL_ESS_KEY", &template.ess_key);
        let portal = Process::start(&mut portal, folder.path())?;
        Some(Self {
            cloud: Api::new(&base, Some(&template.cloud_key)),
            base,
            portal_base,
            consultant_id: template.consultant_id.clone(),
            clock: clock.clone(),
            service: RefCell::new(process),
            _in_time: in_time,
            _portal: portal,
            folder,
            service_port,
            portal_port,
        })
    }

    /// The service is gone, as in an outage.
    pub fn stop_service(&self) {
        drop(self.service.take());
    }

    /// It comes back under its address.
    pub fn restart_service(&self) {
        let mut command = service(self.folder.path(), self.service_port, self.portal_port);
        let process = Process::start(command.args(["serve", "--json"]), self.folder.path());
        *self.service.borrow_mut() = Some(process.expect("the port is still free"));
    }

    /// Issues a link to the Cloud portal and returns its id.
    pub async fn issue(&self, tenant: &str, profile: (&str, &str)) -> String {
        let mut request = Api::issue_request(&self.consultant_id);
        request["tenant_id"] = tenant.into();
        request["profile"] = json!({ "id": profile.0, "name": profile.1 });
        self.cloud.post("/v1/magic-links", &request).await.ok()["id"].as_str().expect("an id").to_owned()
    }

    /// A link to the Cloud portal of ACME as an Asha Rao: its id and its address.
    pub async fn link(&self) -> (String, String) {
        let id = self.cloud.issue(&self.consultant_id).await;
        let address = self.mailed_address(&id, 1).await;
        (id, address)
    }

    pub async fn read(&self, link_id: &str) -> Value {
        self.cloud.get(&format!("/v1/magic-links/{link_id}")).await.ok()
    }

    /// Waits until the newest mail with a link is out: the mailbox has it a moment before.
    pub async fn mail_is_out(&self, link_id: &str) {
        let started = Instant::now();
        while self.read(link_id).await["delivery"]["state"] != "accepted" {
            assert!(started.elapsed() < Duration::from_secs(30), "the mail about {link_id} stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn revoke(&self, link_id: &str) {
        let path = format!("/v1/magic-links/{link_id}/revoke");
        self.cloud.post(&path, &json!({ "reason": "The work is done" })).await.ok();
    }

    /// The types of what is on record about a link, oldest first.
    pub async fn trail(&self, link_id: &str) -> Vec<String> {
        self.cloud.event_types(&format!("&magic_link_id={link_id}")).await
    }

    /// Waits until so many codes were mailed, and returns the newest.
    pub async fn mailed_code(&self, count: usize) -> String {
        let started = Instant::now();
        loop {
            let mails = Api::new(&self.base, None).get("/dev/mailbox.json").await.ok();
            let mails = mails.as_array().expect("a list").iter().filter(|mail| mail["template"] == "step_up_code");
            let texts: Vec<&str> = mails.filter_map(|mail| mail["text"].as_str()).collect();
            if let (true, Some(newest)) = (texts.len() >= count, texts.first()) {
                let digits = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
                return newest.lines().find(digits).expect("a code on a line of its own").to_owned();
            }
            assert!(started.elapsed() < Duration::from_secs(30), "no code number {count}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until there are `count` mails about a link, and returns the address in the newest.
    pub async fn mailed_address(&self, link_id: &str, count: usize) -> String {
        let started = Instant::now();
        loop {
            let mails = Api::new(&self.base, None).get("/dev/mailbox.json").await.ok();
            let texts = mails.as_array().expect("a list").iter().filter_map(|mail| mail["text"].as_str());
            let about: Vec<&str> = texts.filter(|text| text.contains(link_id) && text.contains("/l#")).collect();
            if let (true, Some(newest)) = (about.len() >= count, about.first()) {
                let line = newest.lines().find(|line| line.contains("/l#")).expect("the link on a line of its own");
                return line.trim().to_owned();
            }
            assert!(started.elapsed() < Duration::from_secs(30), "no mail number {count} about {link_id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Changes what is stored behind the service's back: nobody can turn the clock of a process.
    pub fn store(&self, statement: &str) {
        let url = format!("{}/magic-link.db", self.folder.path().display());
        let mut connection = SqliteConnection::establish(&url).expect("the database");
        connection.batch_execute("PRAGMA busy_timeout = 5000").expect("a setting");
        connection.batch_execute(statement).expect(statement);
    }
}

/// Two ports that are free right now.
fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (one, two) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    (port(&one), port(&two))
}

/// The service's command line over the database in a folder.
fn service(folder: &Path, port: u16, portal_port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
    command
        .env("MAGIC_LINK_LISTEN", format!("127.0.0.1:{port}"))
        .env("MAGIC_LINK_PUBLIC_URL", format!("http://127.0.0.1:{port}"))
        .env("MAGIC_LINK_DATABASE_URL", format!("sqlite://{}/magic-link.db", folder.display()))
        .env("MAGIC_LINK_DATABASE_CONNECTIONS", "4")
        .env("MAGIC_LINK_MASTER_KEY", MASTER_KEY)
        .env("MAGIC_LINK_LINKS__RESEND_COOL_DOWN_SECONDS", "0")
        .env("MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE", "100000")
        .env("MAGIC_LINK_LOG__LEVEL", "warn")
        .current_dir(folder);
    for (id, name) in [("cloud", "CLOUD"), ("ess", "ESS")] {
        let portal = format!("http://127.0.0.1:{portal_port}");
        command
            .env(format!("MAGIC_LINK_PORTALS__{name}__CALLBACK_URL"), format!("{portal}/{{tenant_id}}/{id}/callback"))
            .env(format!("MAGIC_LINK_PORTALS__{name}__AUDIENCE"), format!("{portal}/{id}"));
    }
    command
}

/// The example portal, which `make test` builds beside the service.
fn portal_binary() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_magic-link")).parent().expect("a folder");
    let file = folder.join("example-portal");
    assert!(file.is_file(), "{} is missing: cargo build --package example-portal", file.display());
    file
}

/// A database with a consultant and the portals' clients, made once at the command line.
struct Template {
    database: Vec<u8>,
    cloud_key: String,
    ess_key: String,
    consultant_id: String,
}

impl Template {
    fn get() -> &'static Self {
        static TEMPLATE: OnceLock<Template> = OnceLock::new();
        TEMPLATE.get_or_init(|| {
            let folder = scratch("template-");
            let consultant = ["consultant", "add", "--name", "Ravi Kumar", "--email", "ravi.kumar@support.example"];
            let consultant = made(folder.path(), &consultant);
            let client = |portal| {
                let mut arguments = vec!["client", "create", "--name", "HR portal", "--portal", portal];
                arguments.extend(["--tenant", "acme", "--tenant", "globex"]);
                arguments.extend(PORTAL_SCOPES.iter().flat_map(|scope| ["--scope", scope]));
                made(folder.path(), &arguments)["key"].as_str().expect("a key").to_owned()
            };
            Self {
                cloud_key: client("cloud"),
                ess_key: client("ess"),
                consultant_id: consultant["id"].as_str().expect("an id").to_owned(),
                database: fs::read(folder.path().join("magic-link.db")).expect("the database"),
            }
        })
    }
}

/// What a command made.
fn made(folder: &Path, arguments: &[&str]) -> Value {
    let output = service(folder, 8080, 8081).args(arguments).arg("--json").output().expect("the command line runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// A process that says on one line when it is ready, and is killed when this is dropped.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// `None` if it stopped instead.
    fn start(command: &mut Command, folder: &Path) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let log = folder.join(format!("{}.log", NUMBER.fetch_add(1, Ordering::SeqCst)));
        let file = File::create(&log).expect("the log can be made");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn();
        let mut process = Self { child: child.expect("the process starts"), log };
        let stdout = process.child.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        let length = BufReader::new(stdout).read_line(&mut line).expect("readable output");
        (length > 0).then_some(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A folder that is gone with the value.
fn scratch(prefix: &str) -> TempDir {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    folder.expect("the scratch folder can be made")
}
