//! `magic-link key`: the life cycle of the keys that sign tokens.

use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;
use super::output::{Column, Output, many};
use crate::context::Context;
use crate::http::Caller;
use crate::secrets::MasterKey;
use crate::signing_keys::{self, RevokeKey, RotateKey};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Publish a new signing key; it becomes active 24 hours later
    Rotate {
        /// Activate it a minute later, for portals that reload the JWK set on an unknown key id
        #[arg(long)]
        now: bool,
    },
    /// Stop signing with a key; tokens it signed stay valid
    Retire {
        /// Key id (JWK `kid`)
        // One key id of 64 begins with a dash.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
    /// Revoke a key that may be compromised, and every token it signed
    #[command(alias = "drop")]
    Revoke {
        /// Key id (JWK `kid`)
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Why the key is revoked
        #[arg(long)]
        reason: String,
        /// Keep the links, and mail a fresh one for each to the registered address
        #[arg(long)]
        fresh_links: bool,
    },
    /// Seal every secret under a new master key; restart every copy of the service with it afterwards
    Rewrap {
        /// File with the new master key: base64 of 32 random bytes. The old one is that of the configuration
        #[arg(long, value_name = "FILE")]
        new_master_key_file: PathBuf,
    },
    /// List signing keys
    List,
}

impl KeyCommand {
    /// Whether it needs the master key.
    pub(super) const fn opens_keys(&self) -> bool {
        matches!(self, Self::Rotate { .. } | Self::Rewrap { .. })
    }
}

/// Changes the master key.
pub(super) async fn rewrap(cx: &Context, old: MasterKey, new: MasterKey, output: &Output) -> Result<(), Failure> {
    let done = signing_keys::rewrap(cx, &Caller::operator(), old, new, cx.clock.now()).await?;
    let said = if done.changed {
        "everything is sealed under the new master key: put it into the configuration, and restart every copy"
    } else {
        "everything is sealed under that master key already"
    };
    output.done(&done, said)
}

pub(super) async fn run(cx: &Context, command: KeyCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] =
        &[("KID", "/kid"), ("STATE", "/state"), ("ACTIVE FROM", "/active_from"), ("EXPIRES AT", "/expires_at")];
    let (caller, now) = (Caller::operator(), cx.clock.now());
    match command {
        KeyCommand::Rotate { now: at_once } => {
            let key = signing_keys::rotate(cx, &caller, &RotateKey { at_once }, None, now).await?;
            output.done(&key, "published")
        }
        KeyCommand::Retire { kid } => output.done(&signing_keys::retire(cx, &caller, kid, now).await?, "retired"),
        KeyCommand::Revoke { kid, reason, fresh_links } => {
            let request = RevokeKey { reason, fresh_links };
            let revoked = signing_keys::revoke_key(cx, &caller, kid, request, now).await?;
            let done = signing_keys::finish(cx, revoked).await?;
            let (links, sessions) = (many(done.revoked_links, "link"), many(done.ended_sessions, "session"));
            output.done(&done, &format!("revoked ({links}, {sessions}, {})", many(done.renewed_links, "fresh link")))
        }
        // It has no context with keys.
        KeyCommand::Rewrap { .. } => Ok(()),
        KeyCommand::List => output.table(&signing_keys::list(cx, &caller, now).await?, COLUMNS),
    }
}
