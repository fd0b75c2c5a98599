//! What lies beyond this machine, made from a configuration: queues and tables of AWS.

#[cfg(feature = "sqs")]
mod aws;
#[cfg(not(feature = "sqs"))]
mod none;

#[cfg(feature = "sqs")]
pub(crate) use aws::Beyond;
#[cfg(not(feature = "sqs"))]
pub(crate) use none::Beyond;
