//! Rendering e-mails: a plain-text part, and HTML with the same content.

mod lines;
mod words;

use askama::Template;
use jiff::tz::TimeZone;
use url::Url;

use self::lines::{ChangeLines, LimitLines, RequestLines, RevokedLines, SummaryLines, whom_to_ask};
use self::words::{NOTHING, heading_of, hears_of, label_of_end, why_not_again};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::{Access, Reentry, Template as MailTemplate, in_hours, one_line};
use crate::error::{Code, Error, cut};
use crate::mail::day::{zone, zoned};
use crate::mail::failure::Failure;
use crate::mail::since::Since;
use crate::mail::summary::{Summary, Visits};
use crate::mail::wish::Wish;
use crate::mail_providers::provider::Mailbox;
use crate::records::consultants::Consultant;
use crate::records::link_changes::Extension;
use crate::records::links::Link;
use crate::records::tenants::TenantView;
use crate::rules::extending::MoreTime;

mod others;

pub(super) use others::{AddressChange, address_changed, rules_changed, step_up_code};

/// A rendered e-mail. No `Debug`: it may hold a token.
pub(super) struct Email {
    pub to: Mailbox,
    pub subject: String,
    pub text: String,
    pub html: String,
}

impl Email {
    /// An e-mail with both parts to exactly one recipient.
    fn new(name: &str, address: &str, subject: &str, (text, html): (String, String)) -> Self {
        Self {
            to: Mailbox { name: one_line(name), address: address.to_owned() },
            subject: one_line(subject),
            text,
            html,
        }
    }
}

/// Fields of the e-mail with the link.
struct LinkMail {
    product: String,
    tenant_name: String,
    portal_name: String,
    consultant_name: String,
    profile_name: String,
    reason: String,
    ticket: Option<String>,
    read_only: bool,
    limits: LimitLines,
    issued_by_name: String,
    starts_at: Option<String>,
    starts_at_utc: Option<String>,
    expires_at: String,
    expires_at_utc: String,
    token_expires_at: String,
    /// How long a visit lasts at most.
    visit: String,
    /// Whether the consultant may have their browser remembered.
    remembers: bool,
    /// Whether the link leads to a page of the portal's own, which need not have our buttons.
    own_page: bool,
    url: String,
    link_host: String,
    contacts: Vec<String>,
    reference: String,
    report_to: Option<String>,
}

/// Renders text and HTML from the same fields.
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

use parts;

/// The e-mail with the link. The page's URL comes from the configuration only.
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
) -> Result<Email, Error> {
    let portal = config.portals.get(&link.portal);
    let page = portal
        .and_then(|portal| portal.landing_url.as_ref())
        .map_or_else(|| format!("{}/l", config.public_url), |own| own.replace("{tenant_id}", &link.tenant_id));
    let host = Url::parse(&page).ok().and_then(|url| url.host_str().map(ToOwned::to_owned)).unwrap_or_default();
    let portal_name = portal.map_or(&link.portal, |portal| &portal.name);
    let zone = zone(&tenant.time_zone);
    let later = !link.has_begun(now);
    let mail = LinkMail {
        product: config.product_name.clone(),
        tenant_name: inert(&tenant.name),
        portal_name: inert(portal_name),
        consultant_name: inert(&consultant.name),
        profile_name: inert(&link.profile_name),
        reason: inert(&link.reason),
        ticket: link.ticket.as_deref().map(inert),
        read_only: link.access == Access::ReadOnly,
        limits: LimitLines::of(link),
        issued_by_name: inert(&link.issued_by_name),
        starts_at: later.then(|| local(link.starts_at, &zone)),
        starts_at_utc: later.then(|| utc(link.starts_at)),
        expires_at: local(link.expires_at, &zone),
        expires_at_utc: utc(link.expires_at),
        token_expires_at: local(token_expires_at, &zone),
        visit: in_hours(link.session_life(config.links.session_life)),
        remembers: link.reentry == Reentry::Device,
        own_page: portal.is_some_and(|portal| portal.landing_url.is_some()),
        url: format!("{page}#{token}"),
        link_host: host,
        contacts: whom_to_ask(tenant),
        reference: link.id.to_string(),
        report_to: config.mail.report_to.clone(),
    };
    let parts = parts!(&mail, LinkMail, "magic_link.txt", "magic_link.html");
    let ticket = link.ticket.as_ref().map(|ticket| format!(" – {ticket}")).unwrap_or_default();
    let subject = format!("Temporary support access to {} ({portal_name}){ticket}", tenant.name);
    Ok(Email::new(&consultant.name, recipient, &subject, parts))
}

/// Data of a notice.
pub(super) struct Facts<'a> {
    pub link: &'a Link,
    pub tenant: &'a TenantView,
    pub consultant: &'a Consultant,
    pub recipient: &'a str,
    /// When the notified event happened.
    pub at: Timestamp,
    /// When the mail is written: the access may have ended since.
    pub now: Timestamp,
    pub summary: Option<&'a Summary>,
    /// The sessions of a day, if that is what it is about.
    pub visits: &'a Visits,
    /// The link's new end, if that is what happened.
    pub extension: Option<&'a Extension>,
    /// The mail that did not arrive, if that is what happened.
    pub failure: Option<&'a Failure>,
    /// Why an access could not wait for an approval, if that is what happened.
    pub justification: Option<&'a str>,
    /// The request for the link, if it waits for an approval, or was denied.
    pub request: Option<&'a Wish>,
    /// What became of the access until now.
    pub since: Since,
}

/// Fields of all notices; each template uses what it needs.
struct NoticeMail {
    product: String,
    heading: String,
    recipient_name: String,
    consultant_name: String,
    admin_name: String,
    tenant_name: String,
    portal_name: String,
    profile_name: String,
    reason: String,
    ticket: Option<String>,
    read_only: bool,
    /// Label of `admin_name`: who asked for the access may not have got it.
    granted: &'static str,
    limits: LimitLines,
    /// Label of `expires_at`: the access may have ended before.
    until: &'static str,
    expires_at: String,
    expires_at_utc: String,
    /// Why the access is over, if it is.
    over: Option<Code>,
    since: Since,
    /// Whether the window had not begun when it happened.
    opens_later: bool,
    starts_at: String,
    starts_at_utc: String,
    at: String,
    at_utc: String,
    summary: Option<SummaryLines>,
    visits: Vec<SummaryLines>,
    /// Number of the day's visits that it does not tell of.
    more_visits: usize,
    change: Option<ChangeLines>,
    revoked: Option<RevokedLines>,
    /// The mail that did not arrive, or was not wanted.
    failed: Failure,
    /// Why it did not, in the provider's words.
    failure: Option<String>,
    /// Whether the link leads to a page of the portal's own, which need not have our buttons.
    own_page: bool,
    /// Of what the recipient hears later.
    hears_of: Option<&'static str>,
    request: Option<RequestLines>,
    justification: Option<String>,
    /// People of the tenant, for those who do not belong to its administration.
    contacts: Vec<String>,
    manage_url: Option<String>,
    reference: String,
    report_to: Option<String>,
}

impl NoticeMail {
    /// Whether a mail with the link has left.
    fn was_mailed(&self) -> bool {
        self.since.was_mailed()
    }

    /// Whether none has, and none will.
    fn is_unsent(&self) -> bool {
        self.since.is_unsent(self.over)
    }

    /// Why such an access is not granted again at present, if it is not.
    fn not_again(&self) -> Option<&'static str> {
        why_not_again(self.since.again)
    }

    /// What is left to say to who asked: after a denial nothing, whatever stands in the way of asking anew.
    fn after_request(&self) -> &'static str {
        let was_denied = self.request.as_ref().is_some_and(|request| request.decided.is_some());
        self.not_again().filter(|_| !was_denied).unwrap_or(NOTHING)
    }

    /// What follows from the mail that did not arrive, or was not wanted.
    fn of_failure(&self) -> Vec<&'static str> {
        self.failed.said(self.over.is_some())
    }
}

/// A notice about an access. It never holds a token; an admin's links to the portal's own page.
pub(super) fn notice(config: &Config, template: MailTemplate, facts: &Facts<'_>) -> Result<Email, Error> {
    use MailTemplate as Mail;
    let Facts { link, tenant, consultant, .. } = facts;
    let portal = config.portals.get(&link.portal);
    let portal_name = portal.map_or(&link.portal, |portal| &portal.name);
    let zone = zone(&tenant.time_zone);
    let over = link.ended(facts.now);
    // What is said of the future holds when it is read, the rest when it happened.
    let seen_at = match template {
        Mail::AccessIssued | Mail::LinkResent | Mail::AccessMoved => facts.at.max(facts.now),
        _ => facts.at,
    };
    let opens_later = link.starts_at > seen_at;
    let heading = |show: fn(&str) -> String| {
        heading_of(
            template,
            (opens_later, facts.since.was_mailed()),
            facts.failure,
            [&consultant.name, portal_name, &tenant.name].map(|one| show(one)),
        )
    };
    let asked_by = facts.request.and_then(Wish::asked_by);
    let (name, is_admin) = match template {
        Mail::AccessWithdrawn | Mail::AccessMoved | Mail::AccessRunsOut | Mail::AccessAnnounced => {
            (consultant.name.as_str(), false)
        }
        Mail::OwnerAccessUsed | Mail::OwnerAccessEnded | Mail::OwnerAccessVisits | Mail::OwnerEmergencyIssued => {
            (link.profile_name.as_str(), false)
        }
        Mail::PolicyViolation | Mail::EmergencyIssued | Mail::ApprovalRequested | Mail::ExtensionRequested => {
            (recipient_name(facts), true)
        }
        Mail::ExtensionDenied => (asked_by.unwrap_or(&link.issued_by_name).as_str(), true),
        _ => (link.issued_by_name.as_str(), true),
    };
    let manage_url = portal.and_then(|portal| portal.manage_url.as_ref()).filter(|_| is_admin);
    let end = facts.extension.map_or(link.expires_at, |extension| extension.expires_at);
    let mail = NoticeMail {
        product: config.product_name.clone(),
        heading: heading(inert),
        recipient_name: inert(name),
        consultant_name: inert(&consultant.name),
        admin_name: inert(&link.issued_by_name),
        tenant_name: inert(&tenant.name),
        portal_name: inert(portal_name),
        profile_name: inert(&link.profile_name),
        reason: inert(&link.reason),
        ticket: link.ticket.as_deref().map(inert),
        read_only: link.access == Access::ReadOnly,
        granted: match template {
            Mail::ApprovalRequested | Mail::RequestDenied => "Asked for by",
            _ => "Granted by",
        },
        limits: LimitLines::of(link),
        until: label_of_end(template, over, opens_later),
        expires_at: local(end, &zone),
        expires_at_utc: utc(end),
        over,
        since: facts.since,
        opens_later,
        starts_at: local(link.starts_at, &zone),
        starts_at_utc: utc(link.starts_at),
        at: local(facts.at, &zone),
        at_utc: utc(facts.at),
        change: facts.extension.map(|extension| ChangeLines::of(extension, &zone)),
        revoked: RevokedLines::of(link),
        request: facts.request.map(|wish| RequestLines::of(wish, &zone)),
        justification: facts.justification.map(inert),
        failure: facts.failure.and_then(|failure| failure.words.as_deref()).map(|words| inert(&cut(words.into(), 300))),
        failed: facts.failure.cloned().unwrap_or_default(),
        own_page: portal.is_some_and(|portal| portal.landing_url.is_some()),
        hears_of: hears_of(template, &facts.tenant.muted, facts.since).filter(|_| over.is_none()),
        contacts: if is_admin { Vec::new() } else { whom_to_ask(tenant) },
        summary: facts.summary.map(|summary| SummaryLines::of(summary, &zone)),
        visits: facts.visits.told.iter().map(|visit| SummaryLines::of(visit, &zone)).collect(),
        more_visits: facts.visits.more,
        manage_url: manage_url.map(|url| url.replace("{tenant_id}", &link.tenant_id)),
        reference: link.id.to_string(),
        report_to: config.mail.report_to.clone(),
    };
    let parts = parts_of(template, &mail)?;
    Ok(Email::new(name, facts.recipient, &heading(ToOwned::to_owned), parts))
}

/// Text and HTML of a notice.
fn parts_of(template: MailTemplate, mail: &NoticeMail) -> Result<(String, String), Error> {
    use MailTemplate as Mail;
    Ok(match template {
        Mail::AccessIssued => parts!(mail, NoticeMail, "access_issued.txt", "access_issued.html"),
        Mail::AccessUsed => parts!(mail, NoticeMail, "access_used.txt", "access_used.html"),
        Mail::AccessEnded => parts!(mail, NoticeMail, "access_ended.txt", "access_ended.html"),
        Mail::AccessVisits => parts!(mail, NoticeMail, "access_visits.txt", "access_visits.html"),
        Mail::OwnerAccessVisits => parts!(mail, NoticeMail, "owner_access_visits.txt", "owner_access_visits.html"),
        Mail::LinkResent => parts!(mail, NoticeMail, "link_resent.txt", "link_resent.html"),
        Mail::AccessRevoked => parts!(mail, NoticeMail, "access_revoked.txt", "access_revoked.html"),
        Mail::AccessWithdrawn => parts!(mail, NoticeMail, "access_withdrawn.txt", "access_withdrawn.html"),
        Mail::AccessChanged => parts!(mail, NoticeMail, "access_changed.txt", "access_changed.html"),
        Mail::AccessMoved => parts!(mail, NoticeMail, "access_moved.txt", "access_moved.html"),
        Mail::AccessEndsSoon => parts!(mail, NoticeMail, "access_ends_soon.txt", "access_ends_soon.html"),
        Mail::AccessRunsOut => parts!(mail, NoticeMail, "access_runs_out.txt", "access_runs_out.html"),
        Mail::EmergencyIssued => parts!(mail, NoticeMail, "emergency_issued.txt", "emergency_issued.html"),
        Mail::OwnerEmergencyIssued => {
            parts!(mail, NoticeMail, "owner_emergency_issued.txt", "owner_emergency_issued.html")
        }
        Mail::PolicyViolation => parts!(mail, NoticeMail, "policy_violation.txt", "policy_violation.html"),
        Mail::AccessAnnounced => parts!(mail, NoticeMail, "access_announced.txt", "access_announced.html"),
        Mail::OwnerAccessUsed => parts!(mail, NoticeMail, "owner_access_used.txt", "owner_access_used.html"),
        Mail::OwnerAccessEnded => parts!(mail, NoticeMail, "owner_access_ended.txt", "owner_access_ended.html"),
        Mail::ApprovalRequested => parts!(mail, NoticeMail, "approval_requested.txt", "approval_requested.html"),
        Mail::RequestDenied => parts!(mail, NoticeMail, "request_denied.txt", "request_denied.html"),
        Mail::ExtensionRequested => parts!(mail, NoticeMail, "extension_requested.txt", "extension_requested.html"),
        Mail::ExtensionDenied => parts!(mail, NoticeMail, "extension_denied.txt", "extension_denied.html"),
        Mail::LinkBounced => parts!(mail, NoticeMail, "link_bounced.txt", "link_bounced.html"),
        Mail::MagicLink
        | Mail::StepUpCode
        | Mail::AddressChanged
        | Mail::PolicyLoosened
        | Mail::ApprovalKeyChanged
        | Mail::ContactsChanged => {
            return Err(Error::internal(format_args!("{template} is no notice")));
        }
    })
}

/// The name of whom a notice to the admin and the tenant's contacts goes to.
fn recipient_name<'a>(facts: &Facts<'a>) -> &'a str {
    if facts.link.issued_by_email.as_deref() == Some(facts.recipient) {
        return &facts.link.issued_by_name;
    }
    let contact = facts.tenant.contacts.iter().find(|contact| contact.email == facts.recipient);
    contact.map_or(facts.recipient, |contact| &contact.name)
}

/// Keeps mail programs from linking user input, and right-to-left input from reordering the text around it.
///
/// A word joiner is invisible to readers, but `evil.example` and `https://` are
/// no URLs with one inside. Right-to-left text is wrapped in a bidi isolate.
fn inert(text: &str) -> String {
    let text = one_line(text);
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
    if text.chars().any(is_right_to_left) { format!("\u{2068}{out}\u{2069}") } else { out }
}

/// Characters of right-to-left scripts.
const fn is_right_to_left(character: char) -> bool {
    matches!(character,
        '\u{590}'..='\u{8FF}' | '\u{200F}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}'
        | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}')
}

/// `a…@support.example`: its owner recognises the address, others do not learn it.
fn masked(address: &str) -> String {
    match address.split_once('@') {
        Some((local, domain)) => format!("{}…@{domain}", local.chars().next().unwrap_or('…')),
        None => "…".to_owned(),
    }
}

/// `Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30)`
fn local(at: Timestamp, zone: &TimeZone) -> String {
    zoned(at, zone.clone()).strftime("%a, %-d %b %Y, %-I:%M %P %Z (UTC%:z)").to_string()
}

/// `23 Nov 2026, 13:00 UTC`
fn utc(at: Timestamp) -> String {
    zoned(at, TimeZone::UTC).strftime("%-d %b %Y, %H:%M UTC").to_string()
}

#[cfg(test)]
pub(super) mod tests;
