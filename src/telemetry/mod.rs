//! Logs, and the trace that connects the log lines, audit events, response and spans of a request.

#[cfg(not(feature = "otlp"))]
mod no_spans;
#[cfg(feature = "otlp")]
mod otlp;
mod spans;
mod trace;

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter, format, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Log, LogFormat};

pub use spans::TracesError;
pub(crate) use spans::{Span, SpanKind, Tracer};
pub use trace::{TraceContext, TraceId};

/// Adds the trace id of the request to every line, and to a warning or an error how many like it got no line before it.
///
/// `tracing` would take the trace id from a span, which would be created for each request, logged or not.
struct Traced<F> {
    format: F,
    is_json: bool,
    restraint: Restraint,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Nothing written is no line.
        let Some(left_out) = self.restraint.take(event, Instant::now()) else { return Ok(()) };
        let trace_id = TraceId::current();
        if trace_id.is_none() && left_out == 0 {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        let line = if self.is_json { line.strip_suffix('}').ok_or(fmt::Error)? } else { line };
        write!(writer, "{line}")?;
        match (self.is_json, left_out) {
            (_, 0) => {}
            (true, _) => write!(writer, ",\"log.left_out\":{left_out}")?,
            (false, _) => write!(writer, " log.left_out={left_out}")?,
        }
        match (self.is_json, trace_id) {
            (_, None) => {}
            (true, Some(trace_id)) => write!(writer, ",\"trace_id\":\"{trace_id}\"")?,
            (false, Some(trace_id)) => write!(writer, " trace_id={trace_id}")?,
        }
        writeln!(writer, "{}", if self.is_json { "}" } else { "" })
    }
}

/// Libraries that log URLs below `info`: by a caller's mistake a URL may contain a token.
const TALKATIVE: &[&str] = &["actix_http", "actix_web", "h2", "hyper", "hyper_util", "reqwest"];

/// Lines a minute of one kind that strangers can cause as often as they like.
const LINES_PER_MINUTE: u64 = 60;

/// Counts lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct PerMinute {
    since: Option<Instant>,
    count: u64,
}

impl PerMinute {
    /// Whether one more line may be written: how many were left out before it.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let mut left_out = 0;
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_mins(1)) {
            left_out = self.count.saturating_sub(LINES_PER_MINUTE);
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        (self.count <= LINES_PER_MINUTE).then_some(left_out)
    }
}

/// Time in which warnings or errors of one kind get one line.
const KIND_REST: Duration = Duration::from_secs(1);

/// Kinds that are told apart at a time; beyond it, only places in the program are.
const KINDS: usize = 1_024;

/// Keeps peers and outages from filling the log.
///
/// - What actix calls an error of ours and is a peer's, a request that is malformed or a connection that broke off, is
///   no line: it is counted (`magic_link_http_request_seconds`, route `unmatched`), and the first has one of its own.
/// - Of warnings and errors of one kind, such as that of a database that does not answer, there is one a second, and of
///   those from one place in the program there are 60 a minute.
#[derive(Default)]
struct Restraint(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    places: HashMap<Identifier, PerMinute>,
    /// When each kind got its last line, and how many got none since.
    kinds: HashMap<u64, (Instant, u64)>,
}

impl Restraint {
    /// Whether an event gets a line: how many of its kind before it got none.
    fn take(&self, event: &Event<'_>, now: Instant) -> Option<u64> {
        let metadata = event.metadata();
        let is_restrained = *metadata.level() <= Level::WARN;
        if !is_restrained && !metadata.target().starts_with("actix_http::") {
            return Some(0);
        }
        let mut kind = Kind { hasher: DefaultHasher::new(), ..Kind::default() };
        kind.with_cause = *metadata.level() == Level::ERROR;
        metadata.callsite().hash(&mut kind.hasher);
        event.record(&mut kind);
        if kind.is_fault_of_a_peer && metadata.target().starts_with("actix_http::") {
            return None;
        }
        if !is_restrained {
            return Some(0);
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Lines { places, kinds } = &mut *lines;
        if kinds.len() >= KINDS {
            kinds.retain(|_, (last, _)| now.duration_since(*last) < KIND_REST);
        }
        let mut left_out = 0;
        if kinds.len() < KINDS {
            let (last, count) = kinds.entry(kind.hasher.finish()).or_insert((now, 0));
            if *last != now && now.duration_since(*last) < KIND_REST {
                *count += 1;
                return None;
            }
            left_out = std::mem::take(count);
            *last = now;
        }
        let before = places.entry(metadata.callsite()).or_default().take(now)?;
        Some(left_out + before)
    }
}

/// What tells the kinds of events apart: the place in the program, the message, and names. The cause of an error is one
/// of them, that of a warning is not.
#[derive(Default)]
struct Kind {
    hasher: DefaultHasher,
    with_cause: bool,
    is_fault_of_a_peer: bool,
}

impl Visit for Kind {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let message = format!("{value:?}");
            self.is_fault_of_a_peer = message.starts_with("stream error: ");
            message.hash(&mut self.hasher);
        } else if field.name() == "error.cause" && self.with_cause {
            format!("{value:?}").hash(&mut self.hasher);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != "error.cause" || self.with_cause {
            value.hash(&mut self.hasher);
        }
    }
}

/// The level of the log that is being written.
#[derive(Clone)]
pub struct LogLevel {
    handle: reload::Handle<Targets, Registry>,
    /// Writes what is left when the last one goes.
    _lines: Arc<WorkerGuard>,
}

impl LogLevel {
    /// Logs by another filter from now on.
    pub(crate) fn set(&self, level: &str) {
        // It fails once nothing is logged any more.
        drop(self.handle.reload(targets(level)));
    }
}

fn targets(level: &str) -> Targets {
    level.parse().unwrap_or_else(|_unreadable| Targets::new().with_default(Level::INFO))
}

/// Lines that wait for a slow reader of the log.
const LINES_KEPT: usize = 8_192;

/// Starts logging to standard error, unless a subscriber is already set; returns what changes the level, and has to be
/// kept until the end.
///
/// Whatever the level, the libraries in `TALKATIVE` log nothing below `info`.
pub fn init(log: &Log) -> LogLevel {
    let (filter, level) = reload::Layer::new(targets(&log.level));
    let discreet = filter_fn(|metadata| {
        let library = metadata.target().split(':').next().unwrap_or_default();
        *metadata.level() <= Level::INFO || !TALKATIVE.contains(&library)
    });
    let chosen = tracing_subscriber::registry().with(filter).with(discreet);
    // Whoever reads standard error may stop: lines are lost then, and nothing else waits.
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES_KEPT).finish(std::io::stderr());
    if chosen.with(lines(log.format, writer)).try_init().is_err() {
        tracing::debug!("logging is already set up");
    }
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let location =
            info.location().map(|at| format!("{}:{}:{}", without_build_path(at.file()), at.line(), at.column()));
        tracing::error!(panic.location = location, "panic");
        // The payload may hold a value that must not be logged; a terminal may see it.
        if cfg!(debug_assertions) {
            print(info);
        }
    }));
    LogLevel { handle: level, _lines: Arc::new(guard) }
}

/// The path of a source file below its crate: where the machine that built it keeps the crates says nothing.
fn without_build_path(file: &str) -> &str {
    // Of a library from a registry: …/registry/src/<registry>/<crate>-<version>/…
    let of_registry = file.split_once("/registry/src/").and_then(|(_, rest)| Some(rest.split_once('/')?.1));
    // Of the standard library: /rustc/<revision>/…
    let of_rust = || file.split_once("/rustc/").and_then(|(_, rest)| Some(rest.split_once('/')?.1));
    let of_toolchain = || file.split_once("/lib/rustlib/src/rust/").map(|(_, rest)| rest);
    let found = of_registry.or_else(of_rust).or_else(of_toolchain);
    // Ours are relative where cargo builds them. Of anything else the name is enough.
    found.unwrap_or_else(|| if file.starts_with('/') { file.rsplit('/').next().unwrap_or_default() } else { file })
}

/// The layer that writes each log event as one line.
fn lines<S, W>(kind: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // Without colours: `Traced` formats the lines of requests without them.
    let lines = layer().with_writer(writer).with_ansi(false);
    let restraint = Restraint::default();
    match kind {
        LogFormat::Json => {
            let format = format().json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.json().event_format(Traced { format, is_json: true, restraint }).boxed()
        }
        LogFormat::Text => lines.event_format(Traced { format: format().compact(), is_json: false, restraint }).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// The lines logged within a request, and then outside of one.
    fn logged(kind: LogFormat) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Mutex::new(File::create(file.path()).unwrap());
        let context = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines(kind, writer)), || {
            TraceContext::scope_of(context, || tracing::info!(count = 3, "counted"));
            tracing::info!("idle");
        });
        std::fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_of_a_request_ends_with_its_trace_and_other_lines_have_none() {
        let lines = logged(LogFormat::Json);
        let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["message"], &lines[0]["count"]), (&"counted".into(), &3.into()));
        assert_eq!(lines[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((&lines[1]["message"], lines[1].get("trace_id")), (&"idle".into(), None));

        let lines = logged(LogFormat::Text);
        assert!(lines[0].ends_with(" trace_id=4bf92f3577b34da6a3ce929d0e0e4736"), "{lines:?}");
        assert!(lines[1].contains("idle") && !lines[1].contains("trace_id"), "{lines:?}");
    }

    #[test]
    fn a_panic_is_located_without_the_paths_of_the_machine_that_built_it() {
        for (file, shown) in [
            ("src/links/issue.rs", "src/links/issue.rs"),
            ("/home/ann/.cargo/registry/src/index.example-1949cf/diesel-2.3.14/src/lib.rs", "diesel-2.3.14/src/lib.rs"),
            (
                "/rustc/ded5c06cf21d2b93bffd5d884aa6e96934ee4234/library/core/src/option.rs",
                "library/core/src/option.rs",
            ),
            ("/home/ann/rust/lib/rustlib/src/rust/library/std/src/time.rs", "library/std/src/time.rs"),
            ("/build/magic-link/src/links/issue.rs", "issue.rs"),
        ] {
            assert_eq!(without_build_path(file), shown);
        }
    }

    #[test]
    fn strangers_get_sixty_lines_a_minute_and_the_next_one_tells_of_the_others() {
        let (mut lines, start, minute) = (PerMinute::default(), Instant::now(), Duration::from_mins(1));
        let taken = |lines: &mut PerMinute, at| (0..1_000).filter_map(|_| lines.take(at)).collect::<Vec<_>>();
        assert_eq!(taken(&mut lines, start), [0; 60]);
        assert!(taken(&mut lines, start + minute / 2).is_empty());
        assert_eq!(taken(&mut lines, start + minute).first(), Some(&1_940));
        assert_eq!(taken(&mut lines, start + 2 * minute).first(), Some(&940));
    }

    #[test]
    fn of_one_kind_there_is_a_line_a_second_and_the_fault_of_a_peer_has_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Mutex::new(File::create(file.path()).unwrap());
        let chosen = tracing_subscriber::registry().with(lines(LogFormat::Json, writer));
        let unready = |number: u32| tracing::warn!(number, error.cause = %number, "not ready");
        tracing::subscriber::with_default(chosen, || {
            for number in 0..200 {
                unready(number);
                tracing::error!(error.cause = if number % 2 == 0 { "gone" } else { "broken" }, "internal error");
                tracing::warn!(worker.name = if number % 2 == 0 { "mail" } else { "audit" }, "step failed");
                tracing::error!(target: "actix_http::h1::dispatcher", "stream error: request parse error: {number}");
            }
            tracing::error!(target: "actix_http::h1::dispatcher", "write zero; closing");
            std::thread::park_timeout(KIND_REST + Duration::from_millis(50));
            unready(200);
        });
        let text = std::fs::read_to_string(file.path()).unwrap();
        let count = |what: &str| text.matches(what).count();
        assert_eq!((count("not ready"), count("\"log.left_out\":199")), (2, 1), "{text}");
        assert_eq!((count("gone"), count("broken"), count("\"mail\""), count("\"audit\"")), (1, 1, 1, 1), "{text}");
        assert_eq!((count("stream error"), count("write zero")), (0, 1), "{text}");
    }

    #[test]
    fn kinds_without_end_are_sixty_lines_a_minute() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Mutex::new(File::create(file.path()).unwrap());
        let chosen = tracing_subscriber::registry().with(lines(LogFormat::Text, writer));
        tracing::subscriber::with_default(chosen, || {
            for number in 0..3_000 {
                tracing::error!(error.cause = %number, "internal error");
            }
        });
        assert_eq!(std::fs::read_to_string(file.path()).unwrap().lines().count(), 60);
    }
}
