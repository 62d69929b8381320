//! Which trace a piece of work belongs to (W3C Trace Context).

use std::fmt;
use std::num::NonZeroU64;

use rand::RngExt;
use tokio::task::futures::TaskLocalFuture;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Trace id of a request, found in its log lines, audit events and response: 16 bytes, not all zero, written as 32 hex
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::rng().random_range(1..=u128::MAX))
    }

    /// The trace id of the request that the current task works for.
    #[must_use]
    pub fn current() -> Option<Self> {
        TraceContext::current().map(|context| context.trace_id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The bits of `trace-flags` that have a meaning: `sampled`, and that the trace id is random.
const FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b01;

/// A place in a trace: what is done there, and what follows from it, belongs below its span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    /// None where nobody records a span: neither the caller nor this service.
    span_id: Option<NonZeroU64>,
    flags: u8,
}

impl TraceContext {
    /// The place in a trace of nobody else's.
    #[must_use]
    pub fn alone() -> Self {
        Self { trace_id: TraceId::random(), span_id: None, flags: 0 }
    }

    /// The place that a `traceparent` names; `None` if it is not valid. Of a later version the known part is read.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = traceparent.splitn(5, '-');
        let mut part = |length| parts.next().filter(|part| part.len() == length && is_hex(part));
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        Some(Self {
            trace_id: TraceId(u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?),
            span_id: Some(NonZeroU64::new(u64::from_str_radix(span_id, 16).ok()?)?),
            flags: u8::from_str_radix(flags, 16).ok()? & FLAGS,
        })
    }

    /// The `traceparent` for whatever is called from here, if anybody records this trace.
    ///
    /// The caller's `tracestate` ends here: it is free text, and would go to other parties.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        self.span_id.map(|span_id| format!("00-{}-{span_id:016x}-{:02x}", self.trace_id, self.flags))
    }

    /// The id of the trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Whether the one who began the trace wants its spans to be recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0 && self.span_id.is_some()
    }

    /// That of the request that the current task works for.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }

    /// Runs a future at this place.
    pub fn scope<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self, work)
    }

    /// Runs a closure at a place, on a thread that serves many requests.
    pub fn scope_of<T>(context: Option<Self>, work: impl FnOnce() -> T) -> T {
        match context {
            Some(context) => CURRENT.sync_scope(context, work),
            None => work(),
        }
    }
}

/// What the spans of OpenTelemetry have of a place.
impl TraceContext {
    #[cfg(feature = "otlp")]
    pub(super) const fn of_parts(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        match (trace_id, NonZeroU64::new(span_id)) {
            (0, _) | (_, None) => None,
            (trace_id, span_id) => Some(Self { trace_id: TraceId(trace_id), span_id, flags: flags & FLAGS }),
        }
    }

    /// Trace id, span id and flags; `None` where nobody records a span.
    pub(super) fn parts(self) -> Option<(u128, u64, u8)> {
        self.span_id.map(|span_id| (self.trace_id.0, span_id.get(), self.flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_traceparent_names_the_trace_and_is_passed_on() {
        let context = TraceContext::parse(HEADER).unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled());
        assert_eq!(context.traceparent().as_deref(), Some(HEADER));
        for (given, passed_on) in [("-00", "-00"), ("-02", "-02"), ("-ff", "-03"), ("-08", "-00")] {
            let passed = TraceContext::parse(&HEADER.replace("-01", given)).unwrap().traceparent().unwrap();
            assert!(passed.ends_with(passed_on), "{given}: {passed}");
        }
        let later = HEADER.replacen("00-", "cc-", 1) + "-what-comes-later";
        assert_eq!(TraceContext::parse(&later).unwrap().traceparent().as_deref(), Some(HEADER));
    }

    #[test]
    fn nothing_else_does() {
        for wrong in [
            "",
            "junk",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-XX-YY-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
        let alone = TraceContext::alone();
        assert!(alone.trace_id().to_string().len() == 32 && alone.trace_id() != TraceContext::alone().trace_id());
        assert_eq!((alone.traceparent(), alone.is_sampled()), (None, false));
    }
}
