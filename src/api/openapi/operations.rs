//! What the signature of a handler does not tell the description: the scopes of each operation, and what it refuses
//! beyond what every call of its kind can be refused for.
//!
//! Tests hold both: the scopes against the service (`access_matrix`), and the codes against what it answers.

use serde_json::{Value, json};

use crate::domain::Scope;
use crate::error::Code;

/// An operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub id: &'static str,
    /// Each of them is enough; none where nobody needs a key.
    pub scopes: &'static [Scope],
    /// Its own codes.
    pub codes: &'static [Code],
}

macro_rules! operations {
    ($($id:ident [$($scope:ident)*] $($code:ident)*;)*) => {
        const OPERATIONS: &[Operation] = &[$(Operation {
            id: stringify!($id),
            scopes: &[$(Scope::$scope),*],
            codes: &[$(Code::$code),*],
        },)*];
    };
}

operations! {
    // Sessions
    openSession [RedeemSessions]
        TokenInvalid CodeRequired StepUpRequired NotFound LinkNotYetValid LinkSpent LinkSuperseded LinkReplaced
        LinkRevoked SigningKeyRevoked LinkExpired TokenExpired SessionEnded ValidationFailed ClockBehind;
    listSessions [ReadLinks];
    getSession [ReadLinks] NotFound;
    endSession [RedeemSessions] NotFound ReportLimitReached ValidationFailed;
    revokeSession [RevokeLinks] NotFound ValidationFailed;
    reportEvents [WriteAudit] NotFound ReportLimitReached EventConflict ReportingClosed ValidationFailed;
    revokeToken [RedeemSessions];
    introspectToken [IntrospectSessions];
    // Links
    issueMagicLink [IssueLinks RequestLinks]
        ClientNotPermitted PolicyForbids OwnRequest SupportSessionCannotGrant NotFound RequestExists
        ConsultantSuspended AccessExists EmergencyAccess ReviewDue IssuingFrozen AddressSuppressed
        ValidationFailed ClockBehind;
    listMagicLinks [ReadLinks];
    getMagicLink [ReadLinks] NotFound;
    approveMagicLink [ApproveLinks]
        ClientNotPermitted PolicyForbids CustomerSignatureRequired CustomerSignatureInvalid OwnRequest SupportSessionCannotGrant NotFound AlreadyDecided AccessExists IssuingFrozen
        ClientDisabled RequestLapsed ValidationFailed ClockBehind;
    denyMagicLink [ApproveLinks] SupportSessionCannotGrant NotFound AlreadyDecided RequestLapsed ValidationFailed;
    withdrawMagicLink [IssueLinks RequestLinks] NotFound AlreadyDecided RequestLapsed ValidationFailed;
    revokeMagicLink [RevokeLinks] NotFound ValidationFailed;
    resendMagicLink [IssueLinks]
        SupportSessionCannotGrant NotFound ApprovalRequired AlreadyDecided AddressSuppressed RequestLapsed
        LinkReplaced LinkRevoked LinkExpired ValidationFailed ResendCoolDown ClockBehind;
    extendMagicLink [IssueLinks RequestLinks]
        PolicyForbids SupportSessionCannotGrant NotFound ApprovalRequired AlreadyDecided ChangeLimitReached
        ExtensionExists AccessExists EmergencyAccess IssuingFrozen RequestLapsed LinkReplaced LinkRevoked LinkExpired
        ValidationFailed;
    approveExtension [ApproveLinks]
        ClientNotPermitted PolicyForbids CustomerSignatureRequired CustomerSignatureInvalid OwnRequest SupportSessionCannotGrant NotFound ApprovalRequired AlreadyDecided
        ChangeLimitReached ClientDisabled IssuingFrozen RequestLapsed LinkReplaced LinkRevoked LinkExpired ValidationFailed;
    denyExtension [ApproveLinks]
        SupportSessionCannotGrant NotFound ApprovalRequired AlreadyDecided RequestLapsed LinkReplaced
        LinkRevoked LinkExpired ValidationFailed;
    withdrawExtension [IssueLinks RequestLinks]
        NotFound ApprovalRequired AlreadyDecided RequestLapsed LinkReplaced LinkRevoked LinkExpired
        ValidationFailed;
    shortenMagicLink [RevokeLinks]
        NotFound ApprovalRequired AlreadyDecided ChangeLimitReached RequestLapsed LinkReplaced LinkRevoked
        LinkExpired ValidationFailed;
    reviewMagicLink [ApproveLinks]
        OwnRequest SupportSessionCannotGrant NotFound AlreadyDecided ReviewTooEarly ValidationFailed;
    correctMagicLink [IssueLinks]
        PolicyForbids SupportSessionCannotGrant NotFound ApprovalRequired AlreadyDecided ChangeLimitReached RequestLapsed
        LinkReplaced LinkRevoked LinkExpired ValidationFailed;
    getIssuing [Admin] ClientNotPermitted;
    setIssuing [Admin] ClientNotPermitted ValidationFailed RestoreRequired;
    getSandboxClock [Admin] ClientNotPermitted NotFound;
    moveSandboxClock [Admin] ClientNotPermitted NotFound ValidationFailed;
    previewLink [] TokenInvalid SigningKeyRevoked;
    continueLink []
        TokenInvalid LinkNotYetValid AddressSuppressed LinkSpent LinkSuperseded LinkReplaced LinkRevoked
        SigningKeyRevoked LinkExpired TokenExpired ResendCoolDown ClockBehind;
    verifyCode []
        TokenInvalid StepUpCodeWrong ProofInvalid LinkSpent LinkSuperseded LinkRevoked LinkExpired StepUpVoid
        ClockBehind;
    reenterLink []
        TokenInvalid DeviceUnknown ProofInvalid LinkSuperseded LinkReplaced LinkRevoked SigningKeyRevoked
        LinkExpired ClockBehind;
    forgetDevice []
        TokenInvalid DeviceUnknown ProofInvalid LinkSuperseded LinkReplaced LinkRevoked LinkExpired ClockBehind;
    requestFreshLink []
        TokenInvalid AddressSuppressed LinkSuperseded LinkReplaced LinkRevoked SigningKeyRevoked LinkExpired
        ResendCoolDown ClockBehind;
    // Revocations
    createRevocation [RevokeLinks] ClientNotPermitted ValidationFailed;
    listRevocations [RevokeLinks];
    getRevocation [RevokeLinks] NotFound;
    // Consultants
    registerConsultant [WriteConsultants]
        ClientNotPermitted SupportSessionCannotGrant ConsultantExists ValidationFailed;
    listConsultants [ReadConsultants];
    getConsultant [ReadConsultants] NotFound;
    changeConsultant [WriteConsultants]
        ClientNotPermitted SupportSessionCannotGrant NotFound ConsultantExists ValidationFailed;
    suspendConsultant [WriteConsultants] ClientNotPermitted SupportSessionCannotGrant NotFound ValidationFailed;
    reinstateConsultant [WriteConsultants] ClientNotPermitted SupportSessionCannotGrant NotFound ValidationFailed;
    // Tenants
    saveTenant [WriteTenants] ClientNotPermitted NotFound ValidationFailed;
    listTenants [ReadTenants];
    getTenant [ReadTenants] NotFound;
    // Policies
    savePolicy [WritePolicies]
        ClientNotPermitted CustomerSignatureRequired SupportSessionCannotGrant NotFound ValidationFailed;
    getPolicy [ReadTenants] NotFound;
    saveApprovalKey [WritePolicies]
        ClientNotPermitted CustomerSignatureRequired CustomerSignatureInvalid SupportSessionCannotGrant NotFound
        ValidationFailed;
    getApprovalKey [ReadTenants] NotFound;
    removeApprovalKey [WritePolicies]
        ClientNotPermitted CustomerSignatureRequired CustomerSignatureInvalid SupportSessionCannotGrant NotFound
        ValidationFailed;
    cancelApprovalKeyChange [WritePolicies] ClientNotPermitted SupportSessionCannotGrant NotFound ValidationFailed;
    // Clients
    createClient [Admin] ClientNotPermitted ValidationFailed;
    listClients [Admin];
    getClient [Admin] NotFound;
    changeClient [Admin] ClientNotPermitted NotFound ClientDisabled TooManyEndpoints ValidationFailed;
    rotateClient [Admin] ClientNotPermitted NotFound OverlapRunning ClientDisabled ValidationFailed;
    disableClient [Admin] NotFound;
    // Signing keys
    getJwks [];
    getOpenidConfiguration [];
    getAuthorizationServer [];
    listKeys [Admin] ClientNotPermitted;
    rotateKey [Admin] ClientNotPermitted;
    retireKey [Admin] InvalidBody ClientNotPermitted NotFound LastSigningKey BodyTooLarge UnsupportedMediaType;
    revokeKey [Admin] ClientNotPermitted NotFound ValidationFailed;
    // Status lists
    getStatusLists [];
    getStatusList [] NotFound;
    // Audit
    listAuditEvents [ReadAudit];
    exportAuditEvents [ReadAudit] NotFound LogForked RestoreRequired;
    getAuditLog [ReadAudit] NotFound;
    getCheckpoint [ReadAudit] NotFound LogForked RestoreRequired;
    getInclusionProof [ReadAudit] NotFound;
    getConsistencyProof [ReadAudit] NotFound;
    getVerifierKey [ReadAudit] NotFound;
    purgeAuditLog [ManageAudit] ClientNotPermitted NotFound RetentionNotOver ErasureByCommand LegalHold ValidationFailed RestoreRequired;
    placeLegalHold [ManageAudit] ClientNotPermitted NotFound TooManyHolds ValidationFailed;
    listLegalHolds [ReadAudit] ClientNotPermitted NotFound;
    releaseLegalHold [ManageAudit] ClientNotPermitted NotFound ValidationFailed RestoreRequired;
    listAccessSummaries [ReadAudit] NotFound;
    getEvidence [ReadAudit] NotFound EvidenceTooLarge LogForked RestoreRequired;
    // Mail
    reportMailEvents [] SignatureInvalid RouteNotFound;
    listMailSuppressions [Admin] ClientNotPermitted;
    clearMailSuppression [Admin] ClientNotPermitted NotFound ValidationFailed;
    listMailDeliveries [ReadLinks];
    retryMailDelivery [Admin] InvalidBody NotFound MailNotRetryable BodyTooLarge UnsupportedMediaType;
    // Webhooks
    createWebhookEndpoint [ManageWebhooks] ClientDisabled TooManyEndpoints ValidationFailed;
    listWebhookEndpoints [ManageWebhooks];
    getWebhookEndpoint [ManageWebhooks] NotFound;
    changeWebhookEndpoint [ManageWebhooks] NotFound ValidationFailed;
    deleteWebhookEndpoint [ManageWebhooks] InvalidBody NotFound BodyTooLarge UnsupportedMediaType;
    rotateWebhookSecret [ManageWebhooks] ClientNotPermitted NotFound OverlapRunning ValidationFailed;
    testWebhookEndpoint [ManageWebhooks] InvalidBody NotFound EndpointDisabled BodyTooLarge UnsupportedMediaType;
    listWebhookDeliveries [ManageWebhooks] NotFound;
    retryWebhookDeliveries [ManageWebhooks] NotFound EndpointDisabled;
    // Health
    getHealth [];
    getReadiness [] RestoreRequired;
}

/// What is known of an operation.
pub(super) fn of_operation(id: &str) -> Operation {
    let known = OPERATIONS.iter().find(|one| one.id == id).copied();
    known.unwrap_or(Operation { id: "", scopes: &[], codes: &[] })
}

/// Changes every operation of a description, which comes with its path.
pub(super) fn for_each(description: &mut Value, mut change: impl FnMut(&str, &mut Value)) {
    for (path, item) in description["paths"].as_object_mut().into_iter().flatten() {
        item.as_object_mut().into_iter().flatten().for_each(|(_, operation)| change(path, operation));
    }
}

/// The parameters of an operation.
pub(super) fn parameters(operation: &Value) -> impl Iterator<Item = &Value> {
    operation["parameters"].as_array().into_iter().flatten()
}

/// Names the scopes of each operation as what its key must have.
pub(super) fn secure(description: &mut Value) {
    for_each(description, |_, operation| {
        let scopes = of_operation(operation["operationId"].as_str().unwrap_or_default()).scopes;
        let needed: Vec<Value> = scopes.iter().map(|scope| json!({ "bearer": [scope.as_str()] })).collect();
        operation["security"] = if needed.is_empty() { json!([{}]) } else { needed.into() };
        let told = operation["description"].as_str().unwrap_or_default();
        let named: Vec<String> = scopes.iter().map(|scope| format!("`{scope}`")).collect();
        if !named.is_empty() {
            operation["description"] = format!("{told}\n\nNeeds the scope {}.", named.join(" or ")).into();
        }
    });
}

/// The scopes, as rows of a Markdown table.
pub(super) fn scopes_table(description: &Value) -> String {
    let told = description.pointer("/components/schemas/Scope/description").and_then(Value::as_str);
    let rows = told.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("- ")?.split_once(": "));
    let rows: Vec<String> = rows.map(|(scope, allows)| format!("| {scope} | {allows} |")).collect();
    format!("| scope | allows |\n| --- | --- |\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_are_those_of_the_routes() {
        let mut described = crate::api::openapi::description().unwrap();
        let mut routed = Vec::new();
        for_each(&mut described, |_, operation| routed.push(operation["operationId"].as_str().unwrap().to_owned()));
        let mut known: Vec<&str> = OPERATIONS.iter().map(|one| one.id).collect();
        routed.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, routed, "an operation has one row in `operations!`");
    }
}
