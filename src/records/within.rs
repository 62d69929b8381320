//! The condition that limits a statement to a caller's reach.

/// Condition that a row lies within a reach, for guarded statements.
///
/// A macro, because the condition names columns of the table.
macro_rules! within {
    ($table:ident, $reach:expr) => {{
        use diesel::prelude::*;
        type Condition =
            Box<dyn diesel::BoxableExpression<$table::table, $crate::db::Backend, SqlType = diesel::sql_types::Bool>>;
        let reach: &$crate::domain::Reach = $reach;
        let portal: Condition = match &reach.portal {
            Some(portal) => Box::new($table::portal.eq(portal.clone())),
            None => Box::new(true.into_sql::<diesel::sql_types::Bool>()),
        };
        let tenants: Condition = match &reach.tenants {
            $crate::domain::Tenants::Only(ids) => Box::new($table::tenant_id.eq_any(ids.clone())),
            $crate::domain::Tenants::All => Box::new(true.into_sql::<diesel::sql_types::Bool>()),
        };
        portal.and(tenants)
    }};
}

/// The same for a statement that finds its row by primary key, and that is prepared once: its text does not depend on
/// the reach.
macro_rules! reached {
    ($table:ident, $reach:expr) => {{
        use diesel::prelude::*;
        use diesel::sql_types::{Bool, Text};
        let reach: &$crate::domain::Reach = $reach;
        // Ids of tenants hold no commas.
        let tenants = match &reach.tenants {
            $crate::domain::Tenants::Only(ids) => Some(format!(",{},", ids.join(","))),
            $crate::domain::Tenants::All => None,
        };
        let named = ",".into_sql::<Text>().concat($table::tenant_id).concat(",");
        let others = $crate::records::within::replace(tenants.clone().unwrap_or_default(), named, "");
        let portal = $table::portal.eq(reach.portal.clone().unwrap_or_default());
        let its_tenant = others.ne(tenants.clone().unwrap_or_default());
        portal.or(reach.portal.is_none().into_sql::<Bool>()).and(its_tenant.or(tenants.is_none().into_sql::<Bool>()))
    }};
}

diesel::define_sql_function! {
    /// `text` without `old`, for which `new` stands wherever it was.
    fn replace(text: diesel::sql_types::Text, old: diesel::sql_types::Text, new: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

pub(crate) use {reached, within};
