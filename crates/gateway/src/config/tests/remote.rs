//! Queues, tables and services in the configuration.

use super::super::*;
use super::load;

#[test]
fn a_team_with_queues_says_where_they_are_and_gets_the_rest_from_the_defaults() {
    let file = "[hold]\nstore = \"sqs\"\n[hold.sqs]\nopenings = [\"08:00[Asia/Seoul]\"]\n\
                [lane.kakao]\nsink = \"sqs\"\n[lane.kakao.sqs]\nqueue = \"sqs_schedule_message\"\n\
                [source.orders]\nqueue = \"orders\"\ndead_letter = \"orders-dead\"\n\
                [source.orders.map]\npurpose = \"=advertising\"\nrecipient = \"/to\"\n\
                [receipts]\nstore = \"lines\"\n[consent]\nstore = \"dynamodb\"\n";
    let env = [("NIGHTGATE_SOURCE__ORDERS__POLLERS", "9")];
    let config = load(file, &env, &["aws.region=ap-northeast-2"])
        .unwrap()
        .config;
    assert_eq!(config.hold.store, HoldKind::Sqs);
    assert_eq!(config.hold.sqs.prefix, "nightgate");
    let opening = Opening::parse("08:00[Asia/Seoul]").unwrap();
    assert_eq!(config.hold.sqs.openings, [opening]);
    assert!(
        matches!(&config.lanes[0].sink, SinkConfig::Sqs(sqs) if sqs.queue == "sqs_schedule_message")
    );
    let [source] = &config.sources[..] else {
        panic!("{:?}", config.sources);
    };
    assert_eq!((source.name.as_str(), source.pollers), ("orders", 9));
    assert_eq!(source.map["recipient"], "/to");
    assert_eq!(config.receipts.store, ReceiptStore::Lines);
    assert_eq!(config.consent.store, ConsentStore::DynamoDb);
    assert_eq!(config.aws.region.as_deref(), Some("ap-northeast-2"));
    assert!(!config.uses_disk());
}

#[test]
fn there_is_no_source_unless_one_is_named() {
    assert!(load("", &[], &[]).unwrap().config.sources.is_empty());
    let fault = load("[source.\"Orders!\"]\n", &[], &[])
        .unwrap_err()
        .to_string();
    assert!(fault.contains("is no name for a source"), "{fault}");
}

#[test]
fn faults_of_queues_and_services_name_the_key_and_the_rule() {
    let cases = [
        (
            "[hold.sqs]\nprefix = \"a b\"\n",
            "`hold.sqs.prefix` must be 1 to 24 letters",
        ),
        (
            "[hold.sqs]\nopenings = [\"8 o'clock\"]\n",
            "`hold.sqs.openings` must be times such as",
        ),
        (
            "[hold.sqs]\nopenings = [\"08:00[Asia/Seul]\"]\n",
            "has \"08:00[Asia/Seul]\"",
        ),
        ("[source.a]\n", "`source.a.queue` must be set"),
        (
            "[source.a]\nqueue = \"q\"\ndead_letter = \"q\"\n",
            "must be another queue than `queue`",
        ),
        (
            "[source.a]\nqueue = \"q\"\nhide = \"5s\"\n",
            "`source.a.hide` must be 10s to 12h",
        ),
        (
            "[lane.main]\nsink = \"sqs\"\n",
            "`lane.main.sqs.queue` must be set",
        ),
        (
            "[consent]\nstore = \"http\"\n",
            "`consent.http.url` must be an address",
        ),
        (
            "[consent]\nstore = \"http\"\n[consent.http]\nurl = \"http://consent.example\"\n",
            "`consent.http.url` must start with https://",
        ),
        (
            "[receipts]\nstore = \"sqs\"\n",
            "`receipts.sqs.queue` must be set",
        ),
        (
            "[aws]\nendpoint = \"here\"\n",
            "`aws.endpoint` must be an address",
        ),
        (
            "[lambda]\nmargin = \"0s\"\n",
            "`lambda.margin` must be 1s to",
        ),
    ];
    for (file, says) in cases {
        let faults = load(file, &[], &[]).unwrap_err().to_string();
        assert!(faults.contains(says), "{faults} should say {says}");
    }
}

#[test]
fn the_example_of_a_source_is_never_one() {
    let config = load("[source.example]\nqueue = \"q\"\n", &[], &[])
        .unwrap()
        .config;
    assert!(config.sources.is_empty());
}
