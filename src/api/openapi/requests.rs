//! What holds for every request: a body is required where it has a required member, and optional members of JSON may be
//! null.
//!
//! Serialisers of .NET and Java send null for what is absent. The checks of `http/contract` read both alike. A form has no
//! null: what it holds is text.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Describes the bodies of all requests.
pub(super) fn describe(description: &mut Value) {
    let mut open = Vec::new();
    let paths = description["paths"].as_object_mut().into_iter().flatten();
    for operation in paths.flat_map(|(_, item)| item.as_object_mut().into_iter().flatten()).map(|(_, one)| one) {
        let contents = operation.pointer("/requestBody/content").and_then(Value::as_object).into_iter().flatten();
        let schemas = contents.filter(|(kind, _)| *kind == "application/json").map(|(_, content)| content);
        open.extend(schemas.filter_map(|content| content.pointer("/schema/$ref")?.as_str()).map(ToOwned::to_owned));
    }
    for reference in reachable(description, open) {
        if let Some(schema) = description.pointer_mut(reference.trim_start_matches('#')) {
            optional_members_may_be_null(schema);
        }
    }
    require_bodies(description);
}

/// The references that lead from these to others, and these.
pub(super) fn reachable(description: &Value, mut open: Vec<String>) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    while let Some(reference) = open.pop() {
        if let Some(named) = description.pointer(reference.trim_start_matches('#'))
            && known.insert(reference)
        {
            references(named, &mut open);
        }
    }
    known
}

fn require_bodies(description: &mut Value) {
    let needs = |schema: &Value| {
        let schema =
            schema["$ref"].as_str().and_then(|reference| description.pointer(reference.trim_start_matches('#')));
        schema.is_some_and(|schema| schema["required"].as_array().is_some_and(|required| !required.is_empty()))
    };
    let mut optional = Vec::new();
    for (path, item) in description["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let contents = operation.pointer("/requestBody/content").and_then(Value::as_object).into_iter().flatten();
            if contents.map(|(_, content)| &content["schema"]).any(|schema| !needs(schema)) {
                optional.push((path.clone(), method.clone()));
            }
        }
    }
    for (path, method) in optional {
        let item = description.get_mut("paths").and_then(|paths| paths.get_mut(&path));
        let body = item.and_then(|item| item.get_mut(&method)?.get_mut("requestBody")?.as_object_mut());
        if let Some(body) = body {
            body.insert("required".into(), false.into());
        }
    }
}

/// Adds every reference that stands in a value.
pub(super) fn references(schema: &Value, open: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            open.extend(members.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            members.values().for_each(|value| references(value, open));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, open)),
        _ => {}
    }
}

fn optional_members_may_be_null(schema: &mut Value) {
    let required: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if required.iter().any(|one| one == name) {
            continue;
        }
        let Some(property) = property.as_object_mut() else { continue };
        if let Some(reference) = property.remove("$ref") {
            property.insert("oneOf".into(), json!([{ "type": "null" }, { "$ref": reference }]));
        } else if let Some(kind) = property.remove("type") {
            property.insert("type".into(), json!([kind, "null"]));
        }
    }
}
