//! `magic-link consultant`

use clap::{Args, Subcommand};

use super::output::{Column, Failure, Output};
use super::{Pages, restore};
use crate::consultants::{self, ChangeConsultant, ConsultantDecision, RegisterConsultant};
use crate::context::Context;
use crate::http::Caller;
use crate::id::ConsultantId;
use crate::records::consultants::ConsultantFilter;
use crate::revocations;

#[derive(Subcommand)]
pub(super) enum ConsultantCommand {
    /// Register a consultant
    Add {
        /// Consultant's name
        #[arg(long)]
        name: String,
        /// E-mail address that links are sent to
        #[arg(long)]
        email: String,
    },
    /// List consultants
    List {
        /// Only consultants whose name or e-mail address holds this text
        #[arg(long)]
        search: Option<String>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Change a consultant's e-mail address or name; a new address revokes their links, and the old one is told
    Change {
        /// Consultant id
        id: ConsultantId,
        /// New e-mail address that links are sent to
        #[arg(long, required_unless_present = "name")]
        email: Option<String>,
        /// New name
        #[arg(long)]
        name: Option<String>,
    },
    /// Suspend a consultant and revoke their links
    Suspend(Decision),
    /// Reinstate a suspended consultant
    Reinstate(Decision),
    /// Reinstate consultants whom a restore has suspended; without ids, list them
    Confirm(restore::Confirm<ConsultantId>),
}

#[derive(Args)]
pub(super) struct Decision {
    /// Consultant id
    id: ConsultantId,
    /// Why the consultant is suspended or reinstated
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(cx: &Context, command: ConsultantCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[("ID", "/id"), ("STATE", "/state"), ("NAME", "/name"), ("EMAIL", "/email")];
    let (caller, now) = (Caller::operator(), cx.clock.now());
    let decision = |reason| ConsultantDecision { reason, requested_by: None, acting_session_id: None };
    match command {
        ConsultantCommand::Add { name, email } => {
            let request = RegisterConsultant { name, email, requested_by: None, acting_session_id: None };
            let consultant = consultants::register(cx, &caller, request, None, now).await?;
            output.done(&consultant, "registered")
        }
        ConsultantCommand::List { search, pages } => {
            let filter = ConsultantFilter {
                search,
                page_size: Some(pages.page_size),
                cursor: pages.cursor,
                ..ConsultantFilter::default()
            };
            output.table(&consultants::list(cx, &Caller::operator(), filter).await?, COLUMNS)
        }
        ConsultantCommand::Change { id, email, name } => {
            let request = ChangeConsultant { name, email, requested_by: None, acting_session_id: None };
            let consultant = consultants::change(cx, &caller, id, request).await?;
            revocations::finish_pending(cx).await?;
            let order = revocations::of_act(cx, consultant.revocation_id.clone()).await?;
            output.counted(&consultant, "changed", order.as_ref())
        }
        ConsultantCommand::Suspend(Decision { id, reason }) => {
            let consultant = consultants::suspend(cx, &caller, id, decision(reason)).await?;
            revocations::finish_pending(cx).await?;
            let order = revocations::of_act(cx, consultant.revocation_id.clone()).await?;
            output.counted(&consultant, "suspended", order.as_ref())
        }
        ConsultantCommand::Reinstate(Decision { id, reason }) => {
            output.done(&consultants::reinstate(cx, &caller, id, decision(reason), now).await?, "reinstated")
        }
        ConsultantCommand::Confirm(confirm) => restore::confirm_consultants(cx, confirm, output).await,
    }
}
