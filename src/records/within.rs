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

pub(crate) use within;
