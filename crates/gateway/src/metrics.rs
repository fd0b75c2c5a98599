//! Counters and gauges, in Prometheus's text format.

/// Every metric of the process.
#[derive(Debug, Default)]
pub struct Metrics {}
