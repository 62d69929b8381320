//! Reduces the generated description to the subset that client generators support.
//!
//! Optional members are absent, never null; a `$ref` has no siblings; string
//! schemas such as ids and times are inlined, so that generators see their format.

use serde_json::{Map, Value};

use super::{for_each_object, formats};

/// Rewrites the whole description.
pub(super) fn plain(mut description: Value) -> Value {
    name_page_items(&mut description);
    let texts = text_schemas(&description);
    for_each_object(&mut description, &mut |members| {
        without_null(members);
        one_line(members);
        members.remove("propertyNames");
        resolve(members, &texts);
        formats::name(members);
    });
    if let Some(schemas) = description.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.retain(|name, _| !texts.contains_key(name));
    }
    description
}

/// Replaces the inlined item schemas of pages by references.
fn name_page_items(description: &mut Value) {
    let schemas = description.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        let items = schema.pointer_mut("/properties/items/items");
        if let (Some(thing), Some(items)) = (name.strip_prefix("Page_"), items) {
            *items = serde_json::json!({ "$ref": format!("#/components/schemas/{thing}") });
        }
    }
}

/// Named schemas of plain strings.
fn text_schemas(description: &Value) -> Map<String, Value> {
    let schemas = description.pointer("/components/schemas").and_then(Value::as_object);
    let is_text = |schema: &Value| {
        let schema = schema.as_object();
        schema.is_some_and(|schema| schema.get("type") == Some(&"string".into()) && !schema.contains_key("enum"))
    };
    schemas.into_iter().flatten().filter(|(_, schema)| is_text(schema)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Turns `T or null` into an optional `T`.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    let Some(Value::Array(choices)) = schema.get_mut("oneOf") else { return };
    choices.retain(|choice| choice.get("type") != Some(&"null".into()));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        schema.remove("oneOf");
        schema.extend(only);
    }
}

/// Unwraps the lines of documentation comments within paragraphs. The items of a list stay apart.
fn one_line(schema: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs = text.split("\n\n").map(|paragraph| {
            let items = paragraph.split("\n- ").map(|item| item.replace('\n', " "));
            items.collect::<Vec<_>>().join("\n- ")
        });
        *text = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
}

/// Inlines string schemas, and removes the siblings of other references.
fn resolve(schema: &mut Map<String, Value>, texts: &Map<String, Value>) {
    let Some(Value::String(reference)) = schema.get("$ref") else { return };
    let name = reference.rsplit('/').next().unwrap_or_default();
    match texts.get(name).and_then(Value::as_object) {
        Some(text) => {
            schema.remove("$ref");
            for (key, value) in text {
                schema.entry(key).or_insert_with(|| value.clone());
            }
        }
        None => schema.retain(|key, _| matches!(key.as_str(), "$ref" | "description" | "default")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_optional_text_is_written_out_without_null() {
        let described = plain(json!({
            "components": { "schemas": {
                "Time": { "type": "string", "format": "date-time" },
                "Thing": { "properties": {
                    "at": { "oneOf": [{ "$ref": "#/components/schemas/Time", "description": "When\nit was." }, { "type": "null" }] },
                    "next": { "oneOf": [{ "$ref": "#/components/schemas/Thing", "description": "x" }, { "type": "null" }] },
                    "name": { "type": ["string", "null"] }
                } }
            } }
        }));
        assert_eq!(
            described,
            json!({
                "components": { "schemas": { "Thing": { "properties": {
                    "at": { "type": "string", "format": "date-time", "description": "When it was." },
                    "next": { "$ref": "#/components/schemas/Thing", "description": "x" },
                    "name": { "type": "string" }
                } } } }
            })
        );
    }
}
