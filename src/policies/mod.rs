//! A tenant's policy: what may be granted there, and who has to approve it.
//!
//! It binds whoever issues, approves or extends a link, and changes no link that exists. What it leaves out is as the
//! service is configured.

pub(crate) mod approval_key;
pub(crate) mod routes;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::context::Context;
use crate::domain::{
    Access, ApprovalFor, ApprovalRule, EmergencyRule, EventType, ExtensionRule, Forbidden, Person, Policy, Reentry,
    Validator, WindowLength, check_person, is_tenant_id, refuse_support_session,
};
use crate::error::{Code, Error};
use crate::http::{Caller, ReadTenants, WritePolicies};
use crate::journal::Event;
use crate::mail::{self, notices};
use crate::records::policies::{self, PolicyRow};
use crate::records::tenants;
use crate::rules::Rules;

/// Policy of a tenant; it replaces the one before. A member that is absent is as the service is configured.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "max_duration": {"value": 2, "unit": "weeks"}, "default_duration": {"value": 4, "unit": "hours"},
    "forbidden": ["bank_account", "export"], "require_ticket": true,
    "requested_by": {"id": "emp-7", "name": "Meera Iyer"}
}))]
pub struct SavePolicy {
    /// Longest window of a link; at most what is configured (`links.max_duration_hours`).
    pub max_duration: Option<WindowLength>,
    /// Window of a link whose request names none; by default each request has to name one.
    pub default_duration: Option<WindowLength>,
    /// Access levels that may be granted; default every one.
    #[schema(min_items = 1, max_items = 2)]
    pub access_allowed: Option<Vec<Access>>,
    /// What no link may include; default nothing.
    #[schema(max_items = 10)]
    pub forbidden: Option<Vec<Forbidden>>,
    /// Whether each link needs a ticket; default false.
    pub require_ticket: Option<bool>,
    /// Which links wait for an approval; default none.
    pub approval: Option<ApprovalRule>,
    /// How far links may be extended; default as long as `max_duration`, or a link by configuration.
    pub extend: Option<ExtensionRule>,
    /// Whether links may be issued in an emergency; default `forbidden`.
    pub emergency: Option<EmergencyRule>,
    /// Longest life of a session in hours; at most, and by default, what is configured (`links.session_hours`).
    #[schema(minimum = 1, maximum = 672)]
    pub session_hours: Option<i32>,
    /// How visits after the first one may begin: `mail` allows links with `reentry` `mail` alone. By default `device`
    /// where a portal remembers devices.
    pub reentry: Option<Reentry>,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Policy that is in force for a tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyResponse {
    /// Portal's identifier of the tenant.
    #[schema(max_length = 64)]
    tenant_id: String,
    /// Longest window of a link.
    max_duration: WindowLength,
    /// Window of a link whose request names none; absent if each has to name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_duration: Option<WindowLength>,
    /// Access levels that may be granted.
    #[schema(max_items = 2)]
    access_allowed: Vec<Access>,
    /// What no link may include.
    #[schema(max_items = 10)]
    forbidden: Vec<Forbidden>,
    /// Whether each link needs a ticket.
    require_ticket: bool,
    /// Which links wait for an approval.
    approval: ApprovalRule,
    /// How far links may be extended.
    extend: ExtensionRule,
    /// Whether links may be issued in an emergency.
    emergency: EmergencyRule,
    /// Longest life of a session in hours.
    #[schema(minimum = 1, maximum = 672)]
    session_hours: i64,
    /// How visits after the first one may begin.
    reentry: Reentry,
    /// Names of the members that the tenant's policy sets. The others are as the service is configured.
    #[schema(max_items = 10)]
    set: Vec<PolicyMember>,
    /// When the policy was last changed (RFC 3339, UTC); absent if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
}

crate::db::text_enum! {
    /// Member of a policy.
    pub enum PolicyMember {
        /// Longest window of a link.
        MaxDuration = "max_duration",
        /// Window of a link whose request names none.
        DefaultDuration = "default_duration",
        /// Access levels that may be granted.
        AccessAllowed = "access_allowed",
        /// What no link may include.
        Forbidden = "forbidden",
        /// Whether each link needs a ticket.
        RequireTicket = "require_ticket",
        /// Which links wait for an approval.
        Approval = "approval",
        /// How far links may be extended.
        Extend = "extend",
        /// Whether links may be issued in an emergency.
        Emergency = "emergency",
        /// Longest life of a session.
        SessionHours = "session_hours",
        /// How visits after the first one may begin.
        Reentry = "reentry",
    }
}

impl PolicyResponse {
    fn of(tenant_id: String, row: Option<&PolicyRow>, config: &Config) -> Result<Self, Error> {
        let policy = policies::policy_of(row)?;
        let rules = Rules::of(&policy, config);
        let set = [
            (policy.max_duration.is_some(), PolicyMember::MaxDuration),
            (policy.default_duration.is_some(), PolicyMember::DefaultDuration),
            (policy.access_allowed.is_some(), PolicyMember::AccessAllowed),
            (policy.forbidden.is_some(), PolicyMember::Forbidden),
            (policy.require_ticket.is_some(), PolicyMember::RequireTicket),
            (policy.approval.is_some(), PolicyMember::Approval),
            (policy.extend.is_some(), PolicyMember::Extend),
            (policy.emergency.is_some(), PolicyMember::Emergency),
            (policy.session_hours.is_some(), PolicyMember::SessionHours),
            (policy.reentry.is_some(), PolicyMember::Reentry),
        ];
        Ok(Self {
            tenant_id,
            max_duration: WindowLength::of(rules.max_duration),
            default_duration: rules.default_duration.map(WindowLength::of),
            access_allowed: rules.access_allowed,
            forbidden: rules.forbidden,
            require_ticket: rules.require_ticket,
            approval: ApprovalRule {
                required_for: rules.approval_for,
                longer_than: rules.longer_than.map(WindowLength::of),
            },
            extend: ExtensionRule { max_total: WindowLength::of(rules.max_total) },
            emergency: rules.emergency,
            session_hours: rules.session_life.whole_hours(),
            reentry: rules.reentry,
            set: set.into_iter().filter_map(|(is_set, member)| is_set.then_some(member)).collect(),
            updated_at: row.map(|row| row.created_at),
        })
    }
}

/// The policy of a request, if it contradicts neither itself nor the configuration.
fn check(request: &SavePolicy, config: &Config) -> Result<Policy, Error> {
    let mut fields = Validator::default();
    let longest = config.links.max_duration;
    let mut length = |pointer: &str, length: Option<WindowLength>| {
        let found = length.map(WindowLength::duration);
        match found {
            Some(None) => fields.error(pointer, "out_of_range", "must be one hour to a year"),
            Some(Some(found)) if found > longest => {
                let hours = longest.whole_hours();
                let detail = format!("must be at most {hours} hours, which links.max_duration_hours configures");
                fields.error(pointer, "contradicts_configuration", detail);
            }
            _ => {}
        }
        found.flatten().map(|found| found.min(longest))
    };
    let max_duration = length("/max_duration", request.max_duration);
    let default_duration = length("/default_duration", request.default_duration);
    let max_total = length("/extend/max_total", request.extend.map(|rule| rule.max_total));
    let longer_than = length("/approval/longer_than", request.approval.and_then(|rule| rule.longer_than));
    let max = max_duration.unwrap_or(longest);
    if default_duration.is_some_and(|default| default > max) {
        fields.error("/default_duration", "contradicts_policy", "must not be longer than max_duration");
    }
    if max_total.is_some_and(|total| total < max) {
        fields.error("/extend/max_total", "contradicts_policy", "must not be shorter than max_duration");
    }
    if let (Some(rule), Some(longer_than)) = (request.approval, longer_than) {
        if rule.required_for == ApprovalFor::Always {
            let detail = "says nothing where required_for is always";
            fields.error("/approval/longer_than", "contradicts_policy", detail);
        } else if longer_than >= max_total.unwrap_or(longest).max(max) {
            let detail = "must be shorter than the longest window: extend.max_total, or max_duration";
            fields.error("/approval/longer_than", "contradicts_policy", detail);
        }
    }
    let names_all_once = |levels: &Vec<Access>| !levels.is_empty() && distinct(levels.clone()).len() == levels.len();
    if request.access_allowed.as_ref().is_some_and(|levels| !names_all_once(levels)) {
        fields.error("/access_allowed", "out_of_range", "must name each level at most once, and at least one");
    }
    if request.forbidden.as_ref().is_some_and(|words| words.len() > Forbidden::ALL.len()) {
        fields.error("/forbidden", "out_of_range", "must name each word at most once");
    }
    if let Some(hours) = request.session_hours {
        let configured = config.links.session_life.whole_hours();
        if hours < 1 {
            fields.error("/session_hours", "out_of_range", "must be at least 1");
        } else if i64::from(hours) > configured {
            let detail = format!("must be at most {configured}, which links.session_hours configures");
            fields.error("/session_hours", "contradicts_configuration", detail);
        }
    }
    if request.reentry == Some(Reentry::Device) && !config.remembers_devices() {
        let detail = "device needs a portal with step_up = email_code and the service's own landing page";
        fields.error("/reentry", "contradicts_configuration", detail);
    }
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    Ok(Policy {
        max_duration: request.max_duration,
        default_duration: request.default_duration,
        access_allowed: request.access_allowed.clone().map(distinct),
        forbidden: request.forbidden.clone().map(distinct),
        require_ticket: request.require_ticket,
        approval: request.approval,
        extend: request.extend,
        emergency: request.emergency,
        session_hours: request.session_hours,
        reentry: request.reentry,
    })
}

/// The words, each once and in one order.
fn distinct<T: Ord>(mut words: Vec<T>) -> Vec<T> {
    words.sort();
    words.dedup();
    words
}

/// Replaces the policy of a registered tenant. Its contacts are told at once where it allows more than before.
pub(crate) async fn save(
    cx: &Context,
    caller: &Caller<WritePolicies>,
    tenant_id: String,
    request: SavePolicy,
    now: Timestamp,
) -> Result<PolicyResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    let policy = check(&request, &cx.config)?;
    if !is_tenant_id(&tenant_id) || !caller.reach.covers_tenant(&tenant_id) {
        return Err(Error::not_found());
    }
    // It binds every portal of the tenant.
    caller.require_every_portal("a policy")?;
    let (actor, client_id) = (caller.actor(request.requested_by.as_ref()), caller.client_id.clone());
    let config = cx.config.clone();
    cx.store
        .write(move |tx| {
            let unknown = || Error::not_found().detail("register the tenant first: PUT /v1/tenants/{id}");
            let tenant = tenants::lock(tx, &tenant_id)?.ok_or_else(unknown)?;
            let known = policies::newest(tx, &tenant_id)?;
            let before = policies::policy_of(known.as_ref())?;
            if before == policy {
                return PolicyResponse::of(tenant_id.clone(), known.as_ref(), &config);
            }
            let (rules, rules_before) = (Rules::of(&policy, &config), Rules::of(&before, &config));
            if rules.asks_less(&rules_before) && approval_key::in_effect(tx, &tenant_id, now)?.is_some() {
                let detail = "while an approval key is in effect no less may want an approval: remove the key first";
                return Err(Error::new(Code::CustomerSignatureRequired).detail(detail));
            }
            let seq = known.map_or(1, |known| known.seq + 1);
            let row = PolicyRow::new(&tenant_id, seq, &policy, &actor, client_id.as_ref(), now)?;
            let loosens = rules.loosens(&rules_before);
            if loosens {
                let per_hour = config.limits.mails_per_recipient_hour;
                let lately = mail::within_the_hour(now);
                let by = (&*tenant_id, client_id.as_ref());
                // No more of them are looked at: who loosens and tightens in turns makes two for each mail.
                let limit = i64::from(per_hour).saturating_mul(4);
                let changes = policies::changed(tx, by, lately, limit)?;
                mail::require_room(notices::loosening(tx, &tenant_id, changes)?, per_hour, now)?;
                notices::policy_loosened(tx, &tenant, seq, now)?;
            }
            policies::insert(tx, &row)?;
            let event = Event::new(EventType::PolicySaved, actor.clone(), now).client(client_id.as_ref());
            tx.record(event.tenant(&tenant_id).with(&serde_json::json!({
                "before": before, "after": policy, "loosens": loosens,
            })));
            PolicyResponse::of(tenant_id.clone(), Some(&row), &config)
        })
        .await
}

/// The policy that is in force for a tenant, registered or not.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<ReadTenants>,
    tenant_id: String,
) -> Result<PolicyResponse, Error> {
    if !is_tenant_id(&tenant_id) || !caller.reach.covers_tenant(&tenant_id) {
        return Err(Error::not_found());
    }
    let config = cx.config.clone();
    cx.store
        .read(move |conn| {
            let row = policies::newest(conn, &tenant_id)?;
            PolicyResponse::of(tenant_id.clone(), row.as_ref(), &config)
        })
        .await
}
