//! The visitor's way in, the guard on every page, and the way out.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Query};
use actix_web::{FromRequest, HttpRequest, HttpResponse, rt};
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;

use crate::App;
use crate::magic_link::{Access, Act, Error, OpenedSession, Problem};
use crate::sessions::{NotRecorded, Session};
use crate::web::{COOKIE, Moment, Notice, Place, Stop, log, now, see_other, set_cookie};

/// A support consultant with a session that the service confirmed during this very request.
///
/// A handler that takes one is guarded; a handler that forgot to has nobody to show data to.
pub struct Visitor {
    session: Arc<Session>,
    access: Access,
}

impl FromRequest for Visitor {
    type Error = Stop;
    type Future = LocalBoxFuture<'static, Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let place = Place::from_request(&request, payload);
        Box::pin(async move {
            let place = place.await?;
            Visitor::of(&request, &place).await?.ok_or(Stop::Ended(place))
        })
    }
}

impl Visitor {
    /// The guard. `Ok(None)`: this browser has no live session here. `Err`: it cannot be known, so nobody gets in.
    pub async fn of(request: &HttpRequest, place: &Place) -> Result<Option<Self>, Stop> {
        let app = request.app_data::<Data<App>>().ok_or(Stop::Unavailable)?;
        let Some(key) = cookie(request) else {
            return Ok(None);
        };
        let Some(session) = app.sessions.find(key, place).await else {
            return Ok(None);
        };
        let access = admit(app, &session, place).await?;
        if access.is_none() {
            // Its closing count is still owed. The visitor need not wait for that.
            let (app, key, place) = (app.clone(), key.to_owned(), place.clone());
            rt::spawn(async move { leave(&app, &key, &place).await });
        }
        Ok(access.map(|access| Self { session, access }))
    }

    pub fn session_id(&self) -> &str {
        &self.session.id
    }

    /// Records an act. The caller does it, or shows it, only after `Ok`.
    pub async fn report(&self, app: &App, act: Act) -> Result<(), Stop> {
        let service = app.service(self.session.place.portal);
        self.session.report(service, act).await.map_err(|refusal| {
            log(format_args!("session {}: an act was not recorded: {refusal}", self.session.id));
            match refusal {
                NotRecorded::Closed => Stop::Ended(self.session.place.clone()),
                NotRecorded::Service(_) => Stop::NotRecorded,
            }
        })
    }

    pub fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// The form is disabled in a read-only session, but a form is only paint: each change asks here.
    pub fn may_change(&self) -> Result<(), Stop> {
        if self.is_read_only() { Err(Stop::ReadOnly(self.session.place.clone())) } else { Ok(()) }
    }

    pub fn banner(&self) -> Banner {
        let session = &self.session;
        Banner {
            consultant: session.consultant_name.clone(),
            profile: session.profile.name.clone(),
            until: Moment::new(session.expires_at),
            is_read_only: self.is_read_only(),
            done: format!("{}done", session.place.root()),
            seconds_left: (session.expires_at - now()).whole_seconds().saturating_add(1).max(1),
        }
    }
}

/// Two questions, both answered now. Nothing is cached: a grant that was revoked a second ago lets nobody in.
async fn admit(app: &App, session: &Session, place: &Place) -> Result<Option<Access>, Stop> {
    // Without grace: the end that the company was told is the end, and the clock can say so without the service.
    if now() >= session.expires_at {
        return Ok(None);
    }
    let asked = app.service(place.portal).introspect(&session.access_token).await;
    let token = asked.map_err(|error| {
        log(format_args!("session {}: introspection failed: {error}", session.id));
        Stop::Unavailable
    })?;
    let is_ours = |sid: &str, tenant: &str, portal: &str| {
        sid == session.id && tenant == place.tenant && portal == place.portal.id()
    };
    Ok(token.filter(|token| is_ours(&token.sid, &token.tenant_id, &token.portal)).map(|token| token.access))
}

/// The strip on top of each visitor page.
pub struct Banner {
    pub consultant: String,
    pub profile: String,
    pub until: Moment,
    pub is_read_only: bool,
    pub done: String,
    /// The page reloads itself then, so that data does not stay on a screen after the end.
    pub seconds_left: i64,
}

#[derive(Deserialize)]
pub struct Arrival {
    #[serde(default)]
    code: String,
}

/// `GET /{tenant}/{portal}/callback?code=…`: the browser comes from the landing page after the human click.
///
/// GET only: a HEAD must not spend the code.
pub async fn callback(app: Data<App>, request: HttpRequest, place: Place, arrival: Query<Arrival>) -> HttpResponse {
    let mut response = match open(&app, &request, place, &arrival.code).await {
        Ok(response) => response,
        Err(error) => refused(&error),
    };
    // This address holds the code: not even our own style sheet may learn it.
    response.headers_mut().insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    response
}

async fn open(app: &App, request: &HttpRequest, place: Place, code: &str) -> Result<HttpResponse, Error> {
    let service = app.service(place.portal);
    // The peer of the connection. Behind a proxy take the address from the header that *your* proxy sets,
    // never from one that any browser may send.
    let address = request.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
    let user_agent =
        request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user_agent: String = user_agent.chars().take(256).collect();

    let opened = service.redeem(code, &address, &user_agent).await?;
    if opened.tenant_id != place.tenant || opened.portal != place.portal.id() {
        return Ok(misdirected(app, &place, opened).await);
    }

    // The earlier session of this browser, if any, is over: close it with its count, or it would look lost.
    if let Some(key) = cookie(request) {
        leave(app, key, &place).await;
    }
    let mut response = see_other(&place.root());
    let lifetime_seconds = (opened.expires_at - now()).whole_seconds().max(0);
    let key = app.sessions.add(Session::new(place.clone(), opened)).await;
    set_cookie(&mut response, &place, &key, lifetime_seconds);
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

/// `POST /{tenant}/{portal}/done`: "I am done".
pub async fn done(app: Data<App>, request: HttpRequest, place: Place) -> Result<HttpResponse, Stop> {
    let ended = match cookie(&request) {
        Some(key) => leave(&app, key, &place).await,
        None => None,
    };
    let Some(is_ended) = ended else {
        return Err(Stop::Ended(place));
    };
    let mut notice = Notice::new("goodbye", "Your support session is over");
    notice = if is_ended {
        notice.says("Thank you. The session was ended, and the record of what you did is closed.")
    } else {
        notice.says("This portal has forgotten your session, and nobody can use it here any more.").says(
            "The service that keeps the grants could not be told. It ends the session by itself when its time is up.",
        )
    };
    let mut response = notice.says("You can close this page.").page(StatusCode::OK);
    set_cookie(&mut response, &place, "", 0);
    Ok(response)
}

/// Ends the session behind a cookie. `None`: there was none. Otherwise whether the service knows of the end.
async fn leave(app: &App, key: &str, place: &Place) -> Option<bool> {
    app.sessions.find(key, place).await?;
    // Here first: whatever the service answers, this browser is out. Of several callers one gets the session.
    let session = app.sessions.remove(key).await?;
    Some(close(app, &session, true).await)
}

/// Sends the closing count. Without it the service cannot tell a quiet end from lost events.
async fn close(app: &App, session: &Session, consultant_done: bool) -> bool {
    match session.end(app.service(session.place.portal), consultant_done).await {
        Ok(()) => true,
        // It says no to ending what is over for good.
        Err(Error::Refused(problem)) if matches!(problem.status, 404 | 409 | 410) => true,
        Err(error) => {
            log(format_args!("session {} could not be ended: {error}", session.id));
            false
        }
    }
}

/// Closes the sessions whose time ran out while nobody looked, and so bounds the memory by live ones.
pub async fn close_expired(app: Data<App>) {
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        for session in app.sessions.take_expired().await {
            close(&app, &session, false).await;
        }
    }
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

/// The value of our cookie. The browser sends the one with the longest path first.
fn cookie(request: &HttpRequest) -> Option<&str> {
    let lines = request.headers().get_all(header::COOKIE).filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}
