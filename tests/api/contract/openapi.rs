//! The API description: current, digestible, and true.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::examples::{self, Operation, bodies, inner};
use crate::support::{Api, Database, Reply, Settings, World, command};

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
    assert!(generated == committed(), "openapi/openapi.json is not current: run `make openapi` and commit it");
}

#[test]
fn the_description_in_3_0_says_the_same_without_what_3_0_does_not_know() {
    let committed: Value = serde_json::from_str(include_str!("../../../openapi/openapi-3.0.json")).unwrap();
    let newer = magic_link::api::openapi::description().unwrap();
    let generated = magic_link::api::openapi::description_3_0(&newer);
    assert!(generated == committed, "openapi/openapi-3.0.json is not current: run `make openapi` and commit it");
    assert_eq!(operations(&committed).len(), operations(&self::committed()).len());
    every_object(&committed, "", &mut |path, schema| {
        assert!(!schema.get("type").is_some_and(Value::is_array), "several types at {path}");
        assert!(!schema.contains_key("$ref") || schema.len() == 1, "a reference with neighbours at {path}");
        assert!(!schema.get("examples").is_some_and(Value::is_array), "a list of examples at {path}");
        assert!(!schema.contains_key("oneOf"), "a choice at {path}");
    });
}

#[test]
fn the_collection_has_every_operation_as_its_example_shows_it() {
    let committed: Value = serde_json::from_str(include_str!("../../../openapi/collection.json")).unwrap();
    let generated = magic_link::api::openapi::collection(&self::committed());
    assert!(generated == committed, "openapi/collection.json is not current: run `make openapi` and commit it");
    let folders = committed["item"].as_array().unwrap();
    let calls: Vec<&Value> = folders.iter().flat_map(|folder| folder["item"].as_array().unwrap()).collect();
    let shown = |call: &Value| {
        let of = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        // That its query says what its parts say is tried beside the generator.
        let address = of("/request/url/raw").split('?').next().unwrap_or_default().to_owned();
        (of("/request/method"), address, of("/request/body/raw"))
    };
    let mut found: Vec<_> = calls.into_iter().map(shown).collect();
    let mut expected: Vec<_> = examples::operations()
        .map(|one| {
            let content = &one.described["requestBody"]["content"]["application/json"];
            let body =
                if content.is_null() { String::new() } else { format!("{:#}", examples::example(&content["schema"])) };
            (one.method.to_string(), format!("{{{{base_url}}}}{}", one.address()), body)
        })
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
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
        for keyword in ["const", "anyOf", "allOf", "exclusiveMinimum", "exclusiveMaximum", "propertyNames"] {
            assert!(!schema.contains_key(keyword), "{keyword} at {path}");
        }
        // The only choice is between null and something.
        let choices = schema.get("oneOf").and_then(Value::as_array);
        let plain = choices.is_none_or(|choices| choices.len() == 2 && choices[0] == json!({ "type": "null" }));
        assert!(plain, "a choice at {path}");
        let kinds = schema.get("type").and_then(Value::as_array);
        assert!(kinds.is_none_or(|kinds| kinds.len() == 2 && kinds[1] == "null"), "several types at {path}");
        let neighbours = schema.keys().filter(|key| !matches!(key.as_str(), "$ref" | "description" | "default"));
        assert!(!schema.contains_key("$ref") || neighbours.count() == 0, "a reference with neighbours at {path}");
        let kind = kinds.map_or_else(|| schema.get("type"), |kinds| kinds.first());
        let bounded = ["maxLength", "enum", "format", "pattern"].iter().any(|bound| schema.contains_key(*bound));
        assert!(kind != Some(&json!("string")) || bounded, "an unbounded text at {path}");
        assert!(kind != Some(&json!("array")) || schema.contains_key("maxItems"), "an unbounded list at {path}");
        assert!(
            kind != Some(&json!("integer")) || schema.contains_key("format"),
            "a number without a format at {path}"
        );
    });
}

#[test]
fn every_operation_is_named_and_tells_its_answers() {
    let mut names = std::collections::HashSet::new();
    let description = committed();
    for (method, path, operation) in operations(&description) {
        let at = format!("{method} {path}");
        let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at} has no operationId"));
        assert!(names.insert(name.to_owned()) && name.chars().all(char::is_alphanumeric), "{at}: {name}");
        assert!(
            operation["summary"].is_string()
                && operation["description"].is_string()
                && operation["tags"].as_array().is_some_and(|tags| tags.len() == 1),
            "{at}"
        );
        let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
        // Generators take the first success for all: two have one schema.
        let successes = statuses.iter().filter(|status| status.starts_with('2'));
        let of =
            |status: &&&String| operation["responses"][**status]["content"]["application/json"]["schema"].to_string();
        let schemas: std::collections::HashSet<String> = successes.clone().map(|status| of(&status)).collect();
        assert!(schemas.len() == 1 && (1..=2).contains(&successes.count()), "{at}: {statuses:?}");
        assert!(statuses.iter().any(|status| status.starts_with('4')), "{at}: {statuses:?}");
        for status in statuses.into_iter().filter(|status| !status.starts_with('2') && *status != "304") {
            let response = operation["responses"][status]["$ref"].as_str().unwrap_or_else(|| panic!("{at} {status}"));
            let response = description.pointer(response.trim_start_matches('#')).unwrap();
            let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
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

/// Sends the request that the description shows.
async fn send_example(caller: &Api, operation: &Operation) -> Reply {
    let mut path = operation.address();
    if !operation.query().is_empty() {
        path = format!("{path}?{}", operation.query());
    }
    let mut request = caller.request(operation.method.clone(), &path);
    for (kind, content) in operation.described["requestBody"]["content"].as_object().into_iter().flatten() {
        let body = examples::example(&content["schema"]);
        assert!(body.is_object(), "{path}: no example");
        request = if kind == "application/json" { request.json(&body) } else { request.form(&body) };
    }
    caller.send(request).await
}

/// Each runs beside all others, in either order, or its description says what to do first.
#[test]
fn every_example_runs_as_it_stands() {
    for backwards in [false, true] {
        World::run(Database::Sqlite, &Settings::default(), async |world| {
            let demo = command(world).args(["demo", "--json"]).output().unwrap();
            assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
            let seeded: Value = serde_json::from_slice(&demo.stdout).unwrap();
            let caller = Api::new(&world.base, seeded["key"].as_str());
            let mut operations: Vec<Operation> = examples::operations().collect();
            if backwards {
                operations.reverse();
            }
            for operation in operations {
                let reply = send_example(&caller, &operation).await;
                let (method, path) = (&operation.method, operation.path);
                match operation.described["description"].as_str().unwrap().split_once("\n\nTo try it, ") {
                    // No token lives long enough to stand in a document.
                    Some((_, first)) if first.contains("token") || first.contains("browser") => {
                        reply.refused(400, "token_invalid");
                    }
                    Some((_, first)) if first.contains("sandbox") => reply.refused(404, "not_found"),
                    Some(_) => reply.refused(404, "route_not_found"),
                    None => assert!(reply.status.is_success(), "{method} {path}: {reply:?}"),
                }
            }
        });
    }
}

#[test]
fn the_examples_of_a_sandbox_run_in_one() {
    World::run(Database::Sqlite, &Settings::sandbox(), async |world| {
        for operation in examples::operations().filter(|one| one.path.starts_with("/v1/sandbox/")) {
            send_example(&world.admin, &operation).await.ok();
        }
    });
}

/// The body with an array in the place of each object that the schema knows: serde would fill it by position.
fn with_arrays(schema: &'static Value, body: &Value) -> Vec<(String, Value)> {
    let schema = inner(schema);
    let mut bodies = vec![(String::new(), json!(["emp-7", "Meera Iyer"]))];
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let of_items = inner(&property["items"]);
        let property = inner(property);
        if property["properties"].is_object() || property["additionalProperties"].is_object() {
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
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        assert!(command(world).arg("demo").output().unwrap().status.success());
        let mut tried = 0;
        for (operation, schema) in bodies() {
            for (pointer, body) in with_arrays(schema, &examples::example(schema)) {
                let reply = operation.send(&world.admin, &body).await;
                reply.refused(400, "invalid_body");
                let named = &reply.body["errors"][0]["pointer"];
                assert!(pointer.is_empty() || named == pointer.as_str(), "{}{pointer}: {reply:?}", operation.path);
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
