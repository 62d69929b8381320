//! The tables, as both databases have them. A test compares this file with both.

mod audit;
mod links;

pub use audit::{
    audit_checkpoints, audit_erasures, audit_event_principals, audit_events, audit_keys, audit_logs, audit_payloads,
    audit_restores, checkpoint_deliveries, legal_holds,
};
pub use links::{extension_requests, link_corrections, link_extensions, link_requests, link_reviews};

diesel::table! {
    tenants (id) {
        id -> Text,
        name -> Text,
        time_zone -> Text,
        contacts -> Text,
        muted_notices -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        change_values -> Text,
        retention_days -> Nullable<Integer>,
    }
}

diesel::table! {
    tenant_policies (tenant_id, seq) {
        tenant_id -> Text,
        seq -> BigInt,
        policy -> Text,
        actor_type -> Text,
        actor_id -> Text,
        actor_name -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    tenant_approval_keys (tenant_id, seq) {
        tenant_id -> Text,
        seq -> BigInt,
        public_key -> Nullable<Text>,
        effective_at -> Timestamp,
        signed_change -> Nullable<Text>,
        actor_type -> Text,
        actor_id -> Text,
        actor_name -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
        cancelled_at -> Nullable<Timestamp>,
        told -> Text,
        cancelled_by -> Nullable<Text>,
    }
}

diesel::table! {
    consultants (id) {
        id -> Text,
        name -> Text,
        email -> Text,
        email_key -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        suspended_at -> Nullable<Timestamp>,
        suspend_reason -> Nullable<Text>,
        unconfirmed_since -> Nullable<Timestamp>,
        erased_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    clients (id) {
        id -> Text,
        name -> Text,
        portal -> Nullable<Text>,
        tenants -> Text,
        scopes -> Text,
        key_sha256 -> Text,
        previous_key_sha256 -> Nullable<Text>,
        previous_key_expires_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
        rotated_at -> Nullable<Timestamp>,
        disabled_at -> Nullable<Timestamp>,
        unconfirmed_since -> Nullable<Timestamp>,
        changed_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    magic_links (id) {
        id -> Text,
        tenant_id -> Text,
        portal -> Text,
        consultant_id -> Text,
        profile_id -> Text,
        profile_name -> Text,
        profile_email -> Nullable<Text>,
        reason -> Text,
        ticket -> Nullable<Text>,
        access -> Text,
        starts_at -> Timestamp,
        expires_at -> Timestamp,
        issued_by_id -> Text,
        issued_by_name -> Text,
        issued_by_email -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
        generation -> Integer,
        resent_at -> Nullable<Timestamp>,
        spent_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
        revoke_reason -> Nullable<Text>,
        revoked_by_type -> Nullable<Text>,
        revoked_by_id -> Nullable<Text>,
        revoked_by_name -> Nullable<Text>,
        issued_after -> Nullable<BigInt>,
        visit -> Integer,
        reentry -> Text,
        replaced_by -> Nullable<Text>,
        session_hours -> Nullable<Integer>,
        restrictions -> Nullable<Text>,
        erased_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    open_grants (tenant_id, portal, consultant_id, profile_id) {
        tenant_id -> Text,
        portal -> Text,
        consultant_id -> Text,
        profile_id -> Text,
        magic_link_id -> Text,
        until -> Timestamp,
    }
}

diesel::table! {
    announced_ends (id) {
        id -> Integer,
        expires_at -> Timestamp,
        link_id -> Text,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        magic_link_id -> Text,
        generation -> Integer,
        tenant_id -> Text,
        portal -> Text,
        consultant_id -> Text,
        profile_id -> Text,
        profile_name -> Text,
        access -> Text,
        reason -> Text,
        ticket -> Nullable<Text>,
        client_id -> Nullable<Text>,
        started_at -> Timestamp,
        expires_at -> Timestamp,
        ended_at -> Nullable<Timestamp>,
        end_cause -> Nullable<Text>,
        closed_at -> Nullable<Timestamp>,
        visitor_address -> Nullable<Text>,
        visitor_user_agent -> Nullable<Text>,
        kid -> Text,
        status_list -> BigInt,
        status_index -> Integer,
        link_kid -> Nullable<Text>,
        code_kid -> Nullable<Text>,
        visit -> Integer,
        restrictions -> Nullable<Text>,
        erased_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    status_lists (id) {
        id -> BigInt,
        created_at -> Timestamp,
    }
}

diesel::table! {
    session_sources (session_id, source) {
        session_id -> Text,
        source -> Text,
        event_count -> BigInt,
        last_seq -> BigInt,
        closing_seq -> Nullable<BigInt>,
        last_event_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    mail_jobs (id) {
        id -> Text,
        template -> Text,
        dedup_key -> Text,
        consultant_id -> Nullable<Text>,
        tenant_id -> Text,
        portal -> Text,
        magic_link_id -> Nullable<Text>,
        generation -> Nullable<Integer>,
        session_id -> Nullable<Text>,
        recipient -> Nullable<Text>,
        state -> Text,
        attempts -> Integer,
        unknown_attempts -> Integer,
        retry_round -> Integer,
        next_attempt_at -> Timestamp,
        lease_until -> Nullable<Timestamp>,
        provider -> Nullable<Text>,
        provider_message_id -> Nullable<Text>,
        last_error -> Nullable<Text>,
        created_at -> Timestamp,
        finished_at -> Nullable<Timestamp>,
        kid -> Nullable<Text>,
        traceparent -> Nullable<Text>,
        sent_to -> Nullable<Text>,
        left_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    step_ups (id) {
        id -> Text,
        magic_link_id -> Text,
        generation -> Integer,
        page_sha256 -> Text,
        tries -> Integer,
        created_at -> Timestamp,
        expires_at -> Timestamp,
        passed_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    mail_suppressions (id) {
        id -> Text,
        address -> Text,
        address_key -> Text,
        cause -> Text,
        provider -> Text,
        mail_job_id -> Text,
        created_at -> Timestamp,
        cleared_at -> Nullable<Timestamp>,
        clear_reason -> Nullable<Text>,
    }
}

diesel::table! {
    webhook_endpoints (id) {
        id -> Text,
        client_id -> Text,
        url -> Text,
        description -> Nullable<Text>,
        events -> Text,
        format -> Text,
        audience -> Nullable<Text>,
        sealed_secret -> Text,
        previous_sealed_secret -> Nullable<Text>,
        previous_secret_expires_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        disabled_at -> Nullable<Timestamp>,
        disable_cause -> Nullable<Text>,
        deleted_at -> Nullable<Timestamp>,
        heard_since -> Text,
        held_until -> Nullable<Timestamp>,
    }
}

diesel::table! {
    webhook_endpoint_tenants (tenant_id, endpoint_id) {
        tenant_id -> Text,
        endpoint_id -> Text,
    }
}

diesel::table! {
    webhook_events (place) {
        place -> BigInt,
        tenant_id -> Text,
        log_index -> BigInt,
        event_id -> Text,
        event_type -> Text,
        portal -> Text,
        magic_link_id -> Nullable<Text>,
        data -> Text,
        recorded_at -> Timestamp,
        done_up_to -> Nullable<Text>,
        traceparent -> Nullable<Text>,
    }
}

diesel::table! {
    webhook_deliveries (id) {
        id -> Text,
        endpoint_id -> Text,
        event_id -> Nullable<Text>,
        event_type -> Text,
        magic_link_id -> Nullable<Text>,
        log_index -> BigInt,
        data -> Text,
        state -> Text,
        attempts -> Integer,
        next_attempt_at -> Timestamp,
        lease_until -> Nullable<Timestamp>,
        last_attempt_at -> Nullable<Timestamp>,
        last_error -> Nullable<Text>,
        created_at -> Timestamp,
        finished_at -> Nullable<Timestamp>,
        traceparent -> Nullable<Text>,
    }
}

diesel::table! {
    link_expiry (id) {
        id -> Integer,
        expires_at -> Timestamp,
        link_id -> Text,
    }
}

diesel::table! {
    report_checks (id) {
        id -> Text,
        session_id -> Text,
        due_at -> Timestamp,
    }
}

diesel::table! {
    report_gaps (session_id, audit_state) {
        session_id -> Text,
        audit_state -> Text,
        told_at -> Timestamp,
    }
}

diesel::table! {
    idempotency_keys (client_id, route, idempotency_key) {
        client_id -> Text,
        route -> Text,
        idempotency_key -> Text,
        fingerprint -> Text,
        resource_id -> Text,
        created_at -> Timestamp,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        algorithm -> Text,
        public_jwk -> Text,
        sealed_private_key -> Text,
        created_at -> Timestamp,
        active_from -> Timestamp,
        expires_at -> Nullable<Timestamp>,
        retired_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    link_keys (kid, magic_link_id, generation) {
        kid -> Text,
        magic_link_id -> Text,
        generation -> Integer,
    }
}

diesel::table! {
    link_devices (magic_link_id, generation) {
        magic_link_id -> Text,
        generation -> Integer,
        thumbprint -> Text,
        proofs -> Integer,
        remembered_at -> Timestamp,
        forgotten_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    key_revocations (kid) {
        kid -> Text,
        reason -> Text,
        actor_type -> Text,
        actor_id -> Text,
        actor_name -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
        links -> BigInt,
        sessions -> BigInt,
        done_at -> Nullable<Timestamp>,
        replaced_by -> Nullable<Text>,
        renews -> Bool,
        renewed -> BigInt,
    }
}

diesel::table! {
    service_state (id) {
        id -> Integer,
        key_epoch -> BigInt,
        frozen_at -> Nullable<Timestamp>,
        freeze_reason -> Nullable<Text>,
        master_key_id -> Nullable<Text>,
        incarnation -> BigInt,
        restoring_at -> Nullable<Timestamp>,
        first_status_list -> BigInt,
        sandbox_moved_micros -> Nullable<BigInt>,
        erasing_held -> Bool,
        time_seen_at -> Nullable<Timestamp>,
        time_jumped_at -> Nullable<Timestamp>,
        queues_cancelled -> Bool,
    }
}

diesel::table! {
    kept_secrets (name) {
        name -> Text,
        sealed -> Text,
    }
}

diesel::table! {
    revocations (id) {
        id -> Text,
        seq -> BigInt,
        every_tenant -> Bool,
        portal -> Nullable<Text>,
        consultant_id -> Nullable<Text>,
        profile_id -> Nullable<Text>,
        issued_by_id -> Nullable<Text>,
        reason -> Text,
        dry_run -> Bool,
        links -> BigInt,
        sessions -> BigInt,
        actor_type -> Text,
        actor_id -> Text,
        actor_name -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
        xid_watermark -> Nullable<BigInt>,
        done_to -> Nullable<Text>,
        lease_until -> Nullable<Timestamp>,
        done_at -> Nullable<Timestamp>,
        issued_by_client_id -> Nullable<Text>,
        ticket -> Nullable<Text>,
        requests -> BigInt,
    }
}

diesel::table! {
    revocation_tenants (revocation_id, tenant_id) {
        revocation_id -> Text,
        tenant_id -> Text,
    }
}

diesel::table! {
    access_epoch (id) {
        id -> Integer,
        epoch -> BigInt,
    }
}

diesel::table! {
    client_uses (client_id) {
        client_id -> Text,
        last_used_at -> Timestamp,
        address -> Nullable<Text>,
    }
}

diesel::table! {
    write_probe (id) {
        id -> Integer,
        written_at -> Timestamp,
    }
}

diesel::table! {
    tolerated_migrations (version) {
        version -> Text,
        known_since -> Text,
    }
}
