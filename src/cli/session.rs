//! `magic-link session`: sessions at the portals.

use clap::Subcommand;

use super::output::{Column, Failure, Output};
use super::{Pages, tenant_id};
use crate::context::Context;
use crate::domain::SessionState;
use crate::http::Caller;
use crate::id::{ConsultantId, SessionId};
use crate::records::session_lists::SessionFilter;
use crate::sessions::{self, RevokeSession};

#[derive(Subcommand)]
pub(super) enum SessionCommand {
    /// List sessions
    List {
        /// Only sessions of this tenant
        #[arg(long, value_parser = tenant_id)]
        tenant: Option<String>,
        /// Only sessions of this consultant
        #[arg(long)]
        consultant: Option<ConsultantId>,
        /// Only sessions in this state
        #[arg(long)]
        state: Option<SessionState>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Revoke a session; its link is not changed
    Revoke {
        /// Session id
        id: SessionId,
        /// Why the session is revoked; recorded
        #[arg(long, default_value = "Revoked at the command line")]
        reason: String,
    },
}

pub(super) async fn run(cx: &Context, command: SessionCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("ID", "/id"),
        ("STATE", "/state"),
        ("TENANT", "/tenant_id"),
        ("PORTAL", "/portal"),
        ("CONSULTANT", "/consultant_id"),
        ("PROFILE", "/profile/name"),
        ("EXPIRES", "/expires_at"),
    ];
    let now = cx.clock.now();
    match command {
        SessionCommand::List { tenant, consultant, state, pages } => {
            let filter = SessionFilter {
                tenant_id: tenant,
                consultant_id: consultant,
                state,
                page_size: Some(pages.page_size),
                cursor: pages.cursor,
                ..SessionFilter::default()
            };
            output.table(&sessions::list(cx, &Caller::operator(), filter, now).await?, COLUMNS)
        }
        SessionCommand::Revoke { id, reason } => {
            let request = RevokeSession { reason, requested_by: None, acting_session_id: None };
            output.done(&sessions::revoke(cx, &Caller::operator(), id, request, now).await?, "ended")
        }
    }
}
