//! Nightgate, a quiet-hours gateway for bulk notifications.
//!
//! One road: `ingest -> decide -> hold(due) -> release -> sink -> receipt`; docs/ARCHITECTURE.md
//! draws it.

pub mod alert;
#[cfg(feature = "sqs")]
pub mod aws;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consent;
pub mod decider;
pub mod error;
pub mod gate;
pub mod hold;
pub mod http;
pub mod ingest;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod lane;
pub mod metrics;
#[cfg(feature = "mongodb")]
pub mod mongodb;
pub mod recall;
pub mod receipt;
#[cfg(feature = "redis")]
pub mod redis;
pub mod release;
pub mod secret;
pub mod sink;
mod sqlite;
