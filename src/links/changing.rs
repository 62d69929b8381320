//! What every change of a link that was issued asks: the link is locked, and has not ended.

use diesel::QueryResult;

use super::grant::access_exists;
use super::{LinkResponse, read};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::{Actor, Authority, EventType, Issuer, Reach, Scope};
use crate::error::{Code, Error};
use crate::http::Caller;
use crate::id::{ClientId, ExtensionId, LinkId};
use crate::journal::Event;
use crate::journal::leaf::ApprovalProof;
use crate::records::link_changes::{self, Extension};
use crate::records::link_requests::{self, Decision, LinkRequest, SignedApproval};
use crate::records::links::Link;
use crate::records::policies;
use crate::rules::Rules;
use crate::store::{Tx, Worker};
use crate::{mail, records};

/// Who changes a link, and when.
#[derive(Clone)]
pub(super) struct Change {
    pub id: LinkId,
    pub reach: Reach,
    pub actor: Actor,
    pub client_id: Option<ClientId>,
    pub now: Timestamp,
}

/// What lets a link end later: who asked for it, and why.
#[derive(Clone)]
pub(super) struct Extending {
    pub id: ExtensionId,
    pub by: Issuer,
    pub reason: String,
    /// The approval as the customer has signed it.
    pub signed: Option<SignedApproval>,
}

impl Change {
    pub(super) fn of<S>(caller: &Caller<S>, id: LinkId, actor: Actor, now: Timestamp) -> Self {
        Self { id, reach: caller.reach.clone(), actor, client_id: caller.client_id.clone(), now }
    }

    /// The link, locked, if it has not ended. From here on no copy of the service records its end.
    pub(super) fn lock(&self, tx: &mut Tx<'_>) -> Result<Link, Error> {
        link_changes::hold_expiry_mark(tx)?;
        // No caller waits for a row beyond its reach.
        if records::links::find_within(tx, &self.id, &self.reach)?.is_none() {
            return Err(self.why_none(tx)?);
        }
        let link = records::links::lock(tx, &self.id)?.ok_or_else(Error::not_found)?;
        self.require_open(tx, link)
    }

    /// The link, if it has not ended.
    pub(super) fn require_open(&self, tx: &mut Tx<'_>, link: Link) -> Result<Link, Error> {
        match link.ended(self.now) {
            Some(code) => Err(self.refuse(tx, &link, code)),
            None => Ok(link),
        }
    }

    pub(super) fn event(&self, kind: EventType, link: &Link) -> Event {
        Event::new(kind, self.actor.clone(), self.now).client(self.client_id.as_ref()).link(link)
    }

    pub(super) fn refuse(&self, tx: &mut Tx<'_>, link: &Link, refusal: impl Into<Error>) -> Error {
        let refusal = refusal.into();
        let refused = Event::link_refused(link, self.actor.clone(), refusal.code(), self.now);
        tx.refuse(refusal, refused.client(self.client_id.as_ref()))
    }

    /// Refuses to decide on what a client asked for and could not ask for any more.
    pub(super) fn require_asker(
        &self,
        tx: &mut Tx<'_>,
        link: &Link,
        client: Option<&ClientId>,
        replaces: bool,
    ) -> Result<(), Error> {
        // Somebody with the command line asked.
        let Some(id) = client else { return Ok(()) };
        let refusal = match records::clients::hold(tx, id)?.filter(|client| client.disabled_at.is_none()) {
            None => Error::from(Code::ClientDisabled),
            Some(client) => {
                let Authority { reach, scopes } = client.authority();
                let may_ask = scopes.contains(&Scope::IssueLinks) || scopes.contains(&Scope::RequestLinks);
                let may_replace = !replaces || scopes.contains(&Scope::RevokeLinks);
                if reach.covers(&link.tenant_id, &link.portal) && may_ask && may_replace {
                    return Ok(());
                }
                Error::new(Code::ClientNotPermitted).detail("the client that asked for it may not any more")
            }
        };
        Err(self.refuse(tx, link, refusal))
    }

    /// A decision of whoever changes the link.
    pub(super) fn decision(&self, email: Option<&str>, reason: Option<&str>) -> Decision {
        Decision {
            email: email.map(ToOwned::to_owned),
            client_id: self.client_id.clone(),
            ..Decision::new(self.actor.clone(), reason.map(ToOwned::to_owned))
        }
    }

    /// Refuses a request for a link that does not wait any more.
    pub(super) fn require_waiting(&self, tx: &mut Tx<'_>, request: &LinkRequest) -> Result<(), Error> {
        let state = request.state(self.now);
        let Some(code) = state.refusal() else { return Ok(()) };
        Err(self.refuse(tx, &request.link(self.now), Error::new(code).detail(state.in_words())))
    }

    /// Why there is no link: it waits for an approval, or did in vain.
    pub(super) fn why_none(&self, tx: &mut Tx<'_>) -> Result<Error, Error> {
        let Some(request) = link_requests::find_within(tx, &self.id, &self.reach)? else {
            return Ok(Error::not_found());
        };
        self.require_waiting(tx, &request)?;
        let refusal = Error::new(Code::ApprovalRequired).detail("nobody has decided yet");
        Ok(self.refuse(tx, &request.link(self.now), refusal))
    }

    /// Refuses one more change of a kind, of which the client has made enough of a locked link.
    pub(super) fn require_room(
        &self,
        tx: &mut Tx<'_>,
        link: &Link,
        takes_another: fn(&mut Conn, &LinkId, Option<&ClientId>) -> QueryResult<bool>,
    ) -> Result<(), Error> {
        let has_room = takes_another(tx, &link.id, self.client_id.as_ref())?;
        if has_room { Ok(()) } else { Err(self.refuse(tx, link, Code::ChangeLimitReached)) }
    }

    /// Moves the end of a locked link.
    pub(super) fn move_end(&self, tx: &mut Tx<'_>, link: &Link, to: Timestamp) -> Result<Link, Error> {
        if to >= link.expires_at {
            self.require_room(tx, link, link_changes::takes_later_end)?;
        } else if link.expires_at.since(to) < link_changes::SMALLEST_STEP {
            self.require_room(tx, link, link_changes::takes_small_step)?;
        }
        let ends = (link.expires_at, to);
        match link_changes::move_end(tx, &self.id, &self.reach, ends, self.now)? {
            Some(moved) => Ok(moved),
            None => Err(self.why_not(tx, link)?),
        }
    }

    /// Why the guarded statement refused a locked link: its end is on record already, or a bulk revocation was written.
    pub(super) fn why_not(&self, tx: &mut Tx<'_>, link: &Link) -> Result<Error, Error> {
        let link = records::links::find(tx, &self.id)?.unwrap_or_else(|| link.clone());
        Ok(self.refuse(tx, &link, link.ended(self.now).unwrap_or(Code::LinkExpired)))
    }

    /// Records a new end: the row, and its event.
    pub(super) fn record(
        &self,
        tx: &mut Tx<'_>,
        kind: EventType,
        link: &Link,
        extension: &Extension,
        more: serde_json::Value,
        proof: Option<&ApprovalProof>,
    ) -> Result<(), Error> {
        link_changes::insert_extension(tx, extension)?;
        mail::notices::end_moved(tx, link, extension, self.now)?;
        tx.wake(Worker::Mail);
        let mut data = serde_json::json!({
            "extension_id": extension.id, "reason": extension.reason, "expires_at": extension.expires_at,
            "previous_expires_at": extension.previous_expires_at,
        });
        if let (Some(data), serde_json::Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        tx.record(self.event(kind, link).approval(proof).with(&data));
        Ok(())
    }

    /// Lets a locked link end later.
    pub(super) fn extend(
        &self,
        tx: &mut Tx<'_>,
        link: &Link,
        extending: &Extending,
        to: Timestamp,
        more: serde_json::Value,
    ) -> Result<LinkResponse, Error> {
        let moved = self.move_end(tx, link, to)?;
        // A copy whose clock is ahead may have taken the link for over, and its access for free.
        if !records::open_grants::take(tx, &moved, self.now)? {
            return Err(access_exists(tx, &moved, &self.actor, self.client_id.as_ref(), self.now)?);
        }
        let extension = self.end(extending.id.clone(), &extending.reason, (link.expires_at, to));
        let proof = extending.signed.as_ref().map(SignedApproval::proof);
        self.record(tx, EventType::LinkExtended, &moved, &extension, more, proof.as_ref())?;
        read::view(tx, moved, self.now)
    }

    /// The row of a new end.
    pub(super) fn end(&self, id: ExtensionId, reason: &str, (from, to): (Timestamp, Timestamp)) -> Extension {
        Extension {
            id,
            magic_link_id: self.id.clone(),
            previous_expires_at: from,
            expires_at: to,
            reason: reason.to_owned(),
            actor_type: self.actor.kind,
            actor_id: self.actor.id.clone(),
            actor_name: self.actor.name.clone(),
            client_id: self.client_id.clone(),
            created_at: self.now,
        }
    }
}

/// The rules in force for a tenant.
pub(super) fn rules_of(conn: &mut Conn, config: &Config, tenant_id: &str) -> Result<Rules, Error> {
    let policy = policies::policy_of(policies::newest(conn, tenant_id)?.as_ref())?;
    Ok(Rules::of(&policy, config))
}
