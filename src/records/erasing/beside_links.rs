//! What belongs to links and is neither a mail nor a session: erased and removed in ranges, too, since those who change a
//! link decide how much there is.

use diesel::prelude::*;

use super::ROWS;
use crate::db::Conn;
use crate::db::schema::{
    extension_requests as asked, link_corrections as corrections, link_devices as devices,
    link_extensions as extensions, link_keys, step_ups,
};
use crate::id::{CorrectionId, ExtensionId, LinkId, StepUpId};

/// What one transaction did.
pub(super) struct Changes {
    /// Number of changes of links whose texts were erased.
    pub erased: usize,
    /// Number of devices, keys and one-time codes that were removed.
    pub removed: usize,
    /// Whether there may be more.
    pub are_many: bool,
}

/// Removes rows that only a live link needs: all that there are, or the first of them; how many, and whether there may be more.
macro_rules! remove_generations {
    ($conn:expr, $ids:expr, $table:ident) => {{
        let first: Vec<(LinkId, i32)> = $table::table
            .filter($table::magic_link_id.eq_any($ids))
            .order(($table::magic_link_id, $table::generation))
            .select(($table::magic_link_id, $table::generation))
            .limit(ROWS)
            .load($conn)?;
        // They have no key of their own: all those of the links before the last one, and of that up to a generation.
        match first.last() {
            Some((last, generation)) if is_full(first.len()) => {
                let before = first.iter().map(|(link, _)| link).filter(|link| *link != last);
                let mut before: Vec<&LinkId> = before.collect();
                before.dedup();
                let before = $table::table.filter($table::magic_link_id.eq_any(before));
                let some =
                    $table::table.filter($table::magic_link_id.eq(last)).filter($table::generation.le(generation));
                (diesel::delete(before).execute($conn)? + diesel::delete(some).execute($conn)?, true)
            }
            _ => (diesel::delete($table::table.filter($table::magic_link_id.eq_any($ids))).execute($conn)?, false),
        }
    }};
}

/// Erases and removes as much as one transaction may.
pub(super) fn erase(conn: &mut Conn, ids: &[LinkId]) -> QueryResult<Changes> {
    let (devices, more_devices) = remove_generations!(conn, ids, devices);
    let (keys, more_keys) = remove_generations!(conn, ids, link_keys);
    let old = step_ups::table.filter(step_ups::magic_link_id.eq_any(ids)).select(step_ups::id).limit(ROWS);
    let old: Vec<StepUpId> = old.load(conn)?;
    let codes = diesel::delete(step_ups::table.filter(step_ups::id.eq_any(old))).execute(conn)?;

    let nobody = None::<String>;
    let said = asked::table
        .filter(asked::magic_link_id.eq_any(ids))
        .filter(asked::reason.ne("").or(asked::asked_by_name.ne("")).or(asked::decision.is_not_null()));
    let said: Vec<ExtensionId> = said.select(asked::id).limit(ROWS).load(conn)?;
    let requests = diesel::update(asked::table.filter(asked::id.eq_any(said)))
        .set((
            asked::reason.eq(""),
            asked::asked_by_name.eq(""),
            asked::asked_by_email.eq(""),
            asked::decision.eq(&nobody),
        ))
        .execute(conn)?;
    let said = extensions::table
        .filter(extensions::magic_link_id.eq_any(ids))
        .filter(extensions::reason.ne("").or(extensions::actor_name.is_not_null()));
    let said: Vec<ExtensionId> = said.select(extensions::id).limit(ROWS).load(conn)?;
    let ends = diesel::update(extensions::table.filter(extensions::id.eq_any(said)))
        .set((extensions::reason.eq(""), extensions::actor_name.eq(&nobody)))
        .execute(conn)?;
    let said = corrections::table
        .filter(corrections::magic_link_id.eq_any(ids))
        .filter(corrections::reason.ne("").or(corrections::previous_reason.ne("")));
    let said: Vec<CorrectionId> = said.select(corrections::id).limit(ROWS).load(conn)?;
    let words = diesel::update(corrections::table.filter(corrections::id.eq_any(said)))
        .set((
            corrections::previous_reason.eq(""),
            corrections::previous_ticket.eq(&nobody),
            corrections::reason.eq(""),
            corrections::ticket.eq(&nobody),
            corrections::actor_name.eq(&nobody),
        ))
        .execute(conn)?;
    let are_many = more_devices || more_keys || [codes, requests, ends, words].into_iter().any(is_full);
    Ok(Changes { erased: requests + ends + words, removed: devices + keys + codes, are_many })
}

/// Whether as many rows were found as one transaction takes.
fn is_full(rows: usize) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows >= ROWS)
}
