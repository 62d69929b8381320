//! `magic-link audit …`: the trail, and checking it without this service.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Failure, Output, output};
use crate::app::App;
use crate::audit::verify::{self, Verified};
use crate::audit::{self, ExportFormat, ExportQuery};
use crate::http::Caller;

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// Check an export or an evidence pack; needs no database and no network
    ///
    /// Exit code 0 only if everything was read, every event recomputed, every
    /// root equal and every signature good.
    Verify {
        /// The NDJSON export of a whole log, or an evidence pack; `-` is standard input
        file: PathBuf,
        /// A checkpoint of the log that was kept outside; an evidence pack brings its own
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// The log's verifier key, as `audit verifier-key` or the API gives it
        #[arg(long, value_name = "VKEY")]
        key: String,
        /// An older checkpoint, to narrow down what was rewritten; may be repeated
        #[arg(long, value_name = "FILE")]
        since: Vec<PathBuf>,
    },
    /// Print a log's checkpoint, signed as of now
    Checkpoint {
        /// Whose log; `_system` for what belongs to no tenant
        #[arg(long)]
        tenant: String,
    },
    /// Print what verifies a log's checkpoints
    VerifierKey {
        /// Whose log
        #[arg(long)]
        tenant: String,
    },
    /// Print a tenant's log
    Export {
        /// Whose log
        #[arg(long)]
        tenant: String,
        /// ndjson, csv or ocsf
        #[arg(long, default_value = "ndjson")]
        format: ExportFormat,
    },
}

/// Runs what needs no store; gives back what does.
pub(super) fn offline(command: AuditCommand, output: &Output) -> Result<Option<AuditCommand>, Failure> {
    let AuditCommand::Verify { file, checkpoint, key, since } = command else { return Ok(Some(command)) };
    let mut input = open(&file)?;
    let bar = progress(&file);
    let is_pack = verify::is_evidence(input.fill_buf()?);
    let verified = if is_pack {
        if checkpoint.is_some() || !since.is_empty() {
            // Whoever asks about a whole log must not be content with the evidence about one link.
            return Err("this is an evidence pack, which brings its own checkpoint, and not the export of a log: \
                check it without --checkpoint and --since"
                .into());
        }
        verify::verify_evidence(&mut input, &key)
    } else {
        let checkpoint = checkpoint.ok_or(
            "an export is checked against a checkpoint that was kept outside: --checkpoint FILE \
             (the one inside the export comes from where the export comes from)",
        )?;
        let since: Vec<Vec<u8>> = since.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        verify::verify_export(&mut input, &key, &read(&checkpoint)?, &since, |bytes| bar.inc(bytes))
    };
    bar.finish_and_clear();
    let verified = verified?;
    output.done(&verified, &said(&verified, is_pack))?;
    Ok(None)
}

/// Runs what does.
pub(super) async fn run(app: App, command: AuditCommand, output: &Output) -> Result<(), Failure> {
    let (caller, now) = (Caller::operator(), app.cx.clock.now());
    match command {
        AuditCommand::Checkpoint { tenant } => {
            let checkpoint = audit::checkpoint(&app.cx, &app.log_key, &caller, tenant, now).await?;
            plain(output, "checkpoint", &checkpoint)
        }
        AuditCommand::VerifierKey { tenant } => {
            plain(output, "verifier_key", &(audit::verifier_key(&app.log_key, &caller, &tenant)? + "\n"))
        }
        AuditCommand::Export { tenant, format } => {
            let mut export =
                audit::export(app.cx, app.log_key, &caller, ExportQuery::whole(tenant, format), now).await?;
            let mut out = io::stdout().lock();
            while let Some(chunk) = export.chunk().await? {
                out.write_all(chunk.as_bytes())?;
            }
            Ok(out.flush()?)
        }
        AuditCommand::Verify { .. } => Ok(()),
    }
}

/// A text as it is, for a file; for machines as one JSON object.
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
    format!("verified: {} events{erased} in {what} of {}{beyond}", verified.events, verified.tenant_id)
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, opened)))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// A bar on a terminal, and nothing elsewhere.
fn progress(file: &Path) -> ProgressBar {
    let size = fs::metadata(file).map(|file| file.len()).ok();
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = "{bar:40} {percent}% {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_malformed| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(size, target).with_style(style)
}
