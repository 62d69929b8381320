//! Metrics of this instance, in the Prometheus text format.
//!
//! Counters are plain fields, so that all code with a `Context` can update them.
//! What tables hold (outboxes, sessions, reviews) is counted by a worker now and then,
//! because counting takes longer as they grow; the rest is read when `/metrics` is requested.

mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::clock::Timestamp;
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
    /// Whether the last attempt to count succeeded.
    counted: Arc<AtomicBool>,
    /// Version of the program, and its newest migration.
    pub build: IntGaugeVec,
    /// Request durations, by method, route and status.
    pub requests: HistogramVec,
    /// The newest migration of the database.
    pub database_schema: IntGaugeVec,
    /// Answers 429, by the key of the configuration that sets the limit.
    pub rate_limited: IntCounterVec,
    /// When each worker finished a step last.
    worker_steps: GaugeVec,
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
    /// How long the oldest transaction of the writers runs.
    pub writer_oldest: Gauge,
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
    /// Whether mail waits because a provider keeps failing.
    pub mail_circuits: IntGaugeVec,
    /// Seconds since a checkpoint was delivered last, by channel.
    pub checkpoint_age: IntGaugeVec,
    /// Logs whose newest checkpoint could not be delivered, by channel.
    pub checkpoints_failing: IntGaugeVec,
    pub webhook_outbox: IntGauge,
    pub webhook_outbox_oldest: IntGauge,
    pub live_sessions: IntGauge,
    pub incomplete_sessions: IntGaugeVec,
    /// Reviews of emergencies that are open.
    pub emergency_reviews: IntGaugeVec,
    pub key_ages: IntGaugeVec,
    /// Spans by what became of them.
    pub spans: IntCounterVec,
    pub clock_behind: IntGauge,
    pub clock_offset: Gauge,
    /// Whether the issuing of links is frozen.
    pub(crate) issuing_frozen: IntGauge,
}

impl Metrics {
    fn unregistered() -> prometheus::Result<Self> {
        let batch_sizes = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(TOGETHER.to_vec());
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            registry: Registry::new_custom(Some("magic_link".to_owned()), None)?,
            of_database: Registry::new_custom(Some("magic_link".to_owned()), None)?,
            counted: Arc::default(),
            build: gauges("build_info", "The program, and its newest migration", &["version", "schema"])?,
            database_schema: gauges("database_schema_info", "The newest migration of the database", &["schema"])?,
            rate_limited: counters("rate_limited_total", "Answers 429, by the key of the limit", &["limit"])?,
            worker_steps: GaugeVec::new(
                Opts::new("worker_last_step_timestamp_seconds", "When a worker finished a step last, in Unix time"),
                &["worker"],
            )?,
            requests: HistogramVec::new(
                HistogramOpts::new("http_request_seconds", "Request durations").buckets(SECONDS.to_vec()),
                &["method", "route", "status"],
            )?,
            events: counters("events_total", "Audit events that this process committed", &["type"])?,
            marked_events: counters(
                "marked_events_total",
                "Activity events that were late or violate the grant",
                &["mark"],
            )?,
            client_errors: counters(
                "client_errors_total",
                "Requests of authenticated clients answered with 400, 422 or 429",
                &["code"],
            )?,
            reader_queue: IntGauge::new("reader_queue", "Callers left waiting when the last shared query began")?,
            read_batch: Histogram::with_opts(batch_sizes("read_batch", "Callers that shared one query"))?,
            writer_queue: IntGauge::new("writer_queue", "Write jobs that wait for a writer")?,
            write_batch: Histogram::with_opts(batch_sizes("write_batch", "Write jobs that shared one commit"))?,
            writer_oldest: Gauge::new(
                "writer_oldest_seconds",
                "Seconds since the oldest transaction of the writers began that is in progress; 0 if there is none",
            )?,
            open_connections: IntGauge::new("http_connections", "Open HTTP connections")?,
            connections_ended: counters(
                "http_connections_ended_total",
                "HTTP connections that were refused because an address has too many, or ended because the peer stalled",
                &["reason"],
            )?,
            connections: gauges("database_connections", "Pooled connections", &["state"])?,
            store_up: IntGauge::new("database_up", "Whether the database answered this request")?,
            database_faults: IntCounter::new(
                "database_faults_total",
                "Failures of the database that waiting does not mend: damage, disk errors, refused statements",
            )?,
            ready: gauges("ready", "Whether a check of readiness passed when last asked", &["check"])?,
            outbox: IntGauge::new("outbox_depth", "Mail jobs that are due or were tried, and are not finished")?,
            outbox_oldest: IntGauge::new(
                "outbox_oldest_seconds",
                "Seconds since the oldest mail job was queued that is due or was tried; 0 if there is none",
            )?,
            mail_attempts: counters("mail_attempts_total", "Attempts to send a mail", &["provider", "outcome"])?,
            mail_circuits: gauges(
                "mail_circuit_open",
                "Whether a mail provider that keeps failing is left alone",
                &["provider"],
            )?,
            checkpoint_age: gauges(
                "checkpoint_delivered_age_seconds",
                "Seconds since the last delivery",
                &["channel"],
            )?,
            checkpoints_failing: gauges(
                "checkpoints_failing",
                "Logs whose newest checkpoint was not delivered",
                &["channel"],
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
            emergency_reviews: gauges("emergency_reviews", "Open reviews of links issued in an emergency", &["state"])?,
            incomplete_sessions: gauges(
                "incomplete_sessions",
                "Sessions of the last 31 days whose activity reports are incomplete",
                &["audit_state"],
            )?,
            spans: counters("spans_total", "Spans: recorded, sent to the collector, or lost", &["outcome"])?,
            clock_behind: IntGauge::new(
                "clock_behind_seconds",
                "Seconds that the clock is behind the first signing key: while it is not 0, no link can be mailed",
            )?,
            clock_offset: Gauge::new(
                "clock_offset_seconds",
                "Seconds that the clock of the PostgreSQL server is ahead of this machine's; negative while it is behind",
            )?,
            issuing_frozen: IntGauge::new("issuing_frozen", "Whether an operator has stopped the issuing of links")?,
            key_ages: gauges("signing_key_age_seconds", "Seconds since a signing key was created", &["kid", "state"])?,
        };
        Ok(metrics)
    }

    /// Creates and registers every metric.
    ///
    /// # Errors
    /// When two metrics share a name, which a test would catch.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let metrics = Self::unregistered()?;
        metrics.collectors().into_iter().try_for_each(|one| metrics.registry.register(one))?;
        metrics.counted_collectors().into_iter().try_for_each(|one| metrics.of_database.register(one))?;
        // An alert asks how much they grew: they begin with 0.
        metrics.events.with_label_values(&["audit.checkpoint_refused"]);
        metrics.marked_events.with_label_values(&["policy_violation"]);
        Ok(metrics)
    }

    /// What this process knows.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.build.clone()),
            Box::new(self.rate_limited.clone()),
            Box::new(self.worker_steps.clone()),
            Box::new(self.writer_oldest.clone()),
            Box::new(self.mail_attempts.clone()),
            Box::new(self.mail_circuits.clone()),
            Box::new(self.requests.clone()),
            Box::new(self.events.clone()),
            Box::new(self.marked_events.clone()),
            Box::new(self.client_errors.clone()),
            Box::new(self.reader_queue.clone()),
            Box::new(self.read_batch.clone()),
            Box::new(self.writer_queue.clone()),
            Box::new(self.write_batch.clone()),
            Box::new(self.open_connections.clone()),
            Box::new(self.connections_ended.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.store_up.clone()),
            Box::new(self.database_faults.clone()),
            Box::new(self.ready.clone()),
            Box::new(self.key_ages.clone()),
            Box::new(self.spans.clone()),
            Box::new(self.clock_behind.clone()),
            Box::new(self.clock_offset.clone()),
            Box::new(self.issuing_frozen.clone()),
        ]
    }

    /// What the database holds.
    fn counted_collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.database_schema.clone()),
            Box::new(self.outbox.clone()),
            Box::new(self.outbox_oldest.clone()),
            Box::new(self.webhook_outbox.clone()),
            Box::new(self.webhook_outbox_oldest.clone()),
            Box::new(self.live_sessions.clone()),
            Box::new(self.incomplete_sessions.clone()),
            Box::new(self.emergency_reviews.clone()),
            Box::new(self.checkpoint_age.clone()),
            Box::new(self.checkpoints_failing.clone()),
        ]
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

    /// Counts an answer 429 by its limit.
    pub(crate) fn limited(&self, error: &Error) {
        if error.code().status() == 429 {
            let limit = error.limited_by_key().unwrap_or_else(|| error.code().slug());
            self.rate_limited.with_label_values(&[limit]).inc();
        }
    }

    /// Notes that a worker has finished a step.
    #[expect(clippy::cast_precision_loss, reason = "microseconds are exact for longer than the calendar lasts")]
    pub(crate) fn stepped(&self, worker: &str, now: Timestamp) {
        self.worker_steps.with_label_values(&[worker]).set(now.unix_micros() as f64 / 1e6);
    }

    /// Notes whether what the tables hold could be counted.
    pub(crate) fn counted(&self, succeeded: bool) {
        self.counted.store(succeeded, Ordering::Relaxed);
    }

    /// The response of `/metrics`; with the gauges of the database while it answers: an old value would be a lie.
    pub(crate) fn text(&self, with_database: bool) -> Result<Vec<u8>, Error> {
        let mut families = self.registry.gather();
        if with_database && self.counted.load(Ordering::Relaxed) {
            families.extend(self.of_database.gather());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).map_err(Error::internal)?;
        text.extend(process::text().unwrap_or_default().into_bytes());
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_metrics_share_a_name() {
        let metrics = Metrics::new().unwrap();
        metrics.counted(true);
        metrics.answered(("POST", "/v1/introspect"), "200", std::time::Duration::from_micros(20));
        metrics.answered(("BREW", "/v1/introspect"), "405", std::time::Duration::from_micros(20));
        let text = |with_database| String::from_utf8(metrics.text(with_database).unwrap()).unwrap();
        let count = |labels: &str| format!("magic_link_http_request_seconds_count{{{labels}}} 1");
        assert!(text(true).contains(&count("method=\"POST\",route=\"/v1/introspect\",status=\"200\"")));
        assert!(text(true).contains(&count("method=\"other\",route=\"/v1/introspect\",status=\"405\"")));
        assert!(text(true).contains("magic_link_outbox_depth") && !text(false).contains("magic_link_outbox_depth"));
    }

    /// Names of metrics in a text; those of a histogram's parts are its own.
    fn named(text: &str) -> BTreeSet<String> {
        let names = regex_lite::Regex::new("\\b(magic_link|process)_[a-z_]+").unwrap();
        let whole = |name: &str| {
            let parts = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
            parts.filter(|whole| whole.ends_with("_batch") || whole.ends_with("_seconds")).unwrap_or(name).to_owned()
        };
        names.find_iter(text).map(|found| whole(found.as_str())).collect()
    }

    #[test]
    fn pages_alerts_and_dashboard_name_the_metrics_that_there_are() {
        let metrics = Metrics::new().unwrap();
        let collectors = metrics.collectors().into_iter().chain(metrics.counted_collectors());
        let described: Vec<_> =
            collectors.flat_map(|one| one.desc().into_iter().cloned().collect::<Vec<_>>()).collect();
        let mut exist: BTreeSet<String> = described.iter().map(|one| format!("magic_link_{}", one.fq_name)).collect();
        let of_process = named(&process::text().unwrap());
        assert_eq!(of_process.len(), 7, "{of_process:?}");
        exist.extend(of_process);
        let page = include_str!("../docker/README.md");
        let table = page.split_once("| metric | meaning |").unwrap().1.split_once("\n\n").unwrap().0;
        assert_eq!(named(table), exist, "docker/README.md: the table of metrics");
        for (metric, labels) in described.iter().map(|one| (&one.fq_name, &one.variable_labels)) {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            assert!(table.contains(&format!("`magic_link_{metric}{labels}`")), "docker/README.md: {metric}{labels}");
        }
        for (file, text) in [
            ("rules.yml", include_str!("../docker/prometheus/rules.yml")),
            ("rules_test.yml", include_str!("../docker/prometheus/rules_test.yml")),
            ("dashboard.json", include_str!("../docker/prometheus/dashboard.json")),
            ("RUNBOOKS.md", include_str!("../docker/RUNBOOKS.md")),
        ] {
            let unknown: Vec<String> = named(text).difference(&exist).cloned().collect();
            assert!(unknown.is_empty(), "{file} names what no copy tells: {unknown:?}");
        }
    }

    #[test]
    fn each_alert_has_its_runbook() {
        let rules = include_str!("../docker/prometheus/rules.yml");
        let sections = include_str!("../docker/RUNBOOKS.md").lines().filter_map(|line| line.strip_prefix("## "));
        let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
        assert_eq!(sections.collect::<BTreeSet<_>>(), alerts);
        for alert in alerts {
            let link = format!("docker/RUNBOOKS.md#{}\n", alert.to_lowercase());
            assert!(rules.contains(&link), "{alert} has no link to its runbook");
        }
    }
}
