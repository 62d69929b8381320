//! `magic-link sandbox`: a service for tests.

use clap::Subcommand;

use super::Failure;
use super::output::Output;
use crate::app::open_store;
use crate::clock::Clock;
use crate::config::Config;
use crate::sandbox;

#[derive(Subcommand)]
pub(super) enum SandboxCommand {
    /// Make an empty database that of a sandbox, for ever: only a service with `sandbox = true` runs on it
    ///
    /// There a client with the scope `admin` moves the clock forward by `POST /v1/sandbox/clock`. On PostgreSQL it is for
    /// the role that migrates. To repeat it is safe.
    Init,
}

pub(super) async fn run(config: &Config, command: SandboxCommand, output: &Output) -> Result<(), Failure> {
    let SandboxCommand::Init = command;
    let (store, ..) = open_store(config)?;
    let Some(done) = sandbox::init(&store, Clock::System.now()).await? else {
        return Err("this database is not empty, and becomes no sandbox's: name another one in `database_url`".into());
    };
    output.done(&done, "a sandbox's database: set `sandbox = true`, and start the service")
}
