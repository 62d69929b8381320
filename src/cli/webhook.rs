//! `magic-link webhook`: webhook endpoints and their deliveries.

use clap::Subcommand;

use super::output::{Column, Output};
use super::{Failure, Pages};
use crate::context::Context;
use crate::http::Caller;
use crate::id::{EndpointId, MessageId};
use crate::webhooks;

#[derive(Subcommand)]
pub(super) enum WebhookCommand {
    /// List webhook endpoints
    List(Pages),
    /// List the messages to a webhook endpoint
    Deliveries {
        /// Webhook endpoint id
        id: EndpointId,
        #[command(flatten)]
        pages: Pages,
    },
    /// Send messages again that were given up or cancelled
    Retry {
        /// Webhook endpoint id
        id: EndpointId,
        /// Only this message; otherwise at most 500, the oldest first
        #[arg(long, value_name = "ID")]
        message: Option<MessageId>,
    },
}

pub(super) async fn run(cx: &Context, command: WebhookCommand, output: &Output) -> Result<(), Failure> {
    const ENDPOINTS: &[Column] =
        &[("ID", "/id"), ("STATE", "/state"), ("CLIENT", "/client_id"), ("FORMAT", "/format"), ("URL", "/url")];
    const MESSAGES: &[Column] = &[
        ("ID", "/id"),
        ("STATE", "/state"),
        ("TYPE", "/type"),
        ("LINK", "/magic_link_id"),
        ("ATTEMPTS", "/attempts"),
        ("NEXT", "/next_attempt_at"),
        ("LAST ERROR", "/last_error"),
    ];
    let caller = Caller::operator();
    match command {
        WebhookCommand::List(pages) => output.table(&webhooks::list(cx, &caller, pages.paging()).await?, ENDPOINTS),
        WebhookCommand::Deliveries { id, pages } => {
            output.table(&webhooks::deliveries(cx, &caller, id, pages.paging()).await?, MESSAGES)
        }
        WebhookCommand::Retry { id, message } => {
            let request = webhooks::RetryWebhookDeliveries { message_id: message };
            let retried = webhooks::retry(cx, &caller, id, request, cx.clock.now()).await?;
            output.done(&retried, &format!("{} messages are queued again", retried.queued))
        }
    }
}
