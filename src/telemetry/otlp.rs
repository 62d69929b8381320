//! Sends spans to a collector of OpenTelemetry (OTLP over HTTP), from a thread of its own: a request only puts its spans
//! into a bounded queue, and what finds that full is lost.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind as OtelKind, Status, TraceContextExt, TraceFlags, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use prometheus::IntCounter;
use reqwest::blocking::Client;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use tokio::sync::oneshot;
use url::Url;

use super::spans::{SpanKind, TracesError, Value};
use super::trace::TraceContext;
use crate::config::Traces;
use crate::metrics::Metrics;
use crate::secrets::Kept;

/// Time-out of a call to the collector.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Time for sending what is left when the service stops.
const LAST_CALL: Duration = Duration::from_secs(3);

/// Records spans, and sends them in batches.
#[derive(Clone)]
pub(super) struct Exporter {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    recorded: IntCounter,
}

impl Exporter {
    pub(super) fn open(endpoint: &Url, traces: &Traces, metrics: &Metrics) -> Result<Self, TracesError> {
        let http = Collector { http: client()?, headers: traces.headers.clone() };
        let exporter = OtlpExporter::builder().with_http().with_http_client(http).with_endpoint(endpoint.as_str());
        let exporter = Counted {
            exporter: exporter.build().map_err(TracesError::new)?,
            sent: metrics.spans.with_label_values(&["sent"]),
            lost: metrics.spans.with_label_values(&["lost"]),
        };
        // What a deployment says in OTEL_RESOURCE_ATTRIBUTES comes last, and counts.
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes([
                KeyValue::new("service.name", traces.service_name.clone()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .with_detector(Box::new(EnvResourceDetector::new()))
            .build();
        let mut builder = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter);
        if let Some(ratio) = traces.sample_ratio {
            builder = builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))));
        }
        let provider = builder.build();
        Ok(Self {
            tracer: provider.tracer("magic-link"),
            provider,
            recorded: metrics.spans.with_label_values(&["recorded"]),
        })
    }

    /// Begins a span: its place, and what is recorded of it unless it was sampled out.
    pub(super) fn begin(
        &self,
        kind: SpanKind,
        name: &'static str,
        parent: Option<TraceContext>,
    ) -> (Option<TraceContext>, Option<Recording>) {
        let mut builder = self.tracer.span_builder(name);
        builder.span_kind = Some(match kind {
            SpanKind::Server => OtelKind::Server,
            SpanKind::Client => OtelKind::Client,
        });
        let below = parent
            .and_then(of_context)
            .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let span = self.tracer.build_with_context(builder, &below);
        let own = span.span_context();
        // None after the end, when the provider was shut down.
        let context = TraceContext::of_parts(
            u128::from_be_bytes(own.trace_id().to_bytes()),
            u64::from_be_bytes(own.span_id().to_bytes()),
            own.trace_flags().to_u8(),
        );
        let recording = span.is_recording().then(|| {
            self.recorded.inc();
            Recording(Box::new(span))
        });
        (context, recording)
    }

    pub(super) async fn finish(&self) {
        let provider = self.provider.clone();
        let (told, done) = oneshot::channel::<()>();
        let work = move || {
            // What could not be sent was logged and counted.
            drop(provider.shutdown_with_timeout(LAST_CALL));
            drop(told);
        };
        if std::thread::Builder::new().name("last-spans".to_owned()).spawn(work).is_ok() {
            drop(tokio::time::timeout(LAST_CALL, done).await);
        }
    }
}

/// The place in a trace as OpenTelemetry has it.
fn of_context(context: TraceContext) -> Option<SpanContext> {
    let (trace_id, span_id, flags) = context.parts()?;
    let flags = TraceFlags::new(flags);
    Some(SpanContext::new(trace_id.into(), span_id.into(), flags, true, TraceState::NONE))
}

/// A span that is recorded.
pub(super) struct Recording(Box<opentelemetry_sdk::trace::Span>);

impl Recording {
    pub(super) fn note(&mut self, key: &'static str, value: &Value<'_>) {
        self.0.set_attribute(match value {
            Value::Text(text) => KeyValue::new(key, (*text).to_owned()),
            Value::Number(number) => KeyValue::new(key, *number),
        });
    }

    pub(super) fn rename(&mut self, name: String) {
        self.0.update_name(name);
    }

    pub(super) fn fail(&mut self, kind: &str) {
        self.note("error.type", &Value::Text(kind));
        self.0.set_status(Status::error(""));
    }

    pub(super) fn link(&mut self, to: TraceContext) {
        if let Some(to) = of_context(to) {
            self.0.add_link(to, Vec::new());
        }
    }
}

/// The client for the collector, which follows no redirect. It is made on a thread of its own: it has a runtime, and none
/// may be made within another.
fn client() -> Result<Client, TracesError> {
    let make = || Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
    let client = std::thread::spawn(make).join();
    client.map_err(|_panic| TracesError::new("the HTTP client cannot be made"))?.map_err(TracesError::new)
}

/// Calls the collector.
struct Collector {
    http: Client,
    headers: Option<Kept<HeaderMap>>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        if let Some(headers) = &self.headers {
            // As they are now: the file that they stand in may have changed.
            request.headers_mut().extend(headers.get());
        }
        let answer = self.http.execute(request.try_into()?).map_err(reqwest::Error::without_url)?;
        // What it says is of no use, and its length is its own choice.
        Ok(Response::builder().status(answer.status()).body(Bytes::new())?)
    }
}

/// Counts what was sent and what was lost.
#[derive(Debug)]
struct Counted {
    exporter: OtlpExporter,
    sent: IntCounter,
    lost: IntCounter,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let outcome = self.exporter.export(batch).await;
        match &outcome {
            Ok(()) => self.sent.inc_by(spans),
            Err(error) => {
                self.lost.inc_by(spans);
                tracing::warn!(traces.spans = spans, error.cause = %error, "spans are lost: the collector did not take them");
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
