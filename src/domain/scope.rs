//! What a client may do.

use crate::db::text_enum;

text_enum! {
    /// What a client may do.
    pub enum Scope {
        /// Issue and resend links.
        IssueLinks = "links:issue",
        /// Read links and sessions.
        ReadLinks = "links:read",
        /// Revoke links.
        RevokeLinks = "links:revoke",
        /// Open and end sessions.
        RedeemSessions = "sessions:redeem",
        /// Ask whether a session holds.
        IntrospectSessions = "sessions:introspect",
        /// Report what happened in a session.
        WriteAudit = "audit:write",
        /// Read the trail.
        ReadAudit = "audit:read",
        /// Read tenants.
        ReadTenants = "tenants:read",
        /// Register tenants.
        WriteTenants = "tenants:write",
        /// Read the directory of consultants.
        ReadConsultants = "consultants:read",
        /// Change the directory of consultants.
        WriteConsultants = "consultants:write",
        /// Manage the client's own webhook endpoints.
        ManageWebhooks = "webhooks:manage",
        /// Manage clients, and what else needs an operator.
        Admin = "admin",
    }
}

impl Scope {
    /// As they are stored: words.
    pub(crate) fn of_words(words: &str) -> impl Iterator<Item = Self> {
        words.split_whitespace().filter_map(|word| word.parse().ok())
    }
}
