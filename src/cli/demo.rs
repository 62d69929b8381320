//! `magic-link demo`: the records that the examples of the API description use.

use diesel::connection::SimpleConnection;
use serde::Serialize;

use super::Failure;
use crate::clients::{self, CreateClient};
use crate::context::Context;
use crate::domain::{Actor, EventType, Scope};
use crate::error::Error;
use crate::http::Caller;
use crate::id::{ConsultantId, Kind, LinkId, LinkKind};
use crate::journal::Event;
use crate::records;

/// Ids of the examples, times relative to now; SQLite only.
const ROWS: &str = include_str!("demo.sql");

#[derive(Serialize)]
pub(super) struct Seeded {
    /// The consultant of the examples.
    id: ConsultantId,
    /// API key of a new client with every scope for every tenant.
    key: Option<String>,
    /// Whether the records existed before.
    existed: bool,
}

/// The client that tries every operation.
fn admin() -> CreateClient {
    CreateClient {
        name: "Everything, for trying the operations".into(),
        portal: None,
        tenants: vec!["*".into()],
        scopes: Scope::ALL.to_vec(),
        combined_scopes: vec![Scope::WritePolicies],
    }
}

/// The addresses of the consultants.
fn emails() -> impl Iterator<Item = &'static str> {
    ROWS.split('\'').filter(|text| text.ends_with("@support.example"))
}

/// Inserts the records of the examples into the embedded database of a first run.
pub(super) async fn seed(cx: &Context) -> Result<Seeded, Failure> {
    if !(cx.config.is_loopback() && cx.config.database_url.is_sqlite()) {
        return Err("demo data is for the embedded database on this machine only".into());
    }
    let link_id: LinkId = LinkKind::EXAMPLE.parse()?;
    let now = cx.clock.now();
    let seeded = cx
        .store
        .write_large(move |tx| {
            if let Some(link) = records::links::find(tx, &link_id)? {
                return Ok(Ok((link.consultant_id, true)));
            }
            for email in emails() {
                if records::consultants::email_taken(tx, email, None)? {
                    return Ok(Err(email));
                }
            }
            tx.batch_execute(ROWS)?;
            let link = records::links::find(tx, &link_id)?.ok_or_else(|| Error::internal("no demo link"))?;
            tx.record(Event::new(EventType::LinkIssued, Actor::system("demo"), now).link(&link));
            Ok(Ok((link.consultant_id, false)))
        })
        .await?;
    let (id, existed) = seeded.map_err(|email| {
        format!("demo data is for a database of its own: in this one a consultant has the address {email} already")
    })?;
    let client = clients::create(cx, &Caller::operator(), admin(), None, now).await?;
    Ok(Seeded { id, key: client.key, existed })
}
