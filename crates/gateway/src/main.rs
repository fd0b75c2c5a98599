//! The `nightgate` binary.

fn main() -> std::process::ExitCode {
    nightgate::cli::main()
}
