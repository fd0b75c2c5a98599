//! Sources of messages: how bytes from outside become [`nightgate_core::Message`]s.

#[cfg(feature = "sqs")]
pub mod sqs;
pub mod wire;
