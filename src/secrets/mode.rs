//! Modes of files that hold secrets.

use std::path::Path;

/// Warns that others can read a file which an operator provides.
pub(super) fn warn_if_open(file: &Path) {
    if let Some(mode) = open_mode(file) {
        tracing::warn!(file.name = %file.display(), file.mode = mode, "others can read a file of secrets: chmod 600");
    }
}

/// Takes a file of ours from everybody but its owner.
pub(crate) fn tighten(file: &Path) {
    let Some(mode) = open_mode(file) else { return };
    #[cfg(unix)]
    let outcome = {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
    };
    #[cfg(not(unix))]
    let outcome: std::io::Result<()> = Ok(());
    let failure = outcome.err().map(|error| error.to_string());
    tracing::warn!(file.name = %file.display(), file.mode = mode, error.cause = failure, "others could read a file of secrets");
}

/// The mode of a file in octal digits, if anybody but its owner may read or write it.
pub(crate) fn open_mode(file: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found = std::fs::metadata(file).ok()?;
        // A folder or a device is none of ours.
        let mode = found.is_file().then(|| found.permissions().mode() & 0o777)?;
        (mode & 0o077 != 0).then(|| format!("{mode:o}"))
    }
    #[cfg(not(unix))]
    {
        let _no_modes_here = file;
        None
    }
}
