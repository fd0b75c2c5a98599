//! SQS as others speak it: emulators, another client, and a network that fails.

mod conformance;
mod emulators;
mod other_client;
mod proxy;
mod proxy_tests;
mod tables;
mod world;
