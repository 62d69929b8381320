//! What every page shares: where it is, how it is rendered, which headers it carries, and how a request stops.

use std::fmt::{self, Write as _};
use std::future::{Ready, ready};
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use actix_web::body::{BodyStream, MessageBody, to_bytes_limited};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::{DefaultHeaders, Next};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError};
use askama::Template;
use time::macros::{format_description, offset};
use time::{OffsetDateTime, PrimitiveDateTime};
use url::Url;

/// Of any form here.
pub const LARGEST_FORM_BYTES: usize = 16 * 1024;

/// The time for a form to come.
const FORM_TIME: Duration = Duration::from_secs(10);

/// The only place where this program reads the clock.
pub fn now() -> OffsetDateTime {
    // A clock set before 1970 is broken. Then it is the end of time: every session has expired.
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(PrimitiveDateTime::MAX.assume_utc(), |elapsed| OffsetDateTime::UNIX_EPOCH + elapsed)
}

/// 256 bits nobody can guess, in hex.
pub fn random_id() -> String {
    rand::random::<[u8; 32]>().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A line for whoever runs the portal. It never holds a code, a token or a key.
pub fn log(line: fmt::Arguments<'_>) {
    // Nothing useful is left to do when standard error is gone.
    let _ = writeln!(io::stderr(), "portal: {line}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portal {
    Cloud,
    Ess,
}

impl Portal {
    pub const ALL: [Self; 2] = [Self::Cloud, Self::Ess];

    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|portal| portal.id() == id)
    }

    pub const fn id(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Ess => "ess",
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "Cloud",
            Self::Ess => "ESS",
        }
    }
}

/// Where browsers find the portals.
pub struct PublicUrl(pub Url);

impl PublicUrl {
    fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether a browser that says this `Origin` was on one of our pages.
    fn has_origin(&self, origin: &str) -> bool {
        self.0.origin().ascii_serialization() == origin
    }
}

/// The tenant and portal in the path. Every handler under `/{tenant}/{portal}` has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub tenant: String,
    pub portal: Portal,
    /// Whether cookies are for https alone.
    is_https: bool,
}

impl Place {
    /// `/acme/cloud/`: the root of this portal's pages and the path of its cookie.
    pub fn root(&self) -> String {
        format!("/{}/{}/", self.tenant, self.portal.id())
    }

    pub fn company(&self) -> &str {
        match self.tenant.as_str() {
            "acme" => "ACME",
            "globex" => "Globex",
            other => other,
        }
    }

    fn of(request: &HttpRequest) -> Option<Self> {
        let tenant = request.match_info().get("tenant")?;
        let portal = Portal::of_id(request.match_info().get("portal")?)?;
        // The tenant goes into a cookie path and into links: what the service takes for one needs no escaping there.
        let is_plain = tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        let begins_well = tenant.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_https = request.app_data::<Data<PublicUrl>>().is_none_or(|url| url.is_https());
        (is_plain && begins_well && tenant.len() <= 64).then(|| Self { tenant: tenant.to_owned(), portal, is_https })
    }
}

impl FromRequest for Place {
    type Error = Stop;
    type Future = Ready<Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request).ok_or(Stop::NoSuchPage))
    }
}

/// A moment for people: the company's time with UTC beside it.
pub struct Moment {
    pub machine: String,
    pub local: String,
    pub utc: String,
}

impl Moment {
    /// Both demo companies are in India, which has one zone and no summer time. A real portal takes the
    /// zone from its tenant.
    pub fn new(at: OffsetDateTime) -> Self {
        let at = at.replace_nanosecond(0).unwrap_or(at);
        let local = at.to_offset(offset!(+5:30)).format(format_description!(
            "[weekday repr:short], [day padding:none] [month repr:short], [hour repr:12 padding:none]:[minute] [period case:lower] IST"
        ));
        let utc = at.to_offset(offset!(UTC)).format(format_description!("[hour]:[minute] UTC"));
        let machine = at.format(&time::format_description::well_known::Rfc3339);
        Self { machine: machine.unwrap_or_default(), local: local.unwrap_or_default(), utc: utc.unwrap_or_default() }
    }
}

/// Why a request ends without its page.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error("no such page")]
    NoSuchPage,
    #[error("the form cannot be read")]
    Unreadable,
    #[error("the form came from another site")]
    Elsewhere,
    #[error("the page is fetched ahead")]
    Ahead,
    #[error("the browser sends two cookies of one name")]
    Twice,
    #[error("the question is not the last one")]
    Superseded,
    #[error("access has ended")]
    Ended(Place),
    /// And why.
    #[error("the access does not include it")]
    NotIncluded(Place, &'static str),
    #[error("the service cannot be asked")]
    Unavailable,
    #[error("the act could not be recorded")]
    NotRecorded,
    /// And the service's code.
    #[error("the act can never be recorded: {0}")]
    NotRecordable(String),
}

impl ResponseError for Stop {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NoSuchPage => StatusCode::NOT_FOUND,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Elsewhere | Self::Twice | Self::Superseded | Self::Ended(_) | Self::NotIncluded(..) => {
                StatusCode::FORBIDDEN
            }
            Self::NotRecordable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Ahead | Self::Unavailable | Self::NotRecorded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let notice = match self {
            Self::NoSuchPage => Notice::new("refused", "There is no such page")
                .says("The address may be mistyped, or the page belongs to another company or portal.")
                .then("/", "Go to the start page"),
            Self::Unreadable => Notice::new("refused", "This form could not be read")
                .says("Nothing was changed. Go back, reload the page and fill the form in again."),
            Self::Elsewhere => Notice::new("refused", "This form was sent from another site")
                .says("A page outside this portal tried to act here with your browser. Nothing was changed.")
                .says("If you filled the form in yourself, open the page again here and send it from there."),
            Self::Ahead => Notice::new("unavailable", "This is not fetched ahead")
                .says("What is shown here is recorded, so nothing is done before it is asked for."),
            Self::Superseded => Notice::new("refused", "This question is not open any more")
                .says("It was answered, took longer than ten minutes, or another link was opened in this browser meanwhile. Nobody was signed in.")
                .says("Use the link in your mail again: its page can e-mail you a fresh link."),
            Self::Twice => Notice::new("refused", "This browser holds two sessions")
                .says("Another site may have put one of them here, so neither counts. Nothing was shown or changed.")
                .says("Delete the cookies of this site, and use the link in your mail again: its page can e-mail you a fresh link."),
            Self::Ended(_) => Notice::new("ended", "Access has ended")
                .says("Its time is up, it was ended by the company or by you, or this browser never had it.")
                .says("If your time window is still open, use the link in your mail again: its page can e-mail you a fresh link."),
            Self::NotIncluded(place, why) => Notice::new("refused", "This access does not include that")
                .says(*why)
                .says("Nothing was shown or changed. If the work needs it, ask the company to grant it.")
                .then(&place.root(), "Go back to the portal"),
            Self::Unavailable => Notice::new("unavailable", "Access cannot be checked right now")
                .says("The service that keeps the grants does not answer, and without its word nobody is let in.")
                .says("Wait a moment, then reload this page. Nothing was changed."),
            Self::NotRecorded => Notice::new("unavailable", "This could not be recorded")
                .says("Nothing is shown and nothing is changed here without a record, so nothing happened.")
                .says("Wait a moment, then go back and try again."),
            Self::NotRecordable(code) => Notice::new("refused", "This cannot be recorded")
                .says("Nothing is shown and nothing is changed here without a record, so nothing happened.")
                .says("The service refuses what the record would say, and will refuse the same again. Go back and change it.")
                .with_code(code),
        };
        let mut response = notice.page(self.status_code());
        if let Self::Ended(place) = self {
            set_cookie(&mut response, place, SESSION_COOKIE, "", 0);
        }
        if self.status_code() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        response
    }
}

/// The cookie that holds the key of a visitor's session.
pub const SESSION_COOKIE: &str = "portal_session";

/// The cookie of a browser in which a session waits for the visitor's yes.
pub const ARRIVAL_COOKIE: &str = "portal_arrival";

/// The value of a cookie of ours. Of two that differ nobody's: any host above or beside this one could have set one.
pub fn cookie<'a>(request: &'a HttpRequest, name: &str) -> Result<Option<&'a str>, Stop> {
    let lines = request.headers().get_all(header::COOKIE).filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter_map(|(known, value)| (known == name).then_some(value));
    let first = values.next();
    if values.all(|value| Some(value) == first) { Ok(first) } else { Err(Stop::Twice) }
}

/// Sets the cookie; with an empty value and no time to live, clears it.
///
/// Path: two tenants in two tabs have a cookie each and never mix.
/// Lax: Strict would hold the cookie back on the redirect after the callback, since that visit began elsewhere.
/// Secure on https (where the portal has a host name of its own, add the `__Secure-` prefix).
pub fn set_cookie(response: &mut HttpResponse, place: &Place, name: &str, value: &str, max_age_seconds: i64) {
    let (root, secure) = (place.root(), if place.is_https { "; Secure" } else { "" });
    let cookie = format!("{name}={value}; Max-Age={max_age_seconds}; HttpOnly; SameSite=Lax; Path={root}{secure}");
    if let Ok(cookie) = cookie.parse() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// A page with a heading, a few sentences and perhaps one way on.
#[derive(Template)]
#[template(path = "notice.html")]
pub struct Notice {
    page: &'static str,
    title: String,
    sentences: Vec<String>,
    code: Option<String>,
    way_on: Option<(String, &'static str)>,
}

impl Notice {
    /// `page` is the marker that tests look for.
    pub fn new(page: &'static str, title: impl Into<String>) -> Self {
        Self { page, title: title.into(), sentences: Vec::new(), code: None, way_on: None }
    }

    pub fn says(mut self, sentence: impl Into<String>) -> Self {
        self.sentences.push(sentence.into());
        self
    }

    pub fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    pub fn then(mut self, address: &str, label: &'static str) -> Self {
        self.way_on = Some((address.to_owned(), label));
        self
    }

    pub fn page(&self, status: StatusCode) -> HttpResponse {
        page(status, self)
    }
}

/// Renders a page. Askama escapes every value, so a reason or a name is never markup.
pub fn page(status: StatusCode, template: &impl Template) -> HttpResponse {
    match template.render() {
        Ok(html) => HttpResponse::build(status).content_type("text/html; charset=utf-8").body(html),
        Err(error) => {
            log(format_args!("a page could not be rendered: {error}"));
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// 303: the browser follows with a GET, so a reload never sends the form again.
pub fn see_other(address: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, address)).finish()
}

/// Headers of every answer; a handler that sets one itself keeps its own.
pub fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Personal data: no copy stays behind for the Back button after access has ended.
        .add((header::CACHE_CONTROL, "no-store"))
        // Not `no-referrer`: with that a browser sends `Origin: null` with our own forms, and the check
        // below could not tell them from a stranger's. Other sites learn nothing either way.
        .add((header::REFERRER_POLICY, "same-origin"))
}

/// Whether a browser only expects that somebody may want the page: what is shown is recorded, and a code is spent.
/// (A HEAD is refused by the routes, which know GET and POST.)
fn is_ahead(request: &ServiceRequest) -> bool {
    let mut said = ["sec-purpose", "purpose", "x-moz"].into_iter().filter_map(|name| request.headers().get(name));
    said.any(|purpose| purpose.to_str().is_ok_and(|purpose| purpose.to_ascii_lowercase().contains("prefetch")))
}

/// Lets a form through only if it was sent from this portal's own pages (the defence against CSRF).
///
/// `SameSite` cookies alone do not do it: the admin pages of this demo have no cookie at all, and "same site"
/// covers every port and sister host. Browsers state in `Sec-Fetch-Site` where a request comes from, and a page
/// cannot forge it; it needs no token in each form and no state here. Browsers leave it out on plain http other
/// than localhost, so then `Origin` must be that of the public address. With neither header the form is refused.
pub async fn own_forms_only(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let passes = match request.method().is_safe() {
        true if is_ahead(&request) => Err(Stop::Ahead),
        true => Ok(()),
        false => read_own_form(&mut request).await,
    };
    match passes {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        // An answer, not an `Err`: so it still passes the headers above.
        Err(stop) => Ok(request.into_response(stop.error_response()).map_into_right_body()),
    }
}

/// Reads the form to its end, and puts it back, before anybody is asked about the visitor: it may be begun before the
/// end of their access and finished after it.
async fn read_own_form(request: &mut ServiceRequest) -> Result<(), Stop> {
    if !is_from_here(request) {
        return Err(Stop::Elsewhere);
    }
    let form = to_bytes_limited(BodyStream::new(request.take_payload()), LARGEST_FORM_BYTES);
    let Ok(Ok(Ok(form))) = tokio::time::timeout(FORM_TIME, form).await else {
        return Err(Stop::Unreadable);
    };
    request.set_payload(form.into());
    Ok(())
}

fn is_from_here(request: &ServiceRequest) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let home = request.app_data::<Data<PublicUrl>>();
    home.zip(text("origin")).is_some_and(|(home, origin)| home.has_origin(origin))
}
