//! Tables of what was asked for and done about links.

diesel::table! {
    link_requests (id) {
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
        reentry -> Text,
        starts_at -> Timestamp,
        hours -> Integer,
        issued_by_id -> Text,
        issued_by_name -> Text,
        issued_by_email -> Text,
        requested_by_id -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
        lapses_at -> Timestamp,
        replaces -> Bool,
        issued_after -> Nullable<BigInt>,
        state -> Text,
        decided_at -> Nullable<Timestamp>,
        decision -> Nullable<Text>,
        restrictions -> Nullable<Text>,
        erased_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    extension_requests (id) {
        id -> Text,
        magic_link_id -> Text,
        previous_expires_at -> Timestamp,
        hours -> Integer,
        reason -> Text,
        asked_by_id -> Text,
        asked_by_name -> Text,
        asked_by_email -> Text,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
        lapses_at -> Timestamp,
        state -> Text,
        decided_at -> Nullable<Timestamp>,
        decision -> Nullable<Text>,
    }
}

diesel::table! {
    link_extensions (id) {
        id -> Text,
        magic_link_id -> Text,
        previous_expires_at -> Timestamp,
        expires_at -> Timestamp,
        reason -> Text,
        actor_type -> Text,
        actor_id -> Text,
        actor_name -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    link_corrections (id) {
        id -> Text,
        magic_link_id -> Text,
        previous_reason -> Text,
        previous_ticket -> Nullable<Text>,
        reason -> Text,
        ticket -> Nullable<Text>,
        actor_type -> Text,
        actor_id -> Text,
        actor_name -> Nullable<Text>,
        client_id -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    link_reviews (magic_link_id) {
        magic_link_id -> Text,
        tenant_id -> Text,
        portal -> Text,
        profile_id -> Text,
        justification -> Text,
        created_at -> Timestamp,
        review_due_at -> Timestamp,
        reviewed_at -> Nullable<Timestamp>,
        reviewer_id -> Nullable<Text>,
        reviewer_name -> Nullable<Text>,
        finding -> Nullable<Text>,
        comment -> Nullable<Text>,
        client_id -> Nullable<Text>,
        requested_by_id -> Nullable<Text>,
    }
}
