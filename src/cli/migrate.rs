//! `magic-link migrate`: the tables of the database, and the rights of the role that the service runs as.

use clap::Args;
use serde_json::json;

use super::Failure;
use super::output::{Output, line};
use crate::config::ForMigrating;
use crate::db::{self, ConnectionManager, DatabaseUrl, Difference};
use crate::store::{OpenError, bring_up_to_date};
use crate::telemetry;

#[derive(Args)]
pub(super) struct Migrate {
    /// Change nothing; fail if a migration is pending, or if the database is newer than this program
    #[arg(long, conflicts_with = "grant_to")]
    check: bool,
    /// Give this role of PostgreSQL the rights that the service needs, and no others
    #[arg(long, value_name = "ROLE")]
    grant_to: Option<String>,
    /// Without the right to remove what is past its retention: `magic-link maintain` does that, under another role
    #[arg(long, requires = "grant_to")]
    no_erasing: bool,
}

pub(super) fn run(settings: &ForMigrating, command: &Migrate, output: &Output) -> Result<(), Failure> {
    let _log = telemetry::init(&settings.log);
    let DatabaseUrl::Sqlite(file) = &settings.database_url else { return on(settings, command, output) };
    // To look at a file must not make it.
    if command.check && !file.path().exists() {
        return checked(&Difference::to_nothing()?, output);
    }
    on(settings, command, output)
}

fn on(settings: &ForMigrating, command: &Migrate, output: &Output) -> Result<(), Failure> {
    let manager = ConnectionManager::new(settings.database_url.clone());
    let alone = if command.check { None } else { manager.prepare()? };
    let mut conn = manager.open()?;
    if command.check {
        return checked(&db::difference(&mut conn)?, output);
    }
    let applied = bring_up_to_date(&mut conn, true)?;
    drop(alone);
    if let Some(role) = &command.grant_to {
        db::grant(&mut conn, role, !command.no_erasing)?;
    }
    if output.json {
        return Ok(line(&json!({ "applied": applied, "granted_to": command.grant_to }).to_string())?);
    }
    applied.iter().try_for_each(|name| line(&format!("applied {name}")))?;
    if let Some(role) = &command.grant_to {
        let but = if command.no_erasing { ", and not erase" } else { "" };
        line(&format!("the role {role} may run the service{but}"))?;
    }
    Ok(line("the database is up to date")?)
}

/// Says what is pending, and fails where something is.
fn checked(found: &Difference, output: &Output) -> Result<(), Failure> {
    if output.json {
        line(&json!({ "pending": found.pending, "unknown": found.unknown, "missing": found.missing }).to_string())?;
    } else {
        found.pending.iter().try_for_each(|name| line(&format!("pending {name}")))?;
        found.unknown.iter().try_for_each(|version| line(&format!("unknown to this program {version}")))?;
    }
    match found {
        Difference { unknown, .. } if !unknown.is_empty() => Err(OpenError::Newer(unknown.clone()).into()),
        Difference { pending, .. } if !pending.is_empty() => {
            Err(format!("{} migrations are pending", pending.len()).into())
        }
        Difference { missing, .. } if !missing.is_empty() => Err(OpenError::Incomplete(missing.clone()).into()),
        _ if output.json => Ok(()),
        _ => Ok(line("the database is up to date")?),
    }
}
