//! What becomes of each text that the database holds, when the retention is over.

use crate::support::{Database, Sql, World, apply, on_both_databases};

/// What becomes of a text.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// It is emptied when the retention is over.
    Erased,
    /// Its row is removed.
    Removed,
    /// It says nothing of a person, or not in words: ids, states, keys, times.
    Impersonal,
    /// It stays, for this reason.
    Kept(&'static str),
}

/// What becomes of each text that the database holds. A column without a line here fails the test below: who adds one
/// says what becomes of it, and `src/records/erasing.rs` or `unused.rs` does it.
#[expect(clippy::match_same_arms, reason = "each table has its lines, and the order counts")]
pub(super) fn end_of(column: &str) -> Option<End> {
    use End::{Erased, Impersonal, Kept, Removed};
    let (table, name) = column.split_once(' ').unwrap();
    if name == "id" || name.ends_with("_id") && name != "principal_id" {
        // Opaque: the portals' own and ours.
        return Some(Impersonal);
    }
    Some(match (table, name) {
        (_, "tenant_id" | "portal" | "state" | "access" | "actor_type" | "kid" | "event_type" | "reentry") => {
            Impersonal
        }
        ("tenants", "contacts") => Kept("who is asked today; the tenant replaces them"),
        ("tenants", "name") => Kept("of a company"),
        ("tenants", _) => Impersonal,
        ("tenant_policies" | "tenant_approval_keys", "actor_name") => Erased,
        ("tenant_approval_keys", "told" | "cancelled_by") => Erased,
        ("tenant_policies", "policy") | ("tenant_approval_keys", "public_key") => Impersonal,
        ("tenant_approval_keys", "signed_change") => {
            Kept("what a key has signed is good once, for ever; it names keys")
        }
        ("consultants", "name" | "email" | "email_key" | "suspend_reason") => Erased,
        ("clients", "name") => Kept("of a program"),
        ("client_uses", "address") => Erased,
        ("clients", _) => Impersonal,
        (
            "magic_links",
            "profile_name" | "profile_email" | "reason" | "ticket" | "issued_by_name" | "issued_by_email"
            | "revoke_reason" | "revoked_by_name",
        ) => Erased,
        ("magic_links", "revoked_by_type" | "replaced_by" | "restrictions") => Impersonal,
        ("sessions", "profile_name" | "reason" | "ticket" | "visitor_address" | "visitor_user_agent") => Erased,
        ("sessions", "end_cause" | "link_kid" | "code_kid" | "restrictions") => Impersonal,
        (
            "link_requests",
            "profile_name" | "profile_email" | "reason" | "ticket" | "issued_by_name" | "issued_by_email" | "decision",
        ) => Erased,
        ("link_requests", "restrictions") => Impersonal,
        ("extension_requests", "reason" | "asked_by_name" | "asked_by_email" | "decision") => Erased,
        ("link_extensions", "reason" | "actor_name") => Erased,
        ("link_corrections", _) => Erased,
        ("link_reviews", "justification" | "reviewer_name" | "comment") => Erased,
        ("link_reviews", "finding") => Impersonal,
        ("link_devices" | "link_keys" | "step_ups" | "mail_jobs" | "mail_suppressions", _) => Removed,
        ("webhook_deliveries" | "webhook_events" | "idempotency_keys", _) => Removed,
        ("webhook_endpoints", _) => Kept("how a client has set up its program, until it deletes that"),
        ("webhook_endpoint_tenants" | "open_grants" | "session_sources" | "report_gaps" | "report_checks", _) => {
            Impersonal
        }
        ("announced_ends" | "link_expiry" | "signing_keys" | "kept_secrets" | "tolerated_migrations", _) => Impersonal,
        ("revocations" | "key_revocations", "reason" | "actor_name" | "ticket") => Erased,
        ("revocations" | "key_revocations", "done_to" | "replaced_by") => Impersonal,
        ("revocation_tenants", _) => Impersonal,
        ("service_state", "freeze_reason") => Kept("in use until links are issued again"),
        ("audit_events", "principal_id" | "principal_ids") | ("audit_event_principals", "principal_id") => {
            Kept("ids, which the leaves are made of for ever")
        }
        ("audit_events", "source" | "trace_id" | "approval") => Impersonal,
        ("audit_payloads", "payload") => Removed,
        ("audit_erasures", "reason") => Kept("why it was erased is a part of the proof"),
        ("audit_erasures", "actor_name") => Impersonal,
        ("audit_logs" | "audit_restores", "suffix") | ("audit_checkpoints", "note") => Impersonal,
        ("audit_restores", "checkpoints") => Impersonal,
        ("checkpoint_deliveries", "channel" | "last_error") => Impersonal,
        ("audit_keys", _) => Impersonal,
        ("legal_holds", "reason" | "placed_by_name" | "release_reason" | "released_by_name") => Erased,
        ("legal_holds", "placed_by_type" | "released_by_type" | "placed_tenants") => Impersonal,
        _ => return None,
    })
}

/// `table column` of each text in the database.
pub(super) fn texts(world: &World) -> Vec<String> {
    let query = match world.database {
        Database::Sqlite => {
            "SELECT t.name || ' ' || c.name AS text FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' \
             AND c.type = 'TEXT' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '\\_\\_diesel%' ESCAPE '\\'"
        }
        Database::Postgres => {
            "SELECT table_name || ' ' || column_name AS text FROM information_schema.columns \
             WHERE table_schema = 'public' AND data_type = 'text' AND table_name NOT LIKE '\\_\\_diesel%'"
        }
    };
    Sql::of(world).texts(query)
}

#[apply(on_both_databases)]
async fn each_text_that_the_database_holds_has_an_end_or_a_reason_to_stay(world: &World) {
    let texts = texts(world);
    assert!(texts.len() > 150, "{}", texts.len());
    let unknown: Vec<&String> = texts.iter().filter(|column| end_of(column).is_none()).collect();
    assert!(unknown.is_empty(), "say in `end_of` what becomes of {unknown:?}");
    for column in ["magic_links reason", "sessions visitor_address", "consultants email", "link_requests decision"] {
        assert_eq!(end_of(column), Some(End::Erased), "{column}");
    }
}
