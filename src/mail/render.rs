//! Writing mails: a complete text part, and HTML that says the same.

use askama::Template;
use jiff::tz::TimeZone;
use url::Url;

use super::provider::Mailbox;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::consultants::Consultant;
use crate::error::Error;
use crate::links::{Access, Link};
use crate::tenants::TenantView;

/// What was written, and to whom. It may hold a token: it has no `Debug`.
pub(super) struct Letter {
    pub to: Mailbox,
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// What the mail with the link says.
struct LinkMail {
    product: String,
    tenant_name: String,
    portal_name: String,
    consultant_name: String,
    profile_name: String,
    reason: String,
    ticket: Option<String>,
    read_only: bool,
    issued_by_name: String,
    starts_at: Option<String>,
    starts_at_utc: Option<String>,
    expires_at: String,
    expires_at_utc: String,
    token_expires_at: String,
    url: String,
    link_host: String,
    reference: String,
    report_to: Option<String>,
}

/// A consultant's address was changed.
pub(super) struct AddressChange<'a> {
    pub consultant: &'a Consultant,
    pub old_address: &'a str,
    pub changed_at: Timestamp,
}

struct AddressMail {
    product: String,
    consultant_name: String,
    old_email: String,
    new_email: String,
    changed_at: String,
    changed_at_utc: String,
    report_to: Option<String>,
}

/// Text and HTML from the same fields.
macro_rules! parts {
    ($mail:expr, $name:ident, $text:literal, $html:literal) => {{
        #[derive(Template)]
        #[template(path = $text, config = "src/mail/askama.toml")]
        struct Text<'a> {
            mail: &'a $name,
        }
        #[derive(Template)]
        #[template(path = $html, config = "src/mail/askama.toml")]
        struct Html<'a> {
            mail: &'a $name,
        }
        let text = Text { mail: $mail }.render().map_err(Error::internal)?;
        let html = Html { mail: $mail }.render().map_err(Error::internal)?;
        (text, html)
    }};
}

/// The mail with the link. The address comes from the configuration only.
#[expect(clippy::too_many_arguments, reason = "a mail is made of all of these, once")]
pub(super) fn magic_link(
    config: &Config,
    link: &Link,
    tenant: &TenantView,
    consultant: &Consultant,
    recipient: &str,
    token: &str,
    token_expires_at: Timestamp,
    now: Timestamp,
) -> Result<Letter, Error> {
    let portal = config.portals.get(&link.portal);
    let page = portal
        .and_then(|portal| portal.landing_url.as_ref())
        .map_or_else(|| format!("{}/l", config.public_url), |own| own.replace("{tenant_id}", &link.tenant_id));
    let host = Url::parse(&page).ok().and_then(|url| url.host_str().map(ToOwned::to_owned)).unwrap_or_default();
    let portal_name = portal.map_or(&link.portal, |portal| &portal.name);
    let zone = zone(&tenant.time_zone);
    let later = link.starts_at > now;
    let mail = LinkMail {
        product: config.product_name.clone(),
        tenant_name: inert(&tenant.name),
        portal_name: inert(portal_name),
        consultant_name: inert(&consultant.name),
        profile_name: inert(&link.profile_name),
        reason: inert(&link.reason),
        ticket: link.ticket.as_deref().map(inert),
        read_only: link.access == Access::ReadOnly,
        issued_by_name: inert(&link.issued_by_name),
        starts_at: later.then(|| local(link.starts_at, &zone)),
        starts_at_utc: later.then(|| utc(link.starts_at)),
        expires_at: local(link.expires_at, &zone),
        expires_at_utc: utc(link.expires_at),
        token_expires_at: local(token_expires_at, &zone),
        url: format!("{page}#{token}"),
        link_host: host,
        reference: link.id.to_string(),
        report_to: config.mail.report_to.clone(),
    };
    let (text, html) = parts!(&mail, LinkMail, "magic_link.txt", "magic_link.html");
    let ticket = link.ticket.as_ref().map(|ticket| format!(" – {ticket}")).unwrap_or_default();
    let subject = format!("Temporary support access to {} ({portal_name}){ticket}", tenant.name);
    Ok(Letter { to: Mailbox { name: consultant.name.clone(), address: recipient.to_owned() }, subject, text, html })
}

/// Tells the old address. There is no link in it.
pub(super) fn address_changed(config: &Config, change: &AddressChange<'_>) -> Result<Letter, Error> {
    let mail = AddressMail {
        product: config.product_name.clone(),
        consultant_name: inert(&change.consultant.name),
        old_email: inert(change.old_address),
        new_email: inert(&masked(&change.consultant.email)),
        changed_at: local(change.changed_at, &zone(&config.default_time_zone)),
        changed_at_utc: utc(change.changed_at),
        report_to: config.mail.report_to.clone(),
    };
    let (text, html) = parts!(&mail, AddressMail, "address_changed.txt", "address_changed.html");
    let subject = format!("Your {} address was changed", config.product_name);
    let to = Mailbox { name: change.consultant.name.clone(), address: change.old_address.to_owned() };
    Ok(Letter { to, subject, text, html })
}

struct BouncedMail {
    product: String,
    admin_name: String,
    tenant_name: String,
    portal_name: String,
    consultant_name: String,
    reason: String,
    reference: String,
    report_to: Option<String>,
}

/// Tells the granting admin that the consultant did not get the link. There is no link in it.
pub(super) fn link_bounced(
    config: &Config,
    link: &Link,
    tenant: &TenantView,
    consultant: &Consultant,
    recipient: &str,
) -> Result<Letter, Error> {
    let portal_name = config.portals.get(&link.portal).map_or(&link.portal, |portal| &portal.name);
    let mail = BouncedMail {
        product: config.product_name.clone(),
        admin_name: inert(&link.issued_by_name),
        tenant_name: inert(&tenant.name),
        portal_name: inert(portal_name),
        consultant_name: inert(&consultant.name),
        reason: inert(&link.reason),
        reference: link.id.to_string(),
        report_to: config.mail.report_to.clone(),
    };
    let (text, html) = parts!(&mail, BouncedMail, "link_bounced.txt", "link_bounced.html");
    let subject = format!("The access link for {} could not be delivered", consultant.name);
    Ok(Letter { to: Mailbox { name: link.issued_by_name.clone(), address: recipient.to_owned() }, subject, text, html })
}

/// Keeps mail programs from making a link out of somebody's words.
///
/// A word joiner is invisible and breaks nothing for a reader, but `evil.example`
/// and `https://` are no addresses with one inside.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text.chars().peekable();
    let mut before = ' ';
    while let Some(character) = rest.next() {
        out.push(character);
        let between = !before.is_whitespace() && rest.peek().is_some_and(|next| !next.is_whitespace());
        if matches!(character, '.' | ':' | '/' | '@') && between {
            out.push('\u{2060}');
        }
        before = character;
    }
    out
}

/// `a…@support.example`: enough to recognise one's own address.
fn masked(address: &str) -> String {
    match address.split_once('@') {
        Some((local, domain)) => format!("{}…@{domain}", local.chars().next().unwrap_or('…')),
        None => "…".to_owned(),
    }
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// `Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30)`
fn local(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = jiff::Timestamp::from_microsecond(at.unix_micros()).unwrap_or_default().to_zoned(zone.clone());
    zoned.strftime("%a, %-d %b %Y, %-I:%M %P %Z (UTC%:z)").to_string()
}

/// `23 Nov 2026, 13:00 UTC`
fn utc(at: Timestamp) -> String {
    let zoned = jiff::Timestamp::from_microsecond(at.unix_micros()).unwrap_or_default().to_zoned(TimeZone::UTC);
    zoned.strftime("%-d %b %Y, %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests;
