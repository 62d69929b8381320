//! `magic-link client`

use clap::Subcommand;

use super::output::{Column, Failure, Output};
use super::{Pages, restore};
use crate::clients::{self, CreateClient, DisableClient, RotateClient};
use crate::context::Context;
use crate::domain::Scope;
use crate::http::Caller;
use crate::id::ClientId;
use crate::revocations;

#[derive(Subcommand)]
pub(super) enum ClientCommand {
    /// Create a client and show its API key, once
    Create {
        /// Client name for operators
        #[arg(long)]
        name: String,
        /// Portal the client is bound to; every portal by default
        #[arg(long)]
        portal: Option<String>,
        /// Tenant the client acts for, or `*` for every tenant; may be repeated
        #[arg(long = "tenant", required = true)]
        tenants: Vec<String>,
        /// Scope of the client; may be repeated
        #[arg(long = "scope", required = true)]
        scopes: Vec<Scope>,
    },
    /// List clients
    List(Pages),
    /// Give a client a new API key and show it, once
    Rotate {
        /// Client id
        id: ClientId,
        /// Seconds during which the old key stays valid
        #[arg(long, default_value_t = 0)]
        overlap_seconds: i64,
    },
    /// Disable a client permanently
    Disable {
        /// Client id
        id: ClientId,
        /// Also revoke every link that the client issued, in the same transaction
        #[arg(long)]
        revoke_links: bool,
    },
    /// Enable clients that a restore has disabled; without ids, list them
    Confirm(restore::Confirm<ClientId>),
}

pub(super) async fn run(cx: &Context, command: ClientCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] =
        &[("ID", "/id"), ("STATE", "/state"), ("PORTAL", "/portal"), ("TENANTS", "/tenants"), ("NAME", "/name")];
    let (caller, now) = (Caller::operator(), cx.clock.now());
    match command {
        ClientCommand::Create { name, portal, tenants, scopes } => {
            let request = CreateClient { name, portal, tenants, scopes };
            let (client, _) = clients::create(cx, &caller, request, None, now).await?;
            output.secret(&client, "The key is shown this once; keep it where secrets are kept.")
        }
        ClientCommand::List(pages) => {
            let page = pages.paging().open(cx.tokens.master_key(), "clients")?;
            output.table(&clients::list(cx, &caller, page).await?, COLUMNS)
        }
        ClientCommand::Rotate { id, overlap_seconds } => {
            let client = clients::rotate(cx, &caller, id, &RotateClient { overlap_seconds }, now).await?;
            output.secret(&client, "The key is shown this once; keep it where secrets are kept.")
        }
        ClientCommand::Disable { id, revoke_links } => {
            let client = clients::disable(cx, &caller, id, DisableClient { revoke_links }).await?;
            revocations::finish_pending(cx).await?;
            output.done(&client, "disabled")
        }
        ClientCommand::Confirm(confirm) => restore::confirm_clients(cx, confirm, output).await,
    }
}
