//! Authentication of clients: the scope that a handler needs is a type in its signature.

use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::LocalBoxFuture;
use url::form_urlencoded;

use super::contract::Operation;
use crate::access::{LastUse, LiveClient};
use crate::clock::{Clock, Timestamp};
use crate::context::Context;
use crate::domain::{Actor, Authority, Reach, Scope};
use crate::error::{Code, Error};
use crate::http::Limits;
use crate::http::parameters::require_described_query;
use crate::http::turn::Judgement;
use crate::id::ClientId;
use crate::records::clients::Client;
use crate::secrets::ApiKey;
use crate::store::{ClientStanding, Judged, Owner};

/// A scope as a type.
pub(crate) trait Needs: 'static {
    /// The scope.
    const SCOPE: Scope;
    /// Another scope that is enough.
    const OR: Option<Scope> = None;
}

macro_rules! needs {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) enum $name {}

        impl Needs for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )*};
}

needs! {
    /// `links:issue`
    IssueLinks
    /// `links:approve`
    ApproveLinks
    /// `links:read`
    ReadLinks
    /// `links:revoke`
    RevokeLinks
    /// `sessions:redeem`
    RedeemSessions
    /// `sessions:introspect`
    IntrospectSessions
    /// `audit:write`
    WriteAudit
    /// `audit:read`
    ReadAudit
    /// `audit:manage`
    ManageAudit
    /// `tenants:read`
    ReadTenants
    /// `tenants:write`
    WriteTenants
    /// `policies:write`
    WritePolicies
    /// `consultants:read`
    ReadConsultants
    /// `consultants:write`
    WriteConsultants
    /// `webhooks:manage`
    ManageWebhooks
    /// `admin`
    Admin
}

/// `links:issue`, or `links:request` for a link that waits for an approval
#[derive(Debug, Clone, Copy)]
pub(crate) enum AskForLinks {}

impl Needs for AskForLinks {
    const SCOPE: Scope = Scope::IssueLinks;
    const OR: Option<Scope> = Some(Scope::RequestLinks);
}

/// An authenticated caller that has the scope `S`.
#[derive(Debug, Clone)]
pub(crate) struct Caller<S> {
    /// The client; absent at the command line.
    pub client_id: Option<ClientId>,
    /// The tenants and the portal that it is limited to.
    pub reach: Reach,
    /// Whether issuing was frozen when the request arrived.
    pub issuing_frozen: bool,
    scopes: Vec<Scope>,
    actor: Actor,
    needs: PhantomData<fn() -> S>,
}

/// Set in the request, so that the middleware knows the authenticated client.
#[derive(Debug, Clone)]
pub(super) struct KnownClient(pub Arc<LiveClient>);

impl<S> Caller<S> {
    /// The operator at the command line, who has access to the database and so may do everything.
    pub(crate) fn operator() -> Self {
        Self {
            client_id: None,
            reach: Reach::everything(),
            issuing_frozen: false,
            scopes: Scope::ALL.to_vec(),
            actor: Actor::system("command-line"),
            needs: PhantomData,
        }
    }

    fn of(client: &LiveClient, issuing_frozen: bool) -> Self {
        Self {
            actor: Actor::client(&client.id, &client.name),
            client_id: Some(client.id.clone()),
            reach: client.reach.clone(),
            issuing_frozen,
            scopes: client.scopes.clone(),
            needs: PhantomData,
        }
    }

    /// Whether the caller has a scope.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The scopes of the caller, within its reach.
    pub(crate) fn authority(&self) -> Authority {
        Authority { reach: self.reach.clone(), scopes: self.scopes.clone() }
    }

    /// Refuses whoever is no operator: for what belongs to no tenant and portal in particular.
    ///
    /// # Errors
    /// `client_not_permitted`
    pub(crate) fn require_operator(&self, what: &str) -> Result<(), Error> {
        if self.authority().is_operator() {
            return Ok(());
        }
        Err(Error::new(Code::ClientNotPermitted).detail(format!("{what} needs a client of every tenant and portal")))
    }

    /// Refuses a client of one portal what concerns every portal of a tenant.
    ///
    /// # Errors
    /// `client_not_permitted`
    pub(crate) fn require_every_portal(&self, setting: &str) -> Result<(), Error> {
        if self.reach.portal.is_none() {
            return Ok(());
        }
        let detail = format!("changing {setting} needs a client that is bound to no portal");
        Err(Error::new(Code::ClientNotPermitted).detail(detail))
    }

    /// The actor: the portal user whom the client names, or else the client itself.
    pub(crate) fn actor(&self, requested_by: Option<&crate::domain::Person>) -> Actor {
        requested_by.map_or_else(|| self.actor.clone(), |person| Actor::portal_user(&person.id, &person.name))
    }
}

impl<S: Needs> FromRequest for Caller<S> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let judgement = Judgement::begin(request);
        let presented = PresentedKey::<S>::of(request);
        let cx = request.app_data::<web::Data<Context>>().cloned();
        Box::pin(async move {
            let presented = presented?;
            let cx = cx.ok_or_else(|| Error::internal("the application is not wired"))?;
            let caller = presented.caller(&cx, cx.clock.now()).await?;
            require_described_query(&presented.request)?;
            judgement.pass();
            Ok(caller)
        })
    }
}

/// An API key that is parsed, but not checked yet.
///
/// For a verb that loads the client and something else from the store at once; it must then call
/// [`PresentedKey::authenticate`].
pub(crate) struct PresentedKey<S> {
    named: Option<String>,
    key: ApiKey,
    request: HttpRequest,
    needs: PhantomData<fn() -> S>,
}

impl<S: Needs> PresentedKey<S> {
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Error> {
        let (named, key) = credentials(request).ok_or(Code::Unauthenticated)?;
        Ok(Self { named, key, request: request.clone(), needs: PhantomData })
    }

    /// The credentials of a form.
    pub(super) fn of_form(request: &HttpRequest, client_id: String, secret: &str) -> Result<Self, Error> {
        let key = ApiKey::parse(secret).ok_or(Code::Unauthenticated)?;
        Ok(Self { named: Some(client_id), key, request: request.clone(), needs: PhantomData })
    }

    /// Loads and authenticates the client.
    ///
    /// # Errors
    /// As [`PresentedKey::authenticate`], and `unavailable`.
    pub(super) async fn caller(&self, cx: &Context, now: Timestamp) -> Result<Caller<S>, Error> {
        let state = cx.snapshot(Some(self.client_id()), None, now).await?;
        let frozen = state.epochs.frozen;
        self.authenticate(state.client, now).map(|client| Caller::of(&client, frozen))
    }

    /// The client that the key names.
    pub(crate) const fn client_id(&self) -> &ClientId {
        self.key.client_id()
    }

    /// Authenticates the client that the store found: the key must be its own, and it must have the scope.
    ///
    /// # Errors
    /// `unauthenticated`, without the reason; `rate_limited`; `insufficient_scope`.
    pub(crate) fn authenticate(
        &self,
        client: Option<Arc<LiveClient>>,
        now: Timestamp,
    ) -> Result<Arc<LiveClient>, Error> {
        let key_sha256 = self.key.sha256();
        let client = client.filter(|client| client.accepts(&key_sha256, now)).ok_or(Code::Unauthenticated)?;
        if self.named.as_deref().is_some_and(|id| id != client.id.as_str()) {
            return Err(Code::Unauthenticated.into());
        }
        self.request.extensions_mut().insert(KnownClient(Arc::clone(&client)));
        let cx = self.request.app_data::<web::Data<Context>>();
        let standing = cx.map(|cx| {
            ClientStanding::new(Admitted {
                key_sha256,
                client: Arc::clone(&client),
                enough: (S::SCOPE, S::OR),
                beyond_reach: Operation::beyond_reach(&self.request),
                clock: cx.clock.clone(),
            })
        });
        Owner::Client(client.id.clone()).becomes_current(standing);
        if client.is_news(now)
            && let Some(cx) = cx
        {
            let address = self.request.app_data::<web::Data<Limits>>().and_then(|limits| limits.address(&self.request));
            cx.client_uses.note(&client.id, LastUse { at: now, address });
        }
        if let Some(limits) = self.request.app_data::<web::Data<Limits>>() {
            limits.check_client(&client.id)?;
        }
        require_scope(&client.scopes, (S::SCOPE, S::OR))?;
        Ok(client)
    }
}

/// Refuses a client that has neither of the scopes that are enough for a call.
fn require_scope(scopes: &[Scope], (one, other): (Scope, Option<Scope>)) -> Result<(), Error> {
    if scopes.iter().any(|scope| *scope == one || Some(*scope) == other) {
        return Ok(());
    }
    let or = other.map_or_else(String::new, |other| format!(" or {other}"));
    Err(Error::new(Code::InsufficientScope).detail(format!("this call needs the scope {one}{or}")))
}

/// A client that was let in at the head of a request.
struct Admitted {
    client: Arc<LiveClient>,
    /// The hash of the key that it showed.
    key_sha256: String,
    /// The scopes of which one is enough for the call.
    enough: (Scope, Option<Scope>),
    /// How the call refuses what is out of reach.
    beyond_reach: Code,
    clock: Clock,
}

impl Judged for Admitted {
    fn client_id(&self) -> &ClientId {
        &self.client.id
    }

    fn standing(&self) -> &str {
        &self.client.standing
    }

    fn may_be_over(&self) -> bool {
        self.key_sha256 != self.client.key_sha256
            && self.client.previous_key_expires_at.is_none_or(|until| until <= self.clock.now())
    }

    /// What the call makes of the client's authority was decided by what that was at the head: where any of it is lost,
    /// that does not count any more.
    fn judge(&self, found: Option<Client>) -> Result<(), Error> {
        let now = self.clock.now();
        let found = found.filter(|client| client.disabled_at.is_none() && client.accepts(&self.key_sha256, now));
        let authority = found.ok_or(Code::Unauthenticated)?.authority();
        require_scope(&authority.scopes, self.enough)?;
        if let Some(lost) = self.client.scopes.iter().find(|scope| !authority.has(**scope)) {
            let detail = format!("the client lost the scope {lost} while the call was on its way");
            return Err(Error::new(Code::InsufficientScope).detail(detail));
        }
        if authority.reach.covers_reach(&self.client.reach) {
            return Ok(());
        }
        let detail = "the client lost tenants or portals while the call was on its way";
        Err(Error::new(self.beyond_reach).detail(detail))
    }
}

/// The key of `Bearer <key>`, or id and key of `Basic <client_id>:<key>`. OAuth's libraries encode both parts like a form's
/// (RFC 6749, 2.3.1); without escapes that means the same.
fn credentials(request: &HttpRequest) -> Option<(Option<String>, ApiKey)> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let header = headers.next()?.to_str().ok()?;
    if headers.next().is_some() {
        return None;
    }
    let (scheme, value) = header.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((None, ApiKey::parse(value)?));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
        let (id, key) = decoded.split_once(':')?;
        return Some((Some(form_decoded(id)), ApiKey::parse(&form_decoded(key))?));
    }
    None
}

fn form_decoded(text: &str) -> String {
    // A whole form would be split there.
    let name = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(name.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}
