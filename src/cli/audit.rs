//! `magic-link audit …`: checkpoints and exports of the audit log, and their offline verification.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Column;
use super::{Failure, Output, output};
use crate::app::App;
use crate::audit::verify::{self, ApprovalKey, KeyChangedBy, Verified, VerifiedApprovalKeyChange, VerifiedApprovals};
use crate::audit::{self, ExportFormat, ExportQuery, PlaceHold, ReleaseHold};
use crate::clock::Timestamp;
use crate::domain::Paging;
use crate::http::Caller;
use crate::id::HoldId;

/// Bytes that no checkpoint and no key has.
const LARGEST: u64 = 64 * 1024;

const HOLDS: &[Column] = &[
    ("HOLD", "/id"),
    ("PLACED", "/placed_at"),
    ("UNTIL", "/until"),
    ("RELEASED", "/released_at"),
    ("REASON", "/reason"),
];

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// Verify an export or an evidence pack; needs no database and no network
    ///
    /// Exit code 0 only if everything was read, and every leaf hash, root and
    /// signature is valid.
    Verify {
        /// NDJSON export of a complete log, or an evidence pack; `-` is standard input
        file: PathBuf,
        /// Checkpoint of the log that was kept outside; not for an evidence pack, which holds its own
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// Verifier key of the log (C2SP vkey), as printed by `audit verifier-key`
        #[arg(long, value_name = "VKEY")]
        key: String,
        /// Older checkpoint, to narrow down what was rewritten; may be repeated
        #[arg(long, value_name = "FILE")]
        since: Vec<PathBuf>,
        /// Public key with which the customer signs approvals, from the customer (a JWK, or PEM): while one was in
        /// effect, each approval must be signed by it; may be repeated
        #[arg(long, value_name = "FILE")]
        approval_key: Vec<PathBuf>,
    },
    /// Sign and print the current checkpoint of an audit log
    Checkpoint {
        /// Tenant of the audit log; `_system` for events without a tenant
        #[arg(long)]
        tenant: String,
    },
    /// Print the verifier key of an audit log
    VerifierKey {
        /// Tenant of the audit log
        #[arg(long)]
        tenant: String,
    },
    /// Change the key that signs the audit logs
    ///
    /// The key before introduces the next one in every log, so checkpoints of
    /// before and the verifier keys that auditors hold stay good.
    RotateKey,
    /// Place a legal hold: no payload of the tenant's audit log is erased while it is in force
    Hold {
        /// Tenant of the audit log
        #[arg(long)]
        tenant: String,
        /// Why; at least 10 characters
        #[arg(long)]
        reason: String,
        /// When it ends (RFC 3339); without it, when it is released
        #[arg(long, value_name = "TIME", value_parser = time_of)]
        until: Option<Timestamp>,
    },
    /// List the legal holds on a tenant's audit log, newest first
    Holds {
        /// Tenant of the audit log
        #[arg(long)]
        tenant: String,
        /// Holds per page
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        page_size: u32,
        /// `next_cursor` of the previous page
        #[arg(long, allow_hyphen_values = true)]
        cursor: Option<String>,
    },
    /// Release a legal hold
    Release {
        /// Id of the hold
        id: HoldId,
        /// Tenant of the audit log
        #[arg(long)]
        tenant: String,
        /// Why; at least 10 characters
        #[arg(long)]
        reason: String,
    },
    /// Print a tenant's audit log
    Export {
        /// Tenant of the audit log
        #[arg(long)]
        tenant: String,
        /// Format: ndjson, csv or ocsf
        #[arg(long, default_value = "ndjson")]
        format: ExportFormat,
    },
}

/// Runs `verify`, which needs no store; returns any other command.
pub(super) fn offline(command: AuditCommand, output: &Output) -> Result<Option<AuditCommand>, Failure> {
    let AuditCommand::Verify { file, checkpoint, key, since, approval_key } = command else { return Ok(Some(command)) };
    let approval_keys: Vec<ApprovalKey> =
        approval_key.iter().map(|file| approval_key_of(file)).collect::<Result<_, _>>()?;
    let mut input = open(&file)?;
    let bar = progress(&file);
    // A pipe gives what it has, which may be a single byte.
    let mut beginning = Vec::new();
    Read::by_ref(&mut input).take(1_024).read_to_end(&mut beginning)?;
    let is_pack = verify::is_evidence(&beginning);
    let mut input = io::Cursor::new(beginning).chain(input);
    let verified = if is_pack {
        if checkpoint.is_some() || !since.is_empty() {
            // A request to verify a complete log must not succeed with the evidence about one link.
            return Err("this is an evidence pack, which brings its own checkpoint, and not the export of a log: \
                check it without --checkpoint and --since"
                .into());
        }
        verify::verify_evidence(&mut input, &key, &approval_keys)
    } else {
        let checkpoint = checkpoint.ok_or(
            "an export is checked against a checkpoint that was kept outside: --checkpoint FILE \
             (the one inside the export comes from where the export comes from)",
        )?;
        let since: Vec<Vec<u8>> = since.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        verify::verify_export(&mut input, &key, &read(&checkpoint)?, &since, &approval_keys, |bytes| bar.inc(bytes))
    };
    bar.finish_and_clear();
    let verified = verified?;
    output.done(&verified, &said(&verified, is_pack))?;
    Ok(None)
}

impl AuditCommand {
    /// The tenant whose log a command is about. An auditor may ask for the key of a log before it begins.
    fn tenant(&self) -> Option<&str> {
        match self {
            Self::Checkpoint { tenant }
            | Self::Export { tenant, .. }
            | Self::Hold { tenant, .. }
            | Self::Holds { tenant, .. }
            | Self::Release { tenant, .. } => Some(tenant),
            Self::VerifierKey { .. } | Self::RotateKey | Self::Verify { .. } => None,
        }
    }
}

/// Runs the commands that need the store.
pub(super) async fn run(app: App, command: AuditCommand, output: &Output) -> Result<(), Failure> {
    let (caller, now) = (Caller::operator(), app.cx.clock.now());
    let folder = &**app.checkpoint_folder;
    if let Some(tenant) = command.tenant() {
        audit::require_known(&app.cx, tenant).await?;
    }
    match command {
        AuditCommand::Checkpoint { tenant } => {
            let checkpoint = audit::checkpoint(&app.cx, (&app.log_key, folder), &caller, tenant, now).await?;
            plain(output, "checkpoint", &checkpoint)
        }
        AuditCommand::VerifierKey { tenant } => {
            plain(output, "verifier_key", &(audit::verifier_key(&app.cx, &app.log_key, &caller, tenant).await? + "\n"))
        }
        AuditCommand::RotateKey => {
            let changed = audit::change_key(&app.cx, &app.log_key, folder, &Caller::operator(), now).await?;
            let said = format!("{} logs are signed by a new key: {}", changed.logs, changed.public_key);
            output.done(&changed, &said)
        }
        AuditCommand::Export { tenant, format } => {
            let query = ExportQuery::whole(tenant, format);
            let mut export = audit::export(app.cx.clone(), (app.log_key.clone(), folder), &caller, query, now).await?;
            let mut out = io::stdout().lock();
            while let Some(chunk) = export.chunk().await? {
                out.write_all(chunk.as_bytes())?;
            }
            Ok(out.flush()?)
        }
        AuditCommand::Hold { tenant, reason, until } => {
            let request = PlaceHold { reason, until, requested_by: None };
            let hold = audit::place_hold(&app.cx, &Caller::operator(), tenant, request, None, now).await?;
            output.done(&hold, &format!("the audit log of {} is held", hold.tenant_id))
        }
        AuditCommand::Holds { tenant, page_size, cursor } => {
            let paging = Paging { page_size: Some(page_size), cursor };
            output.table(&audit::list_holds(&app.cx, &caller, tenant, paging).await?, HOLDS)
        }
        AuditCommand::Release { id, tenant, reason } => {
            let request = ReleaseHold { reason, requested_by: None };
            let hold = audit::release_hold(&app.cx, folder, &Caller::operator(), tenant, id, request, now).await?;
            output.done(&hold, "released")
        }
        AuditCommand::Verify { .. } => Ok(()),
    }
}

/// Prints a text unchanged, or as a member of a JSON object.
fn plain(output: &Output, name: &str, text: &str) -> Result<(), Failure> {
    if output.json {
        return Ok(output::line(&serde_json::json!({ name: text }).to_string())?);
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn said(verified: &Verified, is_pack: bool) -> String {
    let what = if is_pack { "the evidence" } else { "the log" };
    let beyond = verified.events.saturating_sub(verified.checkpoint_size);
    let beyond = if beyond > 0 && !is_pack {
        format!("; the last {beyond} came after the checkpoint and are vouched for by the export alone")
    } else {
        String::new()
    };
    let erased = if verified.erased > 0 { format!(", {} of them erased", verified.erased) } else { String::new() };
    let restored = verified.restores.iter().map(|restore| {
        let lost = restore.events_lost.map_or_else(|| "an unknown number of".to_owned(), |lost| lost.to_string());
        format!("; the database was restored at event {}, and {lost} events were lost", restore.log_index)
    });
    let restored = restored.collect::<String>();
    let changed =
        verified.key_changes.iter().map(|change| format!("; the key was changed at event {}", change.log_index));
    let changed = changed.collect::<String>();
    let approved = verified.approvals.as_ref().map(approvals_said).unwrap_or_default();
    format!(
        "verified: {} events{erased} in {what} of {}{beyond}{restored}{changed}{approved}",
        verified.events, verified.tenant_id
    )
}

fn approvals_said(found: &VerifiedApprovals) -> String {
    let count = |number: u64, words: &str| if number > 0 { format!(", {number} {words}") } else { String::new() };
    let erased = count(found.erased, "by their hashes alone");
    let unsigned = count(found.unsigned, "not signed");
    let without = count(found.without_approval, "links and extensions that wanted none while a key was in effect");
    let changes = found.key_changes.iter().map(|change| {
        let VerifiedApprovalKeyChange { log_index, key_thumbprint, by } = change;
        let why = match by {
            KeyChangedBy::First => "",
            KeyChangedBy::Signature => ", as the key before has signed",
            KeyChangedBy::ErasedSignature => ", as the key before has signed: only the hash of that is left",
            KeyChangedBy::Operator => " and 72 hours, as an operator ordered",
        };
        format!("; approval key from event {log_index} on{why}: {key_thumbprint}")
    });
    format!(
        "; approvals: {} signed by the customer{erased}{unsigned}{without}{}",
        found.signed,
        changes.collect::<String>()
    )
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, opened)))
}

fn approval_key_of(file: &Path) -> Result<ApprovalKey, Failure> {
    let text = String::from_utf8(read(file)?).unwrap_or_default();
    let wrong =
        || format!("{} holds no public key on P-256: a JWK with kty, crv, x and y alone, or PEM", file.display());
    ApprovalKey::of_file(&text).ok_or_else(|| wrong().into())
}

/// A time as the API takes it.
fn time_of(text: &str) -> Result<Timestamp, serde_json::Error> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
}

/// Reads a checkpoint or a key: from a pipe, too.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("{}: {error}", file.display()))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= LARGEST) {
        return Ok(bytes);
    }
    Err(format!("{}: is larger than a checkpoint or a key", file.display()).into())
}

/// A progress bar, hidden unless standard error is a terminal.
fn progress(file: &Path) -> ProgressBar {
    let size = fs::metadata(file).map(|file| file.len()).ok();
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = "{bar:40} {percent}% {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_malformed| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(size, target).with_style(style)
}
