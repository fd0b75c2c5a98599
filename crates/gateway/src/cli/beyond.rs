//! What lies beyond this machine, made from a configuration: AWS, Redis, MongoDB. Each is reached
//! when something first needs it, and once.

#[cfg(feature = "sqs")]
mod aws;
#[cfg(not(feature = "sqs"))]
#[path = "beyond/no_aws.rs"]
mod aws;

#[cfg(feature = "redis")]
mod redis;
#[cfg(not(feature = "redis"))]
#[path = "beyond/no_redis.rs"]
mod redis;

#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(not(feature = "mongodb"))]
#[path = "beyond/no_mongodb.rs"]
mod mongodb;

#[cfg(all(feature = "sqs", feature = "dynamodb"))]
mod tables;
#[cfg(all(feature = "sqs", not(feature = "dynamodb")))]
#[path = "beyond/no_tables.rs"]
mod tables;

use self::aws::AwsWay;
use self::mongodb::MongoWay;
use self::redis::RedisWay;
use super::Failure;
use crate::config::Config;

/// Every way beyond this machine.
pub(crate) struct Beyond {
    /// Queues and tables of AWS.
    pub(crate) aws: AwsWay,
    /// What several gateways share in Redis.
    pub(crate) redis: RedisWay,
    /// The same in MongoDB.
    pub(crate) mongodb: MongoWay,
}

impl Beyond {
    /// As `config` has it. Nothing is connected yet.
    #[must_use]
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            aws: AwsWay::new(config),
            redis: RedisWay::new(config),
            mongodb: MongoWay::new(config),
        }
    }
}

/// What to build when a configuration asks for more than is in this build.
#[cfg_attr(
    all(
        feature = "sqs",
        feature = "dynamodb",
        feature = "redis",
        feature = "mongodb"
    ),
    expect(dead_code, reason = "everything is in this build")
)]
fn not_built(what: &str, engine: &str) -> Failure {
    Failure::usage(format!(
        "{what} needs a build with {engine} in it: cargo build --release --features full"
    ))
}
