//! The measure of PostgreSQL itself: its own load generator over the statements of an issue.

use std::process::Command;

use crate::databases::{binaries, scratch};

/// Runs `pgbench` with one script, and tells how many transactions it made a second.
pub fn run(url: &str, script: &str, callers: usize, seconds: u64) -> Option<f64> {
    let folder = url.strip_prefix("postgres://").and_then(|url| url.split_once("?host="))?.1;
    let name = url.split_once("@/")?.1.split_once('?')?.0;
    let program = binaries()?.join("pgbench");
    let file = scratch("pgbench").join("script.sql");
    std::fs::write(&file, script).ok()?;
    let mut command = Command::new(program);
    command.args(["--no-vacuum", "--username=postgres", "--protocol=prepared", "--jobs=2", "--host"]).arg(folder);
    command.arg(format!("--client={callers}")).arg(format!("--time={seconds}")).arg("--file").arg(file).arg(name);
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}
