//! `magic-link backup` and `magic-link copy`: the whole database in another place, and the audit logs compared with it.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args};
use serde_json::json;

use super::Failure;
use super::output::{Output, line};
use crate::audit::NewestCheckpoints;
use crate::config::ForMigrating;
use crate::db::{self, Conn, ConnectionManager, DatabaseUrl};
use crate::store::{OpenError, bring_up_to_date};
use crate::telemetry;

#[derive(Args)]
pub(super) struct Backup {
    /// File to make; there must be none
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct Copy {
    /// The embedded database, `sqlite://…`; nobody writes into it meanwhile
    #[arg(long, value_name = "URL", value_parser = Address)]
    from: DatabaseUrl,
    /// An empty database on PostgreSQL, `postgres://…`, by the role that is to own its tables
    #[arg(long, value_name = "URL", value_parser = Address)]
    to: DatabaseUrl,
}

/// Reads the address of a database. A refusal does not repeat it, as those of other arguments do: it may hold a password.
#[derive(Clone)]
struct Address;

impl TypedValueParser for Address {
    type Value = DatabaseUrl;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<DatabaseUrl, clap::Error> {
        let parsed = value.to_str().map_or_else(|| Err("must be UTF-8".to_owned()), str::parse);
        parsed.map_err(|problem| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value for '{argument}': {problem}\n"))
                .with_cmd(command)
        })
    }
}

pub(super) fn back_up(settings: &ForMigrating, command: &Backup, output: &Output) -> Result<(), Failure> {
    let _log = telemetry::init(&settings.log);
    let url = &settings.database_url;
    // Before the backup, which may have more.
    let checkpoints = match url {
        DatabaseUrl::Sqlite(file) if file.path().is_file() => Some(NewestCheckpoints::of(&mut open(url)?)?),
        _ => None,
    };
    let mut backup = db::back_up(url, &command.file)?;
    let whole = checkpoints.as_ref().map_or(Ok(()), |checkpoints| checkpoints.require_in(&mut backup));
    drop(backup);
    if let Err(error) = whole {
        drop(std::fs::remove_file(&command.file));
        return Err(error.into());
    }
    let (file, bytes) = (command.file.display().to_string(), std::fs::metadata(&command.file)?.len());
    let logs = checkpoints.as_ref().map_or(0, NewestCheckpoints::count);
    if output.json {
        return Ok(line(&json!({ "file": file, "bytes": bytes, "logs": logs }).to_string())?);
    }
    Ok(line(&format!("{file}: {bytes} bytes; {logs} audit logs extend their newest checkpoint"))?)
}

pub(super) fn copy(settings: &ForMigrating, command: &Copy, output: &Output) -> Result<(), Failure> {
    let _log = telemetry::init(&settings.log);
    let DatabaseUrl::Sqlite(file) = &command.from else { return Err(db::CopyError::Direction.into()) };
    if command.to.is_sqlite() {
        return Err(db::CopyError::Direction.into());
    }
    if !file.path().is_file() {
        return Err(format!("there is no database at {}", file.path().display()).into());
    }
    let (mut from, mut to) = (open(&command.from)?, open(&command.to)?);
    drop(bring_up_to_date(&mut from, false)?);
    if let Some(table) = db::foreign_table(&mut to)? {
        return Err(db::CopyError::NotEmpty(table).into());
    }
    db::migrate(&mut to).map_err(OpenError::Migrate)?;
    let rows = db::copy_all(&mut from, &mut to)?;
    let checkpoints = NewestCheckpoints::of(&mut from)?;
    checkpoints.require_in(&mut to)?;
    if output.json {
        return Ok(line(&json!({ "rows": rows, "logs": checkpoints.count() }).to_string())?);
    }
    for (table, count) in rows.iter().filter(|(_, count)| **count > 0) {
        line(&format!("{count:>10} {table}"))?;
    }
    let logs = checkpoints.count();
    Ok(line(&format!("copied, and compared row by row; {logs} audit logs extend their newest checkpoint"))?)
}

fn open(url: &DatabaseUrl) -> Result<Conn, Failure> {
    Ok(ConnectionManager::new(url.clone()).open()?)
}
