//! The API description: current, digestible, and true.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, Reply, Settings, World, command};

fn committed() -> Value {
    serde_json::from_str(include_str!("../../../openapi/openapi.json")).unwrap()
}

/// Every operation: method, path, description.
fn operations(description: &Value) -> Vec<(Method, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.to_uppercase().parse().unwrap(), path.clone(), operation.clone()));
        }
    }
    operations
}

/// Calls `look` with every object of the description, but for what stands in examples.
fn every_object(value: &Value, path: &str, look: &mut impl FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                every_object(item, &format!("{path}/{index}"), look);
            }
        }
        Value::Object(members) => {
            look(path, members);
            for (name, member) in members.iter().filter(|(name, _)| !name.starts_with("example")) {
                every_object(member, &format!("{path}/{name}"), look);
            }
        }
        _ => {}
    }
}

#[test]
fn the_committed_description_is_that_of_the_routes() {
    let generated = magic_link::api::openapi::description().unwrap();
    let generated = serde_json::to_value(generated).unwrap();
    assert!(generated == committed(), "openapi/openapi.json is not current: run `make openapi` and commit it");
}

#[test]
fn the_committed_description_of_the_messages_is_the_generated_one() {
    let committed: Value = serde_json::from_str(include_str!("../../../openapi/webhooks.json")).unwrap();
    let generated = magic_link::api::openapi::webhooks().unwrap();
    assert!(generated == committed, "openapi/webhooks.json is not current: run `make openapi` and commit it");
    assert!(committed.get("paths").is_none(), "generators would make calls of them");
}

#[test]
fn generators_find_nothing_that_they_stumble_over() {
    every_object(&committed(), "", &mut |path, schema| {
        for keyword in ["const", "oneOf", "anyOf", "allOf", "exclusiveMinimum", "exclusiveMaximum", "propertyNames"] {
            assert!(!schema.contains_key(keyword), "{keyword} at {path}");
        }
        assert!(!schema.get("type").is_some_and(Value::is_array), "several types at {path}");
        let neighbours = schema.keys().filter(|key| !matches!(key.as_str(), "$ref" | "description" | "default"));
        assert!(!schema.contains_key("$ref") || neighbours.count() == 0, "a reference with neighbours at {path}");
        let bounded = ["maxLength", "enum", "format", "pattern"].iter().any(|bound| schema.contains_key(*bound));
        assert!(schema.get("type") != Some(&json!("string")) || bounded, "an unbounded text at {path}");
        let list = schema.get("type") == Some(&json!("array"));
        assert!(!list || schema.contains_key("maxItems"), "an unbounded list at {path}");
        let number = schema.get("type") == Some(&json!("integer"));
        assert!(!number || schema.contains_key("format"), "a number without a format at {path}");
    });
}

#[test]
fn every_operation_is_named_and_tells_its_answers() {
    let mut names = std::collections::HashSet::new();
    for (method, path, operation) in operations(&committed()) {
        let at = format!("{method} {path}");
        let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at} has no operationId"));
        assert!(names.insert(name.to_owned()) && name.chars().all(char::is_alphanumeric), "{at}: {name}");
        assert!(
            operation["summary"].is_string() && operation["tags"].as_array().is_some_and(|tags| tags.len() == 1),
            "{at}"
        );
        let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses.iter().filter(|status| status.starts_with('2')).count(), 1, "{at}: {statuses:?}");
        if path != "/healthz" {
            assert!(statuses.iter().any(|status| status.starts_with('4')), "{at}: {statuses:?}");
        }
        for status in statuses.into_iter().filter(|status| !status.starts_with('2')) {
            let problem = &operation["responses"][status]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{at} {status}");
        }
    }
}

/// Every documented problem code is on the page that `type` leads to.
#[test]
fn every_code_is_explained() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let page = world.stranger().get("/problems").await;
        for code in magic_link::error::Code::ALL {
            assert!(page.text.contains(&format!("id=\"{}\"", code.slug())), "{}", code.slug());
        }
    });
}

/// What stands on a page between its markers of this name.
fn generated<'p>(page: &'p str, name: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("<!-- generated: {name} -->\n")).expect("the table begins");
    rest.split_once("<!-- end generated -->").expect("the table ends").0
}

#[test]
fn the_table_of_errors_is_the_one_of_the_codes() {
    let row = |code: &magic_link::error::Code| {
        format!("| {} | `{}` | {} | {} |\n", code.status(), code.slug(), code.title(), code.help())
    };
    let rows: Vec<String> = magic_link::error::Code::ALL.iter().map(row).collect();
    let table = format!("| status | code | means | what to do |\n| --- | --- | --- | --- |\n{}", rows.concat());
    let page = include_str!("../../../openapi/README.md");
    assert!(generated(page, "errors") == table, "openapi/README.md is not current; its table is now:\n{table}");
}

#[test]
fn the_table_of_settings_has_every_key_and_no_other() {
    let page = include_str!("../../../docker/README.md");
    let cells = generated(page, "configuration").lines().filter_map(|row| row.split('|').nth(1));
    let keys = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    // Those of the portals hold the portal's own id.
    let mut listed: Vec<&str> = keys.filter(|key| !key.starts_with("portals.<id>.")).collect();
    let mut known = magic_link::config::KEYS.to_vec();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known, "docker/README.md is not current");
}

/// The value of an example, or of the named schema's example.
fn example(description: &Value, schema: &Value) -> Value {
    match schema["$ref"].as_str() {
        Some(reference) => description.pointer(reference.trim_start_matches('#')).unwrap()["example"].clone(),
        None if schema["example"].is_null() => schema["examples"][0].clone(),
        None => schema["example"].clone(),
    }
}

/// The path with the examples of its parameters.
fn addressed(description: &Value, path: &str, operation: &Value) -> String {
    let mut path = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "path") {
        let name = parameter["name"].as_str().unwrap();
        let mut value = parameter["example"].clone();
        if value.is_null() {
            value = example(description, &parameter["schema"]);
        }
        let value = value.as_str().unwrap_or_else(|| panic!("{path}: no example for {name}"));
        path = path.replace(&format!("{{{name}}}"), value);
    }
    path
}

/// Sends the request that the description shows.
async fn send_example(world: &World, description: &Value, method: Method, path: &str, operation: &Value) -> Reply {
    let mut path = addressed(description, path, operation);
    let required = operation["parameters"].as_array().into_iter().flatten();
    let required = required.filter(|one| one["in"] == "query" && one["required"] == true);
    let query: Vec<String> = required
        .map(|parameter| {
            let (name, value) = (parameter["name"].as_str().unwrap(), &parameter["example"]);
            assert!(!value.is_null(), "{path}: no example for {name}");
            format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
        })
        .collect();
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let mut request = world.admin.request(method, &path);
    for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let body = example(description, &content["schema"]);
        assert!(body.is_object(), "{path}: no example");
        request = if kind == "application/json" { request.json(&body) } else { request.form(&body) };
    }
    world.admin.send(request).await
}

#[test]
fn every_example_runs_as_it_stands() {
    let description = committed();
    for (method, path, operation) in operations(&description) {
        World::run(Database::Sqlite, &Settings::default(), async |world| {
            let demo = command(world).arg("demo").output().unwrap();
            assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
            let reply = send_example(world, &description, method.clone(), &path, &operation).await;
            // No token lives long enough to stand in a document.
            if matches!(path.as_str(), "/v1/sessions" | "/l/preview" | "/l/continue" | "/l/verify" | "/l/resend")
                && method == Method::POST
            {
                reply.refused(400, "token_invalid");
            } else if path.starts_with("/v1/mail-events/") {
                // Nobody is configured to report, and no report of somebody else's would be taken.
                reply.refused(404, "route_not_found");
            } else {
                assert!(reply.status.is_success(), "{method} {path}: {reply:?}");
            }
        });
    }
}

/// What a schema is, behind its reference.
fn resolved<'d>(description: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => description.pointer(pointer).unwrap(),
        None => schema,
    }
}

/// The body with an array in the place of each object that the schema knows: serde would fill it by position.
fn with_arrays(description: &Value, schema: &Value, body: &Value) -> Vec<(String, Value)> {
    let schema = resolved(description, schema);
    let mut bodies = vec![(String::new(), json!(["emp-7", "Meera Iyer"]))];
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let of_items = resolved(description, &property["items"]);
        let inner = resolved(description, property);
        if inner["properties"].is_object() || inner["additionalProperties"].is_object() {
            let mut body = body.clone();
            body[name] = json!(["emp-7", "Meera Iyer"]);
            bodies.push((format!("/{name}"), body));
        } else if of_items["properties"].is_object() {
            let mut body = body.clone();
            body[name] = json!([["emp-7", "Meera Iyer"]]);
            bodies.push((format!("/{name}/0"), body));
        }
    }
    bodies
}

#[test]
fn an_array_is_no_object_in_any_body() {
    let description = committed();
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        assert!(command(world).arg("demo").output().unwrap().status.success());
        let mut tried = 0;
        for (method, path, operation) in operations(&description) {
            let content = &operation["requestBody"]["content"]["application/json"];
            if !content.is_object() || path.starts_with("/v1/mail-events/") {
                continue;
            }
            let address = addressed(&description, &path, &operation);
            let body = example(&description, &content["schema"]);
            for (pointer, body) in with_arrays(&description, &content["schema"], &body) {
                let reply = world.admin.send(world.admin.request(method.clone(), &address).json(&body)).await;
                reply.refused(400, "invalid_body");
                let named = &reply.body["errors"][0]["pointer"];
                assert!(pointer.is_empty() || named == pointer.as_str(), "{method} {path}{pointer}: {reply:?}");
                tried += 1;
            }
        }
        assert!(tried > 30, "{tried}");
    });
}

#[test]
fn every_property_and_every_parameter_says_what_it_is() {
    let description = committed();
    let said = |text: &Value| text.as_str().is_some_and(|text| text.split_whitespace().count() > 1);
    let mut seen = 0;
    for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
        for (property, shape) in schema["properties"].as_object().into_iter().flatten() {
            assert!(said(&shape["description"]), "{name}.{property} has no description");
            seen += 1;
        }
    }
    for (method, path, operation) in operations(&description) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(said(&parameter["description"]), "{method} {path}: {} has no description", parameter["name"]);
        }
    }
    assert!(seen > 200, "{seen}");
}
