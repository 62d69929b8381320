//! Approvals that the customer has signed: where a tenant has an approval key, nothing else approves.

use serde_json::{Value, json};
use time::Duration;

use super::changing::Change;
use crate::clock::Timestamp;
use crate::domain::Restrictions;
use crate::error::{Code, Error};
use crate::id::ExtensionId;
use crate::journal::leaf::ApprovalProof;
use crate::policies::approval_key;
use crate::records;
use crate::records::extension_requests::ExtensionRequest;
use crate::records::link_requests::{LinkRequest, SignedApproval};
use crate::records::links::Link;
use crate::records::tenants;
use crate::store::Tx;
use crate::tokens::{ApprovalTerms, CustomerSigned, Signed};

impl LinkRequest {
    /// What a signed approval says of it.
    pub(super) fn terms(&self) -> ApprovalTerms {
        let asked = json!({
            "profile": [self.profile_name, self.profile_email], "reason": self.reason, "ticket": self.ticket,
            "reentry": self.reentry, "starts_at": self.starts_at, "created_at": self.created_at, "replaces": self.replaces,
            "issued_by": [self.issued_by_id, self.issued_by_name, self.issued_by_email],
            "requested_by": self.requested_by_id, "client": self.client_id,
        });
        terms(&self.link(self.starts_at), None, (self.starts_at, self.length()), &asked)
    }
}

impl ExtensionRequest {
    /// What a signed approval says of it.
    pub(super) fn terms(&self, link: &Link) -> ApprovalTerms {
        let asked = json!({
            "reason": self.reason, "previous_expires_at": self.previous_expires_at, "created_at": self.created_at,
            "asked_by": [self.asked_by_id, self.asked_by_name, self.asked_by_email], "client": self.client_id,
        });
        terms(link, Some(&self.id), (self.previous_expires_at, self.length()), &asked)
    }
}

/// What a signed approval says of a link, or of an extension that is asked for it.
fn terms(
    link: &Link,
    extension_id: Option<&ExtensionId>,
    (not_before, length): (Timestamp, Duration),
    asked: &Value,
) -> ApprovalTerms {
    let (modules, forbidden) = Restrictions::shown(link.restrictions.as_ref());
    let terms = ApprovalTerms {
        magic_link_id: link.id.clone(),
        extension_id: extension_id.cloned(),
        tenant_id: link.tenant_id.clone(),
        portal: link.portal.clone(),
        consultant_id: link.consultant_id.clone(),
        profile_id: link.profile_id.clone(),
        access: link.access,
        modules: modules.unwrap_or_default(),
        forbidden,
        duration_seconds: length.whole_seconds(),
        not_before: not_before.unix_seconds(),
        nonce: String::new(),
    };
    terms.about(asked)
}

impl SignedApproval {
    /// What the leaf of its event says of it.
    pub(super) fn proof(&self) -> ApprovalProof {
        ApprovalProof::of(Some(&self.jws), self.key_thumbprint.clone())
    }
}

/// What somebody sends as the customer's signature: under what it was asked for, and since when.
pub(super) struct Presented<'a> {
    pub kind: Signed,
    pub terms: &'a ApprovalTerms,
    /// Address of the person who approves.
    pub email: &'a str,
    pub asked_at: Timestamp,
    pub text: Option<&'a str>,
}

/// The signature of an approval, if the tenant has an approval key; it is refused without a right one.
///
/// The tenant stays locked: no other key takes effect before the approval is on record.
pub(super) fn require(
    tx: &mut Tx<'_>,
    change: &Change,
    link: &Link,
    presented: &Presented<'_>,
) -> Result<Option<SignedApproval>, Error> {
    tenants::lock(tx, &link.tenant_id)?;
    let key = approval_key::in_effect(tx, &link.tenant_id, change.now)?;
    let invalid = |why: String| Error::new(Code::CustomerSignatureInvalid).field("/signed_approval", "invalid", why);
    let (key, text) = match (key, presented.text) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err(change.refuse(tx, link, invalid("the tenant has no approval key".to_owned())));
        }
        (Some((key, _)), None) => {
            let detail = format!("the tenant's approval key {} must sign the approval", key.thumbprint());
            return Err(change.refuse(tx, link, Error::new(Code::CustomerSignatureRequired).detail(detail)));
        }
        (Some((key, _)), Some(text)) => (key, text),
    };
    let expected = presented.terms.approved_by(&change.actor.id, presented.email);
    let checked = CustomerSigned::verify(text, presented.kind, &key).and_then(|signed| {
        signed.check_time(presented.asked_at, change.now)?;
        signed.check_terms(&expected)
    });
    match checked {
        Ok(()) => Ok(Some(SignedApproval { jws: text.to_owned(), key_thumbprint: key.thumbprint() })),
        Err(why) => Err(change.refuse(tx, link, invalid(why))),
    }
}

/// Keeps the approval key of the link's tenant from being changed until the transaction ends.
pub(super) fn hold_key(tx: &mut Tx<'_>, change: &Change) -> Result<(), Error> {
    if let Some(link) = records::links::find_within(tx, &change.id, &change.reach)? {
        tenants::lock(tx, &link.tenant_id)?;
    }
    Ok(())
}
