//! A view of the log for spreadsheets (RFC 4180): no cell is a formula, or longer than they take.

use serde_json::Value;

use crate::audit::AuditEvent;
use crate::error::Error;

const COLUMNS: [&str; 35] = [
    "log_index",
    "leaf_hash",
    "id",
    "type",
    "result",
    "occurred_at",
    "recorded_at",
    "tenant_id",
    "portal",
    "actor_type",
    "actor_id",
    "actor_name",
    "client_id",
    "magic_link_id",
    "session_id",
    "consultant_id",
    "profile_id",
    "principal_id",
    "principal_ids",
    "reason",
    "ticket",
    "address",
    "user_agent",
    "source",
    "seq",
    "late",
    "policy_violation",
    "out_of_session",
    "action",
    "resource_type",
    "resource_id",
    "data",
    "trace_id",
    "erased_at",
    "erased_reason",
];

pub(super) fn header() -> Result<String, Error> {
    record(COLUMNS.iter().map(|column| (*column).to_owned()))
}

pub(super) fn line(event: &AuditEvent) -> Result<String, Error> {
    let fields = serde_json::to_value(event).map_err(Error::internal)?;
    let cell = |column: &&str| {
        let pointer = match *column {
            "actor_type" => "/actor/type",
            "actor_id" => "/actor/id",
            "actor_name" => "/actor/name",
            "action" => "/data/action",
            "resource_type" => "/data/resource_type",
            "resource_id" => "/data/resource_id",
            "erased_at" => "/erased/erased_at",
            "erased_reason" => "/erased/reason",
            plain => return fields.get(plain).map_or_else(String::new, text),
        };
        fields.pointer(pointer).map_or_else(String::new, text)
    };
    record(COLUMNS.iter().map(|column| fitting(harmless(&cell(column)))))
}

/// Characters, as UTF-16 counts them, that a spreadsheet takes into a cell: the rest would begin the next row.
const MAX_CELL: usize = 32_767;

/// What stands at the end of a cell that was longer.
const CUT: &str = " … (cut: NDJSON has the whole)";

/// Cuts a cell to what a spreadsheet takes.
fn fitting(cell: String) -> String {
    // No text has fewer bytes.
    if cell.len() <= MAX_CELL || cell.encode_utf16().count() <= MAX_CELL {
        return cell;
    }
    let mut room = MAX_CELL.saturating_sub(CUT.encode_utf16().count());
    let fits = |letter: &char| {
        room.checked_sub(letter.len_utf16()).is_some_and(|left| {
            room = left;
            true
        })
    };
    cell.chars().take_while(fits).chain(CUT.chars()).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// Prefixes cells that a spreadsheet would evaluate as a formula (CSV injection), and what would be one where the list
/// separator is a semicolon or a tab, as in most of Europe: a cell for us, several there.
fn harmless(cell: &str) -> String {
    let mut safe = String::with_capacity(cell.len() + 1);
    let mut begins = true;
    for letter in cell.chars() {
        if begins && FORMULA.contains(&letter) {
            safe.push('\'');
        }
        // Blanks and quotes before a formula are passed over.
        begins = matches!(letter, ';' | '\t' | '\r' | '\n') || (begins && matches!(letter, ' ' | '"' | '\''));
        safe.push(letter);
    }
    safe
}

fn record(cells: impl Iterator<Item = String>) -> Result<String, Error> {
    let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).map_err(Error::internal)?;
    let bytes = writer.into_inner().map_err(Error::internal)?;
    String::from_utf8(bytes).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for cell in ["=HYPERLINK(\"http://x\")", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"] {
            assert!(harmless(cell).starts_with('\''), "{cell:?}");
        }
        for cell in ["T;=1", "T; \"@SUM(1)", "a\t+1", "x;;-1", "a\n=1"] {
            let (before, formula) = cell.split_at(cell.find(['=', '@', '+', '-']).unwrap());
            assert_eq!(harmless(cell), format!("{before}'{formula}"));
        }
        for cell in ["SUP-1", "a; b", "x=1", "two; three-four", ""] {
            assert_eq!(harmless(cell), cell);
        }
    }

    #[test]
    fn no_cell_is_longer_than_a_spreadsheet_takes() {
        let length = |cell: &str| cell.encode_utf16().count();
        for letter in ["x", "न", "😀"] {
            let most = letter.repeat(MAX_CELL / length(letter));
            assert_eq!(fitting(most.clone()), most);
            let cut = fitting(format!("{most}{letter}"));
            assert!((MAX_CELL - 1..=MAX_CELL).contains(&length(&cut)), "{letter}: {}", length(&cut));
            assert!(cut.starts_with(letter) && cut.ends_with(CUT));
        }
    }

    #[test]
    fn commas_quotes_and_breaks_stay_in_their_cell() {
        let line = record(["a,b", "say \"x\"", "two\nlines", ""].map(ToOwned::to_owned).into_iter()).unwrap();
        assert_eq!(line, "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\r\n");
    }
}
