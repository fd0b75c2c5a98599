//! Calls into functions in memory.
