//! The description in OpenAPI 3.0.3, for tools that read nothing newer: `NSwag` 13, Visual
//! Studio's Connected Services.
//!
//! 3.0 has no type `null`, and what stands beside a `$ref` is ignored there.

use serde_json::{Map, Value, json};

use super::{for_each_object, operations};

/// Turns a description in OpenAPI 3.1 into one in 3.0.3 that says the same.
pub(super) fn three_zero(mut description: Value) -> Value {
    if let Some(license) = description.pointer_mut("/info/license").and_then(Value::as_object_mut) {
        license.remove("identifier");
        license.insert("url".into(), "https://spdx.org/licenses/MIT.html".into());
    }
    // Only OAuth has scopes there; the descriptions of the operations still name them.
    operations::for_each(&mut description, |_, operation| {
        if operation["security"] != json!([{}]) {
            operation["security"] = json!([{ "bearer": [] }]);
        }
    });
    rewrite(&mut description);
    if let Some(version) = description.get_mut("openapi") {
        *version = json!("3.0.3");
    }
    description
}

fn rewrite(description: &mut Value) {
    for_each_object(description, &mut |members| {
        name_null(members);
        wrap_reference(members);
        keep_one_example(members);
    });
}

/// `null` is no type in 3.0, but a property of the other one.
fn name_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(kinds)) = schema.get("type")
        && let Some(kind) = kinds.iter().find(|kind| *kind != "null").cloned()
    {
        schema.insert("type".into(), kind);
        schema.insert("nullable".into(), true.into());
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.push(Value::Null);
        }
    }
    if let Some(Value::Array(choices)) = schema.get("oneOf")
        && let Some(reference) = choices.iter().find(|choice| choice.get("$ref").is_some()).cloned()
    {
        schema.remove("oneOf");
        schema.insert("allOf".into(), json!([reference]));
        schema.insert("nullable".into(), true.into());
    }
}

/// A reference with a description of its own is the only member of an `allOf`.
fn wrap_reference(schema: &mut Map<String, Value>) {
    if schema.len() > 1
        && let Some(reference) = schema.remove("$ref")
    {
        schema.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
}

/// A schema has one `example`; several named ones, of parameters and media types, stay.
fn keep_one_example(schema: &mut Map<String, Value>) {
    if matches!(schema.get("examples"), Some(Value::Array(_)))
        && let Some(Value::Array(examples)) = schema.remove("examples")
        && let Some(first) = examples.into_iter().next()
    {
        schema.insert("example".into(), first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_three_zero_cannot_say_is_said_in_its_words() {
        let person = json!({ "$ref": "#/components/schemas/Person" });
        for (newer, older) in [
            (
                json!({ "type": ["string", "null"], "maxLength": 9 }),
                json!({ "type": "string", "nullable": true, "maxLength": 9 }),
            ),
            (
                json!({ "oneOf": [{ "type": "null" }, person], "description": "Who" }),
                json!({ "allOf": [person], "nullable": true, "description": "Who" }),
            ),
            (
                json!({ "$ref": person["$ref"], "description": "Who" }),
                json!({ "allOf": [person], "description": "Who" }),
            ),
            (person.clone(), person.clone()),
            (json!({ "type": "string", "examples": ["a", "b"] }), json!({ "type": "string", "example": "a" })),
            (json!({ "examples": { "one": { "value": null } } }), json!({ "examples": { "one": { "value": null } } })),
        ] {
            let mut rewritten = newer;
            rewrite(&mut rewritten);
            assert_eq!(rewritten, older);
        }
    }
}
