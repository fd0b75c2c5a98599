//! Habits of the house that no compiler holds: sizes, imports, the README's keys.
//!
//! Each check is a function from text to faults, so that the tests beside it can show its teeth.

mod files;
mod imports;
mod mentions;
mod shape;

/// Fails with every fault at once, one a line.
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
