//! Spans: how long which part of the work for a request takes, for a collector of OpenTelemetry.
//!
//! Only a build with the feature `otlp` has any (`otlp.rs`). In another one a [`Tracer`] and a [`Span`] hold nothing but
//! the place in the caller's trace (`no_spans.rs`).
//!
//! No span holds a path, a query, an address of a person, a token or a text of anybody's: what it says is of a known few
//! words, a number, or an id of ours.

#[cfg(not(feature = "otlp"))]
use super::no_spans::{Exporter, Recording};
#[cfg(feature = "otlp")]
use super::otlp::{Exporter, Recording};
use super::trace::TraceContext;
use crate::config::Traces;
use crate::metrics::Metrics;

/// What a span is about (OpenTelemetry's `SpanKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// A request.
    Server,
    /// A call to somebody else, whose answer is waited for.
    Client,
}

/// Spans cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TracesError(String);

impl TracesError {
    pub(super) fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// What records spans, if anything does. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tracer {
    exporter: Option<Exporter>,
}

/// A span that has begun. It ends when it is dropped.
pub(crate) struct Span {
    context: Option<TraceContext>,
    recording: Option<Recording>,
}

impl Tracer {
    /// Prepares to send spans, if the configuration says where to.
    ///
    /// # Errors
    /// When the client for it cannot be made.
    pub(crate) fn open(traces: &Traces, metrics: &Metrics) -> Result<Self, TracesError> {
        let exporter = traces.endpoint.as_ref().map(|url| Exporter::open(url, traces, metrics)).transpose()?;
        Ok(Self { exporter })
    }

    /// Begins the span of a request: below the caller's, or the first one of a trace.
    pub(crate) fn serve(&self, traceparent: Option<&str>) -> Span {
        let given = traceparent.and_then(TraceContext::parse);
        let mut span = self.begin(SpanKind::Server, "HTTP", given);
        span.context.get_or_insert_with(TraceContext::alone);
        span
    }

    /// The same for a request that nobody wants a span of, unless its caller records one.
    pub(crate) fn serve_quietly(&self, traceparent: Option<&str>) -> Span {
        match traceparent.and_then(TraceContext::parse) {
            Some(given) => self.begin(SpanKind::Server, "HTTP", Some(given)),
            None => Span::nowhere(Some(TraceContext::alone())),
        }
    }

    /// Begins a span, below that of the caller if there is one.
    pub(crate) fn begin(&self, kind: SpanKind, name: &'static str, parent: Option<TraceContext>) -> Span {
        match &self.exporter {
            Some(exporter) if parent.is_none_or(|parent| parent.parts().is_some()) => {
                let (context, recording) = exporter.begin(kind, name, parent);
                Span { context: context.or(parent), recording }
            }
            _ => Span::nowhere(parent),
        }
    }

    /// Begins a span below that of the current request, if its spans are recorded.
    pub(crate) fn begin_below(&self, kind: SpanKind, name: &'static str) -> Span {
        match TraceContext::current() {
            Some(parent) if parent.is_sampled() => self.begin(kind, name, Some(parent)),
            parent => Span::nowhere(parent),
        }
    }

    /// Sends what has ended, and waits for it, but not for long.
    pub(crate) async fn finish(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.finish().await;
        }
    }
}

impl Span {
    const fn nowhere(context: Option<TraceContext>) -> Self {
        Self { context, recording: None }
    }

    /// The place in the trace for what is done within this span.
    pub(crate) const fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Says something about it.
    pub(crate) fn note<'v>(&mut self, key: &'static str, value: impl Into<Value<'v>>) {
        if let Some(recording) = &mut self.recording {
            recording.note(key, &value.into());
        }
    }

    /// Gives it another name.
    pub(crate) fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(recording) = &mut self.recording {
            recording.rename(name());
        }
    }

    /// Says that it failed, and by which kind of error.
    pub(crate) fn fail(&mut self, kind: &str) {
        if let Some(recording) = &mut self.recording {
            recording.fail(kind);
        }
    }

    /// Links it to another one.
    pub(crate) fn link(&mut self, to: Option<TraceContext>) {
        if let (Some(recording), Some(to)) = (&mut self.recording, to) {
            recording.link(to);
        }
    }

    /// Ends it before what follows.
    #[expect(clippy::unused_self, reason = "it ends where it is dropped")]
    pub(crate) fn end(self) {}
}

/// A value of an attribute.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "what records spans reads it"))]
pub(crate) enum Value<'v> {
    Text(&'v str),
    Number(i64),
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<i32> for Value<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
