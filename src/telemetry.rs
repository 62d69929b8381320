//! Logs: one JSON object a line, and the trace id that ties lines, events and answers together.

use std::fmt;

use rand::RngExt;
use tokio::task::futures::TaskLocalFuture;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

tokio::task_local! {
    static TRACE_ID: TraceId;
}

/// What ties the log lines, the events and the answer of a request together: 16 bytes, of which not all are
/// zero (W3C Trace Context). Written as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// That of a `traceparent` header, or a fresh one.
    #[must_use]
    pub fn of(traceparent: Option<&str>) -> Self {
        let given = traceparent.and_then(|header| {
            let mut parts = header.split('-');
            let (version, trace_id, parent) = (parts.next()?, parts.next()?, parts.next()?);
            let hex = |text: &str, length: usize| {
                text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            let valid = hex(version, 2) && version != "ff" && hex(trace_id, 32) && hex(parent, 16);
            u128::from_str_radix(trace_id, 16).ok().filter(|id| valid && *id != 0)
        });
        Self(given.unwrap_or_else(|| rand::rng().random_range(1..=u128::MAX)))
    }

    /// That of the request which this task works for.
    #[must_use]
    pub fn current() -> Option<Self> {
        TRACE_ID.try_with(|id| *id).ok()
    }

    /// Runs `work` for the request of this trace.
    pub fn scope<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        TRACE_ID.scope(self, work)
    }

    /// Does `work` for the request of this trace, on a thread that works for many.
    pub fn scope_of<T>(trace_id: Option<Self>, work: impl FnOnce() -> T) -> T {
        match trace_id {
            Some(trace_id) => TRACE_ID.sync_scope(trace_id, work),
            None => work(),
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Puts the trace id of the request into every line.
///
/// The library would take it from a span, and one would be made for each request, logged or not.
struct Traced<F> {
    format: F,
    is_json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(trace_id) = TraceId::current() else { return self.format.format_event(context, writer, event) };
        if !self.is_json {
            write!(writer, "{trace_id} ")?;
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let open = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        writeln!(writer, "{open},\"trace_id\":\"{trace_id}\"}}")
    }
}

/// Libraries that name addresses below `info`, and an address may hold a token by a caller's mistake.
const TALKATIVE: &[&str] = &["actix_http", "actix_web", "h2", "hyper", "hyper_util", "reqwest"];

/// Starts logging to standard error. Does nothing when a subscriber is set already.
///
/// Whatever the level, [`TALKATIVE`] libraries say nothing below `info`.
pub fn init(log: &Log) {
    let filter: Targets = log.level.parse().unwrap_or_else(|_unreadable| Targets::new().with_default(Level::INFO));
    let discreet = filter_fn(|metadata| {
        let library = metadata.target().split(':').next().unwrap_or_default();
        *metadata.level() <= Level::INFO || !TALKATIVE.contains(&library)
    });
    let chosen = tracing_subscriber::registry().with(filter).with(discreet);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let already_set = match log.format {
        LogFormat::Json => {
            let format = format().json().flatten_event(true).with_current_span(false).with_span_list(false);
            chosen.with(lines.json().event_format(Traced { format, is_json: true })).try_init()
        }
        LogFormat::Text => {
            chosen.with(lines.event_format(Traced { format: format().compact(), is_json: false })).try_init()
        }
    };
    if already_set.is_err() {
        tracing::debug!("logging was set up before");
    }
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic.location = ?info.location().map(ToString::to_string), "panic");
        // The payload may hold a value that must not be logged; a terminal may see it.
        if cfg!(debug_assertions) {
            print(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_traceparent_names_the_trace() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceId::of(Some(header)).to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn anything_else_gets_a_trace_of_its_own() {
        let plus = "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for header in [None, Some(""), Some("junk"), Some(zeros), Some(plus), Some("00-XX-YY-01")] {
            let id = TraceId::of(header).to_string();
            assert!(id.len() == 32 && id != "0".repeat(32), "{header:?} gave {id}");
        }
    }
}
