//! What lies beyond this machine, made from a configuration: queues and tables of AWS.

#[cfg(feature = "sqs")]
mod aws;
#[cfg(not(feature = "sqs"))]
mod none;

#[cfg(all(feature = "sqs", feature = "dynamodb"))]
mod tables;
#[cfg(all(feature = "sqs", not(feature = "dynamodb")))]
#[path = "beyond/no_tables.rs"]
mod tables;

#[cfg(feature = "sqs")]
pub(crate) use aws::Beyond;
#[cfg(not(feature = "sqs"))]
pub(crate) use none::Beyond;
