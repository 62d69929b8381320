//! Devices that may open a link again. Each write happens under the lock of the link's row, so that the guarded statements
//! about the link decide their races, too.

use diesel::prelude::*;

use super::links::Link;
use super::revocations::NotBulkRevoked;
use super::sessions::Session;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{link_devices as devices, magic_links as links};
use crate::domain::Reentry;
use crate::id::LinkId;

/// A remembered device, as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = devices, treat_none_as_default_value = false)]
pub(crate) struct Device {
    pub magic_link_id: LinkId,
    pub generation: i32,
    /// JWK thumbprint of its key (RFC 7638).
    pub thumbprint: String,
    /// Number of proofs that were taken.
    pub proofs: i32,
    pub remembered_at: Timestamp,
    pub forgotten_at: Option<Timestamp>,
}

/// Remembers a device for the generation of a link whose first visit has just begun.
pub(crate) fn remember(conn: &mut Conn, first: &Session, thumbprint: &str, now: Timestamp) -> QueryResult<usize> {
    let device = Device {
        magic_link_id: first.magic_link_id.clone(),
        generation: first.generation,
        thumbprint: thumbprint.to_owned(),
        proofs: 0,
        remembered_at: now,
        forgotten_at: None,
    };
    diesel::insert_into(devices::table).values(device).execute(conn)
}

/// Number of visits after which a device is not remembered any more: a fresh mail begins anew. What a link tells of its
/// visits, and its evidence, stay of a size.
const MOST_VISITS: i32 = 1_000;

/// The device that is remembered for the link's generation.
pub(crate) fn find(conn: &mut Conn, link: &Link) -> QueryResult<Option<Device>> {
    if link.visit >= MOST_VISITS {
        return Ok(None);
    }
    devices::table.find((&link.id, link.generation)).filter(devices::forgotten_at.is_null()).first(conn).optional()
}

/// The devices that are remembered for these links, of whichever generation.
pub(crate) fn of_links(conn: &mut Conn, links: &[LinkId]) -> QueryResult<Vec<Device>> {
    devices::table.filter(devices::magic_link_id.eq_any(links)).filter(devices::forgotten_at.is_null()).load(conn)
}

/// Takes a proof of a device, the next one after `proofs` others: of any number of uses of it one succeeds.
pub(crate) fn take_proof(conn: &mut Conn, device: &Device) -> QueryResult<bool> {
    diesel::update(devices::table.find((&device.magic_link_id, device.generation)))
        .filter(devices::thumbprint.eq(&device.thumbprint))
        .filter(devices::proofs.eq(device.proofs))
        .filter(devices::forgotten_at.is_null())
        .set(devices::proofs.eq(devices::proofs + 1))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Forgets the device of a link, if one is remembered; returns its thumbprint.
pub(crate) fn forget(conn: &mut Conn, link: &LinkId, now: Timestamp) -> QueryResult<Option<String>> {
    diesel::update(devices::table.filter(devices::magic_link_id.eq(link)))
        .filter(devices::forgotten_at.is_null())
        .set(devices::forgotten_at.eq(Some(now)))
        .returning(devices::thumbprint)
        .get_result(conn)
        .optional()
}

/// Raises the generation of a link that can be opened again without a mail, and mails none: no device, code or proof of
/// the generation counts any more. `None` for any other link, or one of another generation.
pub(crate) fn void_generation(conn: &mut Conn, id: &LinkId, generation: i32) -> QueryResult<Option<Link>> {
    diesel::update(links::table.find(id))
        .filter(links::generation.eq(generation))
        .filter(links::reentry.eq(Reentry::Device))
        .filter(links::spent_at.is_not_null())
        .filter(NotBulkRevoked)
        .set(links::generation.eq(links::generation + 1))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}
