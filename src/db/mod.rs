//! Two databases behind one connection type, and the differences between them.

mod backup;
mod batch;
mod connection;
mod copy;
mod failure;
mod files;
mod guards;
mod lock;
mod migrations;
mod open_file;
mod prepared;
mod relations;
mod roles;
pub(crate) mod schema;
mod server_clock;
mod sqlite_file;
mod text_enum;
mod uri;
mod url;
mod wal;

pub(crate) use backup::{back_up, require_sound};
pub(crate) use batch::{insert_all, next_rows};
pub use connection::{Backend, Conn};
pub(crate) use connection::{ConnectionManager, Pooled};
pub(crate) use copy::{CopyError, copy_all};
pub(crate) use failure::{file_moved, log_lost, no_connection};
pub(crate) use guards::foreign_table;
pub(crate) use lock::{AdvisoryLock, Older, older_than, transaction_number};
pub(crate) use migrations::{
    Difference, difference, newest as newest_migration, newest_applied, require_made, run as migrate,
};
pub(crate) use open_file::Standing;
pub(crate) use prepared::{Three, fixed, prepared, prepared_as};
pub(crate) use roles::grant;
pub(crate) use server_clock::look_at_clock;
pub use sqlite_file::SqliteFile;
pub(crate) use text_enum::text_enum;
pub use url::DatabaseUrl;
pub(crate) use wal::shrink_log;
