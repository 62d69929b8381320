//! How many files the process may open: each connection is one, and the database needs some.

/// Files beside those of connections and database: listeners, mail, webhooks, the log, keys and checkpoints.
const OTHERS: u64 = 128;

/// Connections of the listener of metrics.
pub(super) const FOR_METRICS: usize = 32;

/// Lets the process open as many files as it may at most, and tells how many that are; `None` where nobody knows.
#[cfg(unix)]
pub(super) fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let known = getrlimit(Resource::Nofile);
    if known.current != known.maximum {
        let raised = Rlimit { current: known.maximum, maximum: known.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(error.cause = %error, "the limit of open files stays as it is");
        }
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
pub(super) const fn raise() -> Option<u64> {
    None
}

/// How many connections fit beside everything else.
pub(super) fn connections_within(files: Option<u64>, database_connections: u32) -> usize {
    let Some(files) = files else { return usize::MAX };
    // SQLite has four files for a connection at most; of PostgreSQL some may hang, and others take their place.
    let reserved = OTHERS + 4 * u64::from(database_connections) + FOR_METRICS as u64;
    let room = files.saturating_sub(reserved).max(files / 4);
    if room < 1_000 {
        tracing::warn!(
            limit.files = files,
            limit.connections = room,
            "this process may open few files (`ulimit -n`): it takes so many connections at a time"
        );
    }
    usize::try_from(room).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_keeps_its_files() {
        assert_eq!(connections_within(None, 16), usize::MAX);
        assert_eq!(connections_within(Some(1_024), 16), 800);
        assert_eq!(connections_within(Some(20_000), 100), 19_440);
        assert_eq!(connections_within(Some(100), 100), 25, "few are better than none");
    }
}
