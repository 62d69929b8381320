//! Scopes of clients.

use crate::db::text_enum;

text_enum! {
    /// Scope of a client: a permission to call operations.
    pub enum Scope {
        /// Issue and resend links.
        IssueLinks = "links:issue",
        /// Issue links in an emergency, which wait for no approval, where the tenant's policy allows it; with `links:issue`.
        EmergencyLinks = "links:emergency",
        /// Ask for links that wait for an approval, and withdraw such a request.
        RequestLinks = "links:request",
        /// Approve and deny links that wait for an approval.
        ApproveLinks = "links:approve",
        /// Read links and sessions.
        ReadLinks = "links:read",
        /// Revoke links.
        RevokeLinks = "links:revoke",
        /// Open and end sessions.
        RedeemSessions = "sessions:redeem",
        /// Introspect access tokens.
        IntrospectSessions = "sessions:introspect",
        /// Report activity events of a session.
        WriteAudit = "audit:write",
        /// Read the audit log.
        ReadAudit = "audit:read",
        /// Place and release legal holds, erase payloads, and set how long they are kept.
        ManageAudit = "audit:manage",
        /// Read tenants.
        ReadTenants = "tenants:read",
        /// Register and change tenants.
        WriteTenants = "tenants:write",
        /// Change the policies and approval keys of tenants.
        WritePolicies = "policies:write",
        /// Read consultants.
        ReadConsultants = "consultants:read",
        /// Register and change consultants.
        WriteConsultants = "consultants:write",
        /// Manage the client's own webhook endpoints.
        ManageWebhooks = "webhooks:manage",
        /// Manage clients and signing keys, and call the other operations for operators.
        Admin = "admin",
    }
}

impl Scope {
    /// Whether the scope lets a client give access, which a policy is to limit.
    pub(crate) const fn grants(self) -> bool {
        match self {
            Self::IssueLinks | Self::EmergencyLinks | Self::RequestLinks | Self::ApproveLinks => true,
            Self::ReadLinks
            | Self::RevokeLinks
            | Self::RedeemSessions
            | Self::IntrospectSessions
            | Self::WriteAudit
            | Self::ReadAudit
            | Self::ManageAudit
            | Self::ReadTenants
            | Self::WriteTenants
            | Self::WritePolicies
            | Self::ReadConsultants
            | Self::WriteConsultants
            | Self::ManageWebhooks
            | Self::Admin => false,
        }
    }

    /// A scope that is kept apart from another one of these, and is not among `combined`: `policies:write` from those
    /// that give access.
    pub(crate) fn kept_apart(scopes: &[Self], combined: &[Self]) -> Option<(Self, Self)> {
        let policies = Self::WritePolicies;
        if !scopes.contains(&policies) || combined.contains(&policies) {
            return None;
        }
        scopes.iter().find(|scope| scope.grants()).map(|granting| (policies, *granting))
    }

    /// Parses the stored form: scopes separated by spaces.
    pub(crate) fn of_words(words: &str) -> impl Iterator<Item = Self> {
        words.split_whitespace().filter_map(|word| word.parse().ok())
    }
}
