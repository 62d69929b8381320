//! The HR admin's side: grant support access, see what was granted, take it back.
//!
//! The demo has no login for the admin and always acts as Meera Iyer. A real portal puts its own login and its
//! own right to grant in front of every handler here, and both must be out of reach of a support session.

mod decisions;
mod mistakes;
mod record;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

pub use decisions::{decide, decide_extension, extend};
use mistakes::{Mistake, explain};
pub use record::record;

use crate::App;
use crate::magic_link::{Access, Consultant, Error, Grant, Length, Link, MagicLink, Person, limits};
use crate::records::profiles;
use crate::visitor::Visitor;
use crate::web::{Moment, Place, Portal, Stop, log, page, random_id, see_other};

const REVOKE_REASON: &str = "Ended by the HR admin on the portal's support access page";

fn admin_of(tenant: &str) -> Person {
    Person { id: "emp-7".to_owned(), name: "Meera Iyer".to_owned(), email: Some(format!("hr@{tenant}.example")) }
}

/// The form as the browser sends it. Everything is text until the service has judged it, so that a form
/// with a mistake comes back as it was filled in.
#[derive(Deserialize)]
pub struct GrantForm {
    request_id: String,
    portal: String,
    consultant_id: String,
    reason: String,
    duration_value: String,
    duration_unit: String,
    profile_id: String,
    access: Access,
    /// The only part of the portal, or empty.
    #[serde(default)]
    module: String,
    /// What must not be done, or empty.
    #[serde(default)]
    forbidden: String,
    #[serde(default)]
    ticket: String,
}

/// What the form offers to leave out, in the words that `pages.rs` puts to its acts.
const MODULES: [(&str, &str); 3] =
    [("", "Every part"), ("employees", "Employees only"), ("leave", "Leave policy only")];
const FORBIDDEN: [(&str, &str); 3] =
    [("", "Nothing is left out"), ("bank_account", "Changing bank accounts"), ("export", "Exporting data")];

impl GrantForm {
    fn empty(app: &App, place: &Place) -> Self {
        Self {
            request_id: random_id(),
            portal: place.portal.id().to_owned(),
            consultant_id: app.consultant_id.clone().unwrap_or_default(),
            reason: String::new(),
            duration_value: "4".to_owned(),
            duration_unit: "hours".to_owned(),
            profile_id: String::new(),
            access: Access::Full,
            module: String::new(),
            forbidden: String::new(),
            ticket: String::new(),
        }
    }
}

#[derive(Deserialize)]
pub struct View {
    cursor: Option<String>,
    note: Option<String>,
}

/// A link as the list shows it.
struct Row {
    link: Link,
    /// Of the form that lets it last longer.
    request_id: String,
    from: Moment,
    until: Moment,
    /// The state of the newest mail with the link, if there is one.
    delivery: Option<String>,
    limits: Vec<String>,
    can_end: bool,
    /// Until when it waits for an approval.
    waits: Option<Moment>,
    /// The extension that waits for an approval, and the end that it asks for.
    extension: Option<(String, Moment)>,
}

impl Row {
    fn new(link: Link) -> Self {
        Self {
            request_id: random_id(),
            from: Moment::new(link.starts_at),
            until: Moment::new(link.expires_at),
            delivery: link.delivery.as_ref().map(|delivery| delivery.state.replace('_', " ")),
            limits: limits(link.modules.as_deref(), &link.forbidden),
            can_end: matches!(link.state.as_str(), "active" | "scheduled" | "pending"),
            waits: link.approval.as_ref().filter(|_| link.state == "pending").map(|one| Moment::new(one.lapses_at)),
            extension: link.extension.as_ref().map(|one| (one.id.clone(), Moment::new(one.expires_at))),
            link,
        }
    }
}

#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage<'a> {
    place: &'a Place,
    admin: Person,
    second: Person,
    form: GrantForm,
    portals: [Portal; 2],
    profiles: Vec<Person>,
    modules: [(&'static str, &'static str); 3],
    forbidden: [(&'static str, &'static str); 3],
    consultants: Vec<Consultant>,
    note: Option<&'static str>,
    mistakes: Vec<Mistake>,
    is_inside_session: bool,
    rows: Vec<Row>,
    next_cursor: Option<String>,
    list_failed: bool,
}

pub async fn show(app: Data<App>, request: HttpRequest, place: Place, view: Query<View>) -> Result<HttpResponse, Stop> {
    let note = match view.note.as_deref() {
        Some("granted") => {
            Some("Access was granted. The consultant gets the link by e-mail; it is shown to nobody else.")
        }
        Some("revoked") => Some("Access was ended. Nobody gets in with it any more."),
        Some("asked") => Some("A second person has to approve this access. Nothing was mailed to the consultant."),
        Some("approved") => Some("Approved. The access is on its way, or lasts longer."),
        Some("denied") => Some("Denied. Nothing was granted; whoever asked is told."),
        Some("extended") => Some("The access lasts longer, or waits for a second person to say so."),
        Some("resent") => Some("A fresh link is on its way by e-mail. Every older link of this access is void."),
        _ => None,
    };
    let form = GrantForm::empty(&app, &place);
    let screen = Screen { app: &app, request: &request, place: &place };
    screen.render(form, note, Vec::new(), view.cursor.as_deref(), StatusCode::OK).await
}

pub async fn grant(
    app: Data<App>,
    request: HttpRequest,
    place: Place,
    form: Form<GrantForm>,
) -> Result<HttpResponse, Stop> {
    let mut form = form.into_inner();
    form.request_id = own_key(&form.request_id);
    let issued = issue(&app, &request, &place, &form).await?;
    match issued {
        Ok((portal, note)) => Ok(see_other(&format!("/{}/{}/admin?note={note}", place.tenant, portal.id()))),
        Err(mistakes) => {
            let screen = Screen { app: &app, request: &request, place: &place };
            screen.render(form, None, mistakes, None, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

/// The key of a form. It becomes a header value: what is not of our making is replaced.
fn own_key(request_id: &str) -> String {
    let is_ours = request_id.len() == 64 && request_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_ours { request_id.to_owned() } else { random_id() }
}

/// The inner `Err` is for the admin to mend, the outer one ends the request.
async fn issue(
    app: &App,
    request: &HttpRequest,
    place: &Place,
    form: &GrantForm,
) -> Result<Result<(Portal, &'static str), Vec<Mistake>>, Stop> {
    let mistake = |pointer, sentence: &str| Ok(Err(vec![Mistake::about(pointer, sentence)]));
    let Some(portal) = Portal::of_id(&form.portal) else {
        return mistake("/portal", "Choose Cloud or ESS.");
    };
    // The name comes from the portal's own records, not from the form: mails and pages will show it.
    let Some(profile) = profiles(&place.tenant).into_iter().find(|person| person.id == form.profile_id) else {
        return mistake("/profile", "Choose the user whose access is shared.");
    };
    let Ok(value) = form.duration_value.trim().parse() else {
        return mistake("/duration/value", "Give the duration as a whole number.");
    };
    let visitor = Visitor::of(request, place).await?;
    let some = |word| Vec::from_iter(Some(word).filter(|word: &&str| !word.is_empty()));
    let grant = Grant {
        tenant_id: &place.tenant,
        portal: portal.id(),
        consultant_id: form.consultant_id.trim(),
        reason: form.reason.trim(),
        ticket: Some(form.ticket.trim()).filter(|ticket| !ticket.is_empty()),
        duration: Length { value, unit: &form.duration_unit },
        profile: &profile,
        issued_by: &admin_of(&place.tenant),
        access: form.access,
        modules: some(form.module.as_str()),
        forbidden: some(form.forbidden.as_str()),
        // No grant from a grant: if this browser is a support visitor's, say so. The service refuses and records it.
        acting_session_id: visitor.as_ref().map(Visitor::session_id),
    };
    let issued = app.service(portal).issue(&form.request_id, &grant).await;
    let note = |link: Link| if link.state == "pending" { "asked" } else { "granted" };
    Ok(issued.map(|link| (portal, note(link))).map_err(|error| explain(&error)))
}

pub async fn revoke(
    app: Data<App>,
    request: HttpRequest,
    place: Place,
    path: Path<InPath>,
) -> Result<HttpResponse, Stop> {
    let service = app.service(place.portal);
    let done = match own_link(service, &place, &path.id).await? {
        Ok(link) => service.revoke(&link.id, REVOKE_REASON, &admin_of(&place.tenant)).await,
        Err(error) => Err(error),
    };
    Screen { app: &app, request: &request, place: &place }.after(done, "revoked").await
}

pub async fn resend(
    app: Data<App>,
    request: HttpRequest,
    place: Place,
    path: Path<InPath>,
) -> Result<HttpResponse, Stop> {
    let service = app.service(place.portal);
    let visitor = Visitor::of(&request, &place).await?;
    let acting = visitor.as_ref().map(Visitor::session_id);
    let done = match own_link(service, &place, &path.id).await? {
        Ok(link) => service.resend(&link.id, &admin_of(&place.tenant), acting).await,
        Err(error) => Err(error),
    };
    Screen { app: &app, request: &request, place: &place }.after(done, "resent").await
}

#[derive(Deserialize)]
pub struct InPath {
    id: String,
}

/// Reads a link and makes sure that it is this company's. The service cuts its answers to what the portal's key
/// may see, and that is every company of the portal: which of them this admin belongs to, only the portal knows.
async fn own_link(service: &MagicLink, place: &Place, id: &str) -> Result<Result<Link, Error>, Stop> {
    match service.link(id).await {
        Ok(link) if link.tenant_id != place.tenant || link.portal != place.portal.id() => Err(Stop::NoSuchPage),
        Err(Error::Refused(problem)) if matches!(problem.status, 400 | 404) => Err(Stop::NoSuchPage),
        other => Ok(other),
    }
}

/// What it takes to draw the admin's page.
struct Screen<'a> {
    app: &'a App,
    request: &'a HttpRequest,
    place: &'a Place,
}

impl Screen<'_> {
    /// Back to the list, or the page again with what went wrong.
    async fn after(&self, done: Result<(), Error>, note: &str) -> Result<HttpResponse, Stop> {
        match done {
            Ok(()) => Ok(see_other(&format!("{}admin?note={note}", self.place.root()))),
            Err(error) => {
                let form = GrantForm::empty(self.app, self.place);
                self.render(form, None, explain(&error), None, StatusCode::CONFLICT).await
            }
        }
    }

    async fn render(
        &self,
        form: GrantForm,
        note: Option<&'static str>,
        mistakes: Vec<Mistake>,
        cursor: Option<&str>,
        status: StatusCode,
    ) -> Result<HttpResponse, Stop> {
        let service = self.app.service(self.place.portal);
        // The page is of use even while the lists are not to be had: an empty list of consultants
        // turns the choice into a field for the id.
        let consultants = service.consultants().await.map_or_else(|_| Vec::new(), |found| found.items);
        let links = service.links(&self.place.tenant, self.place.portal.id(), cursor).await;
        if let Err(error) = &links {
            log(format_args!("the links of {} could not be listed: {error}", self.place.root()));
        }
        let list_failed = links.is_err();
        let (rows, next_cursor) = links.map_or_else(|_| (Vec::new(), None), |found| (found.items, found.next_cursor));
        let template = AdminPage {
            place: self.place,
            admin: admin_of(&self.place.tenant),
            second: decisions::second_of(&self.place.tenant),
            form,
            portals: Portal::ALL,
            profiles: profiles(&self.place.tenant),
            modules: MODULES,
            forbidden: FORBIDDEN,
            consultants: consultants.into_iter().filter(|consultant| consultant.state == "active").collect(),
            note,
            mistakes,
            is_inside_session: Visitor::of(self.request, self.place).await?.is_some(),
            rows: rows.into_iter().map(Row::new).collect(),
            next_cursor,
            list_failed,
        };
        Ok(page(status, &template))
    }
}
