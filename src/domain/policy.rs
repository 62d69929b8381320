//! What a tenant lets be granted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Access, Forbidden, Reentry, WindowLength};
use crate::db::text_enum;

text_enum! {
    /// Which links wait for an approval.
    pub enum ApprovalFor {
        /// None, but those that are longer than `longer_than`.
        None = "none",
        /// Those with `access` `full`, and those that are longer than `longer_than`.
        FullAccess = "full_access",
        /// Every link.
        Always = "always",
    }
}

text_enum! {
    /// Whether links may be issued in an emergency, without an approval.
    pub enum EmergencyRule {
        /// Nobody may.
        Forbidden = "forbidden",
        /// A client with the scope `links:emergency` may.
        Allowed = "allowed",
    }
}

/// Which links wait for an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// Which links wait for an approval.
    pub required_for: ApprovalFor,
    /// Links that are longer than this wait for one, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longer_than: Option<WindowLength>,
}

/// How far links may be extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtensionRule {
    /// Longest window of a link with all its extensions.
    pub max_total: WindowLength,
}

/// A tenant's policy as it is stored. What is absent is as the service is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<WindowLength>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_duration: Option<WindowLength>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_allowed: Option<Vec<Access>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbidden: Option<Vec<Forbidden>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_ticket: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend: Option<ExtensionRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_hours: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reentry: Option<Reentry>,
}
