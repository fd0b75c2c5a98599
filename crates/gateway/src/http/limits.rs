//! What bounds the HTTP interface.

use std::time::Duration;

/// The bounds that the configuration sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body that is not a stream, in bytes.
    pub body_max_bytes: usize,
    /// Longest line of a stream, in bytes, its end not counted.
    pub bulk_line_max_bytes: usize,
    /// Largest head of a request (request line and headers), in bytes.
    pub header_max_bytes: usize,
    /// Most messages, consents or ids in one request that is not a stream.
    pub batch_max: usize,
    /// Most connections open at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Longest time to read a request that is not a stream, and again to answer it.
    pub request_timeout: Duration,
    /// Longest silence within a stream.
    pub bulk_idle_timeout: Duration,
    /// How long a stopping server waits for requests under way.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_max_bytes: 16 * 1024 * 1024,
            bulk_line_max_bytes: 512 * 1024,
            header_max_bytes: 16 * 1024,
            batch_max: 10_000,
            connections_max: 1024,
            request_timeout: Duration::from_secs(30),
            bulk_idle_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(20),
        }
    }
}
