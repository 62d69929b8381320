//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    magic_link::cli::main()
}
