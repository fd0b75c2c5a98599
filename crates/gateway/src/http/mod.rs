//! The HTTP interface: its routes, who may ask them, what they answer when something is wrong, and
//! the server they run on.

pub mod api;
pub mod auth;
pub mod limits;
pub mod ndjson;
pub mod openapi;
pub mod problem;
pub mod server;

mod entry;
mod input;
mod spool;

pub use api::{Api, router};
pub use auth::Auth;
pub use limits::Limits;
pub use server::serve;
