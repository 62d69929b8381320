//! What one client has asked the contacts of a tenant: requests for links and for extensions.

use diesel::prelude::*;

use crate::clock::{Stretch, Timestamp, lies_in};
use crate::db::schema::{extension_requests as extensions, link_requests as requests, magic_links as links};
use crate::db::{Backend, Conn};
use crate::id::{ClientId, ExtensionId, LinkId};

/// When a client, or the operator at the command line, asked the contacts of a tenant lately, newest first.
pub(crate) fn asked(
    conn: &mut Conn,
    (tenant_id, client_id): (&str, Option<&ClientId>),
    lately: Stretch,
    limit: i64,
) -> QueryResult<Vec<Timestamp>> {
    let for_links = requests::table
        .filter(requests::id.gt(LinkId::first_at(lately.after)))
        .filter(lies_in!(requests::created_at, lately))
        .filter(requests::tenant_id.eq(tenant_id))
        .into_boxed::<Backend>();
    let for_links = match client_id {
        Some(client_id) => for_links.filter(requests::client_id.eq(client_id)),
        None => for_links.filter(requests::client_id.is_null()),
    };
    let of_tenant = links::table.filter(links::id.eq(extensions::magic_link_id)).filter(links::tenant_id.eq(tenant_id));
    let for_extensions = extensions::table
        .filter(extensions::id.gt(ExtensionId::first_at(lately.after)))
        .filter(lies_in!(extensions::created_at, lately))
        .filter(diesel::dsl::exists(of_tenant))
        .into_boxed::<Backend>();
    let for_extensions = match client_id {
        Some(client_id) => for_extensions.filter(extensions::client_id.eq(client_id)),
        None => for_extensions.filter(extensions::client_id.is_null()),
    };
    let mut asked: Vec<Timestamp> =
        for_links.order(requests::id.desc()).limit(limit).select(requests::created_at).load(conn)?;
    let more = for_extensions.order(extensions::id.desc()).limit(limit).select(extensions::created_at);
    asked.extend(more.load::<Timestamp>(conn)?);
    asked.sort_unstable_by(|one, other| other.cmp(one));
    Ok(asked)
}
