//! The `nightgate` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightgate::cli::main()
}
