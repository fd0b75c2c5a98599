//! What is Redis's own: real servers, killed, stopped, filled, in clusters, under Sentinels, behind
//! a network that fails.

mod cluster;
mod index;
mod ledger;
mod network;
mod proxy;
mod replicas;
mod sentinel;
#[expect(dead_code, reason = "shared with a bench, which measures")]
pub(crate) mod server;
mod servers;
mod sharing;
mod topology;
pub(crate) mod world;
