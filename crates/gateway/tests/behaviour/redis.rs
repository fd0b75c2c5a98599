//! What is Redis's own: real servers, killed, filled, joined to a cluster.

mod index;
#[expect(dead_code, reason = "shared with a bench, which measures")]
pub(crate) mod server;
mod servers;
mod sharing;
pub(crate) mod world;
