//! What the process counts, in the Prometheus text format.
//!
//! Counters live here as plain fields, so that whoever has the [`crate::cx::App`]
//! can add to them. What the store knows better (outbox, live sessions, keys) is
//! asked when somebody looks.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::error::Error;

/// Upper bounds of the request histogram, in seconds.
const SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of what is done together.
const TOGETHER: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Everything that is counted.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    /// How long requests took, by route and status.
    pub requests: HistogramVec,
    /// Acts on record, by type: revocations, sessions opened, links issued.
    pub events: IntCounterVec,
    /// Reported acts that somebody should look at: late ones, and changes where only looking was granted.
    pub marked_events: IntCounterVec,
    /// Calls of known clients that were wrong in themselves, by code.
    pub client_errors: IntCounterVec,
    /// Callers that wait for the coalescing reader.
    pub reader_queue: IntGauge,
    /// How many callers shared a read.
    pub read_batch: Histogram,
    /// Acts that wait for a writer.
    pub writer_queue: IntGauge,
    /// How many acts shared a commit.
    pub write_batch: Histogram,
    /// Pooled connections, by whether they are in use.
    pub connections: IntGaugeVec,
    pub store_up: IntGauge,
    pub outbox: IntGauge,
    pub webhook_outbox: IntGauge,
    pub live_sessions: IntGauge,
    pub incomplete_sessions: IntGaugeVec,
    pub key_ages: IntGaugeVec,
}

impl Metrics {
    /// Makes and registers everything.
    ///
    /// # Errors
    /// When a name is taken twice, which a test would see.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let together = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(TOGETHER.to_vec());
        let metrics = Self {
            registry: Registry::new_custom(Some("magic_link".to_owned()), None)?,
            requests: HistogramVec::new(
                HistogramOpts::new("http_request_seconds", "How long requests took").buckets(SECONDS.to_vec()),
                &["route", "status"],
            )?,
            events: IntCounterVec::new(
                Opts::new("events_total", "Audit events that this process committed"),
                &["type"],
            )?,
            marked_events: IntCounterVec::new(
                Opts::new(
                    "marked_events_total",
                    "Reported acts that were late, or against the access that was granted",
                ),
                &["mark"],
            )?,
            client_errors: IntCounterVec::new(
                Opts::new("client_errors_total", "Calls of known clients that were answered with 400, 422 or 429"),
                &["code"],
            )?,
            reader_queue: IntGauge::new("reader_queue", "Callers left waiting when the last shared read began")?,
            read_batch: Histogram::with_opts(together("read_batch", "Callers that shared one read"))?,
            writer_queue: IntGauge::new("writer_queue", "Acts that wait for a writer")?,
            write_batch: Histogram::with_opts(together("write_batch", "Acts that shared one commit"))?,
            connections: IntGaugeVec::new(Opts::new("database_connections", "Pooled connections"), &["state"])?,
            store_up: IntGauge::new("database_up", "Whether the database answered this look")?,
            outbox: IntGauge::new("outbox_depth", "Mails that are not finished")?,
            webhook_outbox: IntGauge::new("webhook_outbox_depth", "Webhook messages that are not settled")?,
            live_sessions: IntGauge::new("active_sessions", "Sessions that hold")?,
            incomplete_sessions: IntGaugeVec::new(
                Opts::new("incomplete_sessions", "Sessions of the last 31 days whose reports are not whole"),
                &["audit_state"],
            )?,
            key_ages: IntGaugeVec::new(
                Opts::new("signing_key_age_seconds", "Seconds since a signing key was made"),
                &["kid", "state"],
            )?,
        };
        metrics.registry.register(Box::new(metrics.requests.clone()))?;
        metrics.registry.register(Box::new(metrics.events.clone()))?;
        metrics.registry.register(Box::new(metrics.marked_events.clone()))?;
        metrics.registry.register(Box::new(metrics.client_errors.clone()))?;
        metrics.registry.register(Box::new(metrics.incomplete_sessions.clone()))?;
        metrics.registry.register(Box::new(metrics.reader_queue.clone()))?;
        metrics.registry.register(Box::new(metrics.read_batch.clone()))?;
        metrics.registry.register(Box::new(metrics.writer_queue.clone()))?;
        metrics.registry.register(Box::new(metrics.write_batch.clone()))?;
        metrics.registry.register(Box::new(metrics.connections.clone()))?;
        metrics.registry.register(Box::new(metrics.store_up.clone()))?;
        metrics.registry.register(Box::new(metrics.outbox.clone()))?;
        metrics.registry.register(Box::new(metrics.webhook_outbox.clone()))?;
        metrics.registry.register(Box::new(metrics.live_sessions.clone()))?;
        metrics.registry.register(Box::new(metrics.key_ages.clone()))?;
        Ok(metrics)
    }

    /// Notes a request that was answered.
    pub(crate) fn answered(&self, route: &str, status: &str, took: std::time::Duration) {
        self.requests.with_label_values(&[route, status]).observe(took.as_secs_f64());
    }

    /// The text that `/metrics` shows.
    pub(crate) fn text(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(Error::internal)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_metrics_share_a_name() {
        let metrics = Metrics::new().unwrap();
        metrics.answered("/v1/introspect", "200", std::time::Duration::from_micros(20));
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert!(text.contains("magic_link_http_request_seconds_count{route=\"/v1/introspect\",status=\"200\"} 1"));
    }
}
