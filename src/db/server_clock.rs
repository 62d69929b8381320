//! What the clock of the database's server says.
//!
//! Nothing else asks it: every statement takes the time as an argument.

use std::time::{Duration, Instant};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types;

use super::Conn;
use crate::clock::{Look, Timestamp};

/// Questions at a look: the quickest answer is the most exact one.
const QUESTIONS: usize = 5;

/// Looks at the server's clock; `None` if the database is a file of this machine.
pub(crate) fn look_at_clock(conn: &mut Conn) -> QueryResult<Option<Look>> {
    let Conn::Postgres(conn) = conn else { return Ok(None) };
    let mut best: Option<(Duration, Look)> = None;
    for _ in 0..QUESTIONS {
        let asked = Instant::now();
        let told = sql::<sql_types::Timestamp>("clock_timestamp() AT TIME ZONE 'UTC'");
        let told: Timestamp = diesel::select(told).get_result(conn)?;
        let trip = asked.elapsed();
        if best.is_none_or(|(shortest, _)| trip < shortest) {
            best = Some((trip, Look { told, at: asked + trip / 2 }));
        }
    }
    Ok(best.map(|(_, look)| look))
}
