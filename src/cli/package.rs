//! What packages of operating systems bring beside the program; only in a build with `--features package`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::output::Failure;

#[derive(Args)]
pub(super) struct PackageFiles {
    /// Folder that gets `man/` and `completions/`
    folder: PathBuf,
}

/// Writes the manual pages and the shell completions of a command line.
pub(super) fn write(command: &PackageFiles, line: Command) -> Result<(), Failure> {
    let (man, completions) = (command.folder.join("man"), command.folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut line.clone(), "magic-link", &completions)?;
    }
    Ok(clap_mangen::generate_to(line, man)?)
}
