//! The admin's view of what happened under one link.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use askama::Template;

use super::{InPath, Row, own_link};
use crate::App;
use crate::magic_link::{AuditEvent, Consultant};
use crate::web::{Moment, Place, Stop, log, page};

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage<'a> {
    place: &'a Place,
    row: Row,
    events: Vec<Entry>,
    has_more: bool,
}

struct Entry {
    at: Moment,
    kind: String,
    who: String,
    /// What was done in the portal, if it is that kind of event.
    act: Option<String>,
    rest: String,
}

impl Entry {
    fn new(mut event: AuditEvent, consultant: &Consultant) -> Self {
        let actor = event.rest.remove("actor").unwrap_or_default();
        let who = ["name", "id", "type"].iter().find_map(|field| actor.get(field)?.as_str()).unwrap_or("the service");
        // The record names the consultant by id: names change.
        let who = if who == consultant.id { consultant.shown() } else { who };
        let data = |field| event.rest.get("data")?.get(field)?.as_str();
        let act = data("action").map(|action| format!("{action} · {}", data("resource_id").unwrap_or_default()));
        let rest = serde_json::to_string_pretty(&event.rest).unwrap_or_default();
        Self { at: Moment::new(event.occurred_at), kind: event.kind, who: who.to_owned(), act, rest }
    }
}

/// What happened under one link, as the service recorded it.
pub async fn record(app: Data<App>, place: Place, path: Path<InPath>) -> Result<HttpResponse, Stop> {
    let service = app.service(place.portal);
    let read = match own_link(service, &place, &path.id).await? {
        Ok(link) => service.audit_events(&link.id).await.map(|events| (link, events)),
        Err(error) => Err(error),
    };
    let (link, events) = read.map_err(|error| {
        log(format_args!("the record of {} could not be read: {error}", path.id));
        Stop::Unavailable
    })?;
    let has_more = events.next_cursor.is_some();
    let events = events.items.into_iter().map(|event| Entry::new(event, &link.consultant)).collect();
    Ok(page(StatusCode::OK, &RecordPage { place: &place, row: Row::new(link), events, has_more }))
}
