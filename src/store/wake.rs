//! Wakes workers after a commit that has work for them.

use tokio::sync::Notify;

/// A worker that a transaction can wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worker {
    /// Sends mails.
    Mail,
    /// Carries bulk revocations out.
    Revocations,
    /// Writes the messages about events for webhook endpoints.
    WebhookEvents,
    /// Calls webhook endpoints.
    Webhooks,
}

impl Worker {
    const ALL: [Self; 4] = [Self::Mail, Self::Revocations, Self::WebhookEvents, Self::Webhooks];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which workers to wake after a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wakes(u8);

impl Wakes {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn add(&mut self, worker: Worker) {
        self.0 |= worker.bit();
    }

    pub(super) const fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Wake-ups that the workers of this process wait for.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    mail: Notify,
    revocations: Notify,
    webhook_events: Notify,
    webhooks: Notify,
}

impl Wakeups {
    pub(super) const fn of(&self, worker: Worker) -> &Notify {
        match worker {
            Worker::Mail => &self.mail,
            Worker::Revocations => &self.revocations,
            Worker::WebhookEvents => &self.webhook_events,
            Worker::Webhooks => &self.webhooks,
        }
    }

    pub(super) fn wake(&self, wakes: Wakes) {
        for worker in Worker::ALL.into_iter().filter(|worker| wakes.0 & worker.bit() != 0) {
            self.of(worker).notify_one();
        }
    }
}
