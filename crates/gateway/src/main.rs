//! The `nightgate` binary.

fn main() {}
