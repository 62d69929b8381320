//! The service as a process of its own, that can be killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{MASTER_KEY, World};

/// A running `magic-link serve`.
pub struct Process {
    child: Child,
    pub base: String,
    /// Where it shows its metrics, if it was told to.
    pub metrics: String,
}

impl Process {
    /// Starts a copy of the service over the world's database and mail server.
    pub fn start(world: &World) -> Self {
        Self::start_with(world, &[], Stdio::inherit())
    }

    /// The same with more in its environment, and its log where the test wants it.
    pub fn start_with(world: &World, environment: &[(&str, &str)], log: Stdio) -> Self {
        let mut command = command(world);
        command.envs(environment.iter().copied()).stderr(log).args(["serve", "--json"]);
        Self::spawn(command)
    }

    /// The same, where no file can grow beyond a size, as on a disk that is full.
    pub fn start_cramped(world: &World, environment: &[(&str, &str)], file_kib: usize) -> Self {
        // Without the signal that would end it, the process hears of it as an error.
        Self::start_limited(world, environment, &format!("trap '' XFSZ; ulimit -f {}", file_kib * 2))
    }

    /// The same, after a script of the shell has set its limits.
    pub fn start_limited(world: &World, environment: &[(&str, &str)], limits: &str) -> Self {
        let whole = command(world);
        let script = format!("{limits}; exec \"$0\" serve --json");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(whole.get_program());
        command.envs(whole.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(environment.iter().copied()).current_dir(whole.get_current_dir().expect("a folder"));
        Self::spawn(command)
    }

    /// The same of a command that says all of it.
    pub fn of(command: Command) -> Self {
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the service starts");
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the service tells its port");
        let started: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        let at = |port: &str| format!("http://127.0.0.1:{}", started[port]);
        Self { child, base: at("port"), metrics: at("metrics_port") }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`
    pub fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process is gone");
    }

    /// The most memory that it has had so far, where the system tells (Linux does).
    pub fn peak_memory_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// Sends SIGTERM, as every supervisor does.
    pub fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// Sends SIGHUP.
    pub fn ask_to_read_again(&self) {
        self.signal("HUP");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for it to end by itself.
    pub async fn stopped(mut self) -> ExitStatus {
        super::eventually("the process ends", async || self.child.try_wait().expect("a child")).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The command line over the world's database and mail server.
pub fn command(world: &World) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
    command
        .env("MAGIC_LINK_LISTEN", "127.0.0.1:0")
        .env("MAGIC_LINK_PUBLIC_URL", "http://127.0.0.1:8080")
        .env("MAGIC_LINK_DATABASE_URL", super::for_a_service(&world.database_url))
        .env("MAGIC_LINK_DATABASE_CONNECTIONS", "8")
        .env("MAGIC_LINK_MASTER_KEY", MASTER_KEY)
        .env("MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE", "100000")
        .env("MAGIC_LINK_LIMITS__MAILS_PER_CLIENT_MINUTE", "100000")
        .env("MAGIC_LINK_LIMITS__MAILS_PER_TENANT_DAY", "100000")
        .env("MAGIC_LINK_LIMITS__MAILS_PER_RECIPIENT_HOUR", "100000")
        .env("MAGIC_LINK_LIMITS__FRESH_LINKS_PER_RECIPIENT_HOUR", "10000")
        .env("MAGIC_LINK_MAIL__PROVIDER", "mailpit")
        .env("MAGIC_LINK_MAIL__MAILPIT_URL", world.mails.url())
        .env("MAGIC_LINK_LOG__LEVEL", "warn")
        .current_dir(super::world::folder("process"));
    command
}
