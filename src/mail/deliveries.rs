//! Mail deliveries: the outbox as operators and portals see it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Cursor, DeliveryState, EventType, Page, Paging, SYSTEM_LOG, Template, TenantId};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller, ReadLinks};
use crate::id::{ConsultantId, LinkId, MailJobId};
use crate::journal::Event;
use crate::store::Worker;

/// An e-mail and its delivery state. Its text is not stored; it is rendered when the e-mail is sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MailDelivery {
    /// Mail job id.
    id: MailJobId,
    /// Template of the e-mail.
    template: Template,
    /// Delivery state.
    state: DeliveryState,
    /// Recipient address.
    #[schema(max_length = 254)]
    recipient: String,
    /// Consultant the e-mail concerns; absent for one to a tenant's contacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    consultant_id: Option<ConsultantId>,
    /// Tenant the e-mail concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    tenant_id: Option<String>,
    /// Link the e-mail concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<LinkId>,
    /// Generation of the link that the e-mail carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i32>,
    /// Number of attempts to hand the e-mail to a provider.
    attempts: i32,
    /// Provider of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    provider: Option<String>,
    /// Error of the last attempt, or why the e-mail was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    last_error: Option<String>,
    /// When the e-mail was queued (RFC 3339, UTC).
    created_at: Timestamp,
    /// When the next attempt is due (RFC 3339, UTC); absent if none follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// When sending finished or the provider last reported (RFC 3339, UTC); absent while attempts follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
}

impl MailDelivery {
    fn of(job: Job, addresses: &HashMap<ConsultantId, String>) -> Self {
        let registered = || job.consultant_id.as_ref().and_then(|id| addresses.get(id).cloned()).unwrap_or_default();
        Self {
            recipient: job.sent_to().map_or_else(registered, ToOwned::to_owned),
            tenant_id: Some(job.tenant_id).filter(|tenant| tenant != SYSTEM_LOG),
            next_attempt_at: job.finished_at.is_none().then_some(job.next_attempt_at),
            at: job.finished_at,
            id: job.id,
            template: job.template,
            state: job.state,
            consultant_id: job.consultant_id,
            magic_link_id: job.magic_link_id,
            generation: job.generation,
            attempts: job.attempts,
            provider: job.provider,
            last_error: job.last_error,
            created_at: job.created_at,
        }
    }
}

/// Filters of a list of e-mails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryFilter {
    /// Only e-mails about this tenant.
    #[param(value_type = Option<TenantId>, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only e-mails about this link.
    pub magic_link_id: Option<LinkId>,
    /// Only e-mails in this delivery state.
    pub state: Option<DeliveryState>,
    /// Only e-mails of this template.
    pub template: Option<Template>,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

/// A page of the e-mails within the caller's reach.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadLinks>,
    mut filter: DeliveryFilter,
) -> Result<Page<MailDelivery>, Error> {
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let (reach, asked) = (caller.reach.clone(), page.clone());
    let (jobs, addresses) = cx
        .store
        .read(move |conn| {
            let jobs = store::list(conn, &filter, &reach, &asked)?;
            let addresses = store::addresses(conn, jobs.rows.iter().filter_map(|job| job.consultant_id.as_ref()))?;
            Ok((jobs, addresses))
        })
        .await?;
    let show = |job| MailDelivery::of(job, &addresses);
    Ok(page.answer(cx.tokens.master_key(), jobs, |job| job.id.as_str(), show))
}

/// Queues an e-mail again whose state is `failed`, `bounced` or `unknown`.
pub(crate) async fn retry(
    cx: &Context,
    caller: &Caller<Admin>,
    id: MailJobId,
    now: Timestamp,
) -> Result<MailDelivery, Error> {
    let (reach, client_id, actor) = (caller.reach.clone(), caller.client_id.clone(), caller.actor(None));
    cx.store
        .write(move |tx| {
            let retried = store::retry(tx, &id, &reach, now)?;
            let Some(job) = store::find_within(tx, &id, &reach)? else {
                let detail = "it is one of a newer version of the service, which sends it";
                let is_newer = store::is_within(tx, &id, &reach)?;
                return Err(if is_newer {
                    Error::new(Code::MailNotRetryable).detail(detail)
                } else {
                    Error::not_found()
                });
            };
            if retried.is_none() {
                let detail = match job.state {
                    DeliveryState::Failed | DeliveryState::Unknown | DeliveryState::Bounced => {
                        format!("it is {}, and its link has ended, or was mailed again since", job.state)
                    }
                    state => format!("it is {state}"),
                };
                return Err(Error::new(Code::MailNotRetryable).detail(detail));
            }
            let event = Event::new(EventType::MailRetried, actor.clone(), now).client(client_id.as_ref());
            tx.record(event.tenant(&job.tenant_id).consultant(job.consultant_id.as_ref()).with(&serde_json::json!({
                "mail_job_id": job.id, "template": job.template, "magic_link_id": job.magic_link_id,
            })));
            tx.wake(Worker::Mail);
            let addresses = store::addresses(tx, job.consultant_id.iter())?;
            Ok(MailDelivery::of(job, &addresses))
        })
        .await
}
