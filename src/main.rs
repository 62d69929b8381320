//! The command line.

use std::process::ExitCode;

/// Every request with a body takes a buffer of its own from the heap; the system's allocator is slow at large ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    magic_link::cli::main()
}
