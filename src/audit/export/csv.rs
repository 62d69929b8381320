//! A view of the log for spreadsheets (RFC 4180).

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
    record(COLUMNS.iter().map(cell).map(harmless))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prefixes cells that a spreadsheet would evaluate as a formula (CSV injection).
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        format!("'{cell}")
    } else {
        cell
    }
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
            assert!(harmless(cell.to_owned()).starts_with('\''), "{cell:?}");
        }
        assert_eq!(harmless("SUP-1".to_owned()), "SUP-1");
    }

    #[test]
    fn commas_quotes_and_breaks_stay_in_their_cell() {
        let line = record(["a,b", "say \"x\"", "two\nlines", ""].map(ToOwned::to_owned).into_iter()).unwrap();
        assert_eq!(line, "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\r\n");
    }
}
