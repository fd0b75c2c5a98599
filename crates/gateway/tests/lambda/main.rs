//! The built binary as a Lambda function, called by a runtime of ours.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod runtime;
