//! `magic-link link`: links, and the bulk revocations that end them.

use clap::Subcommand;

use super::output::{Column, Failure, Output};
use super::{Pages, tenant_id};
use crate::context::Context;
use crate::domain::LinkState;
use crate::http::Caller;
use crate::id::{ConsultantId, LinkId};
use crate::links::{self, RevokeLink};
use crate::records::link_lists::LinkFilter;
use crate::revocations::{self, CreateRevocation, RevocationFilter};

#[derive(Subcommand)]
pub(super) enum LinkCommand {
    /// List links
    List {
        /// Only links of this tenant
        #[arg(long, value_parser = tenant_id)]
        tenant: Option<String>,
        /// Only links of this consultant
        #[arg(long)]
        consultant: Option<ConsultantId>,
        /// Only links with this ticket
        #[arg(long)]
        ticket: Option<String>,
        /// Only links in this state
        #[arg(long)]
        state: Option<LinkState>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Revoke a link and end its sessions
    Revoke {
        /// Link id
        id: LinkId,
        /// Why the link is revoked
        #[arg(long)]
        reason: String,
    },
    /// List bulk revocations, with their selectors
    Revocations {
        /// Only those of this consultant's links
        #[arg(long)]
        consultant: Option<ConsultantId>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Revoke every link that matches all given selectors; in force when this returns
    RevokeAll {
        /// Only links of this tenant
        #[arg(long, value_parser = tenant_id)]
        tenant: Option<String>,
        /// Only links to this portal
        #[arg(long)]
        portal: Option<String>,
        /// Only links of this consultant
        #[arg(long)]
        consultant: Option<ConsultantId>,
        /// Only links to this profile
        #[arg(long)]
        profile: Option<String>,
        /// Only links that this person granted
        #[arg(long)]
        issued_by: Option<String>,
        /// Only links with this ticket; with `--tenant`
        #[arg(long)]
        ticket: Option<String>,
        /// Every link
        #[arg(long)]
        everything: bool,
        /// Why the links are revoked
        #[arg(long)]
        reason: String,
        /// Only count the links, revoke nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(cx: &Context, command: LinkCommand, output: &Output) -> Result<(), Failure> {
    const COLUMNS: &[Column] = &[
        ("ID", "/id"),
        ("STATE", "/state"),
        ("TENANT", "/tenant_id"),
        ("PORTAL", "/portal"),
        ("CONSULTANT", "/consultant/name"),
        ("PROFILE", "/profile/name"),
        ("EXPIRES", "/expires_at"),
        ("MAIL", "/delivery/state"),
    ];
    const REVOCATIONS: &[Column] = &[
        ("ID", "/id"),
        ("STATE", "/state"),
        ("LINKS", "/links"),
        ("SESSIONS", "/sessions"),
        ("REQUESTS", "/requests"),
        ("TENANTS", "/tenant_ids"),
        ("PORTAL", "/portal"),
        ("CONSULTANT", "/consultant_id"),
        ("PROFILE", "/profile_id"),
        ("TICKET", "/ticket"),
        ("CREATED", "/created_at"),
        ("REASON", "/reason"),
    ];
    let now = cx.clock.now();
    match command {
        LinkCommand::List { tenant, consultant, ticket, state, pages } => {
            let filter = LinkFilter {
                tenant_id: tenant,
                consultant_id: consultant,
                ticket,
                state: state.map(|state| state.to_string()),
                page_size: Some(pages.page_size),
                cursor: pages.cursor,
                ..LinkFilter::default()
            };
            output.table(&links::list(cx, &Caller::operator(), filter, now).await?, COLUMNS)
        }
        LinkCommand::Revocations { consultant, pages } => {
            let filter = RevocationFilter {
                consultant_id: consultant,
                page_size: Some(pages.page_size),
                cursor: pages.cursor,
                ..RevocationFilter::default()
            };
            let page = revocations::list(cx, &Caller::operator(), filter).await?;
            output.table(&page, REVOCATIONS)
        }
        LinkCommand::Revoke { id, reason } => {
            let request = RevokeLink { reason, requested_by: None, acting_session_id: None };
            let link = links::revoke(cx, &Caller::operator(), id, request, now).await?;
            output.done(&link, "ended")
        }
        LinkCommand::RevokeAll {
            tenant,
            portal,
            consultant,
            profile,
            issued_by,
            ticket,
            everything,
            reason,
            dry_run,
        } => {
            let request = CreateRevocation {
                tenant_id: tenant,
                portal,
                consultant_id: consultant,
                profile_id: profile,
                issued_by_id: issued_by,
                ticket,
                everything,
                reason,
                dry_run,
                ..CreateRevocation::default()
            };
            let order = revocations::create(cx, &Caller::operator(), request, None, now).await?;
            revocations::finish_pending(cx).await?;
            let order = revocations::read(cx, &Caller::operator(), order.id).await?;
            output.counted(&order, if dry_run { "would be revoked" } else { "revoked" }, Some(&order))
        }
    }
}
