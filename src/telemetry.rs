//! Logs: one JSON object a line, and the trace id that ties lines, events and answers together.

use rand::RngExt;
use tracing::Level;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

tokio::task_local! {
    static TRACE_ID: String;
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
            chosen.with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()
        }
        LogFormat::Text => chosen.with(lines.compact()).try_init(),
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

/// The trace id of the request that this task works for.
#[must_use]
pub fn trace_id() -> Option<String> {
    TRACE_ID.try_with(Clone::clone).ok()
}

/// Runs `work` for a request with this trace id.
pub async fn in_trace<T>(trace_id: String, work: impl Future<Output = T>) -> T {
    TRACE_ID.scope(trace_id, work).await
}

/// Does `work` for the request with this trace id, on a thread that works for many.
pub fn within_trace<T>(trace_id: Option<String>, work: impl FnOnce() -> T) -> T {
    match trace_id {
        Some(trace_id) => TRACE_ID.sync_scope(trace_id, work),
        None => work(),
    }
}

/// The trace id of a `traceparent` header (W3C Trace Context), or a fresh one.
#[must_use]
pub fn trace_id_of(traceparent: Option<&str>) -> String {
    let given = traceparent.and_then(|header| {
        let mut parts = header.split('-');
        let (version, trace_id, parent) = (parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let valid = hex(version, 2) && version != "ff" && hex(trace_id, 32) && hex(parent, 16);
        (valid && trace_id.bytes().any(|byte| byte != b'0')).then(|| trace_id.to_owned())
    });
    given.unwrap_or_else(|| format!("{:032x}", rand::rng().random_range(1..=u128::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_traceparent_names_the_trace() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id_of(Some(header)), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn anything_else_gets_a_trace_of_its_own() {
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for header in [None, Some(""), Some("junk"), Some(zeros), Some("00-XX-YY-01")] {
            let id = trace_id_of(header);
            assert!(id.len() == 32 && id != "0".repeat(32), "{header:?} gave {id}");
        }
    }
}
