//! One test binary: each further one is another link.

// The attribute tells clippy that helpers, too, may unwrap: this is a test and nothing else.
#[cfg(test)]
mod arenas;
#[cfg(test)]
mod cli_care;
#[cfg(test)]
mod cli_demo;
#[cfg(test)]
mod cli_explain;
#[cfg(test)]
mod cli_home;
#[cfg(test)]
mod cli_move;
#[cfg(test)]
mod cli_send;
#[cfg(test)]
mod cli_settings;
#[cfg(test)]
mod cli_stores;
#[cfg(test)]
mod edges;
#[cfg(feature = "redis")]
#[cfg(test)]
mod failover;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod http;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod million;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod secrets;
#[cfg(any(feature = "mongodb", feature = "redis"))]
#[cfg(test)]
mod several;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod tidy;
