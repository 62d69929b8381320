//! The requests that the API description shows, and its schemas.

use reqwest::Method;
use serde_json::Value;

use super::contract::{DESCRIPTION, resolved};
use super::{Api, Reply};

/// An operation of the description.
pub struct Operation {
    pub method: Method,
    pub path: &'static str,
    pub described: &'static Value,
}

/// Every operation.
pub fn operations() -> impl Iterator<Item = Operation> {
    let paths = DESCRIPTION["paths"].as_object().expect("paths").iter();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object().expect("operations").iter();
        operations.map(move |(method, described)| Operation {
            method: method.to_uppercase().parse().expect("a method"),
            path,
            described,
        })
    })
}

/// Every operation that takes JSON of ours, with its schema. Reports of mail providers are in their own words.
pub fn bodies() -> impl Iterator<Item = (Operation, &'static Value)> {
    operations().filter(|one| !one.path.starts_with("/v1/mail-events/")).filter_map(|operation| {
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        (!schema.is_null()).then_some((operation, schema))
    })
}

impl Operation {
    /// The parameters of one place: `path`, `query` or `header`.
    pub fn parameters(&self, place: &str) -> impl Iterator<Item = &'static Value> + use<> {
        let (all, place) = (self.described["parameters"].as_array(), place.to_owned());
        all.into_iter().flatten().filter(move |one| one["in"] == place.as_str())
    }

    /// Whether a body is described, JSON or not.
    pub fn takes_a_body(&self) -> bool {
        !self.described["requestBody"].is_null()
    }

    /// The path with the examples of its parameters.
    pub fn address(&self) -> String {
        let mut path = self.path.to_owned();
        for parameter in self.parameters("path") {
            let (name, value) = (parameter["name"].as_str().expect("a name"), of_parameter(parameter));
            path = path.replace(&format!("{{{name}}}"), value.as_str().expect("an example"));
        }
        path
    }

    /// The query with the examples of the parameters that are required.
    pub fn query(&self) -> String {
        let required = self.parameters("query").filter(|one| one["required"] == true);
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let pairs =
            required.map(|one| format!("{}={}", one["name"].as_str().expect("a name"), text(of_parameter(one))));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Sends a body to it.
    pub async fn send(&self, caller: &Api, body: &Value) -> Reply {
        caller.send(caller.request(self.method.clone(), &self.address()).json(body)).await
    }
}

fn of_parameter(parameter: &'static Value) -> Value {
    let example =
        if parameter["example"].is_null() { example(&parameter["schema"]) } else { parameter["example"].clone() };
    assert!(!example.is_null(), "no example of {}", parameter["name"]);
    example
}

/// The example of a schema.
pub fn example(schema: &'static Value) -> Value {
    let schema = resolved(schema);
    if schema["example"].is_null() { schema["examples"][0].clone() } else { schema["example"].clone() }
}

/// Every member of an example, at any depth: its pointer, its schema, and whether it is required.
pub fn members(schema: &'static Value, value: &Value) -> Vec<(String, &'static Value, bool)> {
    let schema = inner(schema);
    let mut found = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().into_iter().flatten().any(|one| one == name);
        found.push((format!("/{name}"), property, required));
        if let Some(value) = value.get(name) {
            let below = members(property, value).into_iter();
            found.extend(below.map(|(pointer, schema, required)| (format!("/{name}{pointer}"), schema, required)));
        }
    }
    if let (Some(first), false) = (value.get(0), schema["items"].is_null()) {
        let below = members(&schema["items"], first).into_iter();
        found.extend(below.map(|(pointer, schema, required)| (format!("/0{pointer}"), schema, required)));
    }
    found
}

/// What a schema is if it is not null, behind its reference.
pub fn inner(schema: &'static Value) -> &'static Value {
    match resolved(schema)["oneOf"].as_array() {
        Some(choices) => resolved(choices.iter().find(|one| one["type"] != "null").expect("a choice")),
        None => resolved(schema),
    }
}

/// Whether a schema is of a type, null or not.
pub fn is_of_type(schema: &'static Value, kind: &str) -> bool {
    match &inner(schema)["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    }
}

/// A body with another value at a pointer, whose parent it has.
pub fn with(body: &Value, pointer: &str, value: Value) -> Value {
    let mut body = body.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).expect("a parent");
    match parent {
        Value::Array(items) => items[name.parse::<usize>().expect("an index")] = value,
        parent => parent[name] = value,
    }
    body
}
