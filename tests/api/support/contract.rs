//! Every answer in every test is as `openapi/openapi.json` says: status, type, headers, and each member.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use regex_lite::Regex;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The committed description.
pub static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    // Not built in: a description that was made anew needs no build.
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json"));
    serde_json::from_str(&text.expect("the description is there")).expect("JSON")
});

/// The described paths as patterns, those without parameters first.
static PATHS: LazyLock<Vec<(Regex, &'static Map<String, Value>)>> = LazyLock::new(|| {
    let mut paths: Vec<(&String, &Value)> = DESCRIPTION["paths"].as_object().expect("paths").iter().collect();
    paths.sort_by_key(|(path, _)| path.contains('{'));
    let parameter = Regex::new(r"\{\w+\}").expect("a pattern");
    let pattern = |path: &str| Regex::new(&format!("^{}$", parameter.replace_all(path, "[^/]+"))).expect("a pattern");
    paths.into_iter().map(|(path, item)| (pattern(path), item.as_object().expect("operations"))).collect()
});

/// Headers that are described wherever they are sent.
const HEADERS: &[&str] = &[
    "allow",
    "content-disposition",
    "etag",
    "idempotency-replayed",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
];

/// What a schema is, behind its reference.
pub fn resolved(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => DESCRIPTION.pointer(pointer).expect("a schema"),
        None => schema,
    }
}

/// Where an answer differs from the description; nothing for paths that are no part of the API.
pub fn differences(method: &str, path: &str, status: u16, headers: &HeaderMap, body: &str) -> Vec<String> {
    let Some((_, item)) = PATHS.iter().find(|(pattern, _)| pattern.is_match(path)) else { return Vec::new() };
    // HEAD is answered as GET is, without the body.
    let Some(operation) = item.get(&method.to_lowercase()) else { return Vec::new() };
    let response = resolved(&operation["responses"][status.to_string()]);
    if response.is_null() {
        return vec![format!("the status {status} is not described")];
    }
    let mut found = Vec::new();
    let described = response["headers"].as_object();
    let is_described = |name: &str| described.is_some_and(|all| all.keys().any(|one| one.eq_ignore_ascii_case(name)));
    for name in HEADERS.iter().filter(|name| headers.contains_key(**name) && !is_described(name)) {
        found.push(format!("the header {name} is not described"));
    }
    // What is created says where it is.
    for name in ["location", "etag"].into_iter().filter(|name| is_described(name) && !headers.contains_key(*name)) {
        found.push(format!("the header {name} is missing"));
    }
    let problem: Option<Value> = if status < 400 { None } else { serde_json::from_str(body).ok() };
    if let Some(code) = problem.as_ref().and_then(|problem| problem["code"].as_str()) {
        if response["content"]["application/problem+json"]["examples"][code].is_null() {
            found.push(format!("the code {code} is not described"));
        }
        seen::note(operation["operationId"].as_str().expect("an operationId"), code);
    }
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    let content = response["content"].as_object();
    match content.map(|content| content.get(kind)) {
        None if !body.is_empty() => found.push(format!("a body of {kind} where none is described")),
        Some(None) => found.push(format!("the content type {kind} is not described")),
        Some(Some(content)) if kind.ends_with("json") && content["schema"]["format"] != "binary" => {
            let value = serde_json::from_str(body).unwrap_or(Value::Null);
            check(&content["schema"], &value, "", &mut found);
        }
        None | Some(Some(_)) => {}
    }
    found
}

/// Where a value differs from a closed schema.
pub fn misfits(schema: &'static Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

/// Checks a value against a closed schema.
fn check(schema: &'static Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolved(schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &'static Value| {
            let mut wrong = Vec::new();
            check(choice, value, at, &mut wrong);
            wrong.is_empty()
        };
        if !choices.iter().any(fits) {
            found.push(format!("{at}: none of the choices fits {value}"));
        }
        return;
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{at}: the type {other}"),
    };
    let is_of_type = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        kind => kind.as_str().is_some_and(is),
    };
    if !is_of_type {
        found.push(format!("{at}: {value} is no {}", schema["type"]));
        return;
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{at}: {value} is not described"));
    }
    match value {
        Value::Object(members) => check_members(schema, members, at, found),
        Value::Array(items) => {
            bound(schema, "minItems", "maxItems", items.len(), at, found);
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| check(&schema["items"], item, &format!("{at}/{index}"), found));
        }
        Value::String(text) => check_text(schema, text, at, found),
        Value::Number(number) => {
            let beyond = |name: &str, is_beyond: fn(f64, f64) -> bool| {
                schema[name].as_f64().zip(number.as_f64()).is_some_and(|(bound, number)| is_beyond(number, bound))
            };
            if beyond("minimum", |number, least| number < least) || beyond("maximum", |number, most| number > most) {
                found.push(format!("{at}: {number} is out of range"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_members(schema: &'static Value, members: &Map<String, Value>, at: &str, found: &mut Vec<String>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            found.push(format!("{at}/{name} is missing"));
        }
    }
    // What has neither properties nor a schema for others is any object.
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, value) in members {
        match properties.get(name) {
            Some(property) => check(property, value, &format!("{at}/{name}"), found),
            None => found.push(format!("{at}/{name} is not described")),
        }
    }
}

fn check_text(schema: &Value, text: &str, at: &str, found: &mut Vec<String>) {
    static PATTERNS: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    bound(schema, "minLength", "maxLength", text.chars().count(), at, found);
    if schema["format"] == "date-time" && OffsetDateTime::parse(text, &Rfc3339).is_err() {
        found.push(format!("{at}: {text} is no time"));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let mut patterns = PATTERNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).expect("a pattern"));
        if !known.is_match(text) {
            found.push(format!("{at}: {text} is not like {pattern}"));
        }
    }
}

fn bound(schema: &Value, least: &str, most: &str, size: usize, at: &str, found: &mut Vec<String>) {
    let size = size as u64;
    if schema[least].as_u64().is_some_and(|least| size < least) || schema[most].as_u64().is_some_and(|most| size > most)
    {
        found.push(format!("{at} has a size of {size}"));
    }
}

/// Which codes the tests have seen of which operation, for `contract::codes`.
pub mod seen {
    use std::collections::BTreeSet;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// A line for each operation and code, of any number of test processes. `make test` begins it anew.
    pub const FILE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/codes-seen.txt");

    /// Notes that an operation has answered with a code.
    pub fn note(operation: &str, code: &str) {
        static NOTED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
        let line = format!("{operation} {code}\n");
        if NOTED.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
            let file = OpenOptions::new().create(true).append(true).open(FILE);
            file.and_then(|mut file| file.write_all(line.as_bytes())).expect("what was seen is noted");
        }
    }
}
