//! `magic-link client`

use clap::Subcommand;

use super::output::{Column, Failure, Output};
use super::{Pages, restore};
use crate::clients::{self, ChangeClient, CreateClient, DisableClient, RotateClient};
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
        /// Scope that the client is to have although it is kept apart from others (`policies:write`); may be repeated
        #[arg(long = "combined-scope")]
        combined_scopes: Vec<Scope>,
    },
    /// List clients
    List(Pages),
    /// Change a client's name, portal, tenants or scopes; its key stays
    Change {
        /// Client id
        id: ClientId,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// Portal the client is bound to; an empty text for every portal
        #[arg(long)]
        portal: Option<String>,
        /// Tenant the client acts for, or `*` for every tenant, instead of the present ones; may be repeated
        #[arg(long = "tenant")]
        tenants: Option<Vec<String>>,
        /// Scope of the client, instead of the present ones; may be repeated
        #[arg(long = "scope")]
        scopes: Option<Vec<Scope>>,
        /// Scope that the client is to have although it is kept apart from others (`policies:write`); may be repeated
        #[arg(long = "combined-scope")]
        combined_scopes: Vec<Scope>,
    },
    /// Give a client a new API key and show it, once
    Rotate {
        /// Client id
        id: ClientId,
        /// Seconds during which the old key stays valid
        #[arg(long, default_value_t = 0)]
        overlap_seconds: i64,
        /// The newest key was lost before anybody had it: it ends, and the one before it stays valid as long as was told
        #[arg(long, conflicts_with = "overlap_seconds")]
        newest_lost: bool,
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
    const COLUMNS: &[Column] = &[
        ("ID", "/id"),
        ("STATE", "/state"),
        ("PORTAL", "/portal"),
        ("TENANTS", "/tenants"),
        ("LAST USED", "/last_used_at"),
        ("NAME", "/name"),
    ];
    let (caller, now) = (Caller::operator(), cx.clock.now());
    match command {
        ClientCommand::Create { name, portal, tenants, scopes, combined_scopes } => {
            let request = CreateClient { name, portal, tenants, scopes, combined_scopes };
            let client = clients::create(cx, &caller, request, None, now).await?;
            output.secret(&client, "The key is shown this once; keep it where secrets are kept.")
        }
        ClientCommand::List(pages) => {
            let page = pages.paging().open(cx.tokens.master_key(), "clients")?;
            output.table(&clients::list(cx, &caller, page).await?, COLUMNS)
        }
        ClientCommand::Change { id, name, portal, tenants, scopes, combined_scopes } => {
            let request = ChangeClient { name, portal, tenants, scopes, combined_scopes };
            output.done(&clients::change(cx, &caller, id, request, now).await?, "changed")
        }
        ClientCommand::Rotate { id, overlap_seconds, newest_lost } => {
            let overlap_seconds = (!newest_lost).then_some(overlap_seconds);
            let request = RotateClient { overlap_seconds, newest_lost };
            let client = clients::rotate(cx, &caller, id, &request, now).await?;
            output.secret(&client, "The key is shown this once; keep it where secrets are kept.")
        }
        ClientCommand::Disable { id, revoke_links } => {
            let client = clients::disable(cx, &caller, id, DisableClient { revoke_links }).await?;
            revocations::finish_pending(cx).await?;
            let order = revocations::of_act(cx, client.revocation_id.clone()).await?;
            output.counted(&client, "disabled", order.as_ref())
        }
        ClientCommand::Confirm(confirm) => restore::confirm_clients(cx, confirm, output).await,
    }
}
