//! `magic-link restore`, and the confirmation of clients and consultants after it.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::output::{Column, Output, line};
use super::{Failure, audit::read};
use crate::app::App;
use crate::audit::{KnownKeys, OutsideCheckpoint};
use crate::clients;
use crate::consultants;
use crate::context::Context;
use crate::error::Error;
use crate::http::Caller;
use crate::id::{ClientId, ConsultantId};
use crate::restore::restore;

const CLIENTS: &[Column] = &[
    ("ID", "/id"),
    ("PORTAL", "/portal"),
    ("TENANTS", "/tenants"),
    ("SCOPES", "/scopes"),
    ("CHANGED", "/changed_at"),
    ("KEY ROTATED", "/rotated_at"),
    ("NAME", "/name"),
];
const CONFIRMED_CLIENTS: &[Column] =
    &[("ID", "/id"), ("PORTAL", "/portal"), ("TENANTS", "/tenants"), ("SCOPES", "/scopes"), ("NAME", "/name")];
const APPROVAL_KEYS: &[Column] = &[("TENANT", "/tenant_id"), ("KEY", "/key_thumbprint"), ("SINCE", "/since")];
const HOLDS: &[Column] = &[("TENANT", "/tenant_id"), ("HOLD", "/id"), ("UNTIL", "/until"), ("REASON", "/reason")];
const RETENTIONS: &[Column] = &[("TENANT", "/tenant_id"), ("DAYS", "/retention_days")];
const CONSULTANTS: &[Column] = &[("ID", "/id"), ("EMAIL", "/email"), ("CHANGED", "/updated_at"), ("NAME", "/name")];

#[derive(Args)]
pub(super) struct Restore {
    /// Newest checkpoint of an audit log that was kept outside; may be repeated: for each log, and each origin that it has had
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Why; recorded for each link revoked with it
    #[arg(long, default_value = "Restored from a backup")]
    reason: String,
}

#[derive(Args)]
#[group(skip)]
pub(super) struct Confirm<Id>
where
    Id: FromStr + Clone + Send + Sync + 'static,
    Id::Err: std::error::Error + Send + Sync + 'static,
{
    /// Ids from the list of the unconfirmed
    #[arg(value_parser = Id::from_str)]
    ids: Vec<Id>,
    /// All of them, after the list was read
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

pub(super) async fn run(app: &App, command: Restore, output: &Output) -> Result<(), Failure> {
    let mut checkpoints = app.checkpoint_folder.all(&app.cx).await?;
    let keys = KnownKeys::of(&app.cx).await?;
    for path in &command.checkpoints {
        let checkpoint = OutsideCheckpoint::parse(&keys, &read(path)?);
        let added = checkpoint.and_then(|checkpoint| checkpoints.add(checkpoint));
        added.map_err(|why| format!("{}: {why}", path.display()))?;
    }
    let done = restore(&app.cx, &app.log_key, checkpoints, command.reason, app.cx.clock.now()).await?;
    let done = serde_json::to_value(&done)?;
    if output.json {
        return Ok(line(&done.to_string())?);
    }
    let number = |name: &str| done.get(name).map(ToString::to_string).unwrap_or_default();
    line(&format!(
        "restored: {} links and {} sessions ended, {} mails and {} webhook messages cancelled, {} signing keys replaced",
        number("revoked_links"),
        number("ended_sessions"),
        number("cancelled_mails"),
        number("cancelled_webhook_messages"),
        number("revoked_keys"),
    ))?;
    for log in done.get("checkpoints").and_then(|logs| logs.as_array()).into_iter().flatten() {
        let lost = log.get("events_lost").map_or_else(|| "an unknown number of".to_owned(), ToString::to_string);
        let of = |name| log.get(name).map(ToString::to_string).unwrap_or_default();
        let origin = log.get("checkpoint_origin").map(|origin| format!(", origin {origin},")).unwrap_or_default();
        line(&format!(
            "log {}: {lost} events before the checkpoint of size {}{origin} are lost",
            of("tenant_id"),
            of("checkpoint_size")
        ))?;
    }
    if done.get("approval_keys").and_then(|keys| keys.as_array()).is_some_and(|keys| !keys.is_empty()) {
        line("\nApproval keys of the backup; ask each tenant whether it is still theirs, before issuing is unfrozen:")?;
        output.table(&json!({ "items": done.get("approval_keys") }), APPROVAL_KEYS)?;
    }
    line("\nLegal holds of the backup; place those that are missing: magic-link audit hold --tenant … --reason …")?;
    output.table(&json!({ "items": done.get("legal_holds") }), HOLDS)?;
    line(&format!(
        "\nRetention periods of the backup, {} days for all others; raise what was raised since, or place a hold:",
        number("retention_days")
    ))?;
    output.table(&json!({ "items": done.get("retentions") }), RETENTIONS)?;
    line(
        "\nClients, disabled until `magic-link client confirm ID…`; before that, narrow what was narrowed since the backup \
         (`client change`), and rotate a key that may have changed since (`client rotate`):",
    )?;
    output.table(&json!({ "items": done.get("clients") }), CLIENTS)?;
    line(
        "\nConsultants, suspended until `magic-link consultant confirm ID…`; before that, correct an address that was \
         replaced since (`consultant change`):",
    )?;
    output.table(&json!({ "items": done.get("consultants") }), CONSULTANTS)?;
    Ok(line("\nIssuing is frozen, and nothing is erased from the audit logs, until `magic-link unfreeze`.")?)
}

pub(super) async fn confirm_clients(cx: &Context, confirm: Confirm<ClientId>, output: &Output) -> Result<(), Failure> {
    let unconfirmed = clients::unconfirmed(cx).await?;
    if confirm.ids.is_empty() && !confirm.all {
        return output.table(&json!({ "items": unconfirmed }), CLIENTS);
    }
    let ids = if confirm.all { unconfirmed.into_iter().map(|client| client.id).collect() } else { confirm.ids };
    let confirm = async |id| clients::confirm(cx, &Caller::operator(), id, cx.clock.now()).await;
    confirm_each(ids, confirm, CONFIRMED_CLIENTS, output).await
}

pub(super) async fn confirm_consultants(
    cx: &Context,
    confirm: Confirm<ConsultantId>,
    output: &Output,
) -> Result<(), Failure> {
    let unconfirmed = consultants::unconfirmed(cx).await?;
    if confirm.ids.is_empty() && !confirm.all {
        return output.table(&json!({ "items": unconfirmed }), CONSULTANTS);
    }
    let ids = if confirm.all { unconfirmed.into_iter().map(|consultant| consultant.id).collect() } else { confirm.ids };
    let confirm = async |id| consultants::confirm(cx, &Caller::operator(), id, cx.clock.now()).await;
    confirm_each(ids, confirm, CONSULTANTS, output).await
}

/// Confirms one after the other, and tells who was; then the first refusal, and about whom there was one.
async fn confirm_each<I: Display + Clone, T: Serialize>(
    ids: Vec<I>,
    confirm: impl AsyncFn(I) -> Result<T, Error>,
    columns: &[Column],
    output: &Output,
) -> Result<(), Failure> {
    let (mut confirmed, mut refused, mut first) = (Vec::new(), Vec::new(), None);
    for id in ids {
        match confirm(id.clone()).await {
            Ok(thing) => confirmed.push(thing),
            Err(error) => {
                refused.push(format!("{id} ({})", error.code().slug()));
                first = first.or(Some(error));
            }
        }
    }
    let Some(error) = first else { return output.table(&json!({ "items": confirmed }), columns) };
    if !confirmed.is_empty() {
        output.table(&json!({ "items": confirmed }), columns)?;
    }
    Err(error.detail(format!("not confirmed: {}", refused.join(", "))).into())
}
