//! The bounds of lists: of one whose filters may match nothing, and of one whose rows not every caller may see.

use diesel::QueryResult;

use crate::domain::{PageRequest, Scan};

/// Number of rows that one page of a list looks at.
pub(crate) const SCANNED: i64 = 20_000;

/// The id of the last row that a list looks at, among the rows that an index finds in order of id; `None` if it may look
/// at all of them.
///
/// A macro, because every table has its own types.
macro_rules! scan_end {
    ($conn:expr, $table:ident, $found:expr, $page:expr) => {{
        let mut found = $found;
        if let Some(after) = &$page.after {
            found = found.filter($table::id.lt(after));
        }
        let ids = found.select($table::id).order($table::id.desc());
        ids.offset($crate::records::scan::SCANNED - 1).limit(1).get_result::<String>($conn).optional()
    }};
}

pub(crate) use scan_end;

/// Number of rows that one query reads where they are judged one by one, and the largest number that a page looks at.
const PIECE: i64 = 200;
const JUDGED: usize = 2_000;

/// Rows for which `is_visible` is true, up to the page's limit. `read` gives so many rows of the list after a key, in its
/// order.
pub(crate) fn visible<R>(
    page: &PageRequest,
    key: impl Fn(&R) -> &str,
    is_visible: impl Fn(&R) -> bool,
    mut read: impl FnMut(Option<&str>, i64) -> QueryResult<Vec<R>>,
) -> QueryResult<Scan<R>> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let (mut rows, mut judged, mut after) = (Vec::new(), 0, page.after.clone());
    loop {
        let piece = read(after.as_deref(), PIECE)?;
        after = piece.last().map(|row| key(row).to_owned());
        judged += piece.len();
        let exhausted = i64::try_from(piece.len()).is_ok_and(|found| found < PIECE);
        rows.extend(piece.into_iter().filter(|row| is_visible(row)));
        if exhausted || rows.len() >= limit {
            return Ok(Scan::whole(rows));
        }
        if judged >= JUDGED {
            return Ok(Scan { rows, stopped_at: after });
        }
    }
}
