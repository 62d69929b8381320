//! Which failures of a database pass by themselves, and which last.
//!
//! This is the one place that decides it: what passes is 503 and may be
//! repeated; what lasts (damage, disk errors, a statement that the database does
//! not take) is 500, an error in the log and an alarm.
//!
//! diesel names the kind of few errors, and hands on neither the SQLSTATE nor
//! SQLite's result code. So the texts are compared. SQLite's are fixed, one for
//! each result code, and the library is part of the program. PostgreSQL's are in
//! the server's language; connections make sure that it is English.

use diesel::result::DatabaseErrorKind as Kind;
use diesel::result::Error as Diesel;

use crate::error::{Code, Error};

/// How the texts of failures begin that pass by themselves, with SQLSTATE or result code.
const PASSING: &[(&str, &str)] = &[
    ("SQLITE_BUSY", "database is locked"),
    ("SQLITE_LOCKED", "database table is locked"),
    ("SQLITE_LOCKED_SHAREDCACHE", "database schema is locked"),
    ("SQLITE_PROTOCOL", "locking protocol"),
    ("SQLITE_SCHEMA", "database schema has changed"),
    ("SQLITE_INTERRUPT", "interrupted"),
    ("SQLITE_NOMEM", "out of memory"),
    // Somebody makes room.
    ("SQLITE_FULL", "database or disk is full"),
    // SQLite has rolled back by itself, after a failure that was told before.
    ("SQLITE_ERROR", "no such savepoint"),
    ("SQLITE_ERROR", "cannot commit - no transaction is active"),
    ("SQLITE_ERROR", "cannot rollback - no transaction is active"),
    ("0A000", "cached plan must not change result type"),
    ("25P02", "current transaction is aborted"),
    ("40P01", "deadlock detected"),
    ("53200", "out of memory"),
    ("53300", "sorry, too many clients already"),
    ("53300", "remaining connection slots are reserved"),
    ("53300", "too many connections for"),
    ("55P03", "could not obtain lock"),
    // By a time limit (57014, 55P03), by an operator (57014), or by a standby (40001).
    ("57014", "canceling statement due to"),
    // By an operator (57P01), a crash (57P02) or a time limit (25P03, 25P04, 57P05).
    ("57P01", "terminating connection"),
    ("57P03", "the database system is"),
    ("XX000", "tuple concurrently"),
    ("XX000", "cache lookup failed for"),
];

/// Parts of the texts of failures that pass, whatever is before them.
const PASSING_INSIDE: &[(&str, &str)] = &[
    ("53100", "No space left on device"),
    ("53100", "Disk quota exceeded"),
    ("08006", "server closed the connection"),
];

/// Parts of the texts of failures to connect that last.
const LASTING_AT_CONNECT: &[(&str, &str)] = &[
    ("SQLITE_IOERR", "disk I/O error"),
    ("SQLITE_CORRUPT", "database disk image is malformed"),
    ("SQLITE_NOTADB", "file is not a database"),
    ("SQLITE_READONLY", "attempt to write a readonly database"),
    ("SQLITE_CANTOPEN", "nable to open database file"),
    ("28P01", "password authentication failed"),
    ("28000", "no pg_hba.conf entry"),
    // A database or a role.
    ("3D000", "does not exist"),
    ("42501", "permission denied for database"),
    // What we ask of a server ourselves: its encoding, and the language of its failures.
    ("encoding", "must be UTF"),
    ("lc_messages", "the service must tell them apart"),
    // What we see of the file ourselves.
    ("write-ahead log, file", "while the database was open"),
    ("hard links", super::files::ONE_LOG_FOR_EACH),
];

/// Whether a failure of which only the text is known passes by itself.
fn passes(text: &str) -> bool {
    PASSING.iter().any(|(_, begin)| text.starts_with(begin))
        || PASSING_INSIDE.iter().any(|(_, part)| text.contains(part))
}

/// Whether a statement waited for a lock until it was given up, and everything that it did is undone.
pub(super) fn waited_in_vain(text: &str) -> bool {
    const WAITED: [&str; 3] = ["canceling statement due to lock timeout", "deadlock detected", "database is locked"];
    WAITED.iter().any(|part| text.contains(part))
}

impl From<Diesel> for Error {
    fn from(error: Diesel) -> Self {
        match &error {
            Diesel::DatabaseError(Kind::ForeignKeyViolation | Kind::NotNullViolation | Kind::CheckViolation, _)
            | Diesel::NotFound
            | Diesel::QueryBuilderError(_)
            | Diesel::DeserializationError(_)
            | Diesel::SerializationError(_)
            | Diesel::InvalidCString(_) => Self::internal(&error),
            Diesel::DatabaseError(Kind::SerializationFailure, _) => Self::unavailable().after_a_lost_race(),
            // A concurrent transaction inserted the row: the retry finds it.
            Diesel::DatabaseError(Kind::UniqueViolation, _) => {
                tracing::debug!(error.cause = %error, "unique violation");
                Self::new(Code::Internal).after_a_lost_race()
            }
            // A statement of ours, and no damage.
            Diesel::DatabaseError(Kind::Unknown, about) if about.message() == "too many SQL variables" => {
                Self::internal(&error)
            }
            Diesel::DatabaseError(Kind::Unknown, about) if !passes(about.message()) => fault(&error),
            Diesel::DatabaseError(Kind::RestrictViolation | Kind::ExclusionViolation, _) => fault(&error),
            Diesel::RollbackErrorOnCommit { commit_error, .. } => match commit_error.as_ref() {
                Diesel::DatabaseError(Kind::Unknown, about) if !passes(about.message()) => fault(&error),
                _ => no_answer(&error),
            },
            _ => no_answer(&error),
        }
    }
}

/// The error of a caller who gets no connection.
pub(crate) fn no_connection(error: &diesel::r2d2::PoolError) -> Error {
    let text = error.to_string();
    if lasts_at_connect(&text) {
        return fault(&text);
    }
    tracing::warn!(error.cause = %text, "no database connection");
    Error::unavailable()
}

/// The write-ahead log was removed under the service, or replaced.
pub(crate) fn log_lost() -> Error {
    fault(
        &"the write-ahead log beside the database was removed or replaced: stop this process with SIGTERM, and let none \
          write before, so that it saves what the log held",
    )
}

/// The file of the database was moved away, or another one was put in its place beside its write-ahead log.
pub(crate) fn file_moved() -> Error {
    fault(
        &"the file of the database was moved away or replaced while it was open, and its write-ahead log was not: put it back, and nothing \
          is lost; let nothing open what is there, and remove no file beside it",
    )
}

fn lasts_at_connect(text: &str) -> bool {
    LASTING_AT_CONNECT.iter().any(|(_, part)| text.contains(part))
}

fn fault(cause: &dyn std::fmt::Display) -> Error {
    tracing::error!(error.cause = %cause, "the database is damaged, or refuses what it must do");
    Code::DatabaseFault.into()
}

fn no_answer(error: &Diesel) -> Error {
    tracing::warn!(error.cause = %error, "the database did not answer");
    Error::unavailable()
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::db::ConnectionManager;

    fn code(kind: Kind, text: &str) -> Code {
        Error::from(Diesel::DatabaseError(kind, Box::new(text.to_owned()))).code()
    }

    #[test]
    fn what_lasts_is_never_told_as_if_it_would_pass() {
        for text in [
            // SQLite: IOERR, CORRUPT, NOTADB, READONLY, CANTOPEN, PERM, AUTH, TOOBIG, MISMATCH, MISUSE, ERROR.
            "disk I/O error",
            "database disk image is malformed",
            "malformed database schema (sessions)",
            "file is not a database",
            "attempt to write a readonly database",
            "unable to open database file",
            "access permission denied",
            "not authorized",
            "string or blob too big",
            "datatype mismatch",
            "bad parameter or other API misuse",
            "no such table: sessions",
            "no such column: sessions.colour",
            // PostgreSQL: 22P05, 22021, 42P01, 42703, 42501, 42601, 42804, XX001, XX002, 58030, P0001, 22001.
            "character with byte sequence 0xe0 0xa4 0xb0 in encoding \"UTF8\" has no equivalent in encoding \"LATIN1\"",
            "invalid byte sequence for encoding \"UTF8\": 0x00",
            "relation \"sessions\" does not exist",
            "column \"colour\" does not exist",
            "permission denied for table sessions",
            "syntax error at or near \"SELEC\"",
            "invalid page in block 3 of relation base/16384/16500",
            "index \"sessions_pkey\" contains unexpected zero page at block 4",
            "could not read block 7 in file \"base/16384/16500\": Input/output error",
            "could not fsync file \"base/16384/16500\": Input/output error",
            "no room",
            "value too long for type character varying(10)",
        ] {
            assert_eq!(code(Kind::Unknown, text), Code::DatabaseFault, "{text}");
        }
    }

    #[test]
    fn a_statement_that_is_too_long_is_ours_and_no_damage() {
        assert_eq!(code(Kind::Unknown, "too many SQL variables"), Code::Internal);
    }

    #[test]
    fn what_passes_may_be_repeated() {
        let passing = PASSING.iter().chain(PASSING_INSIDE).map(|(_, text)| *text);
        let whole = [
            "canceling statement due to lock timeout",
            "canceling statement due to statement timeout",
            "terminating connection due to administrator command",
            "the database system is in recovery mode",
            "could not extend file \"base/16384/16500\": No space left on device",
        ];
        for text in passing.chain(whole) {
            assert_eq!(code(Kind::Unknown, text), Code::Unavailable, "{text}");
        }
        for kind in [Kind::ClosedConnection, Kind::UnableToSendCommand, Kind::ReadOnlyTransaction] {
            assert_eq!(code(kind, "whatever it says"), Code::Unavailable, "{kind:?}");
        }
        assert!(Error::from(Diesel::DatabaseError(Kind::SerializationFailure, Box::new(String::new()))).lost_a_race());
    }

    #[test]
    fn who_cannot_connect_is_told_whether_to_wait() {
        for lasting in [
            "FATAL:  password authentication failed for user \"magic_link\"",
            "FATAL:  database \"magic_link\" does not exist",
            "FATAL:  role \"magic_link\" does not exist",
            "FATAL:  no pg_hba.conf entry for host \"10.0.0.7\", user \"magic_link\"",
            "the database's encoding is LATIN1 and must be UTF8",
            "file is not a database",
        ] {
            assert!(lasts_at_connect(&format!("timed out waiting for connection: {lasting}")), "{lasting}");
        }
        for passing in [
            "connection to server at \"db.hr.in\" failed: Connection refused",
            "connection to server at \"db.hr.in\" failed: timeout expired",
            "could not translate host name \"db.hr.in\" to address: Temporary failure in name resolution",
            "connection to server at \"db.hr.in\" failed: session is read-only",
            "the server takes no writes: it is a standby, or was made read-only",
            "FATAL:  the database system is starting up",
            "FATAL:  sorry, too many clients already",
            "FATAL:  database \"magic_link\" is not currently accepting connections",
            "database is locked",
        ] {
            assert!(!lasts_at_connect(&format!("timed out waiting for connection: {passing}")), "{passing}");
        }
    }

    #[test]
    fn sqlite_says_what_the_table_expects() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.db");
        let manager = ConnectionManager::of_new_file(file.clone());
        let (mut one, mut other) = (manager.open().unwrap(), manager.open().unwrap());
        let code = |outcome: diesel::QueryResult<()>| Error::from(outcome.unwrap_err()).code();
        one.batch_execute("CREATE TABLE t (a TEXT)").unwrap();
        assert_eq!(code(one.batch_execute("SELECT colour FROM t")), Code::DatabaseFault);
        other.batch_execute("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE").unwrap();
        one.batch_execute("PRAGMA busy_timeout = 0").unwrap();
        assert_eq!(code(one.batch_execute("INSERT INTO t VALUES ('x')")), Code::Unavailable);
        other.batch_execute("ROLLBACK; PRAGMA max_page_count = 2").unwrap();
        let much = "INSERT INTO t SELECT hex(randomblob(9000))";
        assert_eq!(code(other.batch_execute(much)), Code::Unavailable);
        one.batch_execute("PRAGMA query_only = ON").unwrap();
        assert_eq!(code(one.batch_execute("INSERT INTO t VALUES ('x')")), Code::DatabaseFault);
        drop((one, other));
        std::fs::write(&file, [b'x'; 8_192]).unwrap();
        let error = manager.open().err().unwrap().to_string();
        assert!(lasts_at_connect(&error), "{error}");
    }
}
