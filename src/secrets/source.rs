//! Where the master key comes from.

use std::path::PathBuf;

use secrecy::SecretString;

/// Where the master key comes from.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// Base64 of 32 bytes, given in the configuration.
    Given(SecretString),
    /// A file that holds base64 of 32 bytes.
    File(PathBuf),
    /// The same, but made when it is missing: the embedded default only.
    FileOrNew(PathBuf),
}
