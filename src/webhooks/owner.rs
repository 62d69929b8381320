//! What happens to endpoints when the client that owns them changes, and how many may listen.

use std::collections::BTreeSet;

use super::{heard_since, store};
use crate::config::Webhooks;
use crate::db::{AdvisoryLock, Conn};
use crate::error::{Code, Error};
use crate::id::ClientId;
use crate::records::clients::Client;

/// Refuses more endpoints than may listen to a tenant. `*` counts as one tenant.
///
/// One transaction at a time counts, until it ends.
pub(super) fn admit(conn: &mut Conn, tenants: &BTreeSet<&str>, further: usize, limits: &Webhooks) -> Result<(), Error> {
    AdvisoryLock::CountEndpoints.take(conn)?;
    let most = i64::from(limits.endpoints_per_tenant);
    let further = i64::try_from(further).map_err(Error::internal)?;
    if store::most_of_a_tenant(conn, tenants)? + further > most {
        return Err(Error::new(Code::TooManyEndpoints).detail(format!("a tenant may have {most}, of all its clients")));
    }
    Ok(())
}

/// Lets the endpoints of a client whose reach was changed hear what it can read now.
///
/// One that hears more from now on is not told of what happened before.
///
/// # Errors
/// `too_many_webhook_endpoints` where one of its tenants would have more than it may.
pub(crate) fn follow(conn: &mut Conn, before: &Client, after: &Client, limits: &Webhooks) -> Result<(), Error> {
    if before.reach() == after.reach() {
        return Ok(());
    }
    let ids = store::of_client(conn, &after.id)?;
    if ids.is_empty() {
        return Ok(());
    }
    let (old, new) = (store::heard_tenants(before.tenant_words()), store::heard_tenants(after.tenant_words()));
    let added: BTreeSet<&str> = new.difference(&old).copied().collect();
    if !added.is_empty() {
        admit(conn, &added, ids.len(), limits)?;
    }
    store::replace_tenants(conn, &ids, after.tenant_words())?;
    if !before.reach().covers_reach(&after.reach()) {
        listen_again(conn, &after.id)?;
    }
    Ok(())
}

/// Lets a client's endpoints hear what happens from now on.
///
/// # Errors
/// When the store is unavailable.
pub(crate) fn listen_again(conn: &mut Conn, client: &ClientId) -> Result<(), Error> {
    let since = heard_since::from(store::newest_position(conn)?);
    Ok(store::listen_from(conn, client, &since)?)
}

/// Lets the endpoints of a client that was disabled for good hear nothing more.
///
/// # Errors
/// When the store is unavailable.
pub(crate) fn let_go(conn: &mut Conn, client: &ClientId) -> Result<(), Error> {
    let ids = store::of_client(conn, client)?;
    Ok(store::replace_tenants(conn, &ids, "")?)
}
