//! Types shared by all modules: actors, scopes, states, and the validation of requests.

mod actor;
mod authority;
mod es256;
mod event_type;
mod grant;
pub(crate) mod json;
mod mail;
mod page;
mod person;
mod policy;
mod reach;
mod restriction;
mod review;
mod rotation;
mod scope;
mod states;
mod syntax;
mod validator;
mod webhook;
mod window;

pub use actor::{Actor, ActorType};
pub(crate) use authority::Authority;
pub(crate) use es256::Jws;
pub use es256::PublicKey;
#[cfg(test)]
pub(crate) use es256::{COORDINATE_BYTES, TestKey};
pub use event_type::{EventResult, EventType};
pub(crate) use event_type::{RecordedType, SYSTEM_LOG};
pub(crate) use grant::refuse_support_session;
pub(crate) use mail::STEP_UP_CODE_LIFE;
pub use mail::{DeliveryState, Notice, Template};
pub use page::{Page, Paging};
pub(crate) use page::{PageRequest, Scan};
pub use person::{ConsultantRef, Issuer, IssuerRef, NamedConsultant, Person, PersonRef, Profile, ProfileRef};
pub(crate) use person::{check_person, is_same, unless_erased};
pub(crate) use policy::Policy;
pub use policy::{ApprovalFor, ApprovalRule, EmergencyRule, ExtensionRule};
pub(crate) use reach::{Reach, Tenants};
pub(crate) use restriction::Restrictions;
pub use restriction::{Forbidden, ViolationCause};
pub use review::{Finding, ReviewState};
pub(crate) use rotation::Rotation;
pub use scope::Scope;
pub use states::{
    Access, ActivityKind, AuditState, ChangeValues, DurationUnit, EndCause, LinkState, Reentry, SessionState, TokenType,
};
pub use syntax::{
    Cursor, ExternalId, IdempotencyKeyText, KeyId, LinkStates, ListNumber, LogId, ModuleName, PortalId, ProviderName,
    SearchText, StepUpCodeText, TenantId, TicketText,
};
pub(crate) use syntax::{
    MIN_RETENTION_DAYS, Syntax, is_address, is_external_id, is_portal_id, is_seen_url, is_source, is_tenant_id,
    is_time_zone, plain_address,
};
pub(crate) use validator::{Validator, is_unsafe_char, one_line, trimmed, trimmed_if_present, without_outer_blanks};
pub use webhook::{WebhookEvent, WebhookFormat};
pub use window::WindowLength;
pub(crate) use window::in_hours;
