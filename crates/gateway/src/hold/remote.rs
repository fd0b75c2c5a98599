//! A hold that another process owns, reached through a Unix socket in the hold's directory.
//!
//! The owner [`serve`]s its hold; a command beside it uses a [`RemoteHold`]. Every call has a
//! connection to itself, taken from a small pool, so an answer needs no number to be told apart by
//! and a caller that goes away mid-call takes its connection with it. Only processes of the owner's
//! user get in: the directory and the socket are closed to others, and the peer is asked who it is.

mod client;
mod owned;
mod path;
mod server;
mod wire;

#[cfg(test)]
mod tests;

pub use self::client::RemoteHold;
pub use self::owned::Owned;
pub use self::server::{Server, serve};
pub use self::wire::{FRAME_MAX_BYTES, LEASE_MAX_BYTES, WIRE_VERSION};
