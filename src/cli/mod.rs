//! The command line: serve, migrate, and first set-up without an API key.
//!
//! Every command uses the same verbs as the API, and with `--json` prints the same
//! object as the API's response. Exit codes: 0 done, 1 refused or failed, 2 wrong
//! usage.

mod audit;
mod client;
mod config;
mod conformance;
mod consultant;
mod demo;
mod healthcheck;
mod key;
mod link;
mod mail;
mod maintain;
mod migrate;
mod output;
#[cfg(feature = "package")]
mod package;
mod place;
mod restore;
mod sandbox;
mod session;
mod webhook;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use audit::AuditCommand;
use clap::{Args, Parser, Subcommand};
use output::{Failure, Output};

use crate::api::openapi;
use crate::app::{self, App, StartError};
use crate::audit::{CheckpointFolder, require_whole};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::Context;
use crate::db;
use crate::domain::Paging;
use crate::http::Caller;
use crate::links;
use crate::secrets::{MasterKey, MasterKeySource};
use crate::serve::{Service, survive_hangups};
use crate::telemetry::{self, LogLevel};

/// Temporary, recorded support access to HR portals.
#[derive(Parser)]
#[command(name = "magic-link", version, propagate_version = true)]
struct Cli {
    /// Configuration file [default: magic-link.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object, the same as the API's response
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM
    Serve,
    /// Ask the service on this machine whether it runs; needs nothing but the `listen` of its configuration
    Healthcheck(healthcheck::Healthcheck),
    /// Apply pending database migrations, with nothing but the address of the database
    Migrate(migrate::Migrate),
    /// Erase and remove what is past its retention, as the service does by itself once an hour
    ///
    /// Where `audit.erase_in_service` is false only this does, under a role of its
    /// own. It goes in ranges, and may run beside the service and be repeated.
    Maintain(maintain::Maintain),
    /// Back the embedded database up into a file, while the service runs
    Backup(place::Backup),
    /// Copy an embedded database to an empty one on PostgreSQL, while no service runs
    Copy(place::Copy),
    /// Print the API description (OpenAPI 3.1)
    Openapi {
        /// Print the description of webhook messages instead
        #[arg(long)]
        webhooks: bool,
        /// Print it in OpenAPI 3.0.3, for tools that read nothing newer
        #[arg(long = "3.0", conflicts_with = "webhooks")]
        three_zero: bool,
        /// Print a collection of the calls for Postman, Bruno, Insomnia and others
        #[arg(long, conflicts_with_all = ["webhooks", "three_zero"])]
        collection: bool,
    },
    /// Add the records that the API examples use to the embedded database of a first run
    Demo,
    /// The configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// API clients and their keys
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Directory of support consultants
    #[command(subcommand)]
    Consultant(consultant::ConsultantCommand),
    /// Magic links
    #[command(subcommand)]
    Link(link::LinkCommand),
    /// Issue no links until `unfreeze`; existing links stay valid
    Freeze {
        /// Why issuing is frozen
        #[arg(long)]
        reason: String,
    },
    /// Resume issuing links
    Unfreeze,
    /// End everything that a restored backup has revived; run it before the service starts on a backup
    ///
    /// Issuing is frozen, every link, session and signing key ends, queued mails
    /// and webhook messages are cancelled, and every client and consultant waits
    /// for `client confirm` and `consultant confirm`. To repeat it is safe.
    Restore(restore::Restore),
    /// Services for tests, whose clock can be moved forward
    #[command(subcommand)]
    Sandbox(sandbox::SandboxCommand),
    /// Test a portal as its visitor, against a private service with a clock of its own
    Conformance(Box<conformance::Conformance>),
    /// Sessions at the portals
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Mail deliveries and suppressed addresses
    #[command(subcommand)]
    Mail(mail::MailCommand),
    /// Webhook endpoints and their deliveries
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Signing keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Audit log: checkpoints, exports and their offline verification
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write the manual pages and the shell completions
    #[cfg(feature = "package")]
    #[command(hide = true)]
    PackageFiles(package::PackageFiles),
}

#[derive(Args, Clone)]
struct Pages {
    /// Items per page
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    page_size: u32,
    /// `next_cursor` of the previous page
    #[arg(long, allow_hyphen_values = true)]
    cursor: Option<String>,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return without_command(&told),
    };
    let output = Output { json: cli.json };
    match run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(failure.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Help and version were asked for, or the usage is wrong: clap's code for that is 2.
fn without_command(told: &clap::Error) -> ExitCode {
    let written = told.print().and_then(|()| io::stdout().flush());
    match u8::try_from(told.exit_code()) {
        Ok(0) if written.is_err() => ExitCode::FAILURE,
        Ok(code) => ExitCode::from(code),
        Err(_none_of_clap) => ExitCode::FAILURE,
    }
}

/// Parses a tenant id: a filter by another text would find nothing, and not say why.
fn tenant_id(text: &str) -> Result<String, &'static str> {
    if crate::domain::is_tenant_id(text) {
        Ok(text.to_owned())
    } else {
        Err(
            "a tenant id has 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or a digit",
        )
    }
}

fn run(mut cli: Cli, output: &Output) -> Result<(), Failure> {
    if let Command::Openapi { webhooks, three_zero, collection } = cli.command {
        let description = if collection {
            serde_json::to_string_pretty(&openapi::collection(&openapi::description()?))?
        } else if webhooks {
            serde_json::to_string_pretty(&openapi::webhooks()?)?
        } else if three_zero {
            serde_json::to_string_pretty(&openapi::description_3_0(&openapi::description()?))?
        } else {
            serde_json::to_string_pretty(&openapi::description()?)?
        };
        return Ok(output::line(&description)?);
    }
    if let Command::Audit(command) = cli.command {
        // Offline: an auditor has neither the configuration nor the store.
        let Some(command) = audit::offline(command, output)? else { return Ok(()) };
        cli.command = Command::Audit(command);
    }
    #[cfg(feature = "package")]
    if let Command::PackageFiles(command) = &cli.command {
        return package::write(command, <Cli as clap::CommandFactory>::command());
    }
    if let Command::Healthcheck(command) = cli.command {
        return healthcheck::run(Config::load_listen(cli.config.as_deref())?, &command, output);
    }
    // What they need is the address of the database.
    let settings = || Config::load_for_migrating(cli.config.as_deref());
    match &cli.command {
        Command::Migrate(command) => return migrate::run(&settings()?, command, output),
        Command::Backup(command) => return place::back_up(&settings()?, command, output),
        Command::Copy(command) => return place::copy(&settings()?, command, output),
        _ => {}
    }
    if let Command::Config(config::ConfigCommand::Check) = cli.command {
        return config::check(&Config::load(cli.config.as_deref())?, output);
    }
    if let Command::Conformance(command) = cli.command {
        return conformance::start(*command, output);
    }
    let mut config = if opens_keys(&cli.command) {
        Config::load(cli.config.as_deref())?
    } else {
        Config::load_without_master_key(cli.config.as_deref())?
    };
    if !matches!(cli.command, Command::Serve) {
        // A command's result is its output; only warnings and errors are logged.
        config.log.level = "warn".into();
        config.database_connections = 4;
        config.traces.endpoint = None;
    }
    let log_level = telemetry::init(&config.log);
    let _log = log_level.clone();
    if !makes_a_database(&cli.command) {
        db::require_made(&config.database_url)?;
    }
    let system = actix_web::rt::System::new();
    let outcome = system.block_on(async move {
        match cli.command {
            Command::Serve => Box::pin(serve(config, log_level, output)).await,
            Command::Sandbox(command) => sandbox::run(&config, command, output).await,
            Command::Audit(command) => {
                audit::run(Box::pin(App::open(config, Clock::System)).await?, command, output).await
            }
            Command::Key(key::KeyCommand::Rewrap { new_master_key_file }) => {
                let old = MasterKey::load(&config.master_key.clone().existing())?;
                let new = MasterKey::load(&MasterKeySource::File(new_master_key_file))?;
                // Neither is opened with: the store says which of them it is sealed under.
                Box::pin(key::rewrap(&app::open_context(config, Clock::System, None).await?, old, new, output)).await
            }
            // It makes the next key if it can, and does without where the master key is lost.
            command @ Command::Key(key::KeyCommand::Revoke { .. }) => {
                let keys = MasterKey::load(&config.master_key.clone().existing()).ok();
                let opened = match app::open_context(config.clone(), Clock::System, keys).await {
                    Err(StartError::Keys(_)) => app::open_context(config, Clock::System, None).await,
                    opened => opened,
                };
                command_on(&opened?, command, output).await
            }
            Command::Restore(command) => {
                // Whoever opens it writes to it.
                db::require_sound(&config.database_url)?;
                restore::run(&Box::pin(App::open(config, Clock::System)).await?, command, output).await
            }
            command => {
                let keys = opens_keys(&command).then(|| MasterKey::load(&config.master_key)).transpose()?;
                command_on(&app::open_context(config, Clock::System, keys).await?, command, output).await
            }
        }
    });
    // Dropping it would wait for threads that the database holds; the process ends anyway.
    std::mem::forget(system);
    outcome
}

/// Whether a command needs the master key. Whatever reads, revokes or freezes does not: it is the emergency brake, and
/// must work when the master key is lost.
const fn opens_keys(command: &Command) -> bool {
    match command {
        Command::Serve | Command::Audit(_) | Command::Restore(_) | Command::Demo => true,
        Command::Key(command) => command.opens_keys(),
        _ => false,
    }
}

/// Whether a command makes the database where there is none: those of a first set-up.
const fn makes_a_database(command: &Command) -> bool {
    matches!(
        command,
        Command::Serve
            | Command::Demo
            | Command::Sandbox(_)
            | Command::Client(client::ClientCommand::Create { .. })
            | Command::Consultant(consultant::ConsultantCommand::Add { .. })
    )
}

async fn serve(config: Config, log_level: LogLevel, output: &Output) -> Result<(), Failure> {
    survive_hangups()?;
    let public_url = config.public_url.clone();
    let service = Service::build(config, Clock::System).await?.with_log_level(log_level);
    let (port, metrics_port) = (service.port()?, service.metrics_port()?);
    let started = if output.json {
        let mut started = serde_json::json!({ "port": port, "public_url": public_url });
        if let (Some(port), Some(started)) = (metrics_port, started.as_object_mut()) {
            started.insert("metrics_port".to_owned(), port.into());
        }
        started.to_string()
    } else {
        format!("magic-link listens on port {port}; links lead to {public_url}")
    };
    // It serves, whether or not anybody can read that it does.
    if let Err(error) = output::line(&started) {
        tracing::warn!(error.cause = %error, "standard output cannot be written");
    }
    Ok(service.run().await?)
}

/// Whether a command sends again what the database has on record, which one that was restored must not. What only ends or
/// stops something goes on: it is the emergency brake. Erasures and signatures ask by themselves.
const fn sends(command: &Command) -> bool {
    matches!(
        command,
        Command::Mail(mail::MailCommand::Retry { .. } | mail::MailCommand::Clear { .. })
            | Command::Webhook(webhook::WebhookCommand::Retry { .. })
    )
}

async fn command_on(cx: &Context, command: Command, output: &Output) -> Result<(), Failure> {
    if sends(&command) {
        require_whole(cx, &CheckpointFolder::open(cx).await?).await?;
    }
    match command {
        Command::Demo => output.done(&demo::seed(cx).await?, "the examples' consultant"),
        Command::Client(command) => client::run(cx, command, output).await,
        Command::Consultant(command) => consultant::run(cx, command, output).await,
        Command::Link(command) => link::run(cx, command, output).await,
        Command::Freeze { reason } => {
            let request = links::SetIssuing { frozen: true, reason: Some(reason) };
            let issuing = links::set_issuing(cx, &Caller::operator(), request, cx.clock.now()).await?;
            output.done(&issuing, "issuing is frozen")
        }
        Command::Unfreeze => {
            let request = links::SetIssuing { frozen: false, reason: None };
            let issuing = links::set_issuing(cx, &Caller::operator(), request, cx.clock.now()).await?;
            output.done(&issuing, "issuing goes on")
        }
        Command::Maintain(order) => maintain::run(cx, &CheckpointFolder::open(cx).await?, &order, output).await,
        Command::Session(command) => session::run(cx, command, output).await,
        Command::Mail(command) => mail::run(cx, command, output).await,
        Command::Webhook(command) => webhook::run(cx, command, output).await,
        Command::Key(command) => key::run(cx, command, output).await,
        Command::Serve
        | Command::Healthcheck(_)
        | Command::Migrate(_)
        | Command::Backup(_)
        | Command::Copy(_)
        | Command::Config(_)
        | Command::Conformance(_)
        | Command::Openapi { .. }
        | Command::Audit(_)
        | Command::Restore(_)
        | Command::Sandbox(_) => Ok(()),
        #[cfg(feature = "package")]
        Command::PackageFiles(_) => Ok(()),
    }
}

impl Pages {
    fn paging(self) -> Paging {
        Paging { page_size: Some(self.page_size), cursor: self.cursor }
    }
}
