//! The bound of a list whose filters may match nothing.

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
