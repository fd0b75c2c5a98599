//! The way to AWS: credentials, region, time-outs. One for the whole process.

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};

use super::queues::Queues;
use super::sdk::SdkQueues;
use crate::error::{Error, Kind, Result};

/// To find the host, connect and agree on TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For one try of a request that may be tried again.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(12);
/// For a request with all its tries. A receive may take as much longer as it waits for messages.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request that does no harm twice is tried.
pub const ATTEMPTS: u32 = 3;

/// How AWS is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsOptions {
    /// `ap-northeast-2`. `None`: of the environment, the profile or the machine.
    pub region: Option<String>,
    /// Where requests go instead of AWS: an emulator's, or a private endpoint's URL. `None`: of
    /// the environment or the profile, else AWS itself.
    pub endpoint: Option<String>,
}

/// AWS, as this process reaches it. Clones share connections and credentials.
#[derive(Clone)]
pub struct Aws {
    config: SdkConfig,
    queues: Arc<SdkQueues>,
}

impl Aws {
    /// Finds region and credentials as every AWS tool does: environment, profile, web identity,
    /// container, EC2 machine. Credentials are fetched with the first request and renewed in time.
    ///
    /// # Errors
    /// `Invalid` if no region is known, with what to set.
    pub async fn new(options: &AwsOptions) -> Result<Self> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts(Duration::ZERO))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            // Answers are small and every request has an end: a slow stream needs no other watch,
            // and a long poll is no stalled stream.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self::from_config(loader.load().await)
    }

    fn from_config(config: SdkConfig) -> Result<Self> {
        if config.region().is_none() {
            let what = "find the AWS region: set `aws.region`, or AWS_REGION in the environment";
            return Err(Error::new(Kind::Invalid, "aws", what));
        }
        let queues = SdkQueues::new(aws_sdk_sqs::Client::new(&config));
        Ok(Self {
            config,
            queues: Arc::new(queues),
        })
    }

    /// Its queues.
    #[must_use]
    pub fn queues(&self) -> Arc<dyn Queues> {
        Arc::clone(&self.queues) as Arc<dyn Queues>
    }

    /// What clients of its other services are made of.
    #[must_use]
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }
}

/// Limits of a request that waits for messages for so long.
pub(super) fn timeouts(wait: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(wait + ATTEMPT_TIMEOUT)
        .operation_timeout(wait + TIMEOUT)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_region_and_an_endpoint_that_are_given_are_used() {
        let options = AwsOptions {
            region: Some("ap-northeast-2".to_owned()),
            endpoint: Some("http://127.0.0.1:9".to_owned()),
        };
        let aws = Aws::new(&options).await.unwrap();
        assert_eq!(
            aws.config().region(),
            Some(&Region::from_static("ap-northeast-2"))
        );
        assert_eq!(aws.config().endpoint_url(), Some("http://127.0.0.1:9"));
    }

    #[test]
    fn without_a_region_the_error_says_what_to_set() {
        let nothing = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
        let Err(error) = Aws::from_config(nothing.build()) else {
            panic!("there is no region to use");
        };
        assert_eq!(error.kind, Kind::Invalid);
        for what in ["`aws.region`", "AWS_REGION"] {
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
