//! Statements that are prepared once per connection, though diesel would parse and plan them at each run.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};

/// A statement whose text is one of a few: an update, a condition with a list of a fixed length, or SQL by hand.
///
/// diesel prepares such a statement anew, because it cannot know that. It is found again by its text, or by the place that
/// sends it. It returns rows: `execute` passes a reference on, which hides what is said here.
#[derive(Debug)]
pub(crate) struct Prepared<Q, ST, Key = Wording>(Q, PhantomData<(ST, Key)>);

/// What a statement is found by that may have several texts: the one that it has now, which is made for it at each run.
#[derive(Debug)]
pub(crate) struct Wording;

/// What a statement is found by that always has the same text: the place that sends it.
#[derive(Debug)]
pub(crate) struct Place<P>(PhantomData<P>);

/// Prepares a statement that returns rows.
pub(crate) const fn prepared<Q: Query>(query: Q) -> Prepared<Q, Q::SqlType> {
    Prepared(query, PhantomData)
}

/// Prepares SQL by hand that returns columns of these types.
pub(crate) const fn prepared_as<ST, Q>(query: Q) -> Prepared<Q, ST> {
    Prepared(query, PhantomData)
}

impl<Q, ST> Prepared<Q, ST> {
    /// See [`fixed!`].
    pub(crate) fn sent_by<P>(self) -> Prepared<Q, ST, Place<P>> {
        Prepared(self.0, PhantomData)
    }
}

/// A prepared statement whose text is always the same here, which is then made once: nothing but bound values differs
/// from run to run, no list on SQLite, no condition that is left out. Not for a function with type parameters, whose kinds
/// would all be one place.
macro_rules! fixed {
    ($prepared:expr) => {{
        struct Here;
        $prepared.sent_by::<Here>()
    }};
}

pub(crate) use fixed;

impl<Q, ST> QueryId for Prepared<Q, ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q, ST, P: 'static> QueryId for Prepared<Q, ST, Place<P>> {
    type QueryId = Place<P>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<Q, ST, Key> Query for Prepared<Q, ST, Key> {
    type SqlType = ST;
}

impl<Q, ST, Key, C> RunQueryDsl<C> for Prepared<Q, ST, Key> {}

impl<Q: QueryFragment<DB>, ST, Key, DB: Backend> QueryFragment<DB> for Prepared<Q, ST, Key> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}

/// Three statements in one, which answers what the last one returns: PostgreSQL carries out all of them, and checks
/// foreign keys after them.
#[derive(Debug)]
pub(crate) struct Three<A, B, C>(pub A, pub B, pub C);

impl<A: QueryFragment<Pg>, B: QueryFragment<Pg>, C: QueryFragment<Pg>> QueryFragment<Pg> for Three<A, B, C> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH first AS (");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql("), second AS (");
        self.1.walk_ast(out.reborrow())?;
        out.push_sql(") ");
        self.2.walk_ast(out)
    }
}
