//! The command line: serve, migrate, and first set-up without an API key.
//!
//! Every command does what the API does, through the same verbs. With `--json` it
//! prints the same object as the API's answer. Exit code 0 is done, 1 refused or
//! failed, 2 wrong usage.

mod demo;
mod mail;
mod output;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use time::Duration;

use crate::app::App;
use crate::clients::{self, CreateClient, RotateClient, Scope};
use crate::clock::Clock;
use crate::config::Config;
use crate::consultants::{self, ConsultantDecision, ConsultantFilter, RegisterConsultant};
use crate::http::{Caller, Paging};
use crate::id::{ClientId, ConsultantId, LinkId};
use crate::links::{self, LinkFilter, LinkState, RevokeLink};
use crate::telemetry;

use output::{Column, Output};

/// How long a new signing key is published before it signs: longer than portals cache the JWK set.
const PUBLISHED_BEFORE_USE: Duration = Duration::hours(24);

/// How long it takes at most until every copy of the service knows a new key.
const KNOWN_TO_COPIES: Duration = Duration::minutes(1);

/// Temporary, recorded support access to HR portals.
#[derive(Parser)]
#[command(name = "magic-link", version, propagate_version = true)]
struct Cli {
    /// The configuration file; `magic-link.toml` unless told
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object, the same as the API's answer
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM
    Serve,
    /// Bring the database up to date
    Migrate,
    /// Print the API description
    Openapi,
    /// Add what the API examples name, to the embedded database of a first run
    Demo,
    /// API callers and their keys
    #[command(subcommand)]
    Client(ClientCommand),
    /// The directory of support people
    #[command(subcommand)]
    Consultant(ConsultantCommand),
    /// Magic links
    #[command(subcommand)]
    Link(LinkCommand),
    /// Mails, and addresses that get none
    #[command(subcommand)]
    Mail(mail::MailCommand),
    /// Signing keys
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Subcommand)]
enum ClientCommand {
    /// Create a client and show its key, once
    Create {
        /// What operators call it
        #[arg(long)]
        name: String,
        /// The one portal it acts for; every portal unless told
        #[arg(long)]
        portal: Option<String>,
        /// A tenant it acts for; may be repeated; `*` is every tenant
        #[arg(long = "tenant", required = true)]
        tenants: Vec<String>,
        /// What it may do; may be repeated
        #[arg(long = "scope", required = true)]
        scopes: Vec<Scope>,
    },
    /// List clients
    List(Pages),
    /// Give a client a new key and show it, once
    Rotate {
        /// The client
        id: ClientId,
        /// Seconds that the old key lives on
        #[arg(long, default_value_t = 0)]
        overlap_seconds: i64,
    },
    /// Shut a client out for good
    Disable {
        /// The client
        id: ClientId,
    },
}

#[derive(Subcommand)]
enum ConsultantCommand {
    /// Register a consultant
    Add {
        /// Their name
        #[arg(long)]
        name: String,
        /// Where their links are mailed to
        #[arg(long)]
        email: String,
    },
    /// List consultants
    List(Pages),
    /// Suspend a consultant and revoke their links
    Suspend(Decision),
    /// Let a consultant get links again
    Reinstate(Decision),
}

#[derive(Args)]
struct Decision {
    /// The consultant
    id: ConsultantId,
    /// Why
    #[arg(long)]
    reason: String,
}

#[derive(Subcommand)]
enum LinkCommand {
    /// List links
    List {
        /// Only this tenant
        #[arg(long)]
        tenant: Option<String>,
        /// Only this consultant
        #[arg(long)]
        consultant: Option<ConsultantId>,
        /// Only links in this state
        #[arg(long)]
        state: Option<LinkState>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Revoke a link and end its sessions
    Revoke {
        /// The link
        id: LinkId,
        /// Why
        #[arg(long)]
        reason: String,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Publish a new signing key; it signs from 24 hours later on
    Rotate {
        /// Sign with it from a minute later on, for portals that read the JWK set whenever they meet an unknown key
        #[arg(long)]
        now: bool,
    },
    /// List signing keys
    List,
}

#[derive(Args, Clone)]
struct Pages {
    /// How many to show
    #[arg(long, default_value_t = 50)]
    page_size: u32,
    /// `next_cursor` of the page before
    #[arg(long)]
    cursor: Option<String>,
}

/// Why a command failed. What is printed is its message.
type Failure = Box<dyn std::error::Error>;

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    // Wrong usage prints its own help and exits with 2.
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    match run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(failure.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    if matches!(cli.command, Command::Openapi) {
        let description = crate::http::openapi::description()?.to_pretty_json()?;
        return Ok(output::line(&description)?);
    }
    let mut config = Config::load(cli.config.as_deref())?;
    if !matches!(cli.command, Command::Serve) {
        // A command speaks through its output; the log is for what goes wrong.
        config.log.level = "warn".into();
        config.database_connections = 2;
    }
    telemetry::init(&config.log);
    actix_web::rt::System::new().block_on(async move {
        match cli.command {
            Command::Serve => serve(config, output).await,
            command => command_on(&App::open(config, Clock::System).await?, command, output).await,
        }
    })
}

async fn serve(config: Config, output: &Output) -> Result<(), Failure> {
    let public_url = config.public_url.clone();
    let service = App::build(config, Clock::System).await?;
    let port = service.port()?;
    if output.json {
        output::line(&serde_json::json!({ "port": port, "public_url": public_url }).to_string())?;
    } else {
        output::line(&format!("magic-link listens on port {port}; links lead to {public_url}"))?;
    }
    Ok(service.run().await?)
}

async fn command_on(app: &App, command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        // Opening the store has migrated it.
        Command::Migrate => output.done(&serde_json::json!({ "migrated": true }), "the database is up to date"),
        Command::Demo => output.done(&demo::seed(app).await?, "the examples' consultant"),
        Command::Client(command) => client(app, command, output).await,
        Command::Consultant(command) => consultant(app, command, output).await,
        Command::Link(command) => link(app, command, output).await,
        Command::Mail(command) => mail::run(app, command, output).await,
        Command::Key(command) => key(app, command, output).await,
        Command::Serve | Command::Openapi => Ok(()),
    }
}

async fn client(app: &App, command: ClientCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] =
        &[("ID", "/id"), ("STATE", "/state"), ("PORTAL", "/portal"), ("TENANTS", "/tenants"), ("NAME", "/name")];
    let (caller, now) = (Caller::operator(), app.clock.now());
    match command {
        ClientCommand::Create { name, portal, tenants, scopes } => {
            let request = CreateClient { name, portal, tenants, scopes };
            let (client, _) = clients::create(app, &caller, request, None, now).await?;
            output.secret(&client, "The key is shown this once; keep it where secrets are kept.")
        }
        ClientCommand::List(pages) => {
            let window = pages.paging().open(app.tokens.master_key(), "clients")?;
            output.table(&clients::list(app, &caller, window).await?, COLUMNS)
        }
        ClientCommand::Rotate { id, overlap_seconds } => {
            let client = clients::rotate(app, &caller, id, &RotateClient { overlap_seconds }, now).await?;
            output.secret(&client, "The key is shown this once; keep it where secrets are kept.")
        }
        ClientCommand::Disable { id } => output.done(&clients::disable(app, &caller, id, now).await?, "disabled"),
    }
}

async fn consultant(app: &App, command: ConsultantCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[("ID", "/id"), ("STATE", "/state"), ("NAME", "/name"), ("EMAIL", "/email")];
    let (caller, now) = (Caller::operator(), app.clock.now());
    let decision = |reason| ConsultantDecision { reason, requested_by: None, acting_session_id: None };
    match command {
        ConsultantCommand::Add { name, email } => {
            let request = RegisterConsultant { name, email, requested_by: None, acting_session_id: None };
            let (consultant, _) = consultants::register(app, &caller, request, None, now).await?;
            output.done(&consultant, "registered")
        }
        ConsultantCommand::List(pages) => {
            let filter = ConsultantFilter { state: None, page_size: Some(pages.page_size), cursor: pages.cursor };
            output.table(&consultants::list(app, &Caller::operator(), filter).await?, COLUMNS)
        }
        ConsultantCommand::Suspend(Decision { id, reason }) => {
            output.done(&consultants::suspend(app, &caller, id, decision(reason), now).await?, "suspended")
        }
        ConsultantCommand::Reinstate(Decision { id, reason }) => {
            output.done(&consultants::reinstate(app, &caller, id, decision(reason), now).await?, "reinstated")
        }
    }
}

async fn link(app: &App, command: LinkCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("ID", "/id"),
        ("STATE", "/state"),
        ("TENANT", "/tenant_id"),
        ("PORTAL", "/portal"),
        ("CONSULTANT", "/consultant/name"),
        ("PROFILE", "/profile/name"),
        ("EXPIRES", "/expires_at"),
        ("MAIL", "/delivery/state"),
    ];
    let now = app.clock.now();
    match command {
        LinkCommand::List { tenant, consultant, state, pages } => {
            let filter = LinkFilter {
                tenant_id: tenant,
                consultant_id: consultant,
                state,
                page_size: Some(pages.page_size),
                cursor: pages.cursor,
                ..LinkFilter::default()
            };
            output.table(&links::list(app, &Caller::operator(), filter, now).await?, COLUMNS)
        }
        LinkCommand::Revoke { id, reason } => {
            let request = RevokeLink { reason, requested_by: None, acting_session_id: None };
            let link = links::revoke(app, &Caller::operator(), id, request, now).await?;
            output.done(&link, "ended")
        }
    }
}

async fn key(app: &App, command: KeyCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] =
        &[("KID", "/kid"), ("STATE", "/state"), ("ACTIVE FROM", "/active_from"), ("GONE AT", "/gone_at")];
    let now = app.clock.now();
    match command {
        KeyCommand::Rotate { now: at_once } => {
            let lead = if at_once { KNOWN_TO_COPIES } else { PUBLISHED_BEFORE_USE };
            output.done(&app.tokens.add_key(&app.db, now, lead, false).await?, "published")
        }
        KeyCommand::List => {
            #[derive(Serialize)]
            struct Keys {
                items: Vec<crate::tokens::SigningKey>,
            }
            output.table(&Keys { items: app.tokens.keys(now) }, COLUMNS)
        }
    }
}

impl Pages {
    fn paging(self) -> Paging {
        Paging { page_size: Some(self.page_size), cursor: self.cursor }
    }
}
