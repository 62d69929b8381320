//! What records spans in a build without the feature `otlp`: nothing. Neither type has a value, so what is done with one is
//! compiled away.

use std::future::Ready;

use url::Url;

use super::spans::{SpanKind, TracesError, Value};
use super::trace::TraceContext;
use crate::config::Traces;
use crate::metrics::Metrics;

#[derive(Clone)]
pub(super) enum Exporter {}

pub(super) enum Recording {}

impl Exporter {
    pub(super) fn open(_endpoint: &Url, _traces: &Traces, _metrics: &Metrics) -> Result<Self, TracesError> {
        Err(TracesError::new("this build sends no spans"))
    }

    pub(super) const fn begin(
        &self,
        _kind: SpanKind,
        _name: &'static str,
        _parent: Option<TraceContext>,
    ) -> (Option<TraceContext>, Option<Recording>) {
        match *self {}
    }

    pub(super) const fn finish(&self) -> Ready<()> {
        match *self {}
    }
}

impl Recording {
    pub(super) const fn note(&mut self, _key: &'static str, _value: &Value<'_>) {
        match *self {}
    }

    pub(super) fn rename(&mut self, _name: String) {
        match *self {}
    }

    pub(super) const fn fail(&mut self, _kind: &str) {
        match *self {}
    }

    pub(super) const fn link(&mut self, _to: TraceContext) {
        match *self {}
    }
}
