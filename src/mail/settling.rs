//! What follows from the attempts to send e-mails: each is settled, and recorded.

use rand::RngExt;
use time::Duration;

use super::notices;
use super::store::{self, Attempt, Job};
use crate::clock::Timestamp;
use crate::domain::{Actor, DeliveryState, EventType, Template};
use crate::error::Error;
use crate::journal::Event;
use crate::mail_providers::provider::SendError;
use crate::records::links::Link;
use crate::store::Tx;

/// Attempts, over about a day, before an e-mail is given up.
const MAX_ATTEMPTS: i32 = 30;

const FIRST_WAIT: Duration = Duration::seconds(2);
pub(super) const LONGEST_WAIT: Duration = Duration::hours(1);

/// A claimed job, and what became of it.
pub(super) struct Sent {
    pub job: Job,
    pub link: Option<Link>,
    pub attempt: Attempt,
}

/// Stores the outcomes of attempts, and records them. Whether an earlier try has stored them is not known where this one
/// `is_repeated`.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    sent: &[Sent],
    provider: &str,
    is_repeated: bool,
    now: Timestamp,
) -> Result<(), Error> {
    let mut open: Vec<&Sent> = sent.iter().collect();
    if is_repeated {
        let mut unsettled = Vec::new();
        for one in open {
            // One that was cancelled meanwhile may have left all the same.
            let is_open = |job: Job| job.finished_at.is_none() || job.state == DeliveryState::Cancelled;
            if store::find(tx, &one.job.id)?.is_some_and(is_open) {
                unsettled.push(one);
            }
        }
        open = unsettled;
    }
    let accepted = open.iter().filter_map(|one| match &one.attempt {
        Attempt::Accepted { message_id } => Some((&one.job, message_id.as_deref())),
        _ => None,
    });
    store::settle_accepted(tx, &accepted.collect::<Vec<_>>(), provider, now)?;
    for Sent { job, link, attempt } in open {
        // An accepted e-mail was sent, even if the job was cancelled meanwhile.
        let left = matches!(attempt, Attempt::Accepted { .. }) || store::settle(tx, job, provider, attempt, now)?;
        if left && let Some(link) = link {
            record(tx, job, link, provider, attempt, now);
            if matches!(attempt, Attempt::GivenUp { .. }) {
                notices::undelivered(tx, link, Some(job.template), (&job.id, job.retry_round, false), now)?;
            }
        }
    }
    Ok(())
}

/// The outcome of an attempt that failed or whose result is unknown.
///
/// With an open circuit (`closed` is false) the failure is not the e-mail's own:
/// the job keeps its position in the queue and is not given up.
pub(super) fn next(job: &Job, error: &SendError, closed: bool, removes_duplicates: bool, now: Timestamp) -> Attempt {
    let spent = job.attempts >= MAX_ATTEMPTS && closed;
    let text = error.to_string();
    match error {
        SendError::Permanent(_) => Attempt::GivenUp { error: text },
        // A duplicate is worse than a missing e-mail: one retry only, unless the provider removes duplicates.
        SendError::Unknown(_) if spent || (!removes_duplicates && job.may_have_left()) => {
            Attempt::Unknown { at: None, error: text }
        }
        SendError::Unknown(_) => Attempt::Unknown { at: Some(now.plus(wait(job.attempts))), error: text },
        // Refused credentials need an operator: retry without limit.
        SendError::Credentials(_) => Attempt::Again { at: now.plus(wait(job.attempts)), error: text },
        _ if spent => Attempt::GivenUp { error: text },
        _ if !closed => Attempt::Again { at: job.next_attempt_at, error: text },
        SendError::Throttled { wait: asked, .. } => {
            let asked = Duration::try_from(*asked).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
            Attempt::Again { at: now.plus(wait(job.attempts).max(asked)), error: text }
        }
        SendError::Transient(_) => Attempt::Again { at: now.plus(wait(job.attempts)), error: text },
    }
}

fn record(tx: &mut Tx<'_>, job: &Job, link: &Link, provider: &str, attempt: &Attempt, now: Timestamp) {
    let (kind, message_id, error) = match attempt {
        Attempt::Accepted { message_id } => (EventType::LinkMailed, message_id.as_deref(), None),
        Attempt::GivenUp { error } | Attempt::Unknown { at: None, error } => {
            (EventType::LinkMailFailed, None, Some(error))
        }
        Attempt::Unknown { .. } | Attempt::Again { .. } | Attempt::Suppressed { .. } => return,
    };
    // The link's own e-mail is recorded, and a code's that did not leave; notices are listed among the mail deliveries.
    let is_of_code = job.template == Template::StepUpCode;
    if job.template != Template::MagicLink && !(is_of_code && kind == EventType::LinkMailFailed) {
        return;
    }
    tx.record(Event::new(kind, Actor::system("mail"), now).link(link).with(&serde_json::json!({
        "template": is_of_code.then_some(job.template),
        "mail_job_id": job.id, "generation": job.generation, "provider": provider,
        "message_id": message_id, "attempts": job.attempts, "error": error,
    })));
}

/// Exponential back-off up to an hour, with jitter.
fn wait(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
    let wait = (FIRST_WAIT * 2_i32.saturating_pow(doublings)).min(LONGEST_WAIT);
    wait * rand::rng().random_range(0.8..1.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn job(attempts: i32, unknown_attempts: i32) -> Job {
        let of_this_round = unknown_attempts > 0;
        let now = Clock::System.now();
        let consultant = Some(crate::id::ConsultantId::new(now));
        let id = crate::id::MailJobId::new(now);
        let new = Job::new(id, Template::MagicLink, "x".to_owned(), consultant, now);
        Job { attempts, unknown_attempts, left_at: of_this_round.then_some(now), ..new }
    }

    #[test]
    fn a_mail_that_they_may_have_is_sent_once_more_unless_they_remove_duplicates() {
        let now = Clock::System.now();
        let unknown = SendError::Unknown("timed out".to_owned());
        let ends =
            |job: &Job, removes| matches!(next(job, &unknown, true, removes, now), Attempt::Unknown { at: None, .. });
        assert!(!ends(&job(1, 0), false));
        assert!(ends(&job(2, 1), false));
        assert!(!ends(&job(2, 1), true));
        assert!(ends(&job(MAX_ATTEMPTS, 5), true), "bounded all the same");
    }

    #[test]
    fn attempts_are_bounded_and_an_outage_takes_none() {
        let now = Clock::System.now();
        let failed = SendError::Transient("503".to_owned());
        let given_up =
            |attempts, closed| matches!(next(&job(attempts, 0), &failed, closed, false, now), Attempt::GivenUp { .. });
        assert!(!given_up(MAX_ATTEMPTS - 1, true) && given_up(MAX_ATTEMPTS, true));
        assert!(!given_up(MAX_ATTEMPTS * 10, false));
        let waiting = job(1, 0);
        let Attempt::Again { at, .. } = next(&waiting, &failed, false, false, now) else { panic!("it waits") };
        assert_eq!(at, waiting.next_attempt_at, "it keeps its place");
        let refused = SendError::Credentials("401".to_owned());
        assert!(matches!(next(&job(MAX_ATTEMPTS, 0), &refused, true, false, now), Attempt::Again { .. }));
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!(wait(1) < Duration::seconds(3));
        assert!(wait(5) > wait(1));
        for attempts in [0, 12, 30, i32::MAX] {
            assert!(wait(attempts) <= LONGEST_WAIT * 1.2, "{attempts}");
        }
    }
}
