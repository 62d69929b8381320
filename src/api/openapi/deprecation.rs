//! Operations that clients should leave: what the description says of them, and what each of their answers says, in
//! the headers `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and `Link`.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use time::{Date, Duration, Time};

use super::operations;
use super::responses::header;

/// An operation that clients should leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deprecated {
    /// Its `operationId`.
    pub operation: &'static str,
    /// The day from which on it is deprecated.
    pub since: Date,
    /// The day from which on it may be gone.
    pub gone: Date,
    /// What clients use instead: ends the sentence "Use …".
    pub instead: &'static str,
}

/// At least as long is an operation answered after it was deprecated.
const NOTICE: Duration = Duration::days(180);

/// The deprecated operations: none. An operation that goes gets its row here first.
pub(super) const DEPRECATED: &[Deprecated] = &[];

/// Where deprecations are explained.
const EXPLAINED: &str = "</docs/>; rel=\"deprecation\"; type=\"text/html\"";

impl Deprecated {
    /// The headers of its answers.
    fn headers(&self) -> [(&'static str, String, &'static str); 3] {
        let since = self.since.with_time(Time::MIDNIGHT).assume_utc();
        // Whoever shortens the notice finds it lengthened.
        let gone = self.gone.with_time(Time::MIDNIGHT).assume_utc().max(since + NOTICE);
        [
            ("Deprecation", format!("@{}", since.unix_timestamp()), "Since when it is deprecated (RFC 9745)"),
            ("Sunset", httpdate::fmt_http_date(SystemTime::from(gone)), "When it may be gone (RFC 8594)"),
            ("Link", EXPLAINED.to_owned(), "Where deprecations are explained"),
        ]
    }
}

/// Describes operations as deprecated. The contract reads the headers of their answers from `x-deprecation`.
pub(super) fn describe(description: &mut Value, deprecated: &[Deprecated]) {
    operations::for_each(description, |_, operation| {
        let Some(found) = deprecated.iter().find(|one| operation["operationId"] == one.operation) else { return };
        let headers = found.headers();
        operation["deprecated"] = true.into();
        operation["x-deprecation"] =
            headers.iter().map(|(name, value, _)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>().into();
        let told = operation["description"].as_str().unwrap_or_default();
        operation["description"] =
            format!("{told}\n\nDeprecated since {}: use {}.", found.since, found.instead).trim_start().into();
        let responses = operation["responses"].as_object_mut().into_iter().flatten();
        // Shared responses are those of other operations, too.
        let own =
            responses.filter_map(|(_, response)| response.as_object_mut()).filter(|one| !one.contains_key("$ref"));
        for response in own {
            if let Some(described) = response.entry("headers").or_insert_with(|| json!({})).as_object_mut() {
                described.extend(headers.iter().map(|(name, value, about)| header(name, about, &json!(value))));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{HttpResponse, web};
    use time::macros::date;

    use super::*;
    use crate::http::{Contract, surround};

    const OLD: Deprecated = Deprecated {
        operation: "getHealth",
        since: date!(2026 - 12 - 01),
        gone: date!(2026 - 12 - 02),
        instead: "`GET /readyz`",
    };

    #[actix_web::test]
    async fn a_deprecated_operation_says_so_in_the_description_and_in_each_answer() {
        let mut description = crate::api::openapi::description().unwrap();
        describe(&mut description, &[OLD]);
        let health = &description["paths"]["/healthz"]["get"];
        assert_eq!(health["deprecated"], true);
        assert!(health["description"].as_str().unwrap().ends_with("Deprecated since 2026-12-01: use `GET /readyz`."));
        assert!(health["responses"]["200"]["headers"]["Sunset"]["description"].is_string());
        assert!(description["paths"]["/readyz"]["get"].get("deprecated").is_none());

        let answer = || async { HttpResponse::Ok().finish() };
        let refuse = || async { Err::<HttpResponse, _>(crate::error::Error::from(crate::error::Code::NotFound)) };
        let app = actix_web::App::new()
            .wrap(from_fn(surround))
            .app_data(web::Data::new(Contract::of(&description).unwrap()))
            .route("/healthz", web::get().to(answer))
            .route("/healthz", web::head().to(refuse))
            .route("/readyz", web::get().to(answer));
        let app = init_service(app).await;
        for request in [TestRequest::get(), TestRequest::default().method(actix_web::http::Method::HEAD)] {
            let answered = call_service(&app, request.uri("/healthz").to_request()).await;
            let header = |name: &str| answered.headers().get(name).unwrap().to_str().unwrap().to_owned();
            assert_eq!(header("deprecation"), "@1796083200");
            // Half a year at least, whatever the row says.
            assert_eq!(header("sunset"), "Sun, 30 May 2027 00:00:00 GMT");
            assert_eq!(header("link"), EXPLAINED);
        }
        let answered = call_service(&app, TestRequest::get().uri("/readyz").to_request()).await;
        assert!(!answered.headers().contains_key("deprecation"));
    }

    #[test]
    fn what_is_deprecated_exists_and_has_its_notice() {
        let mut described = crate::api::openapi::description().unwrap();
        let mut routed = Vec::new();
        operations::for_each(&mut described, |_, operation| routed.push(operation["operationId"].clone()));
        for one in DEPRECATED {
            assert!(routed.contains(&json!(one.operation)), "{one:?}");
            assert!(one.gone - one.since >= NOTICE, "{one:?}");
        }
    }
}
