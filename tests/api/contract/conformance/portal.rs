//! A small portal that keeps every rule, or breaks the one that it is told to.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Form, Path, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt as _;
use reqwest::Client;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    OpensWithoutSession,
    RedeemsAtHead,
    SignsInAtGet,
    KeepsCodeInAddress,
    TellsAddress,
    OpensUsedCode,
    LetsScriptsReadCookie,
    KeepsPlantedCookie,
    LetsPagesBeKept,
    TakesFormsOfOthers,
    OpensForeignTenants,
    ForgetsEndInBanner,
    RemembersYes,
    OpensWithoutService,
    SkipsNumbers,
    SendsNoCount,
    LetsOthersEnd,
    KeepsSessionAfterDone,
    TakesForgedMessages,
    TakesOldMessages,
    GivesMinuteOfGrace,
    BelievesOwnClockAlone,
}

struct Visit {
    id: String,
    tenant: String,
    consultant: String,
    profile: String,
    token: String,
    expires_at: OffsetDateTime,
    reported: AtomicU64,
    was_active: AtomicBool,
}

struct Portal {
    breaks: Option<Break>,
    service: String,
    key: String,
    secret: String,
    http: Client,
    /// Visits that wait for a yes, and those that are signed in, by the value of the cookie.
    arrivals: Mutex<HashMap<String, Arc<Visit>>>,
    sessions: Mutex<HashMap<String, Arc<Visit>>>,
    codes: Mutex<HashMap<String, Arc<Visit>>>,
}

/// Serves until the handle stops it.
pub fn serve(
    listener: TcpListener,
    breaks: Option<Break>,
    service: String,
    key: String,
    secret: String,
) -> ServerHandle {
    let portal = Data::new(Portal {
        breaks,
        service,
        key,
        secret,
        http: Client::new(),
        arrivals: Mutex::default(),
        sessions: Mutex::default(),
        codes: Mutex::default(),
    });
    let (tell, handle) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                let callback = web::resource("/callback").route(web::get().to(callback));
                let redeems_at_head = portal.breaks == Some(Break::RedeemsAtHead);
                let callback = if redeems_at_head { callback.route(web::head().to(self::callback)) } else { callback };
                let pages = web::scope("/{tenant}/cloud")
                    .service(callback)
                    .service(web::resource("/arrival").get(ask).post(answer))
                    .route("/page", web::get().to(page))
                    .route("/done", web::post().to(done));
                App::new().app_data(portal.clone()).route("/hook", web::post().to(hook)).service(pages)
            });
            let server =
                server.workers(1).disable_signals().shutdown_timeout(0).listen(listener).expect("a port").run();
            tell.send(server.handle()).expect("the test waits for it");
            server.await.expect("the portal runs");
        });
    });
    handle.recv().expect("the portal starts")
}

fn cookie(request: &HttpRequest, name: &str) -> Option<String> {
    let sent = request.headers().get("cookie")?.to_str().ok()?;
    sent.split("; ")
        .filter_map(|one| one.split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, at)| at.to_owned())
}

fn random() -> String {
    format!("{:032x}{:032x}", rand::rng().random::<u128>(), rand::rng().random::<u128>())
}

fn is_own_form(request: &HttpRequest) -> bool {
    request.headers().get("sec-fetch-site").is_some_and(|site| site == "same-origin")
}

fn said(status: StatusCode) -> HttpResponse {
    HttpResponse::build(status).body("no")
}

impl Portal {
    fn has(&self, one: Break) -> bool {
        self.breaks == Some(one)
    }

    fn headers(&self, answer: &mut HttpResponseBuilder) {
        if !self.has(Break::LetsPagesBeKept) {
            answer.insert_header(("cache-control", "no-store"));
            answer.insert_header(("content-security-policy", "frame-ancestors 'none'"));
        }
    }

    fn sign_in(&self, request: &HttpRequest, tenant: &str, visit: Arc<Visit>) -> HttpResponse {
        let planted = cookie(request, "session").filter(|_| self.has(Break::KeepsPlantedCookie));
        let key = planted.unwrap_or_else(random);
        self.sessions.lock().unwrap().insert(key.clone(), visit);
        let flags = if self.has(Break::LetsScriptsReadCookie) { "" } else { "; HttpOnly" };
        let value = format!("session={key}; Path=/{tenant}/cloud/; SameSite=Lax{flags}");
        HttpResponse::SeeOther()
            .insert_header(("set-cookie", value))
            .insert_header(("location", format!("/{tenant}/cloud/page")))
            .finish()
    }

    async fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let sent = self.http.post(format!("{}{path}", self.service)).bearer_auth(&self.key).json(body).send().await;
        let answer = sent.ok().filter(|answer| answer.status().is_success())?;
        Some(answer.json().await.unwrap_or_default())
    }

    /// Whether the service says yes; `None` if it says nothing.
    async fn is_active(&self, visit: &Visit) -> Option<bool> {
        let form = [("token", visit.token.as_str())];
        let sent = self.http.post(format!("{}/v1/introspect", self.service)).bearer_auth(&self.key).form(&form).send();
        let answer: Value = sent.await.ok()?.json().await.ok()?;
        Some(answer["active"] == true && answer["sid"] == visit.id.as_str())
    }

    async fn guard(&self, request: &HttpRequest, tenant: &str) -> Result<Arc<Visit>, StatusCode> {
        let key = cookie(request, "session").unwrap_or_default();
        let found = self.sessions.lock().unwrap().get(&key).cloned();
        let visit = found.ok_or(StatusCode::FORBIDDEN)?;
        let grace = time::Duration::seconds(if self.has(Break::GivesMinuteOfGrace) { 60 } else { 0 });
        let is_over = OffsetDateTime::now_utc() >= visit.expires_at + grace;
        if is_over || (visit.tenant != tenant && !self.has(Break::OpensForeignTenants)) {
            return Err(StatusCode::FORBIDDEN);
        }
        let believed = self.has(Break::RemembersYes) || self.has(Break::BelievesOwnClockAlone);
        if believed && visit.was_active.load(Ordering::SeqCst) {
            return Ok(visit);
        }
        match self.is_active(&visit).await {
            Some(true) => visit.was_active.store(true, Ordering::SeqCst),
            None if self.has(Break::OpensWithoutService) => {}
            None => return Err(StatusCode::SERVICE_UNAVAILABLE),
            Some(false) => return Err(StatusCode::FORBIDDEN),
        }
        Ok(visit)
    }

    async fn report(&self, visit: &Visit) {
        let step = if self.has(Break::SkipsNumbers) { 2 } else { 1 };
        let seq = visit.reported.fetch_add(step, Ordering::SeqCst) + step;
        let event = json!({
            "seq": seq, "source": "portal", "kind": "view", "action": "page.viewed", "resource_type": "page",
            "resource_id": "page", "occurred_at": OffsetDateTime::now_utc().format(&Rfc3339).unwrap(),
        });
        self.post(&format!("/v1/sessions/{}/events", visit.id), &json!({ "events": [event] })).await;
    }
}

async fn callback(
    portal: Data<Portal>,
    request: HttpRequest,
    tenant: Path<String>,
    query: Query<HashMap<String, String>>,
) -> HttpResponse {
    let code = query.get("code").cloned().unwrap_or_default();
    let known = portal.codes.lock().unwrap().get(&code).cloned().filter(|_| portal.has(Break::OpensUsedCode));
    let visit = if let Some(visit) = known {
        visit
    } else {
        let Some(opened) = portal.post("/v1/sessions", &json!({ "token": code })).await else {
            return said(StatusCode::GONE);
        };
        let text = |at: &str| opened.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        if text("/tenant_id") != *tenant && !portal.has(Break::OpensForeignTenants) {
            return said(StatusCode::NOT_FOUND);
        }
        Arc::new(Visit {
            id: text("/id"),
            tenant: text("/tenant_id"),
            consultant: text("/consultant/name"),
            profile: text("/profile/name"),
            token: text("/access_token"),
            expires_at: OffsetDateTime::parse(&text("/expires_at"), &Rfc3339).unwrap(),
            reported: AtomicU64::new(0),
            was_active: AtomicBool::new(false),
        })
    };
    portal.codes.lock().unwrap().insert(code, Arc::clone(&visit));
    if portal.has(Break::SignsInAtGet) {
        return portal.sign_in(&request, &tenant, visit);
    }
    let key = random();
    let shown = question(&key, &tenant, &visit);
    portal.arrivals.lock().unwrap().insert(key.clone(), visit);
    let mut answer = HttpResponse::SeeOther();
    portal.headers(&mut answer);
    answer.insert_header(("set-cookie", format!("arrival={key}; Path=/{tenant}/cloud/; HttpOnly; SameSite=Lax")));
    if !portal.has(Break::TellsAddress) {
        answer.insert_header(("referrer-policy", "no-referrer"));
    }
    if portal.has(Break::KeepsCodeInAddress) {
        return answer.status(StatusCode::OK).body(shown);
    }
    answer.insert_header(("location", format!("/{tenant}/cloud/arrival"))).finish()
}

fn question(key: &str, tenant: &str, visit: &Visit) -> String {
    let Visit { consultant, profile, .. } = visit;
    format!(
        "<p>You are {consultant}. Continue as {profile}?</p><form method=\"post\" action=\"/{tenant}/cloud/arrival\">\
         <input type=\"hidden\" name=\"question\" value=\"{key}\"><button name=\"answer\" value=\"yes\">Yes</button></form>"
    )
}

async fn ask(portal: Data<Portal>, request: HttpRequest, tenant: Path<String>) -> HttpResponse {
    let key = cookie(&request, "arrival").unwrap_or_default();
    let found = portal.arrivals.lock().unwrap().get(&key).cloned();
    let Some(visit) = found else { return said(StatusCode::FORBIDDEN) };
    HttpResponse::Ok().body(question(&key, &tenant, &visit))
}

async fn answer(
    portal: Data<Portal>,
    request: HttpRequest,
    tenant: Path<String>,
    form: Form<HashMap<String, String>>,
) -> HttpResponse {
    let key = cookie(&request, "arrival").unwrap_or_default();
    let is_own = is_own_form(&request) || portal.has(Break::TakesFormsOfOthers);
    if !is_own || form.get("question") != Some(&key) {
        return said(StatusCode::FORBIDDEN);
    }
    let found = portal.arrivals.lock().unwrap().remove(&key);
    let Some(visit) = found else { return said(StatusCode::FORBIDDEN) };
    portal.sign_in(&request, &tenant, visit)
}

async fn page(portal: Data<Portal>, request: HttpRequest, tenant: Path<String>) -> HttpResponse {
    let visit = match portal.guard(&request, &tenant).await {
        Ok(visit) => visit,
        Err(_) if portal.has(Break::OpensWithoutSession) => return HttpResponse::Ok().body("Nikhil earns 50000"),
        Err(status) => return said(status),
    };
    portal.report(&visit).await;
    let Visit { consultant, profile, expires_at, .. } = &*visit;
    let until = if portal.has(Break::ForgetsEndInBanner) {
        String::new()
    } else {
        format!("until <time datetime=\"{}\">later</time>", expires_at.format(&Rfc3339).unwrap())
    };
    let mut answer = HttpResponse::Ok();
    portal.headers(&mut answer);
    answer.body(format!(
        "<p>{consultant} acts as {profile} {until}. Everything is recorded.</p>\
         <form method=\"post\" action=\"/{tenant}/cloud/done\"><button>I am done</button></form>Nikhil earns 50000"
    ))
}

async fn done(portal: Data<Portal>, request: HttpRequest, _tenant: Path<String>) -> HttpResponse {
    if !is_own_form(&request) && !portal.has(Break::LetsOthersEnd) {
        return said(StatusCode::FORBIDDEN);
    }
    let key = cookie(&request, "session").unwrap_or_default();
    let found = portal.sessions.lock().unwrap().get(&key).cloned();
    let Some(visit) = found else { return said(StatusCode::FORBIDDEN) };
    let count = visit.reported.load(Ordering::SeqCst);
    let sources = if portal.has(Break::SendsNoCount) { json!({}) } else { json!({ "portal": count }) };
    if portal.has(Break::KeepsSessionAfterDone) {
        return HttpResponse::Ok().body("Goodbye");
    }
    portal.sessions.lock().unwrap().remove(&key);
    let body = json!({ "consultant_done": true, "sources": sources });
    portal.post(&format!("/v1/sessions/{}/end", visit.id), &body).await;
    HttpResponse::Ok().body("Goodbye")
}

async fn hook(portal: Data<Portal>, request: HttpRequest, body: String) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let secret = STANDARD.decode(portal.secret.trim_start_matches("whsec_")).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    let is_signed = header("webhook-signature").split(' ').any(|one| {
        let tag = one.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok()).unwrap_or_default();
        hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
    });
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let sent: i64 = header("webhook-timestamp").parse().unwrap_or_default();
    let is_fresh = (now - sent).abs() <= 300 || portal.has(Break::TakesOldMessages);
    let is_good = (is_signed || portal.has(Break::TakesForgedMessages)) && is_fresh;
    said(if is_good { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED })
}
