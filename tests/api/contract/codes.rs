//! Every code that the description names for an operation can be had from it.
//!
//! The other direction, that nothing else is answered, is held by every test (`support::contract`). Each notes what it
//! has seen, and `make test` asks at the end whether anything is missing.

use std::collections::BTreeSet;

use crate::support::contract::{resolved, seen};
use crate::support::{binaries, examples};

/// Codes of every operation, or of every one with a body, or a key: one proof is enough. Those about the head of a
/// request and its body are proved on raw connections, by `contract::http` and `resilience`.
const OF_ALL: &[&str] = &[
    "body_too_large",
    "clock_behind",
    "database_fault",
    "headers_too_large",
    "idempotency_key_in_flight",
    "idempotency_key_reused",
    "internal",
    "invalid_header",
    "invalid_request",
    "log_forked",
    "master_key_mismatch",
    "rate_limited",
    "request_timeout",
    "target_too_long",
    "unavailable",
    "unsupported_media_type",
];

#[test]
#[ignore = "looks at what the other tests have seen: `make test` runs it after them"]
fn every_code_of_every_operation_was_seen() {
    let noted = std::fs::read_to_string(seen::FILE).expect("the other tests have run");
    let noted: BTreeSet<(&str, &str)> = noted.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut missing = BTreeSet::new();
    let mut described = BTreeSet::new();
    for operation in examples::operations() {
        let id = operation.described["operationId"].as_str().unwrap();
        for response in operation.described["responses"].as_object().unwrap().values() {
            let shown = resolved(response)["content"]["application/problem+json"]["examples"].as_object();
            for code in shown.into_iter().flatten().map(|(code, _)| code.as_str()) {
                described.insert(code);
                if !OF_ALL.contains(&code) && !noted.contains(&(id, code)) {
                    missing.insert(format!("{id} {code}"));
                }
            }
        }
    }
    // On SQLite no call is under way while another one looks.
    let needs = |code: &&&str| **code != "idempotency_key_in_flight" || binaries().is_some();
    let shared = OF_ALL.iter().filter(needs).filter(|code| !noted.iter().any(|(_, seen)| seen == *code));
    missing.extend(shared.map(|code| format!("any operation {code}")));
    let unused = OF_ALL.iter().filter(|code| !described.contains(**code));
    missing.extend(unused.map(|code| format!("{code} is no operation's")));
    assert!(
        missing.is_empty(),
        "described, and seen by no test:\n{}",
        missing.into_iter().collect::<Vec<_>>().join("\n")
    );
}
