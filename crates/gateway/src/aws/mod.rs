//! What SQS and DynamoDB have in common for every part that uses them: the client, the seam to the
//! queues, and how a message travels in one.

pub mod batch;
pub mod client;
pub mod queues;
pub mod sdk;
pub mod sim;
#[cfg(feature = "dynamodb")]
pub mod tables;
pub mod travel;
