//! Region, credentials and endpoint are found as every AWS tool finds them: in the environment.

use std::process::Command;

use nightgate::aws::client::{Aws, AwsOptions};

use crate::emulators::{Emulator, Kind};
use crate::world::make;

const CREDENTIALS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "swordfish"),
];
const REGION: (&str, &str) = ("AWS_REGION", "ap-northeast-2");

/// Looks for a queue in an environment of its own; what came of it is printed.
#[tokio::test]
#[ignore = "run by the tests below in environments of their own"]
async fn child() {
    match Aws::new(&AwsOptions::default()).await {
        Ok(aws) => println!("found {:?}", aws.queues().find("here").await),
        Err(error) => println!("no way to AWS: {error}"),
    }
}

/// What [`child`] prints with these variables and no others.
fn look(variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "environment::child", "--nocapture"])
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let both = [done.stdout, done.stderr].concat();
    String::from_utf8(both).unwrap()
}

#[tokio::test]
async fn region_credentials_and_endpoint_are_found_in_the_environment() {
    let emulator = Emulator::start(Kind::Fauxqs).await;
    make(&emulator.url, "here", &[]).await;
    let endpoint = ("AWS_ENDPOINT_URL", emulator.url.as_str());
    let text = look(&[CREDENTIALS[0], CREDENTIALS[1], REGION, endpoint]);
    assert!(text.contains("found Ok(Some(Queue("), "{text}");
    assert!(text.contains("/here"), "{text}");
}

#[test]
fn without_a_region_it_says_what_to_set() {
    let text = look(&CREDENTIALS);
    assert!(
        text.contains("set `aws.region`, or AWS_REGION in the environment"),
        "{text}"
    );
}

#[tokio::test]
async fn without_credentials_nothing_is_asked_and_it_says_why() {
    let emulator = Emulator::start(Kind::Fauxqs).await;
    make(&emulator.url, "here", &[]).await;
    let endpoint = ("AWS_ENDPOINT_URL", emulator.url.as_str());
    let text = look(&[REGION, endpoint]);
    assert!(
        text.contains("found Err(Fault { kind: Unavailable"),
        "{text}"
    );
    assert!(text.to_lowercase().contains("credential"), "{text}");
}
