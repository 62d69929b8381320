//! A mailbox for developers: e-mails are kept in memory and shown at `/dev/mailbox`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Serialize;

use super::provider::{Accepted, Outgoing, Provider, SendError};
use crate::clock::{Clock, Timestamp};

/// E-mails kept.
const KEPT: usize = 50;

/// An e-mail in the mailbox.
#[derive(Clone, Serialize)]
pub(crate) struct Mail {
    pub at: Timestamp,
    /// Template of the e-mail.
    pub template: &'static str,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// The last e-mails, newest first.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<VecDeque<Mail>>>);

impl Mailbox {
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn put(&self, mail: Mail) {
        let mut mails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mails.push_front(mail);
        mails.truncate(KEPT);
    }
}

/// The provider that puts every e-mail into the mailbox.
pub(crate) struct Preview(Mailbox);

impl Preview {
    pub(crate) const fn new(mailbox: Mailbox) -> Self {
        Self(mailbox)
    }
}

#[async_trait]
impl Provider for Preview {
    fn name(&self) -> &'static str {
        "preview"
    }

    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError> {
        self.0.put(Mail {
            at: Clock::System.now(),
            template: mail.tag,
            to: mail.to.address.clone(),
            subject: mail.subject.clone(),
            text: mail.text.clone(),
            html: mail.html.clone(),
        });
        Ok(Accepted { message_id: None })
    }
}
