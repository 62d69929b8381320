//! Metrics of this instance, in the Prometheus text format.
//!
//! Counters are plain fields, so that all code with a `Context` can update them.
//! What the store knows better (outboxes, active sessions, keys) is read when
//! `/metrics` is requested.

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::error::{Code, Error};

/// Upper bounds of the buckets of request durations, in seconds.
const SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of the buckets of batch sizes.
const TOGETHER: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Every metric.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Gauges of what the database holds: they are told only while it answers.
    of_database: Registry,
    /// Version of the program, and its newest migration.
    pub build: IntGaugeVec,
    /// Request durations, by method, route and status.
    pub requests: HistogramVec,
    /// Committed audit events, by type.
    pub events: IntCounterVec,
    /// Activity events to review: reported late, or changes under read-only access.
    pub marked_events: IntCounterVec,
    /// Invalid or rate-limited requests of authenticated clients (400, 422, 429), by code.
    pub client_errors: IntCounterVec,
    /// Callers left waiting when the coalescing reader began its last query.
    pub reader_queue: IntGauge,
    /// Callers that shared one query.
    pub read_batch: Histogram,
    /// Write jobs that wait for a writer.
    pub writer_queue: IntGauge,
    /// Write jobs that shared one commit.
    pub write_batch: Histogram,
    /// Open HTTP connections.
    pub open_connections: IntGauge,
    /// Connections that were refused or ended, by reason.
    pub connections_ended: IntCounterVec,
    /// Pooled connections, by whether they are in use.
    pub connections: IntGaugeVec,
    pub store_up: IntGauge,
    /// Failures of the database that waiting does not mend.
    pub database_faults: IntCounter,
    /// Outcome of each check of readiness, when it was last asked for.
    pub ready: IntGaugeVec,
    pub outbox: IntGauge,
    pub outbox_oldest: IntGauge,
    /// Attempts to send a mail, by provider and outcome.
    pub mail_attempts: IntCounterVec,
    pub webhook_outbox: IntGauge,
    pub webhook_outbox_oldest: IntGauge,
    pub live_sessions: IntGauge,
    pub incomplete_sessions: IntGaugeVec,
    /// Reviews of emergencies that are open.
    pub emergency_reviews: IntGaugeVec,
    pub key_ages: IntGaugeVec,
    pub clock_behind: IntGauge,
    pub clock_offset: Gauge,
    /// Whether the issuing of links is frozen.
    pub(crate) issuing_frozen: IntGauge,
}

impl Metrics {
    /// Creates and registers every metric.
    ///
    /// # Errors
    /// When two metrics share a name, which a test would catch.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let batch_sizes = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(TOGETHER.to_vec());
        let metrics = Self {
            registry: Registry::new_custom(Some("magic_link".to_owned()), None)?,
            of_database: Registry::new_custom(Some("magic_link".to_owned()), None)?,
            build: IntGaugeVec::new(
                Opts::new("build_info", "Version of the program, and the newest migration that it knows"),
                &["version", "schema"],
            )?,
            requests: HistogramVec::new(
                HistogramOpts::new("http_request_seconds", "Request durations").buckets(SECONDS.to_vec()),
                &["method", "route", "status"],
            )?,
            events: IntCounterVec::new(
                Opts::new("events_total", "Audit events that this process committed"),
                &["type"],
            )?,
            marked_events: IntCounterVec::new(
                Opts::new(
                    "marked_events_total",
                    "Activity events that were reported late or violate the granted access",
                ),
                &["mark"],
            )?,
            client_errors: IntCounterVec::new(
                Opts::new("client_errors_total", "Requests of authenticated clients answered with 400, 422 or 429"),
                &["code"],
            )?,
            reader_queue: IntGauge::new("reader_queue", "Callers left waiting when the last shared query began")?,
            read_batch: Histogram::with_opts(batch_sizes("read_batch", "Callers that shared one query"))?,
            writer_queue: IntGauge::new("writer_queue", "Write jobs that wait for a writer")?,
            write_batch: Histogram::with_opts(batch_sizes("write_batch", "Write jobs that shared one commit"))?,
            open_connections: IntGauge::new("http_connections", "Open HTTP connections")?,
            connections_ended: IntCounterVec::new(
                Opts::new(
                    "http_connections_ended_total",
                    "HTTP connections that were refused because an address has too many, or ended because the peer stalled",
                ),
                &["reason"],
            )?,
            connections: IntGaugeVec::new(Opts::new("database_connections", "Pooled connections"), &["state"])?,
            store_up: IntGauge::new("database_up", "Whether the database answered this request")?,
            database_faults: IntCounter::new(
                "database_faults_total",
                "Failures of the database that waiting does not mend: damage, disk errors, refused statements",
            )?,
            ready: IntGaugeVec::new(
                Opts::new("ready", "Whether a check of readiness passed when last asked"),
                &["check"],
            )?,
            outbox: IntGauge::new("outbox_depth", "Mail jobs that are due or were tried, and are not finished")?,
            outbox_oldest: IntGauge::new(
                "outbox_oldest_seconds",
                "Seconds since the oldest mail job was queued that is due or was tried; 0 if there is none",
            )?,
            mail_attempts: IntCounterVec::new(
                Opts::new("mail_attempts_total", "Attempts of this process to send a mail"),
                &["provider", "outcome"],
            )?,
            webhook_outbox_oldest: IntGauge::new(
                "webhook_outbox_oldest_seconds",
                "Seconds since the oldest webhook message was made that is not finished; 0 if there is none",
            )?,
            webhook_outbox: IntGauge::new(
                "webhook_outbox_depth",
                "Webhook messages that are not finished, and events whose messages are not written yet",
            )?,
            live_sessions: IntGauge::new("active_sessions", "Active sessions")?,
            emergency_reviews: IntGaugeVec::new(
                Opts::new(
                    "emergency_reviews",
                    "Reviews of links that were issued in an emergency, as far as they are open",
                ),
                &["state"],
            )?,
            incomplete_sessions: IntGaugeVec::new(
                Opts::new("incomplete_sessions", "Sessions of the last 31 days whose activity reports are incomplete"),
                &["audit_state"],
            )?,
            clock_behind: IntGauge::new(
                "clock_behind_seconds",
                "Seconds that the clock is behind the first signing key: while it is not 0, no link can be mailed",
            )?,
            clock_offset: Gauge::new(
                "clock_offset_seconds",
                "Seconds that the clock of the PostgreSQL server is ahead of this machine's; negative while it is behind",
            )?,
            issuing_frozen: IntGauge::new("issuing_frozen", "Whether an operator has stopped the issuing of links")?,
            key_ages: IntGaugeVec::new(
                Opts::new("signing_key_age_seconds", "Seconds since a signing key was created"),
                &["kid", "state"],
            )?,
        };
        metrics.registered()
    }

    fn registered(self) -> prometheus::Result<Self> {
        self.registry.register(Box::new(self.build.clone()))?;
        self.registry.register(Box::new(self.mail_attempts.clone()))?;
        self.of_database.register(Box::new(self.outbox_oldest.clone()))?;
        self.of_database.register(Box::new(self.webhook_outbox_oldest.clone()))?;
        self.registry.register(Box::new(self.requests.clone()))?;
        self.registry.register(Box::new(self.events.clone()))?;
        self.registry.register(Box::new(self.marked_events.clone()))?;
        self.registry.register(Box::new(self.client_errors.clone()))?;
        self.of_database.register(Box::new(self.emergency_reviews.clone()))?;
        self.of_database.register(Box::new(self.incomplete_sessions.clone()))?;
        self.registry.register(Box::new(self.reader_queue.clone()))?;
        self.registry.register(Box::new(self.read_batch.clone()))?;
        self.registry.register(Box::new(self.writer_queue.clone()))?;
        self.registry.register(Box::new(self.write_batch.clone()))?;
        self.registry.register(Box::new(self.open_connections.clone()))?;
        self.registry.register(Box::new(self.connections_ended.clone()))?;
        self.registry.register(Box::new(self.connections.clone()))?;
        self.registry.register(Box::new(self.store_up.clone()))?;
        self.registry.register(Box::new(self.database_faults.clone()))?;
        self.registry.register(Box::new(self.ready.clone()))?;
        self.of_database.register(Box::new(self.outbox.clone()))?;
        self.of_database.register(Box::new(self.webhook_outbox.clone()))?;
        self.of_database.register(Box::new(self.live_sessions.clone()))?;
        self.registry.register(Box::new(self.key_ages.clone()))?;
        self.registry.register(Box::new(self.clock_behind.clone()))?;
        self.registry.register(Box::new(self.clock_offset.clone()))?;
        self.registry.register(Box::new(self.issuing_frozen.clone()))?;
        Ok(self)
    }

    /// Records the duration of a request.
    pub(crate) fn answered(&self, (method, route): (&str, &str), status: &str, took: std::time::Duration) {
        // Whoever invents methods makes no series of their own.
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method);
        let method = if known { method } else { "other" };
        self.requests.with_label_values(&[method, route, status]).observe(took.as_secs_f64());
    }

    /// Counts an error of the store, if it is one that lasts.
    pub(crate) fn failed(&self, error: &Error) {
        if error.code() == Code::DatabaseFault {
            self.database_faults.inc();
        }
    }

    /// The response of `/metrics`; with the gauges of the database while it answers: an old value would be a lie.
    pub(crate) fn text(&self, with_database: bool) -> Result<Vec<u8>, Error> {
        let mut families = self.registry.gather();
        if with_database {
            families.extend(self.of_database.gather());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).map_err(Error::internal)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_metrics_share_a_name() {
        let metrics = Metrics::new().unwrap();
        metrics.answered(("POST", "/v1/introspect"), "200", std::time::Duration::from_micros(20));
        metrics.answered(("BREW", "/v1/introspect"), "405", std::time::Duration::from_micros(20));
        let text = |with_database| String::from_utf8(metrics.text(with_database).unwrap()).unwrap();
        let count = |labels: &str| format!("magic_link_http_request_seconds_count{{{labels}}} 1");
        assert!(text(true).contains(&count("method=\"POST\",route=\"/v1/introspect\",status=\"200\"")));
        assert!(text(true).contains(&count("method=\"other\",route=\"/v1/introspect\",status=\"405\"")));
        assert!(text(true).contains("magic_link_outbox_depth") && !text(false).contains("magic_link_outbox_depth"));
    }
}
