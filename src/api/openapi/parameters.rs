//! Examples of parameters, by name: a name means the same in every operation.
//!
//! They stand in the schema, and beside it only where the parameter is required: what stands beside it is filled in by pages
//! that try calls. Without an id nothing can be tried, but a filter that nobody asked for hides what is there.

use serde_json::{Value, json};

use super::operations;

/// What an example ends is nothing that another example needs: (operation, parameter, id), as `cli/demo.sql` makes them.
const OWN: &[(&str, &str, &str)] = &[
    ("reinstateConsultant", "id", "con_01kaq3v9e8fwmvd2x7n0c5hd1z"),
    ("suspendConsultant", "id", "con_01kaq3v9e8fwmvd2x7n0c5hd2z"),
    ("rotateClient", "id", "cli_01kaq3v9e8fwmvd2x7n0c5hd1z"),
    ("disableClient", "id", "cli_01kaq3v9e8fwmvd2x7n0c5hd2z"),
    ("revokeMagicLink", "id", "mlk_01kaq3v9e8fwmvd2x7n0c5hd1z"),
    ("endSession", "id", "ses_01kaq3v9e8fwmvd2x7n0c5hd2z"),
    ("revokeSession", "id", "ses_01kaq3v9e8fwmvd2x7n0c5hd3z"),
    ("deleteWebhookEndpoint", "id", "whe_01kaq3v9e8fwmvd2x7n0c5hd1z"),
    ("purgeAuditLog", "tenant_id", "initech"),
    ("savePolicy", "id", "initech"),
];

/// Describes an example of each parameter that has none.
pub(super) fn describe(description: &mut Value) {
    operations::for_each(description, |_, operation| {
        let operation_id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let all = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in all.into_iter().flatten() {
            let own = OWN.iter().find(|(id, name, _)| operation_id == *id && parameter["name"] == *name);
            if let Some((_, _, example)) = own {
                parameter["example"] = json!(example);
            }
            let has_its_own = !parameter["example"].is_null() || parameter.pointer("/schema/$ref").is_some();
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            let Some(schema) = parameter["schema"].as_object_mut() else { continue };
            if let (false, false, Some(example)) = (has_its_own, schema.contains_key("examples"), example(&name)) {
                schema.insert("examples".into(), json!([example]));
            }
            let shown = parameter.pointer("/schema/examples/0").cloned();
            if let (true, false, Some(example)) = (parameter["required"] == true, has_its_own, shown) {
                parameter["example"] = example;
            }
        }
    });
}

fn example(name: &str) -> Option<Value> {
    Some(match name {
        "Idempotency-Key" => json!("9a3c1d5e-7f42-4c0e-8a51-2f1f7c9d4b60"),
        "cursor" => json!("eyJhZnRlciI6Im1sa18wMWthcTN2OWU4ZndtdmQyeDduMGM1aGIxeiJ9"),
        "portal" => json!("cloud"),
        "principal_id" | "profile_id" => json!("emp-1042"),
        "issued_by_id" => json!("emp-7"),
        "page_size" => json!(50),
        "in_use" | "late" | "out_of_session" | "policy_violation" => json!(true),
        name if name.ends_with("_from") => json!("2026-11-23T00:00:00Z"),
        name if name.ends_with("_to") || name.ends_with("_before") => json!("2026-11-30T00:00:00Z"),
        _ => return None,
    })
}
