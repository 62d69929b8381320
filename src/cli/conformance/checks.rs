//! What a portal has to do: a table of checks, each with the reason for it and the standard that says so.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use reqwest::Method;
use serde_json::Value;

use super::browser::{Browser, Page, Site, plain, refused};
use super::service::{CONSULTANT, STRANGER, text_at};
use super::{Finding, Run, ensure, visits, webhooks};
use crate::clock::Clock;

/// A check: a name for the command line and for machines, why it matters, who says so, and what is done.
pub(super) struct Check {
    pub name: &'static str,
    pub why: &'static str,
    pub standard: &'static str,
    pub run: for<'a> fn(&'a Run) -> LocalBoxFuture<'a, Finding>,
}

macro_rules! checks {
    ($($name:literal, $run:path, $why:literal, $standard:literal;)*) => {
        /// In this order: the last ones move the clock of the private service.
        pub(super) const CHECKS: &[Check] = &[$(Check {
            name: $name, why: $why, standard: $standard, run: |run| Box::pin($run(run)),
        },)*];
    };
}

checks! {
    "visit", visit,
        "a visitor who follows their link and says yes gets in; otherwise the other checks tell little",
        "openapi/README.md, The life of a link";
    "no-session", no_session,
        "a page that is shown without a session, or for a code that nobody signed, is open to everybody",
        "OWASP ASVS 4.0.3, V4.1.1";
    "head-redeems-nothing", head_redeems_nothing,
        "mail gateways and previewers send HEAD: it must not spend the visitor's code",
        "RFC 9110, 9.2.1";
    "get-signs-nobody-in", get_signs_nobody_in,
        "anybody can send a browser to the callback: only a form that the visitor confirms may start a session",
        "RFC 9700, 4.7; RFC 9110, 9.2.1";
    "code-hidden", code_hidden,
        "a code that stays in the address is in histories, logs and the Referer of the next page",
        "RFC 9700, 4.2 and 4.3";
    "code-once", code_once,
        "who finds a used code must not get in with it",
        "RFC 6749, 4.1.2";
    "session-cookie", session_cookie,
        "a session's cookie that scripts read, other sites send, or somebody planted is a session for others",
        "OWASP ASVS 4.0.3, V3.2.1 and V3.4.1 to V3.4.3";
    "page-headers", page_headers,
        "a page that caches keep is read after the end, and one that can be framed is clicked by a trick",
        "OWASP ASVS 4.0.3, V8.2.1 and V14.4.7";
    "login-csrf", login_csrf,
        "with a link of their own an attacker could make a visitor act under another consultant's name",
        "RFC 6749, 10.12; RFC 9700, 4.7";
    "foreign-tenant", foreign_tenant,
        "a link of one company must open nothing of another one, wherever its code is taken",
        "OWASP ASVS 4.0.3, V4.2.1";
    "banner", banner,
        "who acts, as whom, until when, that it is recorded, and the way out have to stay in view",
        "NIST SP 800-53, AC-8";
    "revocation", visits::revocation,
        "an access that was revoked must end at the next request: an answer that is kept lets a thief stay",
        "RFC 7662, 4";
    "service-down", visits::service_down,
        "without the service's word nobody knows who may be inside: nobody, then",
        "OWASP ASVS 4.0.3, V4.1.5; NIST SP 800-53, SC-24";
    "reports", visits::reports,
        "a number that is missing, or no count at the end, makes the record of a visit worthless as evidence",
        "NIST SP 800-53, AU-12; openapi/README.md, The life of a link";
    "done", visits::done,
        "who says that they are done must be out, and only they may say it",
        "OWASP ASVS 4.0.3, V3.3.1; RFC 6749, 10.12";
    "webhook", webhooks::webhook,
        "a message that is forged or old could end the sessions of others, and one that is true must be taken",
        "Standard Webhooks 1.0, Verifying signatures";
    "no-grace", visits::no_grace,
        "the end that the company was told is the end, by the portal's own clock, too",
        "RFC 7519, 4.1.4";
    "ended-at-service", visits::ended_at_service,
        "an end that only the service knows, such as that of a window that was shortened, counts at once",
        "RFC 7662, 2.2";
}

/// Somebody inside.
pub(super) struct Visit {
    pub link: Value,
    pub browser: Browser,
}

impl Visit {
    pub(super) async fn page(&mut self, run: &Run) -> Result<Page, String> {
        self.browser.get(&run.page(&run.command.tenant)).await
    }

    /// The guarded page, which is shown.
    pub(super) async fn shown(&mut self, run: &Run, when: &str) -> Result<Page, String> {
        let page = self.page(run).await?;
        ensure(page.is_shown(), || format!("{when}: the page answers {} instead of showing itself", page.status))?;
        Ok(page)
    }
}

impl Run {
    /// A visit with a fresh link, which gets in.
    pub(super) async fn visit(&self) -> Result<Visit, String> {
        self.visit_for(4).await
    }

    pub(super) async fn visit_for(&self, hours: u32) -> Result<Visit, String> {
        let link = self.service.issue(&self.command.tenant, hours, false).await?;
        let mut browser = self.browser.fresh();
        browser.arrive(&self.service.click(&link).await?).await?;
        let mut visit = Visit { link, browser };
        visit.shown(self, "after the arrival").await?;
        Ok(visit)
    }
}

async fn visit(run: &Run) -> Finding {
    run.visit().await.map(drop)
}

async fn no_session(run: &Run) -> Finding {
    let mut browser = run.browser.fresh();
    refused(&browser.get(&run.page(&run.command.tenant)).await?, "without a session")?;
    let mut callback = run.callback(&run.command.tenant);
    callback.set_query(Some("code=eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"));
    let page = browser.send(Method::GET, &callback, Site::Cross, None).await?;
    let page = browser.follow(page).await?;
    refused(&page, "with a code that nobody signed")?;
    refused(&browser.get(&run.page(&run.command.tenant)).await?, "after a code that nobody signed")
}

async fn head_redeems_nothing(run: &Run) -> Finding {
    let link = run.service.issue(&run.command.tenant, 4, false).await?;
    let callback = run.service.click(&link).await?;
    run.browser.fresh().send(Method::HEAD, &callback, Site::Cross, None).await?;
    let session = run.service.session(&link).await?;
    ensure(session.is_none(), || "HEAD of the callback has opened a session".to_owned())
}

async fn get_signs_nobody_in(run: &Run) -> Finding {
    let link = run.service.issue(&run.command.tenant, 4, false).await?;
    let callback = run.service.click(&link).await?;
    let mut browser = run.browser.fresh();
    let page = browser.send(Method::GET, &callback, Site::Cross, None).await?;
    browser.follow(page).await?;
    let page = browser.get(&run.page(&run.command.tenant)).await?;
    refused(&page, "after GET of the callback alone, before anybody said yes")
}

async fn code_hidden(run: &Run) -> Finding {
    let link = run.service.issue(&run.command.tenant, 4, false).await?;
    let callback = run.service.click(&link).await?;
    let page = run.browser.fresh().send(Method::GET, &callback, Site::Cross, None).await?;
    let next = page.location.as_ref().filter(|_| (300..400).contains(&page.status));
    let next =
        next.ok_or_else(|| format!("the callback answers {}, and the code stays in the address", page.status))?;
    let code = callback.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned());
    let hides = !code.is_some_and(|code| next.as_str().contains(&code));
    ensure(hides, || "the callback leads to an address that holds the code".to_owned())?;
    let kept = page.header("cache-control").contains("no-store");
    ensure(kept, || "the callback's answer has no `Cache-Control: no-store`".to_owned())?;
    let silent = page.header("referrer-policy").contains("no-referrer");
    ensure(silent, || "the callback's answer has no `Referrer-Policy: no-referrer`".to_owned())
}

async fn code_once(run: &Run) -> Finding {
    let link = run.service.issue(&run.command.tenant, 4, false).await?;
    let callback = run.service.click(&link).await?;
    run.browser.fresh().arrive(&callback).await?;
    let mut thief = run.browser.fresh();
    let page = thief.send(Method::GET, &callback, Site::Cross, None).await?;
    let page = thief.follow(page).await?;
    if let Some(form) = page.form() {
        thief.submit(&form, Site::Same).await?;
    }
    refused(&thief.get(&run.page(&run.command.tenant)).await?, "with a code that was used")
}

async fn session_cookie(run: &Run) -> Finding {
    let visit = run.visit().await?;
    let mut found = 0;
    for cookie in &visit.browser.cookies {
        let mut without = visit.browser.clone();
        without.cookies.retain(|other| other.name != cookie.name);
        if without.get(&run.page(&run.command.tenant)).await?.is_shown() {
            // The session does not hang on it.
            continue;
        }
        found += 1;
        let name = &cookie.name;
        ensure(cookie.attribute("httponly").is_some(), || format!("{name} has no HttpOnly"))?;
        let same_site = cookie.attribute("samesite").unwrap_or_default().to_ascii_lowercase();
        ensure(matches!(same_site.as_str(), "lax" | "strict"), || format!("{name} has no SameSite=Lax or Strict"))?;
        let is_secure = run.command.portal_url.scheme() != "https" || cookie.attribute("secure").is_some();
        ensure(is_secure, || format!("{name} has no Secure, and the portal is on https"))?;
        ensure(cookie.value.len() >= 22, || format!("{name} is short enough to be guessed"))?;

        let mut planted = cookie.clone();
        planted.value = "f".repeat(cookie.value.len());
        let link = run.service.issue(&run.command.tenant, 4, false).await?;
        let mut victim = run.browser.fresh();
        victim.cookies.push(planted.clone());
        victim.arrive(&run.service.click(&link).await?).await?;
        let is_kept = victim.cookies.iter().any(|now| now.name == planted.name && now.value == planted.value);
        let mut attacker = run.browser.fresh();
        attacker.cookies.push(planted);
        let opens = attacker.get(&run.page(&run.command.tenant)).await?.is_shown();
        ensure(!(is_kept && opens), || format!("{name} keeps a value that somebody planted"))?;
    }
    ensure(found > 0, || "no cookie carries the session: the page is shown without any of them".to_owned())
}

async fn page_headers(run: &Run) -> Finding {
    let page = run.visit().await?.shown(run, "inside").await?;
    let kept = page.header("cache-control").contains("no-store");
    ensure(kept, || "a page of the visit has no `Cache-Control: no-store`".to_owned())?;
    let policy = page.header("content-security-policy");
    let frames = page.header("x-frame-options").to_ascii_lowercase();
    let is_unframed = policy.contains("frame-ancestors") || matches!(frames.as_str(), "deny" | "sameorigin");
    ensure(is_unframed, || {
        "a page of the visit can be framed: it has neither frame-ancestors nor X-Frame-Options".into()
    })
}

async fn login_csrf(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    let theirs = run.service.issue(&run.command.tenant, 4, true).await?;
    let callback = run.service.click(&theirs).await?;
    let page = visit.browser.send(Method::GET, &callback, Site::Cross, None).await?;
    let asked = visit.browser.follow(page).await?;
    let is_own = |page: &Page, when: &str| {
        let text = plain(&page.text);
        let own = text.contains(CONSULTANT) && !text.contains(STRANGER);
        ensure(own, || format!("{when} the page is {STRANGER}'s, and no longer {CONSULTANT}'s"))
    };
    is_own(&visit.shown(run, "after a callback of somebody else").await?, "after a callback of somebody else")?;
    let Some(form) = asked.form() else { return Ok(()) };
    let names = plain(&asked.text).contains(STRANGER);
    ensure(names, || "the page that asks does not say who would be signed in".to_owned())?;
    let answer = visit.browser.submit(&form, Site::Cross).await?;
    ensure(answer.status >= 400, || format!("a form that another site sent is answered {}", answer.status))?;
    is_own(&visit.shown(run, "after a form of another site").await?, "after a form of another site")
}

async fn foreign_tenant(run: &Run) -> Finding {
    let (own, foreign) = (&run.command.tenant, &run.command.foreign_tenant);
    let link = run.service.issue(foreign, 4, false).await?;
    let mut address = run.callback(own);
    address.set_query(run.service.click(&link).await?.query());
    let mut browser = run.browser.fresh();
    let page = browser.send(Method::GET, &address, Site::Cross, None).await?;
    let page = browser.follow(page).await?;
    if let Some(form) = page.form() {
        browser.submit(&form, Site::Same).await?;
    }
    for tenant in [own, foreign] {
        let page = browser.get(&run.page(tenant)).await?;
        refused(&page, &format!("a link of {foreign} at the callback of {own} opens {tenant}"))?;
    }
    let mut visit = run.visit().await?;
    for cookie in &mut visit.browser.cookies {
        "/".clone_into(&mut cookie.path);
    }
    let page = visit.browser.get(&run.page(foreign)).await?;
    refused(&page, &format!("a session of {own} opens {foreign}"))
}

async fn banner(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    let page = visit.shown(run, "inside").await?;
    let text = plain(&page.text);
    let session = run.service.session(&visit.link).await?.unwrap_or_default();
    let until = text_at(&session, "/expires_at");
    let (minute, hour) = (until.get(..16).unwrap_or_default(), until.get(11..16).unwrap_or_default());
    let says_until = text.contains(minute) || text.contains(&format!("{hour} UTC"));
    let profile = text_at(&visit.link, "/profile/name");
    for (is_there, what) in [
        (text.contains(CONSULTANT), format!("who acts ({CONSULTANT})")),
        (text.contains(&profile), format!("as whom ({profile})")),
        (says_until, format!("until when ({minute} in a `datetime`, or {hour} UTC)")),
        (text.to_lowercase().contains(&run.command.recorded.to_lowercase()), "that it is recorded".to_owned()),
        (text.contains(run.done().path()), format!("the way out (a form to {})", run.done().path())),
    ] {
        ensure(is_there, || format!("the page does not say {what}"))?;
    }
    Ok(())
}

/// Waits for what the portal does after its answer.
pub(super) async fn eventually<F>(what: &str, ask: impl Fn() -> F) -> Finding
where
    F: Future<Output = Result<bool, String>>,
{
    const PATIENCE: Duration = Duration::from_secs(10);
    let awaited = async {
        while !ask().await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, awaited).await.unwrap_or_else(|_| Err(format!("within ten seconds: {what}")))
}

/// Waits until the true time is past a moment of the service's answers.
pub(super) async fn wait_past(moment: &str) -> Finding {
    let until: crate::clock::Timestamp =
        serde_json::from_value(Value::from(moment)).map_err(|error| error.to_string())?;
    let left = until.since(Clock::System.now()) + time::Duration::milliseconds(300);
    tokio::time::sleep(left.try_into().unwrap_or(Duration::ZERO)).await;
    Ok(())
}
