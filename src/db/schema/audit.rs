//! Tables of the audit logs.

diesel::table! {
    audit_logs (tenant_id) {
        tenant_id -> Text,
        size -> BigInt,
        frontier -> Binary,
        suffix -> Nullable<Text>,
        key_id -> Text,
    }
}

diesel::table! {
    audit_restores (tenant_id, suffix) {
        tenant_id -> Text,
        suffix -> Text,
        restored_at -> Timestamp,
        checkpoint_size -> Nullable<BigInt>,
        checkpoint_root -> Nullable<Binary>,
        checkpoints -> Nullable<Text>,
    }
}

diesel::table! {
    audit_events (id) {
        id -> Text,
        tenant_id -> Text,
        log_index -> BigInt,
        event_type -> Text,
        occurred_at -> Timestamp,
        recorded_at -> Timestamp,
        actor_type -> Text,
        actor_id -> Text,
        client_id -> Nullable<Text>,
        portal -> Nullable<Text>,
        magic_link_id -> Nullable<Text>,
        session_id -> Nullable<Text>,
        consultant_id -> Nullable<Text>,
        profile_id -> Nullable<Text>,
        principal_id -> Nullable<Text>,
        source -> Nullable<Text>,
        seq -> Nullable<BigInt>,
        late -> Bool,
        policy_violation -> Bool,
        trace_id -> Nullable<Text>,
        payload_commitment -> Binary,
        hashes -> Binary,
        out_of_session -> Bool,
        principal_ids -> Nullable<Text>,
        approval -> Nullable<Text>,
    }
}

diesel::table! {
    audit_event_principals (principal_id, event_id) {
        principal_id -> Text,
        event_id -> Text,
    }
}

diesel::table! {
    audit_payloads (tenant_id, log_index) {
        tenant_id -> Text,
        log_index -> BigInt,
        salt -> Binary,
        payload -> Text,
        fingerprint -> Nullable<Binary>,
    }
}

diesel::table! {
    audit_erasures (tenant_id, from_index) {
        tenant_id -> Text,
        from_index -> BigInt,
        to_index -> BigInt,
        erased_at -> Timestamp,
        actor_type -> Text,
        actor_id -> Text,
        actor_name -> Nullable<Text>,
        reason -> Text,
    }
}

diesel::table! {
    audit_checkpoints (tenant_id, size) {
        tenant_id -> Text,
        size -> BigInt,
        root -> Binary,
        note -> Text,
        signed_at -> Timestamp,
    }
}

diesel::table! {
    checkpoint_deliveries (tenant_id, channel) {
        tenant_id -> Text,
        channel -> Text,
        size -> BigInt,
        attempts -> Integer,
        next_attempt_at -> Timestamp,
        delivered_at -> Nullable<Timestamp>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    audit_keys (id) {
        id -> Text,
        origin -> Text,
        public_key -> Text,
        sealed_private_key -> Text,
        created_at -> Timestamp,
    }
}

diesel::table! {
    legal_holds (id) {
        id -> Text,
        tenant_id -> Text,
        reason -> Text,
        until -> Nullable<Timestamp>,
        placed_at -> Timestamp,
        placed_by_type -> Text,
        placed_by_id -> Text,
        placed_by_name -> Nullable<Text>,
        released_at -> Nullable<Timestamp>,
        release_reason -> Nullable<Text>,
        released_by_type -> Nullable<Text>,
        released_by_id -> Nullable<Text>,
        released_by_name -> Nullable<Text>,
        placed_tenants -> Text,
    }
}
