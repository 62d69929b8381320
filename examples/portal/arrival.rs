//! The visitor's way in: the callback redeems the code, and a page asks whether the visitor is who the code says.
//!
//! The callback proves nothing about the browser that calls it: anybody can send somebody else's browser there, with
//! a code of their own. It would end the visitor's session and make them act as another consultant, under whose name
//! everything they type is recorded. So nobody is signed in before they have seen as whom, and said yes on a page of
//! this portal.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{Data, Form, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use crate::App;
use crate::magic_link::{Error, OpenedSession, Problem};
use crate::sessions::Session;
use crate::visitor::{close, leave};
use crate::web::{
    ARRIVAL_COOKIE, Moment, Notice, Place, SESSION_COOKIE, Stop, cookie, log, now, page, random_id, see_other,
    set_cookie,
};

/// The time to say yes.
const PATIENCE: Duration = Duration::minutes(10);

/// Sessions that the service opened and no visitor has confirmed, by the value of the browser's arrival cookie.
#[derive(Default)]
pub struct Arrivals(Mutex<HashMap<String, Arrival>>);

struct Arrival {
    session: Arc<Session>,
    /// In the page's form: the answer is to the question that was shown, and not to one that came in between.
    question: String,
    until: OffsetDateTime,
    /// The value of the session's cookie, once the visitor has said yes: a double click gets the same answer.
    confirmed: Option<String>,
}

impl Arrivals {
    /// Returns the new value of the cookie.
    async fn add(&self, session: Session) -> String {
        let key = random_id();
        let until = session.expires_at.min(now() + PATIENCE);
        let arrival = Arrival { session: Arc::new(session), question: random_id(), until, confirmed: None };
        self.0.lock().await.insert(key.clone(), arrival);
        key
    }

    /// The session that waits in this browser, and the question about it.
    async fn find(&self, key: &str, place: &Place) -> Option<(Arc<Session>, String)> {
        let arrivals = self.0.lock().await;
        let arrival = arrivals.get(key).filter(|arrival| arrival.is_open(place) && arrival.confirmed.is_none())?;
        Some((Arc::clone(&arrival.session), arrival.question.clone()))
    }

    /// Yes: starts the session, once, and returns it with the value of its cookie, and whether this was the first yes.
    async fn confirm(
        &self,
        app: &App,
        key: &str,
        place: &Place,
        question: &str,
    ) -> Option<(Arc<Session>, String, bool)> {
        let mut arrivals = self.0.lock().await;
        let arrival = arrivals.get_mut(key).filter(|arrival| arrival.is_open(place) && arrival.question == question)?;
        if let Some(confirmed) = &arrival.confirmed {
            return Some((Arc::clone(&arrival.session), confirmed.clone(), false));
        }
        let confirmed = app.sessions.add(Arc::clone(&arrival.session)).await;
        arrival.confirmed = Some(confirmed.clone());
        Some((Arc::clone(&arrival.session), confirmed, true))
    }

    /// No: the session, which is to be ended.
    async fn decline(&self, key: &str, place: &Place, question: &str) -> Option<Arc<Session>> {
        let mut arrivals = self.0.lock().await;
        let is_asked =
            |arrival: &Arrival| arrival.is_open(place) && arrival.question == question && arrival.confirmed.is_none();
        arrivals.get(key).is_some_and(is_asked).then(|| arrivals.remove(key)).flatten().map(|arrival| arrival.session)
    }

    /// Those that nobody has confirmed in time.
    pub async fn take_expired(&self) -> Vec<Arc<Session>> {
        let now = now();
        let mut arrivals = self.0.lock().await;
        let expired = arrivals.extract_if(|_, arrival| arrival.until <= now).map(|(_, arrival)| arrival);
        expired.filter(|arrival| arrival.confirmed.is_none()).map(|arrival| arrival.session).collect()
    }
}

impl Arrival {
    fn is_open(&self, place: &Place) -> bool {
        self.session.place == *place && self.until > now()
    }
}

#[derive(Deserialize)]
pub struct Callback {
    #[serde(default)]
    code: String,
}

/// `GET /{tenant}/{portal}/callback?code=…`: the browser comes from the landing page after the human click, or from
/// anywhere.
///
/// GET only: a HEAD must not spend the code.
pub async fn callback(app: Data<App>, request: HttpRequest, place: Place, callback: Query<Callback>) -> HttpResponse {
    open(&app, &request, place, &callback.code).await.unwrap_or_else(|error| refused(&error))
}

/// Headers of every answer at this address, which holds the code: not even our own style sheet may learn it.
pub fn headers() -> DefaultHeaders {
    DefaultHeaders::new().add((header::REFERRER_POLICY, "no-referrer"))
}

async fn open(app: &App, request: &HttpRequest, place: Place, code: &str) -> Result<HttpResponse, Error> {
    let service = app.service(place.portal);
    // The peer of the connection. Behind a proxy take the address from the header that *your* proxy sets,
    // never from one that any browser may send.
    let address = request.peer_addr().map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
    let user_agent =
        request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user_agent: String = user_agent.chars().take(256).collect();

    let opened = service.redeem(code, &address, &user_agent).await?;
    if opened.tenant_id != place.tenant || opened.portal != place.portal.id() {
        return Ok(misdirected(app, &place, opened).await);
    }
    // The session of this browser, if it has one, is left alone until the visitor answers.
    let mut response = see_other(&format!("{}arrival", place.root()));
    let key = app.arrivals.add(Session::new(place.clone(), opened)).await;
    set_cookie(&mut response, &place, ARRIVAL_COOKIE, &key, PATIENCE.whole_seconds());
    Ok(response)
}

/// The question.
#[derive(Template)]
#[template(path = "arrival.html")]
struct ArrivalPage {
    place: Place,
    consultant: String,
    profile: String,
    until: Moment,
    /// Whom this browser acts as now, which would end.
    current: Option<String>,
    question: String,
}

/// `GET /{tenant}/{portal}/arrival`: who the visitor would be.
pub async fn ask(app: Data<App>, request: HttpRequest, place: Place) -> Result<HttpResponse, Stop> {
    let key = cookie(&request, ARRIVAL_COOKIE)?.unwrap_or_default();
    let Some((session, question)) = app.arrivals.find(key, &place).await else {
        // Nothing else ends with it: anybody can send a browser here, too.
        return Err(Stop::Superseded);
    };
    let current = match cookie(&request, SESSION_COOKIE)? {
        Some(key) => app.sessions.find(key, &place).await.map(|session| session.consultant_name.clone()),
        None => None,
    };
    let shown = ArrivalPage {
        consultant: session.consultant_name.clone(),
        profile: session.profile.name.clone(),
        until: Moment::new(session.expires_at),
        place,
        current,
        question,
    };
    Ok(page(StatusCode::OK, &shown))
}

#[derive(Deserialize)]
pub struct Answer {
    question: String,
    answer: String,
}

/// `POST /{tenant}/{portal}/arrival`: yes or no. Only a form of this site gets here (`own_forms_only`).
pub async fn answer(
    app: Data<App>,
    request: HttpRequest,
    place: Place,
    form: Form<Answer>,
) -> Result<HttpResponse, Stop> {
    let key = cookie(&request, ARRIVAL_COOKIE)?.unwrap_or_default();
    if form.answer != "yes" {
        let session = app.arrivals.decline(key, &place, &form.question).await.ok_or(Stop::Superseded)?;
        close(&app, &session, false).await;
        let mut response = Notice::new("refused", "Nobody was signed in")
            .says("The access that the link opened was ended again. If you did not open a link yourself, tell your security contact.")
            .page(StatusCode::OK);
        set_cookie(&mut response, &place, ARRIVAL_COOKIE, "", 0);
        return Ok(response);
    }
    let earlier = cookie(&request, SESSION_COOKIE)?;
    let confirmed = app.arrivals.confirm(&app, key, &place, &form.question).await;
    let (session, session_key, is_first) = confirmed.ok_or(Stop::Superseded)?;
    // The earlier session of this browser, if any, is over: close it with its count, or it would look lost.
    if let Some(earlier) = earlier.filter(|earlier| is_first && *earlier != session_key) {
        leave(&app, earlier, &place, false).await;
    }
    let mut response = see_other(&place.root());
    let lifetime_seconds = (session.expires_at - now()).whole_seconds().max(0);
    set_cookie(&mut response, &place, SESSION_COOKIE, &session_key, lifetime_seconds);
    set_cookie(&mut response, &place, ARRIVAL_COOKIE, "", 0);
    Ok(response)
}

/// The code was good, but for another company's door. What it opened is closed again and not used.
async fn misdirected(app: &App, place: &Place, opened: OpenedSession) -> HttpResponse {
    log(format_args!(
        "session {} is for {}/{} but came to {}",
        opened.id,
        opened.tenant_id,
        opened.portal,
        place.root()
    ));
    if let Err(error) = Session::new(place.clone(), opened).end(app.service(place.portal), false).await {
        log(format_args!("a misdirected session could not be ended: {error}"));
    }
    Notice::new("refused", "This link belongs to another portal")
        .says("It was made for another company or another portal, so nothing was opened here.")
        .says("Use the link in your mail once more. Its page can e-mail you a fresh link.")
        .page(StatusCode::NOT_FOUND)
}

/// A kind page for each reason why a code opens nothing.
fn refused(error: &Error) -> HttpResponse {
    match error {
        Error::Refused(problem) if matches!(problem.status, 400 | 404 | 409 | 410) => refusal(problem),
        other => {
            log(format_args!("a code could not be redeemed: {other}"));
            Notice::new("unavailable", "The portal cannot let you in right now")
                .says("The service that keeps the grants gave no usable answer. You did nothing wrong.")
                .says("Wait a minute, then use the link in your mail again. If it says that it was used already, its page can e-mail you a fresh link.")
                .page(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

fn refusal(problem: &Problem) -> HttpResponse {
    const FRESH: &str =
        "Use the link in your mail again: its page can e-mail you a fresh link, as long as the time window is open.";
    const ASK: &str = "If the work is not finished, ask the company for a new grant.";
    let (title, what, next) = match problem.code.as_str() {
        "link_spent" => (
            "This link was already used",
            "Each link opens the portal once, and somebody opened it with this one.",
            FRESH,
        ),
        "link_superseded" => (
            "A newer link has replaced this one",
            "A fresh link was mailed after it. Only the newest one works.",
            "Look for the newest mail and use its link.",
        ),
        "link_revoked" => {
            ("This access was withdrawn", "The company or the support desk ended it before its time was up.", ASK)
        }
        "link_expired" => {
            ("The time window is over", "The access was granted for a limited time, and that time has passed.", ASK)
        }
        "token_expired" => (
            "That took a little too long",
            "The way from the link to this portal is open for a short time only.",
            FRESH,
        ),
        "link_not_yet_valid" => (
            "It is too early",
            "The time window of this access has not begun yet. Your mail says when it does.",
            "Use the link in your mail again when it has begun.",
        ),
        "not_found" => (
            "This portal does not know this link",
            "It belongs to another company or portal, or does not exist.",
            "Check that you used the link from the right mail.",
        ),
        _ => (
            "This is not a link that works here",
            "The address is incomplete or was changed on its way.",
            "Use the link in your mail again, or copy the whole link into your browser.",
        ),
    };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    Notice::new("refused", title).says(what).says(next).with_code(&problem.code).page(status)
}
