//! What SQS and DynamoDB have in common for every part that uses them: the client, the seam to the
//! queues, and how a message travels in one.

pub mod queues;
pub mod sim;
