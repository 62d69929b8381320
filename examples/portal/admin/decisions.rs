//! What a second person decides: links and extensions that wait for an approval.
//!
//! The service keeps who asks and who decides apart, and takes the portal's word for who they are: each must be a person
//! who is logged in at the portal, with an identifier and an address of their own.

use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::{InPath, Screen, admin_of, own_key, own_link};
use crate::App;
use crate::magic_link::Person;
use crate::visitor::Visitor;
use crate::web::{Place, Stop};

/// How much longer the button lets an access last.
const LONGER: u32 = 4;

/// The second HR admin, who decides on what the first one asks for. A real portal has a login for each.
pub fn second_of(tenant: &str) -> Person {
    let email = format!("vikram.shah@{tenant}.example");
    Person { id: "emp-3".to_owned(), name: "Vikram Shah".to_owned(), email: Some(email) }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Deny,
}

#[derive(Deserialize)]
pub struct OnLink {
    id: String,
    decision: Decision,
}

#[derive(Deserialize)]
pub struct OnExtension {
    id: String,
    extension: String,
    decision: Decision,
}

pub async fn decide(
    app: Data<App>,
    request: HttpRequest,
    place: Place,
    path: Path<OnLink>,
) -> Result<HttpResponse, Stop> {
    decided(&app, &request, &place, path.decision, &path.id, &[&path.id]).await
}

pub async fn decide_extension(
    app: Data<App>,
    request: HttpRequest,
    place: Place,
    path: Path<OnExtension>,
) -> Result<HttpResponse, Stop> {
    let what = [path.id.as_str(), "extensions", &path.extension];
    decided(&app, &request, &place, path.decision, &path.id, &what).await
}

async fn decided(
    app: &App,
    request: &HttpRequest,
    place: &Place,
    decision: Decision,
    link: &str,
    what: &[&str],
) -> Result<HttpResponse, Stop> {
    let service = app.service(place.portal);
    let (visitor, second) = (Visitor::of(request, place).await?, second_of(&place.tenant));
    let acting = visitor.as_ref().map(Visitor::session_id);
    let done = match (own_link(service, place, link).await?, decision) {
        (Err(error), _) => Err(error),
        (Ok(_), Decision::Approve) => service.approve(what, &second, acting).await,
        (Ok(_), Decision::Deny) => {
            service.deny(what, "Denied on the portal's support access page", &second, acting).await
        }
    };
    let note = match decision {
        Decision::Approve => "approved",
        Decision::Deny => "denied",
    };
    Screen { app, request, place }.after(done, note).await
}

/// The form's own key: a double click extends once.
#[derive(Deserialize)]
pub struct ExtendForm {
    request_id: String,
}

pub async fn extend(
    app: Data<App>,
    request: HttpRequest,
    place: Place,
    path: Path<InPath>,
    form: Form<ExtendForm>,
) -> Result<HttpResponse, Stop> {
    let service = app.service(place.portal);
    let visitor = Visitor::of(&request, &place).await?;
    let acting = visitor.as_ref().map(Visitor::session_id);
    let why = "Extended on the portal's support access page";
    let done = match own_link(service, &place, &path.id).await? {
        Ok(link) => {
            service.extend(&own_key(&form.request_id), &link.id, LONGER, why, &admin_of(&place.tenant), acting).await
        }
        Err(error) => Err(error),
    };
    Screen { app: &app, request: &request, place: &place }.after(done, "extended").await
}
