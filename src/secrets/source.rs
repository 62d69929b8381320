//! Source of the master key.

use std::path::PathBuf;

use secrecy::SecretString;

/// Source of the master key.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// Base64 of 32 bytes, given in the configuration.
    Given(SecretString),
    /// A file that holds base64 of 32 bytes.
    File(PathBuf),
    /// The same, but created when it is missing: only by default, with the embedded database.
    FileOrNew(PathBuf),
}

impl MasterKeySource {
    /// The same source, where no key must be created.
    pub(crate) fn existing(self) -> Self {
        match self {
            Self::FileOrNew(path) => Self::File(path),
            other => other,
        }
    }
}
