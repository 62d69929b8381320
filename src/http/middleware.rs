//! Middleware of every request: trace id, log line, problem body, security headers, recorded refusals.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{ALLOW, CACHE_CONTROL, HOST, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt;
use url::form_urlencoded;

use super::caller::KnownClient;
use super::contract::Operation;
use super::default_route::KnownRoutes;
use super::head::{take_head, without_body};
use super::parameters::{check_query, named_in_path};
use super::plain_path::{PAGE_OF_A_LINK, take_plain_path};
use super::sliced::sliced;
use super::stopping::{Stopping, close_with};
use super::until_close::close_instead_of_chunks;
use super::{Limits, Sampler, problem};
use crate::access::{LastUse, LiveClient};
use crate::context::Context;
use crate::error::{Code, Error};
use crate::journal::Event;
use crate::store::{Owner, Recorded, Replayed};
use crate::telemetry::{Span, TraceContext, TraceId, Tracer};

/// An error with all that its response needs.
#[derive(Debug)]
struct Finished {
    error: Error,
    public_url: String,
    path: String,
    trace_id: TraceId,
    is_last: bool,
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl ResponseError for Finished {
    fn status_code(&self) -> StatusCode {
        self.error.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = problem::respond(&self.error, &self.public_url, &self.path, self.trace_id);
        if self.is_last {
            close_with(&mut answer);
        }
        answer
    }
}

/// The middleware, around all others.
pub(crate) async fn surround(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let cx = request.app_data::<web::Data<Context>>().cloned();
    let mut span = begin_span(cx.as_ref().map(|cx| &cx.tracer), request.request());
    let trace = span.context().unwrap_or_else(TraceContext::alone);
    let trace_id = trace.trace_id();
    let spelling = take_plain_path(&mut request);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let is_head = take_head(&mut request);
    let path = uri.path();
    let sampler = request.app_data::<web::Data<Sampler>>().cloned();
    let stopping = request.app_data::<web::Data<Stopping>>().cloned();

    let handling = async {
        let flaw =
            spelling.and_then(|()| require_host(request.request())).and_then(|()| check_query(request.request()));
        if let Err(error) = flaw {
            return finish(request.error_response(error), cx.as_ref(), path, trace_id).await;
        }
        if let Some(cx) = cx.as_ref().filter(|cx| cx.clock.is_of_sandbox() && path != "/healthz")
            && let Err(error) = Box::pin(cx.follow_sandbox()).await
        {
            return finish(request.error_response(error), Some(cx), path, trace_id).await;
        }
        match AssertUnwindSafe(next.call(request)).catch_unwind().await {
            Ok(Ok(response)) => finish(response.map_into_boxed_body(), cx.as_ref(), path, trace_id).await,
            // Only errors before routing end here; the handlers' errors are responses.
            Ok(Err(error)) => Err(of_actix(&error)),
            // The hook has logged the panic. No shared state is broken: each request owns what it changes.
            Err(_panic) => Err(Error::new(Code::Internal)),
        }
    };
    let recorded = Recorded::default();
    let outcome = trace.scope(Owner::scope(recorded.clone(), handling)).await;
    let (status, route, client) = match &outcome {
        Ok(response) => (response.status(), route_of(response.request()), known_client(response.request())),
        Err(error) => (error.status_code(), Cow::Borrowed(UNMATCHED), None),
    };
    let took = started.elapsed();
    // What an act showed is on record with it; one that changed nothing, or a repeat, showed as much as a reading.
    if let (Ok(response), Some(cx), Some(client)) = (&outcome, &cx, &client)
        && status.is_success()
        && (method == Method::GET || !(is_head || recorded.is_set() || UNCOUNTED.contains(&&*route)))
        && !matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0))
    {
        note_read(response.request(), cx, client, &route);
    }
    if let Some(cx) = &cx {
        cx.metrics.answered((method.as_str(), &route), status.as_str(), took);
        // Those of a response are counted in `finish`.
        if let Err(error) = &outcome {
            cx.metrics.limited(error);
        }
    }
    end_span(&mut span, &method, &route, status, client.as_deref());
    // What clients were refused is always logged. Strangers can have as much refused as they like.
    let line = match &sampler {
        Some(sampler) if status.is_success() || status.is_redirection() => sampler.take().then_some(0),
        Some(sampler) if client.is_none() => sampler.take_refusal(),
        _ => Some(0),
    };
    if let Some(left_out) = line {
        TraceContext::scope_of(Some(trace), || {
            tracing::info!(
                http.method = method.as_str(),
                http.route = &*route,
                http.status = status.as_u16(),
                http.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                client.id = client.as_ref().map(|client| client.id.as_str()),
                log.left_out = (left_out > 0).then_some(left_out),
                "request"
            );
        });
    }
    let is_last = stopping.is_some_and(|stopping| stopping.is_set());
    let mut outcome = if is_head { outcome.map(without_body) } else { outcome };
    if let (true, Ok(response)) = (is_last, &mut outcome) {
        close_with(response.response_mut());
    }
    outcome.map_err(|error| {
        let public_url = cx.map(|cx| cx.config.public_url.clone()).unwrap_or_default();
        Finished { error, public_url, path: path.to_owned(), trace_id, is_last }.into()
    })
}

/// Paths that supervisors ask for all day.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// Begins the span of a request.
fn begin_span(tracer: Option<&Tracer>, request: &HttpRequest) -> Span {
    // Two of them name no place.
    let mut given = request.headers().get_all("traceparent");
    let traceparent = given.next().filter(|_| given.next().is_none()).and_then(|value| value.to_str().ok());
    match tracer {
        Some(tracer) if PROBES.contains(&request.path()) => tracer.serve_quietly(traceparent),
        Some(tracer) => tracer.serve(traceparent),
        None => Tracer::default().serve(traceparent),
    }
}

/// Says of the span what is known at its end: no path and no query, in which anything may stand.
fn end_span(span: &mut Span, method: &Method, route: &str, status: StatusCode, client: Option<&LiveClient>) {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method.as_str());
    let method = if known { method.as_str() } else { "_OTHER" };
    span.note("http.request.method", method);
    span.note("http.response.status_code", status.as_u16());
    if route != UNMATCHED {
        span.note("http.route", route);
        span.rename(|| format!("{} {route}", if known { method } else { "HTTP" }));
    } else if known {
        span.rename(|| method.to_owned());
    }
    if let Some(client) = client {
        span.note("magic_link.client.id", client.id.as_str());
    }
    if status.is_server_error() {
        span.fail(status.as_str());
    }
}

/// Refuses a `Host` that cannot be one (RFC 9112, 3.2).
fn require_host(request: &HttpRequest) -> Result<(), Error> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    let is_host = |host: &HeaderValue| host.as_bytes().iter().all(fits);
    if request.headers().get(HOST).is_none_or(is_host) { Ok(()) } else { Err(Code::InvalidRequest.into()) }
}

const UNMATCHED: &str = "unmatched";

/// Acts whose answers are no reading, whether or not they change something: they tell of a token to who has it.
const UNCOUNTED: &[&str] = &["/v1/introspect", "/v1/revoke"];

/// The pattern of the route, which contains no id.
fn route_of(request: &HttpRequest) -> Cow<'_, str> {
    // actix tries one pattern after the other, but the path of a hot route is its own pattern.
    if request.app_data::<web::Data<KnownRoutes>>().is_some_and(|known| known.is_plain(request.path())) {
        return Cow::Borrowed(request.path());
    }
    match request.match_pattern() {
        // A regular expression, which nobody would read.
        Some(pattern) if pattern.contains("(?") && request.match_name() == Some(PAGE_OF_A_LINK) => {
            Cow::Borrowed(PAGE_OF_A_LINK)
        }
        Some(pattern) => Cow::Owned(pattern),
        None => Cow::Borrowed(UNMATCHED),
    }
}

/// Counts what a client has read, and notes what the path named, or which tenant the query asked for.
fn note_read(request: &HttpRequest, cx: &Context, client: &LiveClient, route: &str) {
    let address = request.app_data::<web::Data<Limits>>().and_then(|limits| limits.address(request));
    let asked = || form_urlencoded::parse(request.query_string().as_bytes()).find(|(name, _)| name == "tenant_id");
    let subject = named_in_path(request).or_else(|| asked().map(|(_, tenant)| tenant.into_owned()));
    let seen = LastUse { at: cx.clock.now(), address };
    cx.client_uses.read(&client.id, route, subject.as_deref(), seen);
}

fn known_client(request: &HttpRequest) -> Option<Arc<LiveClient>> {
    request.extensions().get::<KnownClient>().map(|KnownClient(client)| Arc::clone(client))
}

/// Turns errors into problem documents, and sets the headers of every response.
async fn finish(
    response: ServiceResponse<BoxBody>,
    cx: Option<&web::Data<Context>>,
    path: &str,
    trace_id: TraceId,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let public_url = cx.map_or("", |cx| cx.config.public_url.as_str());
    let mut response = match response.response().error() {
        Some(error) => {
            let error = match error.as_error::<Error>() {
                Some(own) => {
                    if let Some(cx) = cx {
                        cx.metrics.limited(own);
                    }
                    // Boxed: the rare branch would enlarge the future of every request.
                    Box::pin(record_refusal(&response, cx, own)).await?;
                    problem::respond(own, public_url, path, trace_id)
                }
                None => problem::respond(&of_actix(error), public_url, path, trace_id),
            };
            ServiceResponse::new(response.into_parts().0, error)
        }
        // A page's own response to a method that it does not support.
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            let allow = response.headers().get(ALLOW).and_then(|methods| methods.to_str().ok()).unwrap_or_default();
            let error = Error::new(Code::MethodNotAllowed).allow(allow.replace("GET", "GET, HEAD"));
            let problem = problem::respond(&error, public_url, path, trace_id);
            ServiceResponse::new(response.into_parts().0, problem)
        }
        None => response,
    };
    let replayed = response.request().extensions().get::<Replayed>().is_some_and(Replayed::is_so);
    let is_answered = response.status().is_success();
    let deprecation = Operation::deprecation(response.request()).to_vec();
    let headers = response.headers_mut();
    let (name, value) = problem::trace_header(trace_id);
    headers.insert(name, value);
    for (name, value) in deprecation {
        headers.append(name, value);
    }
    if replayed && is_answered {
        headers.insert(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
    }
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if path.starts_with("/v1/") && !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    close_instead_of_chunks(&mut response);
    Ok(response.map_body(|_, body| sliced(body)))
}

/// Records the refusal of an authenticated client, unless the verb did. Invalid requests are only counted.
///
/// If it cannot be recorded, the caller gets `unavailable`.
async fn record_refusal(
    response: &ServiceResponse<BoxBody>,
    cx: Option<&web::Data<Context>>,
    error: &Error,
) -> Result<(), Error> {
    let request = response.request();
    let (Some(cx), Some(client)) = (cx, known_client(request)) else { return Ok(()) };
    let code = error.code();
    match code.status() {
        400 | 422 | 429 => cx.metrics.client_errors.with_label_values(&[code.slug()]).inc(),
        403 | 404 | 409 | 410 if !error.is_recorded() => {
            let (method, route) = (request.method().to_string(), request.match_pattern().unwrap_or_default());
            let subject = named_in_path(request);
            let subject = subject.as_deref();
            let refusal =
                Event::access_refused(&client.id, &client.name, &method, &route, subject, code, cx.clock.now());
            return cx.store.record_refusal(refusal).await;
        }
        _ => {}
    }
    Ok(())
}

/// Maps errors of actix to error codes.
fn of_actix(error: &actix_web::Error) -> Error {
    if let Some(own) = error.as_error::<Error>() {
        return own.clone();
    }
    let code = match error.as_response_error().status_code().as_u16() {
        404 => Code::RouteNotFound,
        405 => Code::MethodNotAllowed,
        408 => Code::RequestTimeout,
        413 => Code::BodyTooLarge,
        415 => Code::UnsupportedMediaType,
        400..=499 => Code::InvalidBody,
        503 => Code::Unavailable,
        _ => return Error::internal(error),
    };
    Error::new(code)
}
