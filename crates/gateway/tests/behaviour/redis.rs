//! What is Redis's own: real servers, killed, filled, joined to a cluster.

mod index;
pub(crate) mod server;
mod servers;
mod sharing;
pub(crate) mod world;
