//! The same binary as a Lambda function.
//!
//! The road is opened once for each instance. An event from an SQS queue is taken in, record by
//! record; any other event (EventBridge Scheduler, a rule, `{}`) is a tick: what is due is released
//! until nothing is, or until the deadline comes near. Both may come at any time and as often as
//! they like: what is asked is always "what is due?", never "is it eight o'clock?".
//!
//! An instance is stopped between calls, so nothing runs in the background: alarms are delivered
//! before an answer is given. The alarm desk knows repeats within one instance only; Slack may show
//! the same alarm once for each.

pub mod clock;
pub mod deadline;
pub mod event;
pub mod functions;
mod runtime;

pub use functions::{Failed, FunctionParts, Functions, Report};
pub use runtime::run;

#[cfg(test)]
mod tests;
