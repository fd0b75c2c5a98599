//! What is Redis's own: real servers, killed, filled, joined to a cluster.

pub(crate) mod server;
pub(crate) mod world;
