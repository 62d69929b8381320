//! The guard on every page, and the way out.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse, rt};
use futures_util::future::LocalBoxFuture;

use crate::App;
use crate::magic_link::{Act, ActiveToken, Error, Kind};
use crate::sessions::{NotRecorded, Session};
use crate::web::{Moment, Notice, Place, SESSION_COOKIE, Stop, cookie, log, now, set_cookie};

/// A support consultant with a session that the service confirmed during this very request.
///
/// A handler that takes one is guarded; a handler that forgot to has nobody to show data to.
pub struct Visitor {
    app: Data<App>,
    /// The value of the cookie.
    key: String,
    session: Arc<Session>,
    token: ActiveToken,
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
        let Some(key) = cookie(request, SESSION_COOKIE)? else {
            return Ok(None);
        };
        let Some(session) = app.sessions.find(key, place).await else {
            return Ok(None);
        };
        let token = ask(app, key, &session).await?;
        Ok(token.map(|token| Self { app: app.clone(), key: key.to_owned(), session, token }))
    }

    /// Asks again, for a page that had to wait since the visitor was let in.
    pub async fn is_still_here(&self) -> Result<ActiveToken, Stop> {
        let token = ask(&self.app, &self.key, &self.session).await?;
        token.ok_or_else(|| Stop::Ended(self.session.place.clone()))
    }

    pub fn session_id(&self) -> &str {
        &self.session.id
    }

    /// Records an act, if the access includes it, now. The caller does it, or shows it, only after `Ok`, with no pause
    /// in between, and has waited for locks of its own before.
    pub async fn report(&self, act: Act) -> Result<(), Stop> {
        let place = &self.session.place;
        let may = async |act: &Act| {
            let token = self.is_still_here().await?;
            Self::allows(&token, act).map_err(|why| Stop::NotIncluded(place.clone(), why))?;
            Ok(token.exp.min(self.session.expires_at))
        };
        self.session.report(self.app.service(place.portal), act, may).await.map_err(|refusal| {
            log(format_args!("session {}: an act was not recorded: {refusal}", self.session.id));
            match refusal {
                NotRecorded::Stopped(stop) => stop,
                NotRecorded::Closed => Stop::Ended(place.clone()),
                // What is wrong with the key is nothing that the visitor could change.
                NotRecorded::Service(Error::Refused(problem)) if !matches!(problem.status, 401 | 403) => {
                    Stop::NotRecordable(problem.code)
                }
                NotRecorded::Service(_) => Stop::NotRecorded,
            }
        })
    }

    /// The one place where `access`, `modules` and `forbidden` are kept to. What a page shows as disabled is only paint.
    fn allows(token: &ActiveToken, act: &Act) -> Result<(), &'static str> {
        if act.kind == Kind::Change && token.is_read_only() {
            Err("It is read only: you can look, but not change anything.")
        } else if !token.includes(act.module) {
            Err("It does not reach into this part of the portal.")
        } else if act.category.is_some_and(|category| token.forbids(category)) {
            Err("The company has left out what you tried.")
        } else {
            Ok(())
        }
    }

    pub fn banner(&self) -> Banner {
        let session = &self.session;
        Banner {
            consultant: session.consultant_name.clone(),
            profile: session.profile.name.clone(),
            until: Moment::new(self.token.exp),
            token: self.token.clone(),
            done: format!("{}done", session.place.root()),
            seconds_left: (self.token.exp - now()).whole_seconds().saturating_add(1).max(1),
        }
    }
}

/// Whether the session is live, and if it is not, its end is seen to.
async fn ask(app: &Data<App>, key: &str, session: &Session) -> Result<Option<ActiveToken>, Stop> {
    let token = admit(app, session, &session.place).await?;
    if token.is_none() {
        // Its closing count is still owed. The visitor need not wait for that, and has not said that they are done.
        let (app, key, place) = (app.clone(), key.to_owned(), session.place.clone());
        rt::spawn(async move { leave(&app, &key, &place, false).await });
    }
    Ok(token)
}

/// Two questions, both answered now. Nothing is cached: a grant that was revoked a second ago lets nobody in.
async fn admit(app: &App, session: &Session, place: &Place) -> Result<Option<ActiveToken>, Stop> {
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
    // A link that was shortened ends with `exp`, also while the answer was on its way.
    Ok(token.filter(|token| is_ours(&token.sid, &token.tenant_id, &token.portal) && now() < token.exp))
}

/// The strip on top of each visitor page.
pub struct Banner {
    pub consultant: String,
    pub profile: String,
    pub until: Moment,
    /// What the access leaves out, and whether it is time to save.
    pub token: ActiveToken,
    pub done: String,
    /// The page reloads itself then, so that data does not stay on a screen after the end.
    pub seconds_left: i64,
}

/// `POST /{tenant}/{portal}/done`: "I am done".
pub async fn done(app: Data<App>, request: HttpRequest, place: Place) -> Result<HttpResponse, Stop> {
    let ended = match cookie(&request, SESSION_COOKIE)? {
        Some(key) => leave(&app, key, &place, true).await,
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
    set_cookie(&mut response, &place, SESSION_COOKIE, "", 0);
    Ok(response)
}

/// Ends the session behind a cookie. `None`: there was none. Otherwise whether the service knows of the end.
pub async fn leave(app: &App, key: &str, place: &Place, consultant_done: bool) -> Option<bool> {
    app.sessions.find(key, place).await?;
    // Here first: whatever the service answers, this browser is out. Of several callers one gets the session.
    let session = app.sessions.remove(key).await?;
    Some(close(app, &session, consultant_done).await)
}

/// Sends the closing count. Without it the service cannot tell a quiet end from lost events.
pub async fn close(app: &App, session: &Session, consultant_done: bool) -> bool {
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

/// Closes the sessions whose time ran out while nobody looked, or that nobody confirmed, and so bounds the memory by live ones.
pub async fn close_expired(app: Data<App>) {
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        for session in app.sessions.take_expired().await.into_iter().chain(app.arrivals.take_expired().await) {
            close(&app, &session, false).await;
        }
    }
}
