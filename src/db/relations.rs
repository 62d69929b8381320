//! Which tables are joined, and which appear in one query.

use super::schema::{
    audit_checkpoints, audit_event_principals, audit_events, audit_logs, audit_payloads, checkpoint_deliveries,
    clients, consultants, extension_requests, key_revocations, link_devices, link_expiry, link_keys, link_requests,
    link_reviews, magic_links, mail_jobs, mail_suppressions, revocations, service_state, session_sources, sessions,
    signing_keys, status_lists, tenant_policies, tenants, webhook_deliveries, webhook_endpoint_tenants,
    webhook_endpoints,
};

diesel::joinable!(sessions -> magic_links (magic_link_id));
diesel::joinable!(sessions -> consultants (consultant_id));
diesel::joinable!(magic_links -> consultants (consultant_id));
diesel::joinable!(mail_jobs -> consultants (consultant_id));
diesel::allow_tables_to_appear_in_same_query!(audit_event_principals, audit_events, audit_payloads);
diesel::allow_tables_to_appear_in_same_query!(audit_checkpoints, audit_logs, checkpoint_deliveries);
diesel::allow_tables_to_appear_in_same_query!(
    consultants,
    extension_requests,
    key_revocations,
    link_devices,
    link_expiry,
    link_keys,
    link_reviews,
    magic_links,
    mail_jobs,
    mail_suppressions,
    revocations,
    service_state,
    session_sources,
    sessions,
    signing_keys,
    status_lists,
    tenants,
);
diesel::allow_tables_to_appear_in_same_query!(service_state, webhook_deliveries);
diesel::allow_tables_to_appear_in_same_query!(clients, consultants);
diesel::allow_tables_to_appear_in_same_query!(link_requests, revocations);
diesel::allow_tables_to_appear_in_same_query!(link_requests, magic_links);
diesel::allow_tables_to_appear_in_same_query!(consultants, link_requests);
diesel::allow_tables_to_appear_in_same_query!(clients, mail_suppressions);
diesel::allow_tables_to_appear_in_same_query!(clients, tenant_policies);
diesel::allow_tables_to_appear_in_same_query!(consultants, tenant_policies);
diesel::allow_tables_to_appear_in_same_query!(clients, service_state);
diesel::allow_tables_to_appear_in_same_query!(clients, webhook_deliveries, webhook_endpoint_tenants, webhook_endpoints);
