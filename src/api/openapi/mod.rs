//! The API description (OpenAPI 3.1), generated from the routes.

mod answers;
mod collection;
mod deprecation;
mod formats;
mod operations;
mod parameters;
mod plain;
mod problems;
mod requests;
mod responses;
mod three_zero;
mod webhooks;

use actix_web::App;
use serde_json::{Map, Value};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Description};
use utoipa::{OpenApi, ToSchema};
use utoipa_actix_web::AppExt;

use crate::domain::Syntax;
use crate::http::Problem;

pub use collection::collection;
pub use webhooks::webhooks;

/// Info, servers and tags of the API description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Magic Link",
        contact(name = "The operators of this service", url = "https://github.com/magic-link/magic-link"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "/", description = "This service")),
    // Found in parameters only.
    components(schemas(crate::audit::ExportFormat)),
    tags(
        (name = "Magic links", description = "Grant, read, revoke and resend access"),
        (name = "Sessions", description = "Redeem a link, check access, report activity events"),
        (name = "Consultants", description = "Directory of support consultants"),
        (name = "Tenants", description = "Settings of customer companies"),
        (name = "Clients", description = "API clients and their keys"),
        (name = "Webhooks", description = "Endpoints that receive messages about events"),
        (name = "Mail", description = "Mail deliveries, delivery reports and suppressed addresses"),
        (name = "Signing keys", description = "Life cycle of the keys that sign tokens"),
        (name = "Audit", description = "Audit log, proofs, exports, retention and legal holds"),
        (name = "Landing page", description = "Calls of the page that the mailed link opens"),
        (name = "Discovery", description = "Public keys (JWK set), status lists and service metadata"),
        (name = "Operations", description = "Health and readiness"),
        (name = "Sandbox", description = "Clock of a service for tests")
    )
)]
struct Head;

/// The description before the routes are added.
pub(crate) fn head() -> Description {
    Head::openapi()
}

/// The description after the routes are added.
///
/// # Errors
/// When the generated document is invalid: a bug that every test would detect.
pub(super) fn finish(mut description: Description) -> Result<Value, serde_json::Error> {
    let components = description.components.get_or_insert_with(Components::new);
    components.schemas.insert("Problem".into(), <Problem<'_> as utoipa::PartialSchema>::schema());
    let mut referenced = Vec::new();
    <Problem<'_> as ToSchema>::schemas(&mut referenced);
    components.schemas.extend(referenced);
    components.schemas.extend(Syntax::schemas());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The API key of a client"));
    components.security_schemes.insert("bearer".into(), SecurityScheme::Http(bearer.build()).into());
    let none: [&str; 0] = [];
    description.security = Some(vec![SecurityRequirement::new("bearer", none)]);
    let mut description = plain::plain(serde_json::to_value(description)?);
    requests::describe(&mut description);
    parameters::describe(&mut description);
    operations::secure(&mut description);
    problems::describe(&mut description);
    responses::describe(&mut description);
    deprecation::describe(&mut description, deprecation::DEPRECATED);
    answers::open(&mut description);
    answers::show(&mut description)?;
    let introduction = INFO.replace("{{scopes}}", &operations::scopes_table(&description));
    if let Some(info) = description.get_mut("info").and_then(Value::as_object_mut) {
        info.insert("description".into(), introduction.into());
    }
    Ok(description)
}

/// What holds for every operation.
const INFO: &str = include_str!("info.md");

/// Changes every object of a description, the inner ones first. Examples are data, even if they look like schemas.
fn for_each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_object(item, change)),
        Value::Object(members) => {
            for (_, member) in members.iter_mut().filter(|(name, _)| !name.starts_with("example")) {
                for_each_object(member, change);
            }
            change(members);
        }
        _ => {}
    }
}

/// The complete description, as committed in `openapi/openapi.json`.
///
/// # Errors
/// When the generated document is invalid: a bug that every test would detect.
pub fn description() -> Result<Value, serde_json::Error> {
    let (_, description) = App::new().into_utoipa_app().openapi(head()).configure(super::routes).split_for_parts();
    finish(description)
}

/// The same description in OpenAPI 3.0.3, as committed in `openapi/openapi-3.0.json`.
#[must_use]
pub fn description_3_0(description: &Value) -> Value {
    three_zero::three_zero(description.clone())
}
