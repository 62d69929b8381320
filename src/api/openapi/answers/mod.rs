//! Successful answers: an example of each, recorded from the service with the rows of `magic-link demo`, and schemas that
//! are open, because a later version may add members.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::operations;
use super::requests::{reachable, references};

/// Answers by operation; those that are no JSON also by media type. Times, addresses and secrets are made up.
const ANSWERS: [&str; 7] = [
    include_str!("administration.json"),
    include_str!("audit.json"),
    include_str!("discovery.json"),
    include_str!("landing.json"),
    include_str!("links.json"),
    include_str!("sessions.json"),
    include_str!("webhooks.json"),
];

/// Shows an answer of each operation.
pub(super) fn show(description: &mut Value) -> Result<(), serde_json::Error> {
    let mut answers = Map::new();
    for text in ANSWERS {
        answers.extend(serde_json::from_str::<Map<_, _>>(text)?);
    }
    operations::for_each(description, |_, operation| {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let responses = operation["responses"].as_object_mut().into_iter().flatten();
        for (_, response) in responses.filter(|(status, _)| status.starts_with('2')) {
            for (kind, content) in response.get_mut("content").and_then(Value::as_object_mut).into_iter().flatten() {
                let name = if kind == "application/json" { id.clone() } else { format!("{id} {kind}") };
                if let (Some(content), Some(answer)) = (content.as_object_mut(), answers.get(&name)) {
                    content.insert("example".into(), answer.clone());
                }
            }
        }
    });
    Ok(())
}

/// Lets answers have members that are not described yet. A schema that requests share is open with them.
pub(super) fn open(description: &mut Value) {
    let mut roots = Vec::new();
    operations::for_each(description, |_, operation| references(&operation["responses"], &mut roots));
    let answered: BTreeSet<String> = reachable(description, roots);
    for reference in answered {
        let schema = description.pointer_mut(reference.trim_start_matches('#')).and_then(Value::as_object_mut);
        if let Some(schema) = schema
            && schema.get("additionalProperties") == Some(&false.into())
        {
            schema.remove("additionalProperties");
        }
    }
}
