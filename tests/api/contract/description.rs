//! What the API description tells integrators beside the shapes: codes, scopes, examples, headers, the rules for all.

use std::collections::BTreeSet;

use magic_link::domain::Scope;
use magic_link::error::Code;
use serde_json::{Map, Value, json};

use crate::support::contract::{DESCRIPTION, misfits, resolved};
use crate::support::examples::{self, Operation};
use crate::support::{Database, Settings, World};

fn id(operation: &Operation) -> &'static str {
    operation.described["operationId"].as_str().expect("an operationId")
}

/// The responses of an operation, behind their references.
fn responses(operation: &Operation) -> impl Iterator<Item = (&'static str, &'static Value)> + use<> {
    let all = operation.described["responses"].as_object().expect("responses").iter();
    all.map(|(status, response)| (status.as_str(), resolved(response)))
}

/// The schemas that are used by what is given, at any depth.
fn reachable(from: impl Iterator<Item = &'static Value>) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&'static Value> = from.collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                open.extend(members.iter().filter(|(name, _)| !name.starts_with("example")).map(|(_, value)| value));
                let name = members.get("$ref").and_then(Value::as_str);
                if let Some(reference) = name.filter(|name| found.insert(*name)) {
                    open.push(DESCRIPTION.pointer(reference.trim_start_matches('#')).expect("what is referred to"));
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_codes_of_a_problem_are_an_enum() {
    let code = &DESCRIPTION["components"]["schemas"]["Problem"]["properties"]["code"];
    assert_eq!(code["$ref"], "#/components/schemas/ProblemCode");
    let slugs: Vec<&str> = Code::ALL.iter().map(|code| code.slug()).collect();
    assert_eq!(resolved(code)["enum"], json!(slugs));
}

/// Each lists its own, and shows each: by an example that belongs to the status.
#[test]
fn every_problem_of_every_operation_is_shared_and_shown() {
    let mut used = BTreeSet::new();
    for operation in examples::operations() {
        for (status, response) in operation.described["responses"].as_object().unwrap() {
            if status.starts_with('2') || status == "304" {
                continue;
            }
            let at = format!("{} {status}", id(&operation));
            used.insert(response["$ref"].as_str().unwrap_or_else(|| panic!("{at} is not shared")));
            let shown = resolved(response)["content"]["application/problem+json"]["examples"].as_object();
            for (slug, example) in shown.unwrap_or_else(|| panic!("{at} shows nothing")) {
                let code = Code::ALL.iter().find(|code| code.slug() == slug).unwrap_or_else(|| panic!("{at}: {slug}"));
                let value = &resolved(example)["value"];
                assert_eq!(code.status().to_string(), *status, "{at}: {slug}");
                assert_eq!((&value["code"], &value["status"]), (&json!(slug), &json!(code.status())), "{at}: {slug}");
                let wrong = misfits(&DESCRIPTION["components"]["schemas"]["Problem"], value);
                assert!(wrong.is_empty(), "{at}: {slug}: {wrong:?}");
                assert!(resolved(response)["description"].as_str().unwrap().contains(&format!("`{slug}`")), "{at}");
            }
        }
    }
    let shared = DESCRIPTION["components"]["responses"].as_object().unwrap();
    let shared: BTreeSet<String> = shared.keys().map(|name| format!("#/components/responses/{name}")).collect();
    assert_eq!(used, shared.iter().map(String::as_str).collect(), "every shared response is somebody's");
}

#[test]
fn the_description_is_no_larger_than_it_must_be() {
    let bytes = DESCRIPTION.to_string().len();
    assert!(bytes < 470_000, "{bytes} bytes: what operations share belongs into `components`");
}

#[test]
fn the_headers_of_the_answers_are_described() {
    let of = |name: &'static str| {
        move |(_, response): &(&str, &Value)| response["headers"].as_object().is_some_and(|all| all.contains_key(name))
    };
    for operation in examples::operations() {
        let described = |status: &'static str, names: &[&'static str]| {
            for (_, response) in responses(&operation).filter(|(one, _)| *one == status) {
                for name in names.iter().copied() {
                    assert!(of(name)(&(status, response)), "{} {status}: {name}", id(&operation));
                }
            }
        };
        described("401", &["WWW-Authenticate"]);
        described("429", &["Retry-After", "RateLimit", "RateLimit-Policy"]);
        described("503", &["Retry-After"]);
        described("304", &["ETag"]);
        if !matches!(id(&operation), "rotateKey" | "placeLegalHold") {
            described("201", &["Location"]);
        }
    }
    // Whatever can be read alone is named where it is created.
    for operation in examples::operations().filter(|one| one.method == "post") {
        let alone = format!("{}/{{id}}", operation.path);
        if examples::operations().any(|one| one.method == "get" && one.path == alone) {
            let created: Vec<_> = responses(&operation).filter(|(one, _)| matches!(*one, "201" | "202")).collect();
            assert!(created.len() == 1 && created.iter().all(of("Location")), "{alone}");
        }
    }
    let export = examples::operations().find(|one| id(one) == "exportAuditEvents").unwrap();
    assert!(responses(&export).any(|one| of("Content-Disposition")(&one)));
    assert_eq!(examples::operations().filter(|one| responses(one).any(|one| of("ETag")(&one))).count(), 5);
}

/// Of a value that has several, or stands in a schema.
fn has_example(described: &'static Value) -> bool {
    let schema = examples::inner(&described["schema"]);
    [&described["example"], &schema["example"], &schema["examples"][0]].into_iter().any(|one| !one.is_null())
}

#[test]
fn everything_that_is_sent_or_answered_has_an_example_that_fits() {
    for operation in examples::operations() {
        let at = id(&operation);
        for parameter in operation.described["parameters"].as_array().into_iter().flatten() {
            assert!(has_example(parameter), "{at}: {}", parameter["name"]);
            assert!(parameter["schema"]["enum"].is_null(), "{at}: {} has an enum of its own", parameter["name"]);
            // Swagger fills in what stands beside the schema, and nothing else.
            let is_filled_in = !parameter["example"].is_null();
            assert!(parameter["required"] != true || is_filled_in, "{at}: {} is empty in Swagger", parameter["name"]);
        }
        for (kind, content) in operation.described["requestBody"]["content"].as_object().into_iter().flatten() {
            let example = examples::example(&content["schema"]);
            let wrong = if at == "reportMailEvents" { Vec::new() } else { misfits(&content["schema"], &example) };
            assert!(example.is_object() && wrong.is_empty(), "{at} {kind}: {wrong:?}");
            let fields = examples::inner(&content["schema"])["properties"].as_object();
            if kind.ends_with("form-urlencoded") {
                for (name, field) in fields.unwrap() {
                    assert!(!field["examples"][0].is_null(), "{at}: {name}");
                }
            }
        }
        for (status, response) in responses(&operation).filter(|(status, _)| status.starts_with('2')) {
            for (kind, content) in response["content"].as_object().into_iter().flatten() {
                let wrong = misfits(&content["schema"], &content["example"]);
                assert!(!content["example"].is_null() && wrong.is_empty(), "{at} {status} {kind}: {wrong:?}");
            }
        }
    }
}

/// What the service answers now has the members that the description shows.
#[test]
fn the_shown_answers_are_those_of_the_service() {
    // In a sandbox, which answers for its clock, too.
    World::run(Database::Sqlite, &Settings::sandbox(), async |world| {
        let mut demo = crate::support::command(world);
        assert!(demo.arg("demo").env("MAGIC_LINK_SANDBOX", "true").output().unwrap().status.success());
        let names = |value: &Value| value.as_object().map(|all| all.keys().cloned().collect::<BTreeSet<_>>());
        let mut seen = 0;
        for operation in examples::operations().filter(|one| one.method == reqwest::Method::GET) {
            let shown = &responses(&operation).next().unwrap().1["content"]["application/json"]["example"];
            if shown.is_null() || operation.described["security"] == json!([{}]) {
                continue;
            }
            let query = operation.query();
            let path = operation.address();
            let path = if query.is_empty() { path } else { format!("{path}?{query}") };
            let answer = world.admin.get(&path).await.ok();
            let (shown, answered) = (names(shown).unwrap(), names(&answer).unwrap());
            assert!(answered.is_subset(&shown), "{path}: record the answer anew: {shown:?}, not {answered:?}");
            seen += 1;
        }
        assert!(seen > 25, "{seen}");
    });
}

#[test]
fn requests_are_closed_and_answers_are_open() {
    let all: Vec<Operation> = examples::operations().collect();
    let sent = all.iter().filter(|one| id(one) != "reportMailEvents").filter_map(|one| {
        let schema = &one.described["requestBody"]["content"]["application/json"]["schema"];
        (!schema.is_null()).then_some(schema)
    });
    let (sent, answered) = (reachable(sent), reachable(all.iter().map(|one| &one.described["responses"])));
    let is_closed = |reference: &str| {
        let schema = DESCRIPTION.pointer(reference.trim_start_matches('#')).expect("a schema");
        schema["properties"].is_object() && schema["additionalProperties"] == false
    };
    let closed: Vec<_> = answered.iter().filter(|one| is_closed(one)).collect();
    assert!(closed.is_empty(), "a client would refuse new members of {closed:?}");
    let is_object = |one: &&&str| DESCRIPTION.pointer(one.trim_start_matches('#')).unwrap()["properties"].is_object();
    let open: Vec<_> = sent.difference(&answered).filter(is_object).filter(|one| !is_closed(one)).collect();
    assert!(open.is_empty(), "{open:?}");
    assert!(sent.len() > 30);
}

#[test]
fn formats_and_defaults_are_published() {
    let schemas = DESCRIPTION["components"]["schemas"].as_object().unwrap();
    let members = schemas.values().flat_map(|schema| schema["properties"].as_object().into_iter().flatten());
    let mut addresses = 0;
    for (name, member) in members.filter(|(name, _)| *name == "email" || name.ends_with("_email")) {
        assert_eq!(member["format"], "email", "{name}");
        addresses += 1;
    }
    assert!(addresses > 8, "{addresses}");
    let of = |schema: &str, member: &str| schemas[schema]["properties"][member].clone();
    for member in ["issuer", "jwks_uri", "introspection_endpoint", "revocation_endpoint"] {
        assert_eq!(of("Discovery", member)["format"], "uri", "{member}");
    }
    for (schema, member, default) in [
        ("IssueLink", "access", json!("full")),
        ("IssueLink", "reentry", json!("mail")),
        ("ActivityEvent", "kind", json!("change")),
        ("ActivityEvent", "source", json!("portal")),
        ("CreateRevocation", "dry_run", json!(false)),
        ("CreateWebhookEndpoint", "format", json!("cloudevents")),
        ("RotateWebhookSecret", "overlap_seconds", json!(86_400)),
    ] {
        assert_eq!(of(schema, member)["default"], default, "{schema}.{member}");
    }
    let parameters = || examples::operations().flat_map(|one| one.parameters("query").collect::<Vec<_>>());
    for (name, default) in [("page_size", json!(50)), ("format", json!("ndjson"))] {
        assert!(
            parameters().filter(|one| one["name"] == name).all(|one| one["schema"]["default"] == default),
            "{name}"
        );
        assert!(parameters().any(|one| one["name"] == name), "{name}");
    }
}

#[test]
fn the_introduction_names_operations_that_exist_and_every_scope() {
    let told = DESCRIPTION["info"]["description"].as_str().unwrap();
    let known: BTreeSet<&str> = examples::operations().map(|one| id(&one)).collect();
    let words: BTreeSet<&str> = told.split('`').skip(1).step_by(2).collect();
    let named: Vec<&&str> = words.iter().filter(|word| known.contains(**word)).collect();
    assert!(named.len() > 12, "{named:?}");
    // A word with a capital inside is the name of an operation.
    let is_lower = |word: &str| word.starts_with(|first: char| first.is_ascii_lowercase());
    let humps =
        |word: &&&str| is_lower(word) && word.chars().all(char::is_alphanumeric) && word.contains(char::is_uppercase);
    let strange: Vec<_> = words.iter().filter(humps).filter(|word| !known.contains(**word)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    for scope in Scope::ALL {
        assert!(told.contains(&format!("| `{scope}` | ")), "{scope}");
    }
    for chapter in ["life", "Idempotency", "Paging", "Time", "Limits", "Compatible changes"] {
        assert!(told.lines().any(|line| line.starts_with("## ") && line.contains(chapter)), "{chapter}");
    }
}

#[test]
fn the_messages_of_webhooks_are_served_beside_it() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let served: Map<String, Value> =
            serde_json::from_value(world.stranger().get("/webhooks.json").await.ok()).unwrap();
        assert!(served["webhooks"].as_object().unwrap().contains_key("session.opened"));
        assert!(DESCRIPTION["info"]["description"].as_str().unwrap().contains("(/webhooks.json)"));
    });
}
