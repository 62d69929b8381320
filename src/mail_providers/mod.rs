//! Mail providers with an HTTP API. A new one is a file beside `mailpit.rs`.

pub(crate) mod call;
pub(crate) mod circuit;
#[cfg(test)]
pub(crate) mod contract;
mod mailpit;
mod postmark;
pub(crate) mod preview;
pub(crate) mod provider;
mod resend;
mod sendgrid;
mod ses;

use provider::Provider;

use crate::clock::Clock;
use crate::config;

pub(crate) use circuit::Providers;
pub(crate) use preview::Mailbox;

/// The configured providers, and the mailbox if one is the preview.
pub(crate) fn open(mail: &config::Mail, clock: &Clock) -> Result<(Providers, Option<Mailbox>), reqwest::Error> {
    let mut mailbox = None;
    let mut list = Vec::new();
    for chosen in std::iter::once(&mail.provider).chain(&mail.fallback) {
        if let config::Provider::Preview = chosen {
            let shown = mailbox.get_or_insert_with(Mailbox::default).clone();
            list.push(Box::new(preview::Preview::new(shown)) as Box<dyn Provider>);
        } else {
            list.extend(over_http(chosen, clock)?);
        }
    }
    Ok((Providers::new(list), mailbox))
}

pub(crate) fn over_http(chosen: &config::Provider, clock: &Clock) -> Result<Option<Box<dyn Provider>>, reqwest::Error> {
    Ok(Some(match chosen {
        config::Provider::Preview => return Ok(None),
        config::Provider::Mailpit { url, login } => Box::new(mailpit::Mailpit::new(url, login.clone())?),
        config::Provider::Ses(ses) => Box::new(ses::Ses::new(ses, clock.clone())?),
        config::Provider::Postmark(postmark) => Box::new(postmark::Postmark::new(postmark)?),
        config::Provider::SendGrid(sendgrid) => Box::new(sendgrid::SendGrid::new(sendgrid)?),
        config::Provider::Resend(resend) => Box::new(resend::Resend::new(resend)?),
    }))
}
