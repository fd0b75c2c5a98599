//! Sources of messages: how bytes from outside become [`nightgate_core::Message`]s.

pub mod wire;
