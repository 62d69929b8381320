//! A database for every test: a copy of a migrated one that holds an administrator.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use magic_link::domain::Scope;

/// Base64 of 32 bytes; every test service uses it.
pub const MASTER_KEY: &str = "dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgISE=";

/// The role that every service of a test runs as on PostgreSQL: it has what `magic-link migrate --grant-to` gives.
pub const ROLE: &str = "magic_link_run";

/// Whether PostgreSQL syncs its commits: tests need no such thing, measurements do.
pub static DURABLE: AtomicBool = AtomicBool::new(false);

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// A database of one's own; it is gone when this is dropped.
pub struct Copy {
    pub url: String,
    folder: Option<PathBuf>,
    name: Option<String>,
}

impl Database {
    /// A fresh copy, and the administrator's key; `None` where there is no PostgreSQL and nobody insists.
    pub fn copy(self) -> Option<(Copy, &'static str)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        match self {
            Self::Sqlite => {
                let template = sqlite_template();
                let folder = scratch(&format!("test-{number}"));
                let file = folder.join("magic-link.db");
                std::fs::copy(&template.0, &file).expect("the template can be copied");
                let url = format!("sqlite://{}", file.display());
                Some((Copy { url, folder: Some(folder), name: None }, &template.1))
            }
            Self::Postgres => {
                let server = POSTGRES.as_ref()?;
                let name = format!("test_{number}");
                server.execute(&format!("CREATE DATABASE {name} TEMPLATE template_ml STRATEGY FILE_COPY"));
                Some((Copy { url: server.url(&name), folder: None, name: Some(name) }, &server.admin_key))
            }
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            drop(std::fs::remove_dir_all(folder));
        }
        if let Some(name) = &self.name
            && let Some(server) = POSTGRES.as_ref()
        {
            server.execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// A folder for this run of the tests, which no run before it has used: process ids come again.
pub fn scratch(name: &str) -> PathBuf {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = tempfile::Builder::new().prefix("api-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        root.expect("the scratch folder can be made").keep()
    });
    let folder = ROOT.join(name);
    std::fs::create_dir_all(&folder).expect("the scratch folder can be made");
    folder
}

fn sqlite_template() -> &'static (PathBuf, String) {
    static TEMPLATE: OnceLock<(PathBuf, String)> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let file = scratch("template").join("magic-link.db");
        let url = format!("sqlite://{}", file.display());
        let key = create_admin(&url);
        // The command may end before it has closed its connections, and only this file is copied.
        let mut conn = diesel::SqliteConnection::establish(&file.to_string_lossy()).expect("the file opens");
        conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").expect("the log is emptied");
        (file, key)
    })
}

/// Migrates the database and creates the first administrator, as an operator would.
pub fn create_admin(url: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
    command.args(["client", "create", "--json", "--name", "Test administrator", "--tenant", "*"]);
    for scope in Scope::ALL {
        command.args(["--scope", scope.as_str()]);
    }
    command.args(["--combined-scope", "policies:write"]);
    command.env("MAGIC_LINK_DATABASE_URL", url).env("MAGIC_LINK_MASTER_KEY", MASTER_KEY);
    command.env("MAGIC_LINK_MAIL__PROVIDER", "mailpit").current_dir(scratch("cli"));
    let output = command.output().expect("the command line runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let client: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    client["key"].as_str().expect("a key").to_owned()
}

/// Lets the role of the services into a database.
pub fn grant(url: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
    command.args(["migrate", "--grant-to", ROLE]).env("MAGIC_LINK_DATABASE_URL", url).current_dir(scratch("cli"));
    let output = command.output().expect("the command line runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A throw-away server of the installed binaries, for all tests of this process.
struct Postgres {
    folder: String,
    admin_key: String,
    control: Mutex<PgConnection>,
    /// Dropping its standard input, as the end of this process does, stops the server.
    _server: Child,
}

static POSTGRES: LazyLock<Option<Postgres>> = LazyLock::new(|| {
    let Some(binaries) = binaries() else {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
        eprintln!("skipped on PostgreSQL, which is not installed");
        return None;
    };
    Some(Postgres::start(&binaries))
});

impl Postgres {
    fn start(binaries: &Path) -> Self {
        // The server lives as long as the shell's standard input: no test run leaves one behind.
        let script = r#"
            set -eu
            PATH="$1:$PATH"
            folder=$(mktemp -d /tmp/magic-link-pg.XXXXXX)
            trap 'rm -rf "$folder"' EXIT
            initdb -D "$folder/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
            postgres -D "$folder/data" -c "fsync=$2" -k "$folder" -c listen_addresses= -c max_connections=400 \
                -c shared_buffers=64MB -c log_min_messages=fatal 2>"$folder/log" &
            server=$!
            echo "$folder"
            read -r _ || true
            kill -QUIT "$server"
            wait "$server" || true
        "#;
        let mut command = Command::new("sh");
        let fsync = if DURABLE.load(Ordering::SeqCst) { "on" } else { "off" };
        command.args(["-c", script, "sh"]).arg(binaries).arg(fsync);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/tmp");
        if let Some((uid, gid)) = unprivileged() {
            command.uid(uid).gid(gid);
        }
        let mut server = command.spawn().expect("a shell starts");
        let mut folder = String::new();
        let stdout = server.stdout.take().expect("standard output is piped");
        BufReader::new(stdout).read_line(&mut folder).expect("the server's folder is printed");
        let folder = folder.trim().to_owned();
        assert!(!folder.is_empty(), "PostgreSQL did not start");
        let url = |name: &str| format!("postgres://postgres@/{name}?host={folder}");
        let control = until_some(|| PgConnection::establish(&url("postgres")).ok());
        let mut control = control.expect("PostgreSQL answers within half a minute");
        control.batch_execute("CREATE DATABASE template_ml").expect("a database can be made");
        let admin_key = create_admin(&url("template_ml"));
        control.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN")).expect("a role can be made");
        grant(&url("template_ml"));
        Self { folder, admin_key, control: Mutex::new(control), _server: server }
    }

    fn url(&self, name: &str) -> String {
        format!("postgres://postgres@/{name}?host={}", self.folder)
    }

    fn execute(&self, statement: &str) {
        self.control.lock().expect("no test panics here").batch_execute(statement).expect(statement);
    }
}

/// Tries for half a minute.
fn until_some<T>(attempt: impl Fn() -> Option<T>) -> Option<T> {
    let started = std::time::Instant::now();
    loop {
        if let Some(value) = attempt() {
            return Some(value);
        }
        if started.elapsed() > std::time::Duration::from_secs(30) {
            return None;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

/// Where `initdb` and `postgres` are.
pub fn binaries() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// PostgreSQL refuses to run as root: the ids of `postgres` or `nobody`, where we are root.
pub fn unprivileged() -> Option<(u32, u32)> {
    let root = std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root.unwrap_or(false) {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].into_iter().find_map(|name| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
