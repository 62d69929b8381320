//! A collection of the calls, for people who try them: Postman's format 2.1, which Bruno, Insomnia and others read.
//!
//! Made from the description: what it shows as examples is what a call sends.

use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::operations;

/// The collection, as committed in `openapi/collection.json`.
#[must_use]
pub fn collection(description: &Value) -> Value {
    let mut folders: Vec<(&str, Vec<Value>)> = Vec::new();
    for (path, item) in description["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let tag = operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or_default();
            let call = call(description, path, method, operation);
            match folders.iter_mut().find(|(name, _)| *name == tag) {
                Some((_, calls)) => calls.push(call),
                None => folders.push((tag, vec![call])),
            }
        }
    }
    let folders = folders.into_iter().map(|(name, calls)| json!({ "name": name, "item": calls }));
    let key = "API key of a client; `make run` keeps one that may do everything in data/demo.env (ADMIN_KEY)";
    json!({
        "info": {
            "name": description.pointer("/info/title"),
            "description": "Made from /openapi.json. Set the variables `base_url` and `key`.",
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "auth": { "type": "bearer", "bearer": [{ "key": "token", "value": "{{key}}", "type": "string" }] },
        "variable": [
            { "key": "base_url", "value": "http://127.0.0.1:8080", "type": "string" },
            { "key": "key", "value": "", "type": "string", "description": key },
        ],
        "item": folders.collect::<Vec<_>>(),
    })
}

fn call(description: &Value, path: &str, method: &str, operation: &Value) -> Value {
    let parameters = |place: &'static str| operations::parameters(operation).filter(move |one| one["in"] == place);
    let mut path = path.to_owned();
    for parameter in parameters("path") {
        let name = parameter["name"].as_str().unwrap_or_default();
        path = path.replace(&format!("{{{name}}}"), &text(&example(description, parameter)));
    }
    // What is not needed is there to be switched on: a filter that nobody asked for hides what is there.
    let named = |parameter: &Value| {
        json!({
            "key": parameter["name"], "value": text(&example(description, parameter)),
            "description": parameter["description"], "disabled": parameter["required"] != true,
        })
    };
    let query: Vec<Value> = parameters("query").map(named).collect();
    let mut headers: Vec<Value> = parameters("header").map(named).collect();
    let content = operation.pointer("/requestBody/content").and_then(Value::as_object).into_iter().flatten().next();
    let body = content.map(|(kind, content)| {
        headers.push(json!({ "key": "Content-Type", "value": kind }));
        let body = example(description, content);
        if kind == "application/json" {
            let language = json!({ "raw": { "language": "json" } });
            return json!({ "mode": "raw", "raw": format!("{body:#}"), "options": language });
        }
        let fields = body.as_object().into_iter().flatten();
        let fields = fields.map(|(name, value)| json!({ "key": name, "value": text(value) })).collect::<Vec<_>>();
        json!({ "mode": "urlencoded", "urlencoded": fields })
    });
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    // Some programs read the whole address, and others its parts.
    let raw = format!("{{{{base_url}}}}{path}{}", switched_on(&query));
    let mut request = Map::new();
    request.insert("method".into(), method.to_uppercase().into());
    request.insert("description".into(), operation["description"].clone());
    request.insert("header".into(), headers.into());
    request.insert("url".into(), json!({ "raw": raw, "host": ["{{base_url}}"], "path": segments, "query": query }));
    request.extend(body.map(|body| ("body".to_owned(), body)));
    if operation.pointer("/security/0/bearer").is_none() {
        request.insert("auth".into(), json!({ "type": "noauth" }));
    }
    json!({ "name": operation["summary"], "request": request })
}

/// The query of what is switched on.
fn switched_on(query: &[Value]) -> String {
    let mut written = form_urlencoded::Serializer::new(String::new());
    for one in query.iter().filter(|one| one["disabled"] != true) {
        written.append_pair(&text(&one["key"]), &text(&one["value"]));
    }
    let written = written.finish();
    if written.is_empty() { written } else { format!("?{written}") }
}

/// The example of a parameter or of a body: its own, or that of its schema.
fn example(description: &Value, described: &Value) -> Value {
    let schema = resolved(description, &described["schema"]);
    let all = [described.get("example"), schema.get("example"), schema.pointer("/examples/0")];
    all.into_iter().flatten().next().cloned().unwrap_or_default()
}

fn resolved<'d>(description: &'d Value, schema: &'d Value) -> &'d Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| description.pointer(pointer)).unwrap_or(schema)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_address_of_each_call_says_what_its_parts_say() {
        let collection = collection(&super::super::description().unwrap());
        let folders = collection["item"].as_array().unwrap();
        let calls: Vec<&Value> = folders.iter().flat_map(|folder| folder["item"].as_array().unwrap()).collect();
        let mut with_query = 0;
        for call in &calls {
            let url = &call["request"]["url"];
            let raw = url["raw"].as_str().unwrap();
            let (address, query) = raw.split_once('?').unwrap_or((raw, ""));
            let path: Vec<&str> = url["path"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
            assert_eq!(address, format!("{{{{base_url}}}}/{}", path.join("/")));
            let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let parts = url["query"].as_array().unwrap().iter().filter(|part| part["disabled"] == false);
            let parts: Vec<(String, String)> = parts.map(|part| (text(&part["key"]), text(&part["value"]))).collect();
            assert_eq!(pairs, parts, "{raw}");
            with_query += usize::from(!parts.is_empty());
        }
        assert!(with_query >= 4 && calls.len() > 90, "{with_query} of {}", calls.len());
    }
}
