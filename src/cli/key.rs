//! `magic-link key`: the life of the keys that sign tokens.

use clap::Subcommand;

use super::Failure;
use super::output::{Column, Output};
use crate::app::App;
use crate::http::Caller;
use crate::signing_keys::{self, RevokeKey, RotateKey};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Publish a new signing key; it signs from 24 hours later on
    Rotate {
        /// Sign with it from a minute later on, for portals that read the JWK set whenever they meet an unknown key
        #[arg(long)]
        now: bool,
    },
    /// Let a key sign no more; what it signed counts on
    Retire {
        /// The key
        // One key of 64 begins with a dash.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
    /// Revoke a key that may be in the wrong hands, and what it signed
    #[command(alias = "drop")]
    Revoke {
        /// The key
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// List signing keys
    List,
}

pub(super) async fn run(app: &App, command: KeyCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] =
        &[("KID", "/kid"), ("STATE", "/state"), ("ACTIVE FROM", "/active_from"), ("GONE AT", "/expires_at")];
    let (caller, now) = (Caller::operator(), app.cx.clock.now());
    match command {
        KeyCommand::Rotate { now: at_once } => {
            let (key, _) = signing_keys::rotate(&app.cx, &caller, &RotateKey { at_once }, None, now).await?;
            output.done(&key, "published")
        }
        KeyCommand::Retire { kid } => output.done(&signing_keys::retire(&app.cx, &caller, kid, now).await?, "retired"),
        KeyCommand::Revoke { kid, reason } => {
            output.done(&signing_keys::revoke_key(&app.cx, &caller, kid, RevokeKey { reason }, now).await?, "revoked")
        }
        KeyCommand::List => output.table(&signing_keys::list(&app.cx, &caller, now).await?, COLUMNS),
    }
}
