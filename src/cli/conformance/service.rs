//! The private service: the real one, over a database of its own, with a clock that the run moves and a wire that it cuts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::rt;
use actix_web::rt::net::{TcpListener, TcpStream};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::Rng as _;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::sync::watch;
use url::Url;

use super::Conformance;
use crate::app;
use crate::cli::Failure;
use crate::clients::{self, CreateClient};
use crate::clock::Clock;
use crate::config::Config;
use crate::consultants::{self, RegisterConsultant};
use crate::domain::Scope;
use crate::http::Caller;
use crate::secrets::MasterKey;
use crate::serve::Service;

/// How far the private service's clock is behind the true time: links of an hour end when the run wants them to.
pub(super) const BEHIND: time::Duration = time::Duration::hours(1);

/// What the portal's key may do, and the run's own.
const SCOPES: [Scope; 9] = [
    Scope::IssueLinks,
    Scope::ReadLinks,
    Scope::RevokeLinks,
    Scope::RedeemSessions,
    Scope::IntrospectSessions,
    Scope::WriteAudit,
    Scope::ReadAudit,
    Scope::ReadConsultants,
    Scope::ManageWebhooks,
];

const MAIL_TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// The consultant of the visits, and somebody else.
pub(super) const CONSULTANT: &str = "Ravi Kumar";
pub(super) const STRANGER: &str = "Mallory Fox";

/// The service, while it runs.
pub(super) struct PrivateService {
    http: Client,
    /// Past the wire.
    base: String,
    clock: Clock,
    /// Where the portal calls it.
    pub url: String,
    /// The key for the portal.
    pub portal_key: String,
    own_key: String,
    consultant: String,
    stranger: String,
    portal: String,
    links: AtomicU32,
    up: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    folder: Folder,
}

/// A folder that is gone after the run.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a folder for temporary files harms nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn folder() -> std::io::Result<Folder> {
    let path = std::env::temp_dir().join(format!("magic-link-conformance-{:016x}", rand::rng().next_u64()));
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&path)?;
    Ok(Folder(path))
}

fn config(command: &Conformance, port: u16, folder: &Folder) -> Result<Config, Failure> {
    let mut key = [0; 32];
    rand::rng().fill_bytes(&mut key);
    let database = folder.0.join("magic-link.db");
    let database = database.to_str().ok_or("the name of the folder for temporary files is no UTF-8")?;
    let quoted = |text: &str| Value::from(text).to_string();
    let callback = format!("{}{}{}", command.portal_base(), command.root, command.callback);
    let text = format!(
        "listen = '127.0.0.1:0'\npublic_url = 'http://127.0.0.1:{}'\ndatabase_url = {}\nmaster_key = '{}'\n\
         limits.public_per_minute = 100000\nmail.provider = 'preview'\nlog.level = 'error'\n\
         [portals.{}]\nname = 'Portal'\ncallback_url = {}\naudience = 'https://portal.example/conformance'\n",
        port,
        quoted(&format!("sqlite://{database}")),
        STANDARD.encode(key),
        command.portal,
        quoted(&callback),
    );
    Ok(Config::from_toml(&text)?)
}

impl PrivateService {
    /// Starts it, with two consultants, a client for the portal and one for the run.
    pub(super) async fn start(command: &Conformance) -> Result<Self, Failure> {
        let folder = folder()?;
        let listener = TcpListener::bind(command.listen).await?;
        let listens = listener.local_addr()?;
        let config = config(command, listens.port(), &folder)?;
        let clock = Clock::manual(Clock::System.now().minus(BEHIND));
        let master_key = MasterKey::load(&config.master_key)?;
        let cx = app::open_context(config.clone(), clock.clone(), Some(master_key)).await?;
        let client = |name: &str| CreateClient {
            name: name.to_owned(),
            portal: Some(command.portal.clone()),
            tenants: vec![command.tenant.clone(), command.foreign_tenant.clone()],
            scopes: SCOPES.to_vec(),
            combined_scopes: Vec::new(),
        };
        let key = async |name: &str| {
            let client = clients::create(&cx, &Caller::operator(), client(name), None, clock.now()).await?;
            Ok::<_, Failure>(client.key.unwrap_or_default())
        };
        let (portal_key, own_key) = (key("Portal under test").await?, key("Conformance run").await?);
        let person = async |name: &str, email: &str| {
            let request = RegisterConsultant {
                name: name.to_owned(),
                email: email.to_owned(),
                requested_by: None,
                acting_session_id: None,
            };
            let person = consultants::register(&cx, &Caller::operator(), request, None, clock.now()).await?;
            Ok::<_, Failure>(text_at(&serde_json::to_value(&person)?, "/id"))
        };
        let consultant = person(CONSULTANT, "ravi.kumar@support.example").await?;
        let stranger = person(STRANGER, "mallory.fox@support.example").await?;
        drop(cx);
        let service = Service::build(config, clock.clone()).await?;
        let port = service.port()?;
        let (up, is_up) = watch::channel(true);
        let (stop, mut stopped) = watch::channel(false);
        rt::spawn(wire(listener, port, is_up));
        let (end, ended) = watch::channel(false);
        rt::spawn(async move {
            // The sender lives as long as the run. Nobody else asks how it ended.
            drop(service.run_until(async move { drop(stopped.wait_for(|stop| *stop).await) }).await);
            end.send_replace(true);
        });
        Ok(Self {
            http: Client::builder().timeout(Duration::from_secs(30)).build()?,
            base: format!("http://{}", loopback(port)),
            clock,
            url: format!("http://{}", if listens.ip().is_unspecified() { loopback(listens.port()) } else { listens }),
            portal_key,
            own_key,
            consultant,
            stranger,
            portal: command.portal.clone(),
            links: AtomicU32::new(0),
            up,
            stop,
            ended,
            folder,
        })
    }

    /// Ends it, and waits until it has let go of its files.
    pub(super) async fn end(self) {
        self.stop.send_replace(true);
        // It ends with the process at the latest.
        drop(tokio::time::timeout(Duration::from_secs(20), self.ended()).await);
        drop(self.folder);
    }

    /// Waits until it has ended, by a signal to the process, for instance.
    pub(super) async fn ended(&self) {
        drop(self.ended.clone().wait_for(|ended| *ended).await);
    }

    /// Whether it answers the portal. Connections that are open are cut.
    pub(super) fn be_up(&self, up: bool) {
        self.up.send_replace(up);
    }

    /// The time of the service, which stands still but for this.
    pub(super) fn advance(&self, by: time::Duration) {
        self.clock.advance(by);
    }

    /// How long until the service's clock would be an hour behind the true time again.
    pub(super) fn lag(&self) -> time::Duration {
        Clock::System.now().minus(BEHIND).since(self.clock.now())
    }

    /// Calls the API with the run's own key.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(&self.own_key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answered = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.text().await?))
        };
        let (status, text) =
            answered.await.map_err(|error| format!("the private service: {method} {path}: {error}"))?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        super::ensure(status.is_success(), || format!("the private service: {method} {path}: {status} {text}"))?;
        Ok(body)
    }

    /// Issues a link. Each is for another profile, because one access has one link.
    pub(super) async fn issue(&self, tenant: &str, hours: u32, is_stranger: bool) -> Result<Value, String> {
        let number = self.links.fetch_add(1, Ordering::SeqCst) + 1;
        let consultant = if is_stranger { &self.stranger } else { &self.consultant };
        let body = json!({
            "tenant_id": tenant, "portal": self.portal, "consultant_id": consultant,
            "reason": "Conformance of the portal", "duration": { "value": hours, "unit": "hours" },
            "profile": { "id": format!("emp-{number}"), "name": format!("Asha Rao {number}") },
            "issued_by": { "id": "emp-7", "name": "Meera Iyer" },
        });
        self.call(Method::POST, "/v1/magic-links", Some(&body)).await
    }

    /// The portal's callback with the code, as the landing page gives it when its button is pressed.
    pub(super) async fn click(&self, link: &Value) -> Result<Url, String> {
        let body = json!({ "token": self.token(link).await? });
        let answer = self.call(Method::POST, "/l/continue", Some(&body)).await?;
        Url::parse(&text_at(&answer, "/redirect_url")).map_err(|error| error.to_string())
    }

    /// The token of the mail about a link, as the preview mailbox shows it.
    async fn token(&self, link: &Value) -> Result<String, String> {
        let id = text_at(link, "/id");
        let search = async {
            loop {
                let mails = self.call(Method::GET, "/dev/mailbox.json", None).await?;
                let mails =
                    mails.as_array().into_iter().flatten().map(|mail| text_at(mail, "/text")).collect::<Vec<_>>();
                let mut tokens = mails.iter().flat_map(|text| text.split("/l#").skip(1)).filter_map(|rest| {
                    rest.split(|end: char| !(end.is_ascii_alphanumeric() || "-_.".contains(end))).next()
                });
                if let Some(token) = tokens.find(|token| jti(token).as_deref() == Some(&id)) {
                    return Ok(token.to_owned());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let found = tokio::time::timeout(MAIL_TIMEOUT, search).await;
        found.unwrap_or_else(|_| Err("the private service sent no mail".to_owned()))
    }

    /// The newest session of a link.
    pub(super) async fn session(&self, link: &Value) -> Result<Option<Value>, String> {
        let found =
            self.call(Method::GET, &format!("/v1/sessions?magic_link_id={}", text_at(link, "/id")), None).await?;
        let Some(id) = found.pointer("/items/0/id").and_then(Value::as_str) else { return Ok(None) };
        self.call(Method::GET, &format!("/v1/sessions/{id}"), None).await.map(Some)
    }

    /// Events of a link, the oldest first.
    pub(super) async fn events(&self, link: &Value) -> Result<Vec<Value>, String> {
        let path = format!("/v1/audit-events?page_size=200&magic_link_id={}", text_at(link, "/id"));
        let found = self.call(Method::GET, &path, None).await?;
        Ok(found.pointer("/items").and_then(Value::as_array).into_iter().flatten().rev().cloned().collect())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Carries bytes between portal and service, while it is up.
async fn wire(listener: TcpListener, port: u16, up: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut up = up.clone();
        if !*up.borrow() {
            continue;
        }
        rt::spawn(async move {
            let Ok(mut far) = TcpStream::connect(loopback(port)).await else { return };
            tokio::select! {
                // Either side may hang up as it likes.
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = up.wait_for(|up| !*up) => {}
            }
        });
    }
}

fn jti(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Some(text_at(&serde_json::from_slice(&claims).ok()?, "/jti"))
}

/// A text within a value; empty if it is not there.
pub(super) fn text_at(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
