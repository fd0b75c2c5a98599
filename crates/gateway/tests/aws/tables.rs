//! Consents and recalls in DynamoDB, on an emulator.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use jiff::{SignedDuration, Timestamp};
use nightgate::alert::once::Claims;
use nightgate::alert::once::dynamodb::DynamoClaims;
use nightgate::aws::tables::Table;
use nightgate::clock::SystemClock;
use nightgate::consent::dynamodb::DynamoBook;
use nightgate::consent::memory::MemoryBook;
use nightgate::consent::{Act, ConsentBook, ConsentEvent};
use nightgate::error::Kind;
use nightgate::hold::Scope as Recalled;
use nightgate::hold::sqs::marks::dynamodb::DynamoMarks;
use nightgate::hold::sqs::marks::{Mark, Marks};
use nightgate_core::{Basis, RecipientKey, Scope};

use crate::emulators::{Emulator, Kind as Server};

pub(crate) const TABLE: &str = "nightgate";

pub(crate) fn client(url: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("ap-northeast-2"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(url);
    Client::from_conf(config.build())
}

/// Makes the table as deploy/aws/template.yaml has it.
pub(crate) async fn make_table(url: &str) -> Client {
    let client = client(url);
    let text = ScalarAttributeType::S;
    let attribute = |name: &str| {
        let definition = AttributeDefinition::builder().attribute_name(name);
        definition.attribute_type(text.clone()).build().unwrap()
    };
    let key = |name: &str, kind: KeyType| {
        let element = KeySchemaElement::builder().attribute_name(name);
        element.key_type(kind).build().unwrap()
    };
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk"))
        .attribute_definitions(attribute("sk"))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .send()
        .await
        .unwrap();
    client
}

pub(crate) fn table(client: &Client, name: &str) -> Table {
    Table::new(client.clone(), name, Arc::new(SystemClock::default()))
}

fn book(client: &Client) -> DynamoBook {
    DynamoBook::new(&table(client, TABLE))
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000).unwrap() + SignedDuration::from_hours(hours)
}

fn who(n: usize) -> RecipientKey {
    RecipientKey::from_stored(&format!("+8210{n:08}"))
}

fn event(n: usize, scope: Scope, act: Act, hours: i64) -> ConsentEvent {
    ConsentEvent {
        key: who(n),
        scope,
        act,
        at: at(hours),
        source: "test".to_owned(),
    }
}

/// Some of everything, for 250 recipients, in an order of its own.
fn events() -> Vec<ConsentEvent> {
    let mut dice = fastrand::Rng::with_seed(7);
    let mut events = Vec::new();
    for n in 0..250 {
        for _ in 0..dice.usize(1..4) {
            let scope = dice.choice([Scope::General, Scope::Night]).unwrap();
            let ends = at(dice.i64(100..200));
            let act = dice.choice([
                Act::Grant(Basis::Explicit),
                Act::Grant(Basis::TransactionException { ends }),
                Act::Withdraw,
            ]);
            events.push(event(n, scope, act.unwrap(), dice.i64(0..10)));
        }
    }
    dice.shuffle(&mut events);
    events
}

#[tokio::test]
async fn a_table_tells_what_a_book_in_memory_tells() {
    let emulator = Emulator::start(Server::Ministack).await;
    let client = make_table(&emulator.url).await;
    let (table, memory) = (book(&client), MemoryBook::default());
    let new = table.record(events()).await.unwrap();
    assert_eq!(new, memory.record(events()).await.unwrap());
    // The same once more, and by another process: nothing is new and nothing changes.
    assert_eq!(book(&client).record(events()).await.unwrap(), 0);
    // Some nobody heard of, and some asked about twice.
    let asked: Vec<RecipientKey> = (0..300).chain(5..9).map(who).collect();
    let told = table.look_up(&asked).await.unwrap();
    assert_eq!(told, memory.look_up(&asked).await.unwrap());
    for n in [0, 17, 249, 299] {
        let history = table.history(&who(n)).await.unwrap();
        assert_eq!(history, memory.history(&who(n)).await.unwrap());
    }
}

#[tokio::test]
async fn a_withdrawal_bites_at_once_and_stays_whatever_comes_late() {
    let emulator = Emulator::start(Server::Ministack).await;
    let client = make_table(&emulator.url).await;
    let yes = Act::Grant(Basis::Explicit);
    let table = book(&client);
    table
        .record(vec![event(1, Scope::General, yes, 1)])
        .await
        .unwrap();
    let withdrawn = vec![event(1, Scope::General, Act::Withdraw, 5)];
    book(&client).record(withdrawn).await.unwrap();
    table
        .record(vec![event(1, Scope::General, yes, 3)])
        .await
        .unwrap();
    let consent = table.look_up(&[who(1)]).await.unwrap()[0];
    let valid = |scope| {
        let standing = consent.standing(scope, at(6), &[]);
        matches!(standing, nightgate_core::Standing::Valid { .. })
    };
    assert!(
        !valid(Scope::General) && !valid(Scope::Night),
        "{consent:?}"
    );
}

#[tokio::test]
async fn a_table_that_is_missing_is_unavailable_so_that_advertising_waits() {
    let emulator = Emulator::start(Server::Ministack).await;
    let table = book(&client(&emulator.url));
    let fault = table.look_up(&[who(1)]).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Unavailable, "{fault}");
    let text = fault.to_string();
    assert!(!text.contains("+8210"), "{text}");
    assert!(
        text.contains("`dynamodb.table`") && text.len() < 200,
        "{text}"
    );
    let yes = event(1, Scope::General, Act::Grant(Basis::Explicit), 1);
    let fault = table.record(vec![yes]).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Unavailable, "{fault}");
}

#[tokio::test]
async fn an_alarm_is_claimed_by_one_process_for_a_while() {
    let emulator = Emulator::start(Server::Ministack).await;
    let client = make_table(&emulator.url).await;
    let claims = [0, 1].map(|_| DynamoClaims::new(&table(&client, TABLE)));
    let claim = async |process: usize, key: &str, hours| {
        let claimed = claims[process].claim(key, at(hours), at(hours + 1)).await;
        claimed.unwrap()
    };
    assert!(claim(0, "buried#main", 0).await);
    assert!(!claim(1, "buried#main", 0).await);
    assert!(claim(1, "buried#kakao", 0).await);
    assert!(claim(1, "buried#main", 1).await);
    let missing = DynamoClaims::new(&table(&client, "elsewhere"));
    let fault = missing
        .claim("buried#main", at(0), at(1))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, Kind::Unavailable, "{fault}");
}

#[tokio::test]
async fn recalls_are_found_by_everybody_from_their_instant_on() {
    let emulator = Emulator::start(Server::Ministack).await;
    let client = make_table(&emulator.url).await;
    let (one, other) = (
        DynamoMarks::new(&table(&client, TABLE)),
        DynamoMarks::new(&table(&client, TABLE)),
    );
    let mark = |name: &str, hours| Mark {
        scope: Recalled::Campaign(name.into()),
        at: at(hours),
    };
    for (name, hours) in [("early", 1), ("same", 2), ("instant", 2), ("late", 3)] {
        one.add(mark(name, hours)).await.unwrap();
    }
    let names = async |from| -> BTreeSet<String> {
        let marks = other.since(from).await.unwrap();
        let name = |mark: Mark| match mark.scope {
            Recalled::Campaign(name) => name.to_string(),
            other => panic!("{other:?}"),
        };
        marks.into_iter().map(name).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        names(at(0)).await,
        set(&["early", "same", "instant", "late"])
    );
    assert_eq!(names(at(2)).await, set(&["same", "instant", "late"]));
    assert_eq!(names(at(4)).await, set(&[]));
}
