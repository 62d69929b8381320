//! What became of mail jobs: their attempts are settled, those that were accepted together.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{self, Array, Nullable, Text};

use super::{Job, OPEN};
use crate::clock::Timestamp;
use crate::db::schema::mail_jobs as jobs;
use crate::db::{Conn, fixed, prepared, prepared_as};
use crate::domain::DeliveryState;
use crate::id::MailJobId;

/// Outcome of an attempt.
#[derive(Debug, Clone)]
pub(in crate::mail) enum Attempt {
    Accepted {
        message_id: Option<String>,
    },
    Again {
        at: Timestamp,
        error: String,
    },
    GivenUp {
        error: String,
    },
    /// The e-mail must not be sent.
    Suppressed {
        why: String,
    },
    /// The provider may have accepted the e-mail. Without `at` it is not retried.
    Unknown {
        at: Option<Timestamp>,
        error: String,
    },
}

/// Stores that these e-mails were accepted, each with the provider's id of its message: one statement on PostgreSQL, a
/// prepared one for each on SQLite. Those whose lease was lost stay as they are; one that was cancelled meanwhile has left all
/// the same.
pub(in crate::mail) fn settle_accepted(
    conn: &mut Conn,
    accepted: &[(&Job, Option<&str>)],
    provider: &str,
    now: Timestamp,
) -> QueryResult<()> {
    const SETTLE: &str = "UPDATE mail_jobs SET provider = $1, state = $2, finished_at = $3, left_at = $3, \
         provider_message_id = a.message_id, last_error = NULL \
         FROM unnest($4, $5, $6) AS a (id, lease_until, message_id) \
         WHERE mail_jobs.id = a.id AND mail_jobs.lease_until = a.lease_until AND ";
    if accepted.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Postgres(conn) => {
            let settled =
                sql_query(format!("{SETTLE}({OPEN} OR mail_jobs.state = 'cancelled') RETURNING mail_jobs.id"))
                    .bind::<Text, _>(provider)
                    .bind::<Text, _>(DeliveryState::Accepted)
                    .bind::<sql_types::Timestamp, _>(now)
                    .bind::<Array<Text>, _>(accepted.iter().map(|(job, _)| job.id.as_str()).collect::<Vec<_>>())
                    .bind::<Array<Nullable<sql_types::Timestamp>>, _>(
                        accepted.iter().map(|(job, _)| job.lease_until).collect::<Vec<_>>(),
                    )
                    .bind::<Array<Nullable<Text>>, _>(accepted.iter().map(|(_, id)| *id).collect::<Vec<_>>());
            prepared_as::<Text, _>(settled).load::<String>(conn).map(drop)
        }
        Conn::Sqlite(_) => accepted.iter().try_for_each(|(job, message_id)| {
            let message_id = message_id.map(ToOwned::to_owned);
            settle(conn, job, provider, &Attempt::Accepted { message_id }, now).map(drop)
        }),
    }
}

/// Stores the outcome of an attempt; `false` if the lease was lost, or the job cancelled meanwhile and it did not leave. One
/// that the provider refuses leaves on record where the mail was sent to ([`Job::claimed_after`]).
pub(in crate::mail) fn settle(
    conn: &mut Conn,
    job: &Job,
    provider: &str,
    attempt: &Attempt,
    now: Timestamp,
) -> QueryResult<bool> {
    macro_rules! mine {
        ($changes:expr) => {
            mine!($changes, jobs::finished_at.is_null())
        };
        ($changes:expr, $state:expr) => {
            fixed!(prepared(
                diesel::update(jobs::table.find(&job.id))
                    .filter(jobs::lease_until.eq(job.lease_until))
                    .filter($state)
                    .set($changes)
                    .returning(jobs::id),
            ))
            .get_result::<MailJobId>(conn)
            .optional()?
        };
    }
    let provider = jobs::provider.eq(Some(provider));
    let mine = match attempt {
        Attempt::Accepted { message_id } => mine!(
            (
                provider,
                jobs::state.eq(DeliveryState::Accepted),
                jobs::finished_at.eq(Some(now)),
                jobs::left_at.eq(Some(now)),
                jobs::provider_message_id.eq(message_id.as_ref()),
                jobs::last_error.eq(None::<String>),
            ),
            jobs::finished_at.is_null().or(jobs::state.eq(DeliveryState::Cancelled))
        ),
        Attempt::Again { at, error } => mine!((
            provider,
            jobs::state.eq(DeliveryState::Queued),
            jobs::lease_until.eq(None::<Timestamp>),
            jobs::next_attempt_at.eq(*at),
            jobs::last_error.eq(Some(error)),
            jobs::sent_to.eq(&job.sent_to),
        )),
        Attempt::GivenUp { error } => mine!((
            provider,
            jobs::state.eq(DeliveryState::Failed),
            jobs::finished_at.eq(Some(now)),
            jobs::last_error.eq(Some(error)),
            jobs::sent_to.eq(&job.sent_to),
        )),
        Attempt::Suppressed { why } => mine!((
            jobs::state.eq(DeliveryState::Cancelled),
            jobs::attempts.eq(jobs::attempts - 1),
            jobs::finished_at.eq(Some(now)),
            jobs::last_error.eq(Some(why)),
            jobs::sent_to.eq(&job.sent_to),
        )),
        Attempt::Unknown { at, error } => mine!((
            provider,
            jobs::state.eq(DeliveryState::Unknown),
            jobs::unknown_attempts.eq(jobs::unknown_attempts + 1),
            jobs::lease_until.eq(None::<Timestamp>),
            jobs::next_attempt_at.eq(at.unwrap_or(job.next_attempt_at)),
            jobs::finished_at.eq(at.is_none().then_some(now)),
            jobs::left_at.eq(Some(now)),
            jobs::last_error.eq(Some(error)),
        )),
    };
    Ok(mine.is_some())
}
