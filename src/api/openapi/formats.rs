//! Formats of texts that follow from the name of the member that holds them.

use serde_json::{Map, Value};

/// Says what e-mail addresses and URLs of ours are. Addresses that people or portals chose stay plain texts: what is
/// typed in is judged by the call, and `redirect_url` is to be opened as it is.
pub(super) fn name(schema: &mut Map<String, Value>) {
    for (name, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(property) = property.as_object_mut() else { continue };
        let is_text = property.get("type").is_some_and(|kind| kind == "string");
        if let (true, Some(format)) = (is_text, of(name)) {
            property.entry("format").or_insert_with(|| format.into());
        }
    }
}

fn of(name: &str) -> Option<&'static str> {
    match name {
        "email" | "recipient" => Some("email"),
        "issuer" => Some("uri"),
        name if name.ends_with("_email") => Some("email"),
        name if name.ends_with("_uri") || name.ends_with("_endpoint") => Some("uri"),
        _ => None,
    }
}
