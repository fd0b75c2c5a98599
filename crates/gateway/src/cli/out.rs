//! Answers go to standard output, faults to standard error. The only file that prints.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Failure;

/// Writes one line of an answer. A reader that went away (`| head`) ends the command quietly.
///
/// # Errors
/// When standard output cannot be written.
pub fn say(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// When standard output cannot be written.
pub fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("failed to write JSON: {error}")))?;
    say(&line)
}

/// Writes a fault.
pub fn complain(text: &str) {
    // There is nowhere left to report that standard error cannot be written.
    let _ = writeln!(io::stderr().lock(), "nightgate: {text}");
}

/// Whether a person watches standard error: then progress bars are drawn there.
#[must_use]
pub fn watched() -> bool {
    io::stderr().is_terminal()
}
