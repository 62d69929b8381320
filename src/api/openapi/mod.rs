//! The API description (OpenAPI 3.1), generated from the routes.

mod plain;
mod webhooks;

use actix_web::App;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Description};
use utoipa::{OpenApi, ToSchema};
use utoipa_actix_web::AppExt;

use crate::http::Problem;

pub use webhooks::webhooks;

/// What stands above the operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Magic Link",
        description = "Gives one support consultant access to one customer portal as one user profile, for a stated \
            reason and a stated time, and keeps a record of it.\n\nAuthorise with `Bearer <API key>`, or with Basic: \
            the client id and the key. Every failure is a problem document (RFC 9457) with a stable `code`; \
            `/problems` explains each.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "/", description = "This service")),
    tags(
        (name = "Magic links", description = "Grant access, read, revoke, send again"),
        (name = "Sessions", description = "Redeem a link, ask whether access holds, report what was done"),
        (name = "Consultants", description = "The directory of support people"),
        (name = "Tenants", description = "Names and time zones of customer companies"),
        (name = "Clients", description = "API callers and their keys"),
        (name = "Webhooks", description = "Addresses that are told what happens"),
        (name = "Signing keys", description = "The lives of the keys that sign every token"),
        (name = "Audit", description = "The trail"),
        (name = "Landing page", description = "What the page behind the mailed link calls"),
        (name = "Discovery", description = "Public keys, and where everything is"),
        (name = "Operations", description = "Health")
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
/// When what was generated is no description: a fault of ours that every test would meet.
pub(super) fn finish(mut description: Description) -> Result<Description, serde_json::Error> {
    let components = description.components.get_or_insert_with(Components::new);
    components.schemas.insert("Problem".into(), <Problem<'_> as utoipa::PartialSchema>::schema());
    let mut referenced = Vec::new();
    <Problem<'_> as ToSchema>::schemas(&mut referenced);
    components.schemas.extend(referenced);
    for (name, scheme) in [("bearer", HttpAuthScheme::Bearer), ("basic", HttpAuthScheme::Basic)] {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
        components.security_schemes.insert(name.into(), scheme.into());
    }
    let none: [&str; 0] = [];
    description.security =
        Some(vec![SecurityRequirement::new("bearer", none), SecurityRequirement::new("basic", none)]);
    serde_json::from_value(plain::plain(serde_json::to_value(description)?))
}

/// The whole description, as it is committed in `openapi/openapi.json`.
///
/// # Errors
/// When what was generated is no description: a fault of ours that every test would meet.
pub fn description() -> Result<Description, serde_json::Error> {
    let (_, description) = App::new().into_utoipa_app().openapi(head()).configure(super::routes).split_for_parts();
    finish(description)
}
