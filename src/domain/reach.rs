//! Reach: the portals and tenants that a caller is authorised for.

/// Which tenants a client may act for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tenants {
    All,
    Only(Vec<String>),
}

impl Tenants {
    /// Their ids; `None` for every tenant.
    pub(crate) fn ids(&self) -> Option<Vec<String>> {
        match self {
            Self::All => None,
            Self::Only(ids) => Some(ids.clone()),
        }
    }
}

/// The portals and tenants that a caller is authorised for. Resources outside of it are answered as not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    /// One portal; `None` for every portal.
    pub portal: Option<String>,
    pub tenants: Tenants,
}

impl Reach {
    pub(crate) const fn everything() -> Self {
        Self { portal: None, tenants: Tenants::All }
    }

    /// The tenants in stored form.
    pub(crate) fn tenant_words(&self) -> String {
        match &self.tenants {
            Tenants::All => "*".to_owned(),
            Tenants::Only(ids) => ids.join(" "),
        }
    }

    /// Parses the stored form: tenants are separated by spaces, and `*` is every tenant.
    pub(crate) fn of(portal: Option<String>, tenants: &str) -> Self {
        let ids: Vec<String> = tenants.split_whitespace().map(ToOwned::to_owned).collect();
        let tenants = if ids.iter().any(|id| id == "*") { Tenants::All } else { Tenants::Only(ids) };
        Self { portal, tenants }
    }

    pub(crate) fn covers(&self, tenant_id: &str, portal: &str) -> bool {
        self.portal.as_deref().is_none_or(|own| own == portal) && self.covers_tenant(tenant_id)
    }

    pub(crate) fn covers_tenant(&self, tenant_id: &str) -> bool {
        match &self.tenants {
            Tenants::All => true,
            Tenants::Only(ids) => ids.iter().any(|id| id == tenant_id),
        }
    }

    /// The tenants of this reach, or the requested one of them, on every portal.
    pub(crate) fn tenants_of(&self, tenant_id: Option<&str>) -> Self {
        let tenants = match tenant_id {
            Some(id) if self.covers_tenant(id) => Tenants::Only(vec![id.to_owned()]),
            Some(_) => Tenants::Only(Vec::new()),
            None => self.tenants.clone(),
        };
        Self { portal: None, tenants }
    }

    pub(crate) fn covers_reach(&self, other: &Self) -> bool {
        let portal = self.portal.is_none() || self.portal == other.portal;
        let tenants = match (&self.tenants, &other.tenants) {
            (Tenants::All, _) => true,
            (Tenants::Only(_), Tenants::All) => false,
            (Tenants::Only(_), Tenants::Only(ids)) => ids.iter().all(|id| self.covers_tenant(id)),
        };
        portal && tenants
    }
}
