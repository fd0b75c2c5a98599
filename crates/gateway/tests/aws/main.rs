//! SQS as others speak it: emulators, another client, and a network that fails. See
//! docs/TESTING.md.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod attempts;
#[cfg(test)]
#[path = "../it/gateway/clock.rs"]
#[expect(dead_code, reason = "tests/it uses all of it")]
mod clock;
mod conformance;
mod deploy;
mod emulators;
mod environment;
mod hold;
mod night;
mod note;
mod other_client;
mod proxy;
mod proxy_tests;
mod tables;
mod template;
mod world;
