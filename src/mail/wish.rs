//! What a mail about a request says: a link or an extension that waits for a decision, or did.

use super::store::Job;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::Template;
use crate::error::Error;
use crate::id::{ExtensionId, LinkId};
use crate::records::extension_requests::{self, ExtensionRequest};
use crate::records::link_requests::{self, Decision, LinkRequest, RequestState};
use crate::records::links::Link;

/// A link or an extension that was asked for.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Link(Box<LinkRequest>),
    Extension(Box<ExtensionRequest>),
}

impl Wish {
    /// What a job names first in its key, if it is about a request.
    pub(super) fn of(conn: &mut Conn, job: &Job) -> Result<Option<Self>, Error> {
        let id = job.dedup_key.split(' ').next().unwrap_or_default();
        Ok(match job.template {
            Template::ApprovalRequested | Template::RequestDenied => {
                let id: LinkId = id.parse().map_err(Error::internal)?;
                let request = link_requests::of_links(conn, std::slice::from_ref(&id))?.remove(&id);
                request.map(|request| Self::Link(Box::new(request)))
            }
            Template::ExtensionRequested | Template::ExtensionDenied => {
                let id: ExtensionId = id.parse().map_err(Error::internal)?;
                extension_requests::find(conn, &id)?.map(|request| Self::Extension(Box::new(request)))
            }
            _ => None,
        })
    }

    pub(super) fn state(&self, now: Timestamp) -> RequestState {
        match self {
            Self::Link(request) => request.state(now),
            Self::Extension(request) => request.state(now),
        }
    }

    /// The link that was asked for, if that is what was, with the window that every answer shows of it.
    pub(super) fn link(&self, at: Timestamp) -> Option<Link> {
        match self {
            Self::Link(request) => Some(request.link(request.shown_at(at))),
            Self::Extension(_) => None,
        }
    }

    pub(super) fn hours(&self) -> i32 {
        match self {
            Self::Link(request) => request.hours,
            Self::Extension(request) => request.hours,
        }
    }

    pub(super) fn lapses_at(&self) -> Timestamp {
        match self {
            Self::Link(request) => request.lapses_at,
            Self::Extension(request) => request.lapses_at,
        }
    }

    pub(super) fn decision(&self) -> Option<Decision> {
        match self {
            Self::Link(request) => request.decision(),
            Self::Extension(request) => request.decision(),
        }
    }

    /// Who asked for the extension.
    pub(super) fn asked_by(&self) -> Option<&String> {
        match self {
            Self::Link(_) => None,
            Self::Extension(request) => Some(&request.asked_by_name),
        }
    }

    /// Who asked for the extension, and why; who asked for a link is in the link.
    pub(super) fn asked(&self) -> Option<(&str, &str)> {
        match self {
            Self::Link(_) => None,
            Self::Extension(request) => Some((&request.asked_by_name, &request.reason)),
        }
    }
}
