//! A visitor's browser: it keeps cookies by path, says where a request comes from, and runs no script.

use reqwest::header::{LOCATION, SET_COOKIE};
use reqwest::{Client, Method, redirect};
use url::Url;

use super::Finding;

/// A page that leads on and on is none.
const MOST_REDIRECTS: usize = 5;

/// A cookie as the portal set it.
#[derive(Debug, Clone)]
pub(super) struct Cookie {
    pub name: String,
    pub value: String,
    pub path: String,
    /// Names and values of its attributes, in small letters.
    pub attributes: Vec<(String, String)>,
}

impl Cookie {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let attributes: Vec<(String, String)> = parts
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let path = attributes.iter().find(|(name, _)| name == "path").map_or("/", |(_, path)| path);
        let (name, value, path) = (name.to_owned(), value.to_owned(), path.to_owned());
        Some(Self { name, value, path, attributes })
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn is_removal(&self) -> bool {
        self.value.is_empty()
            || self.attribute("max-age").is_some_and(|age| age.parse().is_ok_and(|age: i64| age <= 0))
            || self.attribute("expires").is_some_and(|at| at.contains("1970"))
    }
}

/// An answer of the portal.
#[derive(Debug)]
pub(super) struct Page {
    pub status: u16,
    pub url: Url,
    pub location: Option<Url>,
    /// All headers, names in small letters.
    headers: Vec<(String, String)>,
    pub text: String,
}

impl Page {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(super) const fn is_shown(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The first form that is posted.
    pub(super) fn form(&self) -> Option<Form> {
        self.text.split("<form").skip(1).find_map(|rest| {
            let (tag, inner) = rest.split_once('>')?;
            let inner = inner.split("</form").next().unwrap_or_default();
            attribute(tag, "method").filter(|method| method.eq_ignore_ascii_case("post"))?;
            let action = attribute(tag, "action").unwrap_or_default();
            let mut fields: Vec<(String, String)> = tags(inner, "<input").filter_map(named).collect();
            // The button that a visitor presses first.
            fields.extend(tags(inner, "<button").next().and_then(named));
            Some(Form { action: self.url.join(&action).ok()?, fields })
        })
    }
}

fn tags<'a>(html: &'a str, open: &'a str) -> impl Iterator<Item = &'a str> {
    html.split(open).skip(1).filter_map(|rest| rest.split('>').next())
}

fn named(tag: &str) -> Option<(String, String)> {
    Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))
}

/// An attribute of a tag, in double or single quotes, or in none.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let at = tag.match_indices(name).find_map(|(at, _)| {
        let before = tag.get(..at)?.chars().next_back()?;
        let after = tag.get(at + name.len()..)?.trim_start().strip_prefix('=')?;
        before.is_whitespace().then(|| after.trim_start())
    })?;
    let quoted = |quote: char| at.strip_prefix(quote).and_then(|rest| rest.split(quote).next());
    let bare = || at.split(|end: char| end.is_whitespace() || end == '/').next();
    quoted('"').or_else(|| quoted('\'')).or_else(bare).map(plain)
}

/// Without the escapes that pages have in attributes and texts.
pub(super) fn plain(html: &str) -> String {
    let escapes = [("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&lt;", "<"), ("&gt;", ">")];
    let text = escapes.iter().fold(html.to_owned(), |text, (escape, plain)| text.replace(escape, plain));
    text.replace("&amp;", "&")
}

/// A form of a page, as it is sent when its first button is pressed.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub action: Url,
    pub fields: Vec<(String, String)>,
}

/// Where a request comes from: what browsers say in `Sec-Fetch-Site` and `Origin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    Same,
    Cross,
}

/// The browser.
#[derive(Debug, Clone)]
pub(super) struct Browser {
    http: Client,
    pub cookies: Vec<Cookie>,
}

impl Browser {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(30))
            .user_agent("Mozilla/5.0 (magic-link conformance)");
        Ok(Self { http: http.build()?, cookies: Vec::new() })
    }

    /// The same connections, and no cookie.
    pub(super) fn fresh(&self) -> Self {
        Self { http: self.http.clone(), cookies: Vec::new() }
    }

    pub(super) async fn get(&mut self, url: &Url) -> Result<Page, String> {
        self.send(Method::GET, url, Site::Same, None).await
    }

    /// One request, whose cookies are kept.
    pub(super) async fn send(
        &mut self,
        method: Method,
        url: &Url,
        site: Site,
        fields: Option<&[(String, String)]>,
    ) -> Result<Page, String> {
        let sent = self.cookies.iter().filter(|cookie| url.path().starts_with(&cookie.path));
        let sent = sent.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; ");
        let mut request = self.http.request(method.clone(), url.clone()).header("sec-fetch-mode", "navigate");
        request = request.header("sec-fetch-site", if site == Site::Same { "same-origin" } else { "cross-site" });
        if !sent.is_empty() {
            request = request.header("cookie", sent);
        }
        if method == Method::POST {
            let own = url.origin().ascii_serialization();
            request = request.header("origin", if site == Site::Same { own.as_str() } else { "https://evil.example" });
            request = request.form(fields.unwrap_or_default());
        }
        let failed = |error: reqwest::Error| format!("{method} {}: {}", url.path(), innermost(&error));
        let response = request.send().await.map_err(failed)?;
        let text_of = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        for cookie in response.headers().get_all(SET_COOKIE).iter().filter_map(|line| Cookie::parse(&text_of(line))) {
            self.cookies.retain(|known| (&known.name, &known.path) != (&cookie.name, &cookie.path));
            if !cookie.is_removal() {
                self.cookies.push(cookie);
            }
        }
        let location = response.headers().get(LOCATION).and_then(|to| url.join(&text_of(to)).ok());
        let headers =
            response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text_of(value))).collect();
        let status = response.status().as_u16();
        let text = response.text().await.map_err(failed)?;
        Ok(Page { status, url: url.clone(), location, headers, text })
    }

    /// Goes where a page leads, as long as it stays at the portal.
    pub(super) async fn follow(&mut self, mut page: Page) -> Result<Page, String> {
        for _ in 0..MOST_REDIRECTS {
            let Some(next) = page.location.clone().filter(|next| next.origin() == page.url.origin()) else { break };
            page = self.get(&next).await?;
        }
        Ok(page)
    }

    /// Sends a form.
    pub(super) async fn submit(&mut self, form: &Form, site: Site) -> Result<Page, String> {
        self.send(Method::POST, &form.action, site, Some(&form.fields)).await
    }

    /// All the way in: the callback, and yes to the question of the page that it leads to.
    pub(super) async fn arrive(&mut self, callback: &Url) -> Result<Page, String> {
        let page = self.send(Method::GET, callback, Site::Cross, None).await?;
        let page = self.follow(page).await?;
        super::ensure(page.status < 400, || format!("the callback answers {}", page.status))?;
        let Some(form) = page.form() else { return Ok(page) };
        let page = self.submit(&form, Site::Same).await?;
        let page = self.follow(page).await?;
        super::ensure(page.status < 400, || format!("the answer to \"continue as …?\" is {}", page.status))?;
        Ok(page)
    }
}

/// The cause behind an error of the client: its own text names addresses with codes.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// What must not be shown, and is not.
pub(super) fn refused(page: &Page, what: &str) -> Finding {
    super::ensure(!page.is_shown(), || format!("{what}: the page answers {} and shows itself", page.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        let url = Url::parse("https://portal.example/acme/cloud/arrival").unwrap();
        Page { status: 200, url, location: None, headers: Vec::new(), text: text.to_owned() }
    }

    #[test]
    fn the_first_posted_form_is_sent_with_its_first_button() {
        let html = r#"<form action="/search"><input name=q></form>
            <form class="a" method="POST" action='answer?a=1&amp;b=2'>
            <input type="hidden" name="question" value="a&quot;b"><button name="answer" value="yes">Yes</button>
            <button name="answer" value="no">No</button></form>"#;
        let form = page(html).form().unwrap();
        assert_eq!(form.action.as_str(), "https://portal.example/acme/cloud/answer?a=1&b=2");
        let fields: Vec<_> = form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("question", "a\"b"), ("answer", "yes")]);
        assert!(page("<form method=get></form>").form().is_none());
    }

    #[test]
    fn a_cookie_keeps_what_the_portal_said() {
        let cookie = Cookie::parse("s=abc; Path=/acme/; HttpOnly; SameSite=Lax; Max-Age=60").unwrap();
        assert_eq!((cookie.name.as_str(), cookie.value.as_str(), cookie.path.as_str()), ("s", "abc", "/acme/"));
        assert_eq!((cookie.attribute("httponly"), cookie.attribute("samesite")), (Some(""), Some("Lax")));
        assert!(!cookie.is_removal() && Cookie::parse("s=; Path=/").unwrap().is_removal());
        assert!(Cookie::parse("s=x; Max-Age=0").unwrap().is_removal());
    }
}
