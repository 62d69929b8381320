//! Errors of a call: one table of codes, one error type.
//!
//! A [`Code`] is the stable name that callers program against. It decides the
//! HTTP status and the title of the problem document (RFC 9457).

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! codes {
    ($($variant:ident $status:literal $slug:literal $title:literal $help:literal;)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in order of status.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code in a problem document (RFC 9457).
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// HTTP status of the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Title of the problem, one line.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// How the caller can resolve the problem.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

codes! {
    InvalidRequest 400 "invalid_request" "The request is not well formed" "Send HTTP/1.1 with one `Host`, a `%` in the path as `%25`, and a body of the announced length; name a client's credentials once, in one place.";
    InvalidBody 400 "invalid_body" "The body is not what this call takes" "Compare it with the request schema; `errors` points at the member.";
    InvalidQuery 400 "invalid_query" "The query string is not understood" "Use only the documented parameters, each at most once; `errors` names those at fault.";
    InvalidId 400 "invalid_id" "An id in the path is not well formed" "Compare it with its parameter's description; `errors` names it.";
    InvalidHeader 400 "invalid_header" "A header is not understood" "`detail` names the header.";
    InvalidCursor 400 "invalid_cursor" "The cursor does not belong to this list" "Start again without `cursor`, and keep the filters while paging.";
    TokenInvalid 400 "token_invalid" "This is not a token of this service" "Send the token exactly as it was received.";
    Unauthenticated 401 "unauthenticated" "No valid API key" "Send `Authorization: Bearer <key>`, or Basic with the client id and the key.";
    SignatureInvalid 401 "signature_invalid" "The signature is invalid" "The provider's key, secret or topic in the configuration must be the one that signs.";
    InsufficientScope 403 "insufficient_scope" "The client lacks a scope" "`detail` names the scope; an operator can create a client that has it.";
    ClientNotPermitted 403 "client_not_permitted" "The client may not act there" "The client is bound to other tenants or another portal.";
    CodeRequired 403 "code_required" "This portal redeems codes only" "Send the visitor through the landing page, or configure `landing_url`.";
    StepUpRequired 403 "step_up_required" "One-time code required" "Send the visitor through the landing page; a raw link token opens nothing here.";
    StepUpCodeWrong 403 "step_up_code_wrong" "The code is wrong" "Compare it with the newest mail; five attempts are allowed.";
    DeviceUnknown 403 "device_unknown" "This browser is not remembered" "Have a fresh link mailed from the landing page: it moves the access to the browser that opens it.";
    ProofInvalid 403 "proof_invalid" "The device's proof is invalid" "Take a new nonce from `POST /l/preview`, and sign a proof for this request; a proof is good once, for a minute.";
    PolicyForbids 403 "policy_forbids" "The tenant's policy does not allow it" "`errors` names each rule and its limit; `GET /v1/tenants/{id}/policy` shows what is in force.";
    CustomerSignatureRequired 403 "customer_signature_required" "The customer's key must sign this" "`GET /v1/tenants/{id}/approval-key` shows the key; send what it signed as `signed_approval`, or as `signed_change`.";
    CustomerSignatureInvalid 403 "customer_signature_invalid" "This is not what the customer's key must sign" "`errors` says what differs: read the link again, and have `approval.terms` or `extension.terms` signed.";
    OwnRequest 403 "own_request" "Nobody approves the own access" "Whoever asks, whoever approves and the consultant are three persons, with identifiers and e-mail addresses of their own.";
    SupportSessionCannotGrant 403 "support_session_cannot_grant" "A support session cannot grant access" "Granting calls must come from a person of the customer, without `acting_session_id`.";
    NotFound 404 "not_found" "There is no such thing for this client" "Check the id, and that the client's tenants and portal reach it.";
    RouteNotFound 404 "route_not_found" "There is no such route" "The routes are listed at /docs.";
    MethodNotAllowed 405 "method_not_allowed" "The route does not take this method" "The `Allow` header lists the methods it takes.";
    RequestTimeout 408 "request_timeout" "The request took too long to arrive" "Send head and body at once.";
    IdempotencyKeyInFlight 409 "idempotency_key_in_flight" "The same request is being worked on" "Repeat it with the same Idempotency-Key after `Retry-After`.";
    ApprovalRequired 409 "approval_required" "The link waits for an approval" "Have it approved first: `POST /v1/magic-links/{id}/approve`.";
    RequestExists 409 "request_exists" "The access was asked for already" "`magic_link_id` names the request that waits: have it approved, or withdraw it.";
    AlreadyDecided 409 "already_decided" "The request was decided on already" "`detail` says how; `GET /v1/magic-links/{id}` shows by whom.";
    ChangeLimitReached 409 "change_limit_reached" "The link takes no more changes of this kind" "A client makes 100 corrections, 100 later ends and 100 requests to extend of one link, and all of them 1,000 of each kind; after 100 steps an end comes sooner by a minute at least. Revoke the link, and issue another.";
    ExtensionExists 409 "extension_exists" "An extension of the link waits for an approval already" "`extension` of `GET /v1/magic-links/{id}` shows it; decide on it, or withdraw it, first.";
    LinkNotYetValid 409 "link_not_yet_valid" "The window has not begun" "Come back at `starts_at`.";
    ConsultantSuspended 409 "consultant_suspended" "The consultant is suspended" "Reinstate the consultant, or choose another.";
    ConsultantExists 409 "consultant_exists" "The e-mail address is registered already" "Use the consultant that has it.";
    AccessExists 409 "access_exists" "The consultant has this access already" "One access has one link: extend or revoke the one that `magic_link_id` names, or repeat the request with `\"replace\": true`.";
    EmergencyAccess 409 "emergency_access" "An emergency access is neither extended nor replaced" "Let it end, or revoke it, and grant ordinary access.";
    ReviewDue 409 "review_due" "An emergency access waits for its review" "Review the link that `magic_link_id` names first: `POST /v1/magic-links/{id}/review`.";
    ReviewTooEarly 409 "review_too_early" "The access has not ended" "Review it when it has: what was done is known then.";
    ReportLimitReached 409 "report_limit_reached" "The session takes no more sources or events" "A session takes 100,000 activity events of at most 100 sources; open another session.";
    EventConflict 409 "event_conflict" "The number was used for another activity event" "Give every event of a source its own `seq`; repeat an event unchanged.";
    RetentionNotOver 409 "retention_not_over" "These payloads must still be kept" "They can be erased when the tenant's `retention_days` are over, a year and a day at least.";
    ErasureByCommand 409 "erasure_by_command" "The service does not erase by itself here" "An operator erases what is over: `magic-link maintain`, as `audit.erase_in_service` says.";
    LegalHold 409 "legal_hold" "A legal hold stands" "Release it first, or wait for its end.";
    TooManyHolds 409 "too_many_legal_holds" "The tenant has as many legal holds as clients like this one may place" "100 are in force at once, and each of them keeps the whole log: release those that are over first.";
    IssuingFrozen 409 "issuing_frozen" "No links are issued just now" "Ask the operators, who have frozen issuing; links that exist go on.";
    LastSigningKey 409 "last_signing_key" "No other key could sign" "Rotate first with `at_once`, and come back when the new key is active.";
    OverlapRunning 409 "overlap_running" "An overlap has not ended" "Wait until it has; `\"newest_lost\": true` replaces a key or secret that nobody has got, and keeps the one before; `\"overlap_seconds\": 0` ends both.";
    ClientDisabled 409 "client_disabled" "The client is disabled" "Create a new client.";
    AddressSuppressed 409 "address_suppressed" "Mail to the consultant's address came back" "Once the mailbox works, an operator clears it: `POST /v1/mail-suppressions/{id}/clear`.";
    TooManyEndpoints 409 "too_many_webhook_endpoints" "The client, or a tenant of it, has as many webhook endpoints as it may" "`detail` says which. Delete one that is not needed, or let one take more events.";
    EndpointDisabled 409 "webhook_endpoint_disabled" "The webhook endpoint is switched off" "Switch it on first: `PATCH /v1/webhook-endpoints/{id}` with `{\"state\": \"active\"}`.";
    MailNotRetryable 409 "mail_not_retryable" "This mail cannot be sent again" "`detail` names its state; `POST /v1/magic-links/{id}/resend` mails a fresh link.";
    RequestLapsed 410 "lapsed" "Nobody decided on the request in time" "Ask anew: a request waits for 24 hours.";
    LinkSpent 410 "link_spent" "The link was used already" "The consultant can have a fresh link mailed from the landing page.";
    LinkSuperseded 410 "link_superseded" "A newer link replaced this one" "Use the newest mail.";
    LinkReplaced 410 "link_replaced" "Another link for the same access replaced this one" "Use the newest mail.";
    LinkRevoked 410 "link_revoked" "The access was revoked" "Ask the customer's administrator.";
    SigningKeyRevoked 410 "signing_key_revoked" "The key that signed the link was revoked" "Use the newest mail; if there is none, ask whoever arranged the access to have a fresh link mailed.";
    LinkExpired 410 "link_expired" "The link has expired" "Ask the customer's administrator for a new link.";
    StepUpVoid 410 "step_up_void" "The code has expired or was used up" "It was tried too often, is older than ten minutes, or belongs to another page: press the button again.";
    TokenExpired 410 "token_expired" "The token is too old" "The consultant can have a fresh link mailed from the landing page.";
    SessionEnded 410 "session_ended" "The session is over" "Open a new session with a fresh link.";
    ReportingClosed 410 "reporting_closed" "The session takes no more reports" "Activity events are accepted until 72 hours after the session's end.";
    BodyTooLarge 413 "body_too_large" "The body is too large" "64 KiB are taken, 1 MiB where activity events are reported.";
    TargetTooLong 414 "target_too_long" "The target of the request is too long" "The request line may have 16 KiB; lists and texts belong into a body.";
    UnsupportedMediaType 415 "unsupported_media_type" "The content type is not taken" "Send application/json, or a form where the route says so.";
    ValidationFailed 422 "validation_failed" "A field is out of range" "`errors` lists every field with its pointer.";
    EvidenceTooLarge 422 "evidence_too_large" "The history of the link is too large for one answer" "10,000 events, 8 MiB of what they say, 16 MiB in all, 10,000 mails or 1,000 sessions are the limit: export the tenant's log instead.";
    IdempotencyKeyReused 422 "idempotency_key_reused" "The Idempotency-Key was used for another request" "Use a fresh key for every new request.";
    RateLimited 429 "rate_limited" "Too many requests" "Wait for `Retry-After` seconds.";
    ResendCoolDown 429 "resend_cool_down" "A mail about this access was asked for a moment ago" "Wait for `Retry-After` seconds.";
    HeadersTooLarge 431 "headers_too_large" "The head of the request is too large" "128 KiB and 96 fields are taken.";
    LogForked 500 "log_forked" "The log does not extend its last checkpoint" "It was tampered with, or an old copy was restored: notify the operators, and compare the database with a backup and the checkpoints that were kept outside.";
    DatabaseFault 500 "database_fault" "The database is damaged, or refuses what it must do" "Waiting does not help: quote `trace_id` to the operators, whose logs and `magic_link_database_faults_total` tell more.";
    Internal 500 "internal" "Something went wrong here" "Quote `trace_id` to the operators.";
    ClockBehind 503 "clock_behind" "The service's clock is behind" "No signing key is that old, so no link could be mailed: set the clock of the service, then repeat the request.";
    MasterKeyMismatch 503 "master_key_mismatch" "The database is sealed under another master key" "The master key was changed, or this is the wrong one: start this copy of the service with the one that `magic-link key rewrap` sealed everything under.";
    RestoreRequired 503 "restore_required" "The database was restored from a backup" "Stop every copy of the service, run `magic-link restore`, and start them again.";
    Unavailable 503 "unavailable" "The service cannot answer just now" "Repeat the request after `Retry-After`, with the same Idempotency-Key.";
}

/// The description explains every code: generators drop the documentation of single values.
impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let told: Vec<String> =
            Self::ALL.iter().map(|code| format!("- `{}`: {}.", code.slug(), code.title())).collect();
        let description =
            format!("Stable name of a problem. There may be others some day: go by the status.\n\n{}", told.join("\n"));
        let slugs = Self::ALL.iter().map(|code| code.slug());
        let object = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(slugs));
        object.description(Some(description)).examples([Self::NotFound.slug()]).build().into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ProblemCode")
    }
}

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Position of the field: a JSON pointer (RFC 6901) into the body, or a slash and the name of a parameter.
    #[schema(max_length = 200, example = "/reason")]
    pub pointer: String,
    /// Stable code of the violation, for programs.
    #[schema(max_length = 64, example = "too_short")]
    pub code: &'static str,
    /// Description of the violation, for people.
    #[schema(max_length = 500, example = "must have at least 10 characters")]
    pub detail: String,
}

/// A refused or failed call.
#[derive(Debug, Clone)]
pub struct Error {
    code: Code,
    detail: Option<Cow<'static, str>>,
    recorded: bool,
    lost_a_race: bool,
    more: Option<Box<More>>,
}

/// Rarely used members. Boxed, because the error's size adds to every `Result`.
#[derive(Debug, Clone, Default)]
struct More {
    fields: Vec<FieldError>,
    retry_after_seconds: Option<u64>,
    allow: Option<String>,
    limit: Option<(&'static str, u32)>,
    limited_by: Option<&'static str>,
    magic_link_id: Option<String>,
}

impl Error {
    /// An error of this code without details.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self { code, detail: None, recorded: false, lost_a_race: false, more: None }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Adds a detail text for the caller. Never a cause that only operators should see.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(cut(detail.into(), 1_000));
        self
    }

    /// Sets `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.more().retry_after_seconds = Some(seconds);
        self
    }

    /// Adds an invalid field.
    #[must_use]
    pub fn field(mut self, pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        let pointer = cut(Cow::Owned(pointer.into()), 200).into_owned();
        let detail = cut(Cow::Owned(detail.into()), 500).into_owned();
        self.more().fields.push(FieldError { pointer, code, detail });
        self
    }

    /// Sets the methods of the route (`Allow` header).
    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.more().allow = Some(methods);
        self
    }

    /// The methods of the route (`Allow` header).
    #[must_use]
    pub fn allowed_methods(&self) -> Option<&str> {
        self.more.as_ref()?.allow.as_deref()
    }

    /// Names the link that is in the way.
    #[must_use]
    pub fn magic_link(mut self, id: String) -> Self {
        self.more().magic_link_id = Some(id);
        self
    }

    /// The link that is in the way.
    #[must_use]
    pub fn magic_link_id(&self) -> Option<&str> {
        self.more.as_ref()?.magic_link_id.as_deref()
    }

    /// Sets the rate limit that was exceeded: its name, and calls per minute.
    #[must_use]
    pub fn limit(mut self, name: &'static str, per_minute: u32) -> Self {
        self.more().limit = Some((name, per_minute));
        self
    }

    /// The rate limit that was exceeded: its name, and calls per minute.
    #[must_use]
    pub fn limit_met(&self) -> Option<(&'static str, u32)> {
        self.more.as_ref()?.limit
    }

    /// Names the key of the configuration that sets the limit, for the metrics.
    #[must_use]
    pub fn limited_by(mut self, key: &'static str) -> Self {
        self.more().limited_by = Some(key);
        self
    }

    /// The key of the configuration that sets the limit that was exceeded.
    #[must_use]
    pub fn limited_by_key(&self) -> Option<&'static str> {
        self.more.as_ref()?.limited_by
    }

    /// Marks that the refusal is already recorded in the audit log.
    #[must_use]
    pub const fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// The store is unavailable, or the outcome of a write is unknown.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(Code::Unavailable).retry_after(1)
    }

    /// The object does not exist, or is outside the caller's reach: the two must be indistinguishable.
    #[must_use]
    pub const fn not_found() -> Self {
        Self::new(Code::NotFound)
    }

    /// An internal error; the cause is logged and not shown to the caller.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(error.cause = %cause, "internal error");
        Self::new(Code::Internal)
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Whether the next attempt fails in the same way, until somebody repairs what is wrong here.
    pub(crate) const fn lasts(&self) -> bool {
        self.code.status() == 500
    }

    /// The detail text.
    #[must_use]
    pub fn detail_text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The invalid fields.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        self.more.as_ref().map_or(&[], |more| &more.fields)
    }

    /// `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.more.as_ref()?.retry_after_seconds
    }

    /// Marks that the transaction lost a conflict, and may be retried.
    #[must_use]
    pub(crate) const fn after_a_lost_race(mut self) -> Self {
        self.lost_a_race = true;
        self
    }

    /// Whether the transaction lost a conflict: it was rolled back and may be retried.
    #[must_use]
    pub const fn lost_a_race(&self) -> bool {
        self.lost_a_race
    }

    /// Whether the refusal is already recorded in the audit log.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.recorded
    }
}

/// A text of at most so many characters: what the API description promises of problems.
pub(crate) fn cut(text: Cow<'_, str>, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => text,
        Some(_) => Cow::Owned(text.chars().take(max - 1).chain(['…']).collect()),
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.title())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for field in self.fields() {
            write!(f, "; {} {}", field.pointer, field.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_error_keeps_the_limits_of_its_description() {
        let long = "ä".repeat(5_000);
        let error = Error::new(Code::InvalidBody).detail(long.clone()).field(long.clone(), "unknown", long);
        let length = |text: &str| text.chars().count();
        let field = error.fields().first().unwrap();
        assert_eq!(error.detail_text().map(length), Some(1_000));
        assert_eq!((length(&field.pointer), length(&field.detail)), (200, 500));
    }

    #[test]
    fn codes_are_unique_and_in_order_of_status() {
        let slugs: HashSet<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        assert_eq!(slugs.len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
    }
}
