//! One test binary: each further one is another link.

// The attribute tells clippy that helpers, too, may unwrap: this is a test and nothing else.
#[cfg(test)]
mod edges;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod http;
#[cfg(test)]
mod tidy;
