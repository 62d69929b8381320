//! Output: tables for people, JSON for machines.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::revocations::RevocationResponse;

/// Why a command failed; its message is printed.
pub(super) type Failure = Box<dyn std::error::Error>;

/// A column's title, and the JSON pointer (RFC 6901) of its value in an item.
pub(super) type Column = (&'static str, &'static str);

pub(super) struct Output {
    pub json: bool,
}

impl Output {
    /// Prints an object that was created or changed.
    pub(super) fn done(&self, thing: &impl Serialize, what: &str) -> Result<(), Failure> {
        let thing = serde_json::to_value(thing)?;
        if self.json {
            return Ok(line(&thing.to_string())?);
        }
        let name = ["/id", "/kid"].iter().find_map(|at| thing.pointer(at)).map(text);
        Ok(line(&name.map_or_else(|| what.to_owned(), |name| format!("{what}: {name}")))?)
    }

    /// Prints an object that was created or changed, and how much a bulk revocation ended with it.
    pub(super) fn counted(
        &self,
        thing: &impl Serialize,
        what: &str,
        order: Option<&RevocationResponse>,
    ) -> Result<(), Failure> {
        let counts = order.filter(|_| !self.json).map(|order| {
            let requests = Some(order.requests).filter(|requests| *requests > 0);
            let requests = requests.map_or_else(String::new, |requests| format!(", {}", many(requests, "request")));
            format!("{what} ({}, {}{requests})", many(order.links, "link"), many(order.sessions, "session"))
        });
        self.done(thing, counts.as_deref().unwrap_or(what))
    }

    /// Prints an object with a secret.
    pub(super) fn secret(&self, thing: &impl Serialize, advice: &str) -> Result<(), Failure> {
        let thing = serde_json::to_value(thing)?;
        if self.json {
            return Ok(line(&thing.to_string())?);
        }
        for field in ["id", "key"] {
            line(&format!("{field:<4} {}", thing.get(field).map(text).unwrap_or_default()))?;
        }
        Ok(line(advice)?)
    }

    /// Prints a page of objects as a table.
    pub(super) fn table(&self, page: &impl Serialize, columns: &[Column]) -> Result<(), Failure> {
        let page = serde_json::to_value(page)?;
        if self.json {
            return Ok(line(&page.to_string())?);
        }
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let cells: Vec<Vec<String>> = items
            .iter()
            .map(|item| columns.iter().map(|(_, at)| item.pointer(at).map(text).unwrap_or_default()).collect())
            .collect();
        let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let widths: Vec<usize> = titles
            .iter()
            .enumerate()
            .map(|(column, title)| {
                let cells = cells.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(title.len())
            })
            .collect();
        for row in std::iter::once(&titles).chain(&cells) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        if let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) {
            line(&format!("more: --cursor {cursor}"))?;
        }
        Ok(())
    }

    /// Prints a failure on standard error; with `--json` as one object.
    pub(super) fn failure(&self, failure: &(dyn std::error::Error + 'static)) {
        let line = match failure.downcast_ref::<crate::error::Error>() {
            Some(error) if self.json => {
                let (code, title) = (error.code().slug(), error.code().title());
                let errors = Some(error.fields()).filter(|fields| !fields.is_empty());
                let mut told = serde_json::json!({ "code": code, "title": title, "detail": error.to_string() });
                if let (Some(members), Some(errors)) = (told.as_object_mut(), errors) {
                    members.insert("errors".to_owned(), serde_json::json!(errors));
                }
                told.to_string()
            }
            Some(error) => {
                let mut lines = vec![format!("error: {error}. {}", error.code().help())];
                lines.extend(error.fields().iter().map(|field| format!("  {}: {}", field.pointer, field.detail)));
                lines.join("\n")
            }
            None if self.json => serde_json::json!({ "code": "failed", "detail": failure.to_string() }).to_string(),
            None => format!("error: {failure}"),
        };
        // One that is closed is ignored, and so is one that nobody reads: the command ends nevertheless.
        let (tell, told) = mpsc::channel::<()>();
        let writing = thread::Builder::new().spawn(move || {
            drop(writeln!(io::stderr(), "{line}"));
            drop(tell);
        });
        // It ends when the thread lets its side go, or in vain.
        let _in_vain_or_not: Option<Result<(), _>> = writing.ok().map(|_thread| told.recv_timeout(LAST_WORD));
    }
}

/// A number of things, in words.
pub(super) fn many(number: i64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Time that standard error has to take why a command failed.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Prints a line.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
