//! The HTTP interface over stores in memory and a clock that is told the time.

mod bulk;
mod document;
mod entry;
mod flaky;
mod full;
mod hold;
mod messages;
mod records;
mod server;
mod world;
