//! SQS as others speak it: emulators, another client, and a network that fails. See
//! docs/TESTING.md.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod conformance;
mod emulators;
mod environment;
mod other_client;
mod proxy;
mod proxy_tests;
mod world;
