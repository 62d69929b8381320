//! A view of the log for SIEMs: Open Cybersecurity Schema Framework 1.8.
//!
//! The start and end of a session are *Authentication* (3002): opening one is an
//! account switch from consultant to profile. All others are *API Activity* (6003).

use serde_json::{Value, json};

use super::without_nulls;
use crate::audit::AuditEvent;
use crate::clock::Timestamp;
use crate::domain::{Actor, ActorType, EventResult, EventType};
use crate::error::Error;

const VERSION: &str = "1.8.0";

/// OCSF class and activity.
struct Class {
    category: (u32, &'static str),
    uid: u32,
    name: &'static str,
    activity: (u32, &'static str),
}

impl Class {
    const fn authentication(activity: u32, name: &'static str) -> Self {
        let category = (3, "Identity & Access Management");
        Self { category, uid: 3002, name: "Authentication", activity: (activity, name) }
    }

    const fn api(activity: u32, name: &'static str) -> Self {
        let category = (6, "Application Activity");
        Self { category, uid: 6003, name: "API Activity", activity: (activity, name) }
    }

    const fn other() -> Self {
        Self::api(99, "Other")
    }

    const fn of(kind: EventType) -> Self {
        match kind {
            EventType::SessionOpened => Self::authentication(7, "Account Switch"),
            EventType::SessionEnded | EventType::SessionReplaced => Self::authentication(2, "Logoff"),
            EventType::LinkIssued
            | EventType::EmergencyIssued
            | EventType::ConsultantRegistered
            | EventType::ClientCreated
            | EventType::KeyAdded
            | EventType::HoldPlaced => Self::api(1, "Create"),
            EventType::DataViewed
            | EventType::DataExported
            | EventType::AuditRead
            | EventType::AuditExported
            | EventType::ClientRead => Self::api(2, "Read"),
            EventType::DataChanged
            | EventType::TenantSaved
            | EventType::ConsultantChanged
            | EventType::ConsultantSuspended
            | EventType::ConsultantReinstated
            | EventType::ClientRotated
            | EventType::ClientChanged
            | EventType::ClientDisabled
            | EventType::LinkResent
            | EventType::DeviceRemembered
            | EventType::DeviceForgotten
            | EventType::LinkRevoked
            | EventType::LinkReplaced
            | EventType::LinkExtended
            | EventType::LinkShortened
            | EventType::LinkCorrected
            | EventType::EmergencyReviewed
            | EventType::SessionClosed
            | EventType::HoldReleased => Self::api(3, "Update"),
            EventType::AuditPurged | EventType::PersonalDataErased | EventType::ConsultantErased => {
                Self::api(4, "Delete")
            }
            _ => Self::other(),
        }
    }
}

pub(super) fn line(event: &AuditEvent) -> Result<String, Error> {
    Ok(serde_json::to_string(&without_nulls(object(event))).map_err(Error::internal)? + "\n")
}

fn object(event: &AuditEvent) -> Value {
    let class = event.kind.known().map_or_else(Class::other, Class::of);
    let (status, status_id) = match event.result {
        EventResult::Success => ("Success", 1),
        EventResult::Refused | EventResult::Failed => ("Failure", 2),
    };
    let (severity, severity_id) = if event.policy_violation || event.kind == EventType::PolicyViolation {
        ("Medium", 3)
    } else if event.result == EventResult::Success {
        ("Informational", 1)
    } else {
        ("Low", 2)
    };
    let data = event.data.as_ref().unwrap_or(&Value::Null);
    let mut object = json!({
        "category_uid": class.category.0, "category_name": class.category.1,
        "class_uid": class.uid, "class_name": class.name,
        "activity_id": class.activity.0, "activity_name": class.activity.1,
        "type_uid": class.uid * 100 + class.activity.0,
        "type_name": format!("{}: {}", class.name, class.activity.1),
        "severity": severity, "severity_id": severity_id,
        "status": status, "status_id": status_id, "status_code": data.get("code"),
        // A time that cannot be true is no time to search by.
        "time": milliseconds(if event.out_of_session { event.recorded_at } else { event.occurred_at }),
        "message": event.reason,
        "metadata": {
            "version": VERSION,
            "product": { "name": "Magic Link", "vendor_name": "Magic Link", "version": env!("CARGO_PKG_VERSION") },
            "uid": event.id, "event_code": event.kind, "sequence": event.log_index,
            "log_name": event.tenant_id, "tenant_uid": event.tenant_id,
            "logged_time": milliseconds(event.recorded_at), "original_time": event.occurred_at.to_string(),
            "correlation_uid": event.magic_link_id,
        },
        "actor": actor(&event.actor, event),
        "src_endpoint": src_endpoint(event),
        "unmapped": {
            "leaf_hash": event.leaf_hash, "portal": event.portal, "ticket": event.ticket,
            "magic_link_id": event.magic_link_id, "principal_id": event.principal_id, "profile_id": event.profile_id,
            "principal_ids": (!event.principal_ids.is_empty()).then_some(&event.principal_ids),
            "source": event.source, "seq": event.seq, "late": event.late.then_some(true),
            "out_of_session": event.out_of_session.then_some(true),
            "policy_violation": event.policy_violation.then_some(true),
            "trace_id": event.trace_id, "data": event.data, "erased": event.erased,
        },
    });
    if let (3002, Some(members)) = (class.uid, object.as_object_mut()) {
        members.insert("user".to_owned(), json!({ "uid": event.profile_id, "type_id": 1, "type": "User" }));
        members.insert("service".to_owned(), json!({ "name": event.portal, "uid": event.portal }));
        members.insert("session".to_owned(), json!({ "uid": event.session_id, "is_remote": true }));
        members.insert("is_remote".to_owned(), true.into());
    } else if let Some(members) = object.as_object_mut() {
        let service = event.portal.as_deref().unwrap_or("magic-link");
        let operation = data.get("action").cloned().unwrap_or_else(|| event.kind.as_str().into());
        members.insert("api".to_owned(), json!({ "operation": operation, "service": { "name": service } }));
        if let Some(resource) = data.get("resource_id") {
            let resource = json!({ "uid": resource, "type": data.get("resource_type") });
            members.insert("resources".to_owned(), json!([resource]));
        }
    }
    if let (Some(user_agent), Some(members)) = (&event.user_agent, object.as_object_mut()) {
        members.insert("http_request".to_owned(), json!({ "user_agent": user_agent }));
    }
    object
}

fn actor(actor: &Actor, event: &AuditEvent) -> Value {
    let session = event.session_id.as_ref().map(|id| json!({ "uid": id }));
    match actor.kind {
        ActorType::Consultant | ActorType::PortalUser => {
            let user = json!({ "uid": actor.id, "name": actor.name, "type": actor.kind, "type_id": 99 });
            json!({ "user": user, "session": session, "app_uid": event.client_id })
        }
        ActorType::Client | ActorType::System => {
            json!({ "app_uid": actor.id, "app_name": actor.name, "session": session })
        }
    }
}

/// Source endpoint, which OCSF requires: the visitor's address, or else the API client.
fn src_endpoint(event: &AuditEvent) -> Value {
    // A portal may assert any text, but OCSF requires an IP address.
    let address = event.address.as_ref().filter(|text| text.parse::<std::net::IpAddr>().is_ok());
    match (address, &event.client_id) {
        (Some(address), _) => json!({ "ip": address }),
        (None, Some(client_id)) => json!({ "uid": client_id, "name": "API client" }),
        (None, None) => json!({ "name": "magic-link" }),
    }
}

fn milliseconds(moment: Timestamp) -> i64 {
    moment.unix_micros() / 1_000
}
