//! What a due mail is made of, and why it must not be sent.

use super::day::Day;
use super::failure::Failure;
use super::limits;
use super::policy::RulesChange;
use super::settling::next;
use super::since::Since;
use super::store::{self, Attempt, Due, Job};
use super::summary::{self, Summary, Visits};
use super::suppressions;
use super::wish::Wish;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::{Notice, STEP_UP_CODE_LIFE, Template};
use crate::error::{Code, Error};
use crate::id::MailJobId;
use crate::mail_providers::provider::SendError;
use crate::records;
use crate::records::consultants::Consultant;
use crate::records::link_changes::Extension;
use crate::records::link_requests::RequestState;
use crate::records::links::Link;
use crate::records::tenants::TenantView;

/// Error text of an e-mail to a suppressed address.
const SUPPRESSED: &str = "the address is suppressed: mail to it came back, or the recipient complained";

/// Error text of an e-mail whose facts are not there, or not understood.
const UNREADABLE: &str = "what the mail is about could not be read";

/// A job with the data to render it.
pub(super) struct Queued {
    pub(super) job: Job,
    pub(super) consultant: Option<Consultant>,
    pub(super) link: Option<(Link, TenantView)>,
    pub(super) summary: Option<Summary>,
    /// The sessions of the day that the mail is about.
    pub(super) visits: Visits,
    /// Why it must not be sent; `None` if it may.
    pub(super) withheld: Option<Attempt>,
    /// The new end that the mail is about.
    pub(super) extension: Option<Extension>,
    /// The mail that did not arrive, if the mail is about one.
    pub(super) failure: Option<Failure>,
    /// Why the access could not wait for an approval that the mail is about.
    pub(super) justification: Option<String>,
    /// The change of a policy, or of an approval key, that the mail is about.
    pub(super) rules: Option<RulesChange>,
    /// What waits for a decision, or did, that the mail is about.
    pub(super) request: Option<Wish>,
    /// What became of the access that the mail is about.
    pub(super) since: Since,
}

impl Queued {
    /// The job, and the address that it goes to, if that is what is registered for its consultant.
    pub(super) fn going(&self) -> (MailJobId, Option<String>) {
        let registered = self.consultant.as_ref().filter(|_| self.job.recipient.is_none());
        (self.job.id.clone(), registered.map(|consultant| consultant.email.clone()))
    }

    /// A job whose attempt fails before the provider is asked.
    fn unreadable(job: Job, link: Option<Link>, config: &Config, now: Timestamp) -> Self {
        let attempted = Job { attempts: job.attempts + 1, ..job.clone() };
        let error = SendError::Transient(UNREADABLE.to_owned());
        let link = link.map(|link| {
            let tenant = TenantView::of(None, &config.default_time_zone, &link.tenant_id);
            (link, tenant)
        });
        Self {
            job,
            consultant: None,
            link,
            summary: None,
            visits: Visits::default(),
            withheld: Some(next(&attempted, &error, true, false, now)),
            extension: None,
            failure: None,
            justification: None,
            rules: None,
            request: None,
            since: Since::default(),
        }
    }
}

/// Why a due e-mail must not be sent; `None` if it may.
fn why_not(conn: &mut Conn, config: &Config, due: &Due, now: Timestamp) -> Result<Option<Attempt>, Error> {
    let Due { job, consultant, is_suppressed, tenant, .. } = due;
    let registered = consultant.as_ref().map(|consultant| &consultant.email);
    let address = job.recipient.as_ref().or(registered).map_or("", String::as_str);
    let muted = tenant.as_ref().map(|tenant| records::tenants::muted(&tenant.muted_notices)).unwrap_or_default();
    let muted = Notice::of(job.template).is_some_and(|notice| muted.contains(&notice));
    let suppressed = |why: &str| Some(Attempt::Suppressed { why: why.to_owned() });
    let too_late = job.template == Template::StepUpCode && job.created_at.plus(STEP_UP_CODE_LIFE) <= now;
    Ok(if too_late {
        suppressed("the code expired before it could be sent")
    } else if muted {
        suppressed("the tenant has switched this notice off")
    } else if !config.mail.may_reach(address) {
        suppressed("mail.only_to keeps mail to this address from leaving")
    } else if limits::notice_is_too_many(conn, job, config.limits.mails_per_recipient_hour, now)? {
        suppressed("the address had its limit of notices within the hour")
    } else if match &job.recipient {
        Some(recipient) => suppressions::is_suppressed(conn, recipient)?,
        None => *is_suppressed,
    } {
        Some(Attempt::GivenUp { error: SUPPRESSED.to_owned() })
    } else {
        None
    })
}

/// Gathers what a mail is made of. One of which that is damaged, or of a newer version, is tried again like one that a
/// provider did not take, and holds up no other.
pub(super) fn gathered(conn: &mut Conn, config: &Config, due: Due, now: Timestamp) -> Result<Queued, Error> {
    let id = due.job.id.clone();
    match gather(conn, config, due, now) {
        Err(error) if error.code() == Code::Internal => {
            tracing::error!(mail.job = %id, error.cause = %error, "what a mail is about could not be read");
            let job = store::find(conn, &id)?.ok_or(error)?;
            let link = match &job.magic_link_id {
                Some(link) => records::links::find(conn, link)?,
                None => None,
            };
            Ok(Queued::unreadable(job, link, config, now))
        }
        outcome => outcome,
    }
}

fn gather(conn: &mut Conn, config: &Config, due: Due, now: Timestamp) -> Result<Queued, Error> {
    let withheld = why_not(conn, config, &due, now)?;
    let Due { job, consultant, link, tenant, is_suppressed } = due;
    if job.magic_link_id.is_some() && link.is_none() {
        return Err(Error::internal("a mail job without its link"));
    }
    let request = Wish::of(conn, &job)?;
    // Nobody is asked for a decision that was made.
    let asks = matches!(job.template, Template::ApprovalRequested | Template::ExtensionRequested);
    let withheld = match &request {
        Some(wish) if asks && wish.state(now) != RequestState::Pending => {
            withheld.or_else(|| Some(Attempt::Suppressed { why: "the request was decided on by now".to_owned() }))
        }
        _ => withheld,
    };
    let link = link.or_else(|| request.as_ref().and_then(|wish| wish.link(job.created_at)));
    let rules = match (job.template, &tenant) {
        (Template::PolicyLoosened | Template::ApprovalKeyChanged | Template::ContactsChanged, Some(tenant)) => {
            Some(RulesChange::of(conn, config, tenant, &job, now)?)
        }
        _ => None,
    };
    let withheld = match &rules {
        Some(rules) if rules.is_void => {
            withheld.or_else(|| Some(Attempt::Suppressed { why: "the change was cancelled by now".to_owned() }))
        }
        _ => withheld,
    };
    let extension = match job.template {
        Template::AccessChanged | Template::AccessMoved => {
            records::link_changes::find_extension(conn, &job.dedup_key.parse().map_err(Error::internal)?)?
        }
        _ => None,
    };
    let (since, failure) = match &link {
        Some(link) => {
            let is_reached = consultant.as_ref().is_some_and(|one| !is_suppressed && config.mail.may_reach(&one.email));
            let since = Since::of(conn, config, &job, link, (extension.as_ref(), is_reached), now)?;
            (since, Failure::of(conn, config, &job, link, now)?)
        }
        None => (Since::default(), None),
    };
    let withheld = withheld.or_else(|| {
        let why = since.outlives(job.template, link.as_ref()?.ended(now));
        let why = why.or(failure.as_ref().and_then(|failure| failure.overtaken))?;
        Some(Attempt::Suppressed { why: why.to_owned() })
    });
    let link = link.map(|link| {
        let tenant = TenantView::of(tenant, &config.default_time_zone, &link.tenant_id);
        (link, tenant)
    });
    let summary = match &job.session_id {
        Some(id) => Some(summary::summary(conn, id, now)?),
        None => None,
    };
    let visits = match (job.template, &link, Day::in_key(&job.dedup_key)) {
        (Template::AccessVisits | Template::OwnerAccessVisits, Some((link, _)), Some(day)) => {
            let earlier = store::days_told(conn, &link.id, job.template, Some(&job.id))?;
            summary::of_day(conn, &link.id, day, &earlier, now)?
        }
        _ => Visits::default(),
    };
    let justification = match (job.template, &job.magic_link_id) {
        (Template::EmergencyIssued | Template::OwnerEmergencyIssued, Some(link)) => {
            records::link_reviews::find(conn, link)?.map(|review| review.justification)
        }
        _ => None,
    };
    Ok(Queued {
        job,
        consultant,
        link,
        summary,
        visits,
        withheld,
        extension,
        failure,
        justification,
        rules,
        request,
        since,
    })
}
