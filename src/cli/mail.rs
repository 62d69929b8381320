//! `magic-link mail`: mail deliveries and suppressed addresses.

use clap::Subcommand;

use super::output::{Column, Output};
use super::{Failure, Pages};
use crate::context::Context;
use crate::domain::DeliveryState;
use crate::http::Caller;
use crate::id::{MailJobId, SuppressionId};
use crate::mail::suppressions::{self, ClearSuppression, SuppressionFilter};
use crate::mail::{DeliveryFilter, deliveries};

#[derive(Subcommand)]
pub(super) enum MailCommand {
    /// List e-mails and their delivery states
    List {
        /// Only e-mails in this delivery state
        #[arg(long)]
        state: Option<DeliveryState>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Send an e-mail again that failed, bounced or is in the state `unknown`
    Retry {
        /// Mail job id
        id: MailJobId,
    },
    /// List suppressed addresses
    Suppressions(Pages),
    /// Clear a suppressed address; e-mail is sent to it again
    Clear {
        /// Suppression id
        id: SuppressionId,
        /// Why the suppression is cleared
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn run(cx: &Context, command: MailCommand, output: &Output) -> Result<(), Failure> {
    const MAILS: &[Column] = &[
        ("ID", "/id"),
        ("STATE", "/state"),
        ("MAIL", "/template"),
        ("TO", "/recipient"),
        ("ATTEMPTS", "/attempts"),
        ("PROVIDER", "/provider"),
        ("LAST ERROR", "/last_error"),
    ];
    const ADDRESSES: &[Column] =
        &[("ID", "/id"), ("STATE", "/state"), ("ADDRESS", "/address"), ("CAUSE", "/cause"), ("SINCE", "/created_at")];
    let now = cx.clock.now();
    match command {
        MailCommand::List { state, pages } => {
            let filter = DeliveryFilter {
                state,
                page_size: Some(pages.page_size),
                cursor: pages.cursor,
                ..DeliveryFilter::default()
            };
            output.table(&deliveries::list(cx, &Caller::operator(), filter).await?, MAILS)
        }
        MailCommand::Retry { id } => output.done(&deliveries::retry(cx, &Caller::operator(), id, now).await?, "queued"),
        MailCommand::Suppressions(pages) => {
            let filter = SuppressionFilter { state: None, page_size: Some(pages.page_size), cursor: pages.cursor };
            output.table(&suppressions::list(cx, &Caller::operator(), filter).await?, ADDRESSES)
        }
        MailCommand::Clear { id, reason } => {
            let request = ClearSuppression { reason, requested_by: None };
            output.done(&suppressions::clear(cx, &Caller::operator(), id, request, now).await?, "cleared")
        }
    }
}
