//! Rows of tenants' policies: each change is a row, and the newest one is in force.

use diesel::prelude::*;

use crate::clock::{Stretch, Timestamp, lies_in};
use crate::db::schema::tenant_policies as policies;
use crate::db::{Backend, Conn};
use crate::domain::{Actor, ActorType, Policy};
use crate::error::Error;
use crate::id::ClientId;

/// A change of a tenant's policy.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = policies)]
pub(crate) struct PolicyRow {
    pub tenant_id: String,
    /// Number of the change, from 1 on.
    pub seq: i64,
    policy: String,
    actor_type: ActorType,
    actor_id: String,
    pub actor_name: Option<String>,
    client_id: Option<ClientId>,
    pub created_at: Timestamp,
}

impl PolicyRow {
    pub(crate) fn new(
        tenant_id: &str,
        seq: i64,
        policy: &Policy,
        actor: &Actor,
        client_id: Option<&ClientId>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        Ok(Self {
            tenant_id: tenant_id.to_owned(),
            seq,
            policy: serde_json::to_string(policy).map_err(Error::internal)?,
            actor_type: actor.kind,
            actor_id: actor.id.clone(),
            actor_name: actor.name.clone(),
            client_id: client_id.cloned(),
            created_at: now,
        })
    }

    pub(crate) fn policy(&self) -> Result<Policy, Error> {
        parsed(&self.policy)
    }
}

/// A stored policy. One that a newer version wrote, with rules that this one does not know, is refused.
pub(crate) fn parsed(text: &str) -> Result<Policy, Error> {
    serde_json::from_str(text).map_err(Error::internal)
}

/// The policy that a change left; before the first one, everything is as configured.
pub(crate) fn policy_of(row: Option<&PolicyRow>) -> Result<Policy, Error> {
    row.map(PolicyRow::policy).transpose().map(Option::unwrap_or_default)
}

/// The newest change of a tenant's policy.
pub(crate) fn newest(conn: &mut Conn, tenant_id: &str) -> QueryResult<Option<PolicyRow>> {
    policies::table.filter(policies::tenant_id.eq(tenant_id)).order(policies::seq.desc()).first(conn).optional()
}

/// A change by its number.
pub(crate) fn find(conn: &mut Conn, tenant_id: &str, seq: i64) -> QueryResult<Option<PolicyRow>> {
    policies::table.find((tenant_id, seq)).get_result(conn).optional()
}

pub(crate) fn insert(conn: &mut Conn, row: &PolicyRow) -> QueryResult<usize> {
    diesel::insert_into(policies::table).values(row).execute(conn)
}

/// Changes of a tenant's policy by a client, or by the operator at the command line, lately, newest first.
pub(crate) fn changed(
    conn: &mut Conn,
    (tenant_id, client_id): (&str, Option<&ClientId>),
    lately: Stretch,
    limit: i64,
) -> QueryResult<Vec<(i64, Timestamp)>> {
    let query = policies::table
        .filter(policies::tenant_id.eq(tenant_id))
        .filter(lies_in!(policies::created_at, lately))
        .into_boxed::<Backend>();
    let query = match client_id {
        Some(client_id) => query.filter(policies::client_id.eq(client_id)),
        None => query.filter(policies::client_id.is_null()),
    };
    query.order(policies::seq.desc()).limit(limit).select((policies::seq, policies::created_at)).load(conn)
}
