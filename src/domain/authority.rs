//! Authority: the scopes of a caller, within its reach.

use super::{Reach, Scope};
use crate::error::{Code, Error};

/// What a caller is authorised for, or what the key of a client gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub reach: Reach,
    pub scopes: Vec<Scope>,
}

impl Authority {
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether it is an operator's: it reaches every tenant and portal, and manages clients or the directory.
    pub(crate) fn is_operator(&self) -> bool {
        let manages = self.has(Scope::Admin) || self.has(Scope::WriteConsultants);
        manages && self.reach == Reach::everything()
    }

    /// Refuses to hand out what gives another authority, unless this one could create a client that has it.
    ///
    /// The one rule for everything that hands out a key or a secret of a client: nobody obtains more than they have.
    /// Only an administrator of every tenant and portal may grant scopes that it lacks.
    ///
    /// # Errors
    /// `client_not_permitted`, with what exceeds.
    pub(crate) fn require_grantable(&self, other: &Self) -> Result<(), Error> {
        let refusal = |detail: String| Err(Error::new(Code::ClientNotPermitted).detail(detail));
        let unbound = self.reach == Reach::everything() && self.has(Scope::Admin);
        if !unbound && let Some(scope) = other.scopes.iter().find(|scope| !self.has(**scope)) {
            return refusal(format!("a bound client cannot hand out {scope}, which it does not have"));
        }
        if !self.reach.covers_reach(&other.reach) {
            return refusal("the tenants and portal exceed those of the caller".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(portal: Option<&str>, tenants: &str, scopes: &[Scope]) -> Authority {
        Authority { reach: Reach::of(portal.map(ToOwned::to_owned), tenants), scopes: scopes.to_vec() }
    }

    #[test]
    fn nothing_is_handed_out_beyond_scopes_tenants_or_portal() {
        let bound = of(Some("cloud"), "acme globex", &[Scope::Admin, Scope::ReadLinks]);
        for right in [of(Some("cloud"), "acme", &[Scope::ReadLinks]), bound.clone(), of(Some("cloud"), "globex", &[])] {
            assert!(bound.require_grantable(&right).is_ok(), "{right:?}");
        }
        for wrong in [
            of(Some("cloud"), "acme", &[Scope::IssueLinks]),
            of(Some("cloud"), "acme", &[Scope::ReadLinks, Scope::ManageAudit]),
            of(Some("cloud"), "*", &[Scope::ReadLinks]),
            of(Some("ess"), "acme", &[Scope::ReadLinks]),
            of(None, "acme", &[Scope::ReadLinks]),
        ] {
            assert!(bound.require_grantable(&wrong).is_err(), "{wrong:?}");
        }
        let unbound = of(None, "*", &[Scope::Admin]);
        assert!(unbound.require_grantable(&of(None, "*", Scope::ALL)).is_ok());
        // Every tenant at one portal is a bound client, too, and so is one that does not manage clients.
        for less in [of(Some("cloud"), "*", &[Scope::Admin]), of(None, "*", &[Scope::ManageWebhooks])] {
            assert!(less.require_grantable(&of(Some("cloud"), "acme", &[Scope::IssueLinks])).is_err(), "{less:?}");
        }
    }

    #[test]
    fn an_operator_reaches_everything_and_manages_something() {
        assert!(
            of(None, "*", &[Scope::Admin]).is_operator() && of(None, "*", &[Scope::WriteConsultants]).is_operator()
        );
        for other in [
            of(None, "*", &[Scope::ReadConsultants, Scope::ReadAudit]),
            of(None, "acme", &[Scope::Admin]),
            of(Some("cloud"), "*", &[Scope::Admin, Scope::WriteConsultants]),
        ] {
            assert!(!other.is_operator(), "{other:?}");
        }
    }
}
