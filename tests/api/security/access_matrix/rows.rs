//! The routes: what each is about, the scope that it needs, and a request that is right.

use reqwest::Method;

/// Whose thing a route is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subject {
    Link,
    Session,
    Tenant,
    Client,
    Mail,
    Revocation,
    Webhook,
    /// A list that is cut to the caller's reach.
    List,
    /// The directory, which belongs to the vendor, or nothing in particular.
    Shared,
}

/// Operation, method, path, scope, whose thing it is about, and a body (or a query) that is right.
pub type Row = (&'static str, Method, &'static str, &'static str, Subject, &'static str);

const NO_BODY: &str = "";
const REASON: &str = r#"{"reason":"Somebody else's"}"#;
const ORDER: &str = r#"{"tenant_id":"initech","reason":"Asked, and not done","dry_run":true}"#;
const ISSUE: &str = r#"{"tenant_id":"acme","portal":"cloud","consultant_id":"con_01kaq3v9e8fwmvd2x7n0c5hb3z",
    "reason":"Payroll run for November","duration":{"value":1,"unit":"hours"},"profile":{"id":"emp-1","name":"Asha"},
    "issued_by":{"id":"emp-7","name":"Meera"}}"#;
const EXTEND: &str = r#"{"duration":{"value":1,"unit":"hours"},"reason":"Somebody else's access",
    "extended_by":{"id":"emp-7","name":"Meera"}}"#;
const SHORTEN: &str = r#"{"expires_at":"2040-01-01T00:00:00Z","reason":"Somebody else's access"}"#;
const REVIEW: &str = r#"{"reviewer":{"id":"emp-8","name":"Anil"},"finding":"justified","comment":"Somebody else's"}"#;
const ACT: &str = r#"{"events":[{"seq":1,"occurred_at":"2026-11-22T10:00:00Z","action":"a","resource_type":"b",
    "resource_id":"c"}]}"#;
const PURGE: &str = r#"{"before":"2020-01-01T00:00:00Z","reason":"Older than anybody"}"#;
const HOLD: &str = r#"{"reason":"The labour court asks for it"}"#;
const CLIENT: &str = r#"{"name":"Another","tenants":["globex"],"scopes":["links:read"]}"#;
const APPROVAL_KEY: &str = r#"{"public_key":{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}}"#;
const CONSULTANT: &str = r#"{"name":"Eve","email":"eve@support.example"}"#;

/// Either of two scopes is enough.
const ASK: &str = "links:issue or links:request";
const APPROVE: &str = r#"{"approver":{"id":"emp-3","name":"Vikram","email":"vikram@acme.example"}}"#;
const DENY: &str = r#"{"approver":{"id":"emp-3","name":"Vikram","email":"vikram@acme.example"},"reason":"Not mine"}"#;
const POLICY: &str = r#"{"require_ticket":true}"#;

pub const MATRIX: &[Row] = &[
    ("issueMagicLink", Method::POST, "/v1/magic-links", ASK, Subject::Shared, ISSUE),
    ("listMagicLinks", Method::GET, "/v1/magic-links", "links:read", Subject::List, NO_BODY),
    ("getMagicLink", Method::GET, "/v1/magic-links/{id}", "links:read", Subject::Link, NO_BODY),
    ("approveMagicLink", Method::POST, "/v1/magic-links/{id}/approve", "links:approve", Subject::Link, APPROVE),
    ("denyMagicLink", Method::POST, "/v1/magic-links/{id}/deny", "links:approve", Subject::Link, DENY),
    ("withdrawMagicLink", Method::POST, "/v1/magic-links/{id}/withdraw", ASK, Subject::Link, "{}"),
    ("revokeMagicLink", Method::POST, "/v1/magic-links/{id}/revoke", "links:revoke", Subject::Link, REASON),
    ("resendMagicLink", Method::POST, "/v1/magic-links/{id}/resend", "links:issue", Subject::Link, "{}"),
    ("extendMagicLink", Method::POST, "/v1/magic-links/{id}/extend", ASK, Subject::Link, EXTEND),
    (
        "approveExtension",
        Method::POST,
        "/v1/magic-links/{id}/extensions/{extension_id}/approve",
        "links:approve",
        Subject::Link,
        APPROVE,
    ),
    (
        "denyExtension",
        Method::POST,
        "/v1/magic-links/{id}/extensions/{extension_id}/deny",
        "links:approve",
        Subject::Link,
        DENY,
    ),
    (
        "withdrawExtension",
        Method::POST,
        "/v1/magic-links/{id}/extensions/{extension_id}/withdraw",
        ASK,
        Subject::Link,
        "{}",
    ),
    ("shortenMagicLink", Method::POST, "/v1/magic-links/{id}/shorten", "links:revoke", Subject::Link, SHORTEN),
    ("correctMagicLink", Method::PATCH, "/v1/magic-links/{id}", "links:issue", Subject::Link, r#"{"ticket":"MINE"}"#),
    ("reviewMagicLink", Method::POST, "/v1/magic-links/{id}/review", "links:approve", Subject::Link, REVIEW),
    ("createRevocation", Method::POST, "/v1/revocations", "links:revoke", Subject::Shared, ORDER),
    ("listRevocations", Method::GET, "/v1/revocations", "links:revoke", Subject::List, NO_BODY),
    ("getIssuing", Method::GET, "/v1/issuing", "admin", Subject::Shared, NO_BODY),
    ("setIssuing", Method::PUT, "/v1/issuing", "admin", Subject::Shared, r#"{"frozen":false}"#),
    ("getSandboxClock", Method::GET, "/v1/sandbox/clock", "admin", Subject::Shared, NO_BODY),
    ("moveSandboxClock", Method::POST, "/v1/sandbox/clock", "admin", Subject::Shared, r#"{"advance_seconds":3600}"#),
    ("getRevocation", Method::GET, "/v1/revocations/{id}", "links:revoke", Subject::Revocation, NO_BODY),
    ("openSession", Method::POST, "/v1/sessions", "sessions:redeem", Subject::Shared, r#"{"token":"x"}"#),
    ("listSessions", Method::GET, "/v1/sessions", "links:read", Subject::List, NO_BODY),
    ("getSession", Method::GET, "/v1/sessions/{id}", "links:read", Subject::Session, NO_BODY),
    (
        "endSession",
        Method::POST,
        "/v1/sessions/{id}/end",
        "sessions:redeem",
        Subject::Session,
        r#"{"sources":{"portal":9}}"#,
    ),
    ("revokeSession", Method::POST, "/v1/sessions/{id}/revoke", "links:revoke", Subject::Session, REASON),
    ("reportEvents", Method::POST, "/v1/sessions/{id}/events", "audit:write", Subject::Session, ACT),
    ("introspectToken", Method::POST, "/v1/introspect", "sessions:introspect", Subject::Shared, "token=x"),
    ("revokeToken", Method::POST, "/v1/revoke", "sessions:redeem", Subject::Shared, "token=x"),
    ("listKeys", Method::GET, "/v1/keys", "admin", Subject::Shared, NO_BODY),
    ("rotateKey", Method::POST, "/v1/keys/rotate", "admin", Subject::Shared, "{}"),
    ("retireKey", Method::POST, "/v1/keys/{id}/retire", "admin", Subject::Shared, NO_BODY),
    ("revokeKey", Method::POST, "/v1/keys/{id}/revoke", "admin", Subject::Shared, REASON),
    ("savePolicy", Method::PUT, "/v1/tenants/{id}/policy", "policies:write", Subject::Tenant, POLICY),
    ("getPolicy", Method::GET, "/v1/tenants/{id}/policy", "tenants:read", Subject::Tenant, NO_BODY),
    ("saveApprovalKey", Method::PUT, "/v1/tenants/{id}/approval-key", "policies:write", Subject::Tenant, APPROVAL_KEY),
    ("getApprovalKey", Method::GET, "/v1/tenants/{id}/approval-key", "tenants:read", Subject::Tenant, NO_BODY),
    (
        "removeApprovalKey",
        Method::POST,
        "/v1/tenants/{id}/approval-key/remove",
        "policies:write",
        Subject::Tenant,
        "{}",
    ),
    (
        "cancelApprovalKeyChange",
        Method::POST,
        "/v1/tenants/{id}/approval-key/cancel",
        "policies:write",
        Subject::Tenant,
        "{}",
    ),
    ("saveTenant", Method::PUT, "/v1/tenants/{id}", "tenants:write", Subject::Tenant, r#"{"name":"Mine now"}"#),
    ("listTenants", Method::GET, "/v1/tenants", "tenants:read", Subject::List, NO_BODY),
    ("getTenant", Method::GET, "/v1/tenants/{id}", "tenants:read", Subject::Tenant, NO_BODY),
    ("listAuditEvents", Method::GET, "/v1/audit-events", "audit:read", Subject::List, NO_BODY),
    ("exportAuditEvents", Method::GET, "/v1/audit-events/export", "audit:read", Subject::Shared, "?tenant_id=initech"),
    ("getAuditLog", Method::GET, "/v1/audit-log/{tenant_id}", "audit:read", Subject::Tenant, NO_BODY),
    ("getCheckpoint", Method::GET, "/v1/audit-log/{tenant_id}/checkpoint", "audit:read", Subject::Tenant, NO_BODY),
    (
        "getInclusionProof",
        Method::GET,
        "/v1/audit-log/{tenant_id}/proofs/inclusion",
        "audit:read",
        Subject::Tenant,
        "?index=0&size=1",
    ),
    (
        "getConsistencyProof",
        Method::GET,
        "/v1/audit-log/{tenant_id}/proofs/consistency",
        "audit:read",
        Subject::Tenant,
        "?from=1&to=1",
    ),
    ("getVerifierKey", Method::GET, "/v1/audit-log/{tenant_id}/verifier-key", "audit:read", Subject::Tenant, NO_BODY),
    ("purgeAuditLog", Method::POST, "/v1/audit-log/{tenant_id}/purges", "audit:manage", Subject::Tenant, PURGE),
    ("placeLegalHold", Method::POST, "/v1/audit-log/{tenant_id}/legal-holds", "audit:manage", Subject::Tenant, HOLD),
    ("listLegalHolds", Method::GET, "/v1/audit-log/{tenant_id}/legal-holds", "audit:read", Subject::Tenant, NO_BODY),
    (
        "releaseLegalHold",
        Method::POST,
        "/v1/audit-log/{tenant_id}/legal-holds/{id}/release",
        "audit:manage",
        Subject::Tenant,
        HOLD,
    ),
    (
        "listAccessSummaries",
        Method::GET,
        "/v1/access-summaries/{principal_id}",
        "audit:read",
        Subject::Shared,
        "?tenant_id=initech",
    ),
    ("getEvidence", Method::GET, "/v1/magic-links/{id}/evidence", "audit:read", Subject::Link, NO_BODY),
    ("registerConsultant", Method::POST, "/v1/consultants", "consultants:write", Subject::Shared, CONSULTANT),
    ("listConsultants", Method::GET, "/v1/consultants", "consultants:read", Subject::Shared, NO_BODY),
    ("getConsultant", Method::GET, "/v1/consultants/{id}", "consultants:read", Subject::Shared, NO_BODY),
    (
        "changeConsultant",
        Method::PATCH,
        "/v1/consultants/{id}",
        "consultants:write",
        Subject::Shared,
        r#"{"name":"Eve"}"#,
    ),
    ("suspendConsultant", Method::POST, "/v1/consultants/{id}/suspend", "consultants:write", Subject::Shared, REASON),
    (
        "reinstateConsultant",
        Method::POST,
        "/v1/consultants/{id}/reinstate",
        "consultants:write",
        Subject::Shared,
        REASON,
    ),
    ("createClient", Method::POST, "/v1/clients", "admin", Subject::Shared, CLIENT),
    ("listClients", Method::GET, "/v1/clients", "admin", Subject::Shared, NO_BODY),
    ("getClient", Method::GET, "/v1/clients/{id}", "admin", Subject::Client, NO_BODY),
    ("changeClient", Method::PATCH, "/v1/clients/{id}", "admin", Subject::Client, r#"{"name":"Mine now"}"#),
    ("rotateClient", Method::POST, "/v1/clients/{id}/rotate", "admin", Subject::Client, "{}"),
    ("disableClient", Method::POST, "/v1/clients/{id}/disable", "admin", Subject::Client, "{}"),
    (
        "createWebhookEndpoint",
        Method::POST,
        "/v1/webhook-endpoints",
        "webhooks:manage",
        Subject::Shared,
        r#"{"url":"https://portal.example/hook"}"#,
    ),
    (
        "retryWebhookDeliveries",
        Method::POST,
        "/v1/webhook-endpoints/{id}/retry",
        "webhooks:manage",
        Subject::Webhook,
        "{}",
    ),
    ("listWebhookEndpoints", Method::GET, "/v1/webhook-endpoints", "webhooks:manage", Subject::List, NO_BODY),
    ("getWebhookEndpoint", Method::GET, "/v1/webhook-endpoints/{id}", "webhooks:manage", Subject::Webhook, NO_BODY),
    ("changeWebhookEndpoint", Method::PATCH, "/v1/webhook-endpoints/{id}", "webhooks:manage", Subject::Webhook, "{}"),
    (
        "deleteWebhookEndpoint",
        Method::DELETE,
        "/v1/webhook-endpoints/{id}",
        "webhooks:manage",
        Subject::Webhook,
        NO_BODY,
    ),
    (
        "rotateWebhookSecret",
        Method::POST,
        "/v1/webhook-endpoints/{id}/rotate-secret",
        "webhooks:manage",
        Subject::Webhook,
        "{}",
    ),
    (
        "testWebhookEndpoint",
        Method::POST,
        "/v1/webhook-endpoints/{id}/test",
        "webhooks:manage",
        Subject::Webhook,
        NO_BODY,
    ),
    (
        "listWebhookDeliveries",
        Method::GET,
        "/v1/webhook-endpoints/{id}/deliveries",
        "webhooks:manage",
        Subject::Webhook,
        NO_BODY,
    ),
    ("listMailDeliveries", Method::GET, "/v1/mail-deliveries", "links:read", Subject::List, NO_BODY),
    ("retryMailDelivery", Method::POST, "/v1/mail-deliveries/{id}/retry", "admin", Subject::Mail, NO_BODY),
    ("listMailSuppressions", Method::GET, "/v1/mail-suppressions", "admin", Subject::Shared, NO_BODY),
    ("clearMailSuppression", Method::POST, "/v1/mail-suppressions/{id}/clear", "admin", Subject::Shared, REASON),
];

/// Routes that nobody needs a key for.
pub const PUBLIC: &[&str] = &[
    "getJwks",
    "getOpenidConfiguration",
    "getAuthorizationServer",
    "getStatusLists",
    "getStatusList",
    "getHealth",
    "getReadiness",
    "previewLink",
    "continueLink",
    "verifyCode",
    "reenterLink",
    "forgetDevice",
    "requestFreshLink",
    "reportMailEvents",
];
