//! Where spans are sent. The variables that OpenTelemetry has for it count where no key of ours says otherwise.

use figment::Figment;
use figment::providers::Serialized;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::reader::{Reader, is_loopback_url};
use crate::secrets::Kept;

/// Path of a collector for spans (OTLP over HTTP).
const PATH: &str = "/v1/traces";

/// Where spans are sent, and which.
#[derive(Debug, Clone)]
pub struct Traces {
    /// URL that takes spans (OTLP over HTTP, protobuf); without one nothing is recorded.
    pub endpoint: Option<Url>,
    /// Headers of each call, such as a key of the collector's.
    pub headers: Option<Kept<HeaderMap>>,
    /// Share of the traces that begin here and are recorded; of others their caller has decided.
    pub sample_ratio: Option<f64>,
    /// `service.name` of the spans.
    pub service_name: String,
}

/// What the variables of OpenTelemetry say, below everything else.
pub(super) fn of_opentelemetry() -> Figment {
    let variable = |name: &str| std::env::var_os(name)?.into_string().ok().filter(|text| !text.is_empty());
    let is = |name: &str, word: &str| variable(name).is_some_and(|text| text.eq_ignore_ascii_case(word));
    let mut found = Figment::new();
    if !cfg!(feature = "otlp") || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return found;
    }
    let general = || Some(variable("OTEL_EXPORTER_OTLP_ENDPOINT")?.trim_end_matches('/').to_owned() + PATH);
    if let Some(endpoint) = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(general) {
        found = found.merge(Serialized::default("traces.endpoint", endpoint));
    }
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        found = found.merge(Serialized::default("traces.service_name", name));
    }
    found
}

impl Reader<'_> {
    pub(super) fn traces(&mut self) -> Traces {
        let endpoint = self.traces_endpoint();
        let headers = self.secret("traces.headers", headers);
        let is_open = |url: &Url| url.scheme() == "http" && !is_loopback_url(url.as_str());
        if headers.is_some() && endpoint.as_ref().is_some_and(is_open) {
            self.warning("traces.endpoint", "the headers of `traces.headers` travel over plain HTTP: choose https://");
        }
        Traces {
            endpoint,
            headers,
            sample_ratio: self.sample_ratio(),
            service_name: self.text("traces.service_name", "magic-link"),
        }
    }

    fn traces_endpoint(&mut self) -> Option<Url> {
        const KEY: &str = "traces.endpoint";
        let text = self.optional(KEY)?;
        self.check_characters(KEY);
        if !cfg!(feature = "otlp") {
            self.problem(KEY, "this build sends no spans: it needs the feature `otlp`, which image and package have");
        }
        match Url::parse(&text) {
            Ok(mut url)
                if matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.fragment().is_none() =>
            {
                if url.path() == "/" {
                    url.set_path(PATH);
                }
                Some(url)
            }
            _ => {
                self.problem(KEY, "must be an address of a collector (http or https), without user and password");
                None
            }
        }
    }

    fn sample_ratio(&mut self) -> Option<f64> {
        const KEY: &str = "traces.sample_ratio";
        let text = self.optional(KEY)?;
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.problem(KEY, "must be a number from 0 to 1");
        }
        ratio
    }
}

/// `name=value` between commas.
fn headers(text: &str) -> Result<HeaderMap, String> {
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
    };
    let read: Option<HeaderMap> = text.split(',').map(header).collect();
    read.ok_or_else(|| "must be headers between commas, each as name=value".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn nothing_is_sent_unless_somebody_says_where_to() {
        let traces = Config::from_toml("").unwrap().traces;
        assert!(traces.endpoint.is_none() && traces.headers.is_none() && traces.sample_ratio.is_none());
        assert_eq!(traces.service_name, "magic-link");
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn a_collector_has_an_address_and_perhaps_headers() {
        let read = |text: &str| Config::from_toml(&format!("[traces]\n{text}"));
        for (given, url) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://otlp.example/in/v1/traces", "https://otlp.example/in/v1/traces"),
        ] {
            assert_eq!(read(&format!("endpoint = '{given}'")).unwrap().traces.endpoint.unwrap().as_str(), url);
        }
        let config = read(
            "endpoint = 'http://collector:4318'\nheaders = 'Api-Key=hidden-1, x-scope=a=b'\nsample_ratio = 0.25\n\
             service_name = 'links'",
        )
        .unwrap();
        let headers = config.traces.headers.unwrap().get();
        assert_eq!((&headers["api-key"], &headers["x-scope"]), (&"hidden-1".parse().unwrap(), &"a=b".parse().unwrap()));
        assert_eq!((config.traces.sample_ratio, config.traces.service_name.as_str()), (Some(0.25), "links"));
        assert!(
            config.warnings.iter().any(|warning| warning.starts_with("traces.endpoint: ")),
            "{:?}",
            config.warnings
        );
        assert!(!format!("{:?}", config.shown).contains("hidden-1"));
        for (wrong, key) in [
            ("endpoint = 'collector:4318'", "traces.endpoint: "),
            ("endpoint = 'http://u:hidden-2@collector:4318'", "traces.endpoint: "),
            ("headers = 'hidden-3'", "traces.headers: "),
            ("headers = 'a b=c'", "traces.headers: "),
            ("sample_ratio = 1.5", "traces.sample_ratio: "),
        ] {
            let problems = read(wrong).unwrap_err().to_string();
            assert!(problems.contains(key) && !problems.contains("hidden"), "{wrong}: {problems}");
        }
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn a_build_that_sends_no_spans_says_so() {
        let problems = Config::from_toml("traces.endpoint = 'http://collector:4318'").unwrap_err().to_string();
        assert!(problems.contains("traces.endpoint: ") && problems.contains("otlp"), "{problems}");
    }
}
