//! Commands that look into the stores and change them, on the built binary.

use std::sync::Arc;

use jiff::Timestamp;
use nightgate::clock::{Clock, SystemClock};
use nightgate::hold::open::{OpenOptions, open};
use nightgate::hold::{Held, HoldStore, Lane, LeaseAsk, Pick, Settle, State, Verdict};
use nightgate::ingest::wire;
use nightgate_core::{Class, MessageId};

use crate::cli_home::Home;

/// The hold that the commands will reach, as a gateway beside them would own it.
async fn hold(home: &Home) -> Arc<dyn HoldStore> {
    let options = OpenOptions::new(&home.path("nightgate-data"));
    let now = SystemClock::default().now();
    open("shelf", &options, now).await.unwrap()
}

fn held(id: &str, campaign: &str, due: Timestamp) -> Held {
    let json = serde_json::json!({
        "id": id, "recipient": "010-1234-5678", "channel": "sms", "purpose": "advertising",
        "campaign": campaign, "body": "secret-body",
    });
    let message = wire::read(json.to_string().as_bytes()).unwrap();
    Held {
        key: message.recipient.key("KR"),
        message,
        lane: Lane::new("main"),
        class: Class::from_name("advertising/sms/KR/Asia/Seoul"),
        due,
        accepted_at: due,
    }
}

/// Three messages of two campaigns, held for long, and a buried one.
async fn filled(home: &Home) -> Arc<dyn HoldStore> {
    let hold = hold(home).await;
    // The commands read the machine's clock.
    let now = SystemClock::default().now();
    let later = now + jiff::SignedDuration::from_hours(24);
    let all = vec![
        held("m-1", "가을맞이", later),
        held("m-2", "가을맞이", later),
        held("m-3", "winter", later),
        held("bad", "winter", now),
    ];
    hold.put(all, now).await.unwrap();
    let lane = Lane::new("main");
    let ask = LeaseAsk {
        lane: &lane,
        pick: Pick::Any,
        now,
        max: 9,
        ttl: jiff::SignedDuration::from_secs(60),
    };
    let leased = hold.lease(&ask).await.unwrap();
    assert_eq!(leased.len(), 1);
    let why = "no answer".to_owned();
    let verdict = Verdict::Bury { why };
    let token = leased[0].token;
    hold.settle(vec![Settle { token, verdict }], now)
        .await
        .unwrap();
    // The receipts and consents, as a gateway would have made them.
    assert_eq!(
        home.run(&["consent", "withdraw", "x@example.com", "--scope", "night"])
            .code,
        0
    );
    nightgate::receipt::sqlite::SqliteLog::open(&home.path("nightgate-data/receipts.db")).unwrap();
    hold
}

async fn state(hold: &Arc<dyn HoldStore>, id: &str) -> State {
    let id = MessageId::new(id).unwrap();
    hold.find(&[id]).await.unwrap().remove(0).unwrap().state
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hold_is_listed_beside_a_store_that_is_open() {
    let home = Home::new();
    let _hold = filled(&home).await;
    let ran = home.run(&["hold", "ls", "--json"]);
    assert_eq!(ran.json()["totals"]["held"], 3);
    assert_eq!(ran.json()["totals"]["buried"], 1);
    let table = home.run(&["hold", "ls"]);
    assert!(
        table.out.contains("가을맞이") && table.out.contains("+09:00"),
        "{}",
        table.out
    );
    let buried = home.run(&["hold", "ls", "--buried", "--json"]).json();
    assert_eq!(buried["buried"][0]["id"], "bad");
    assert_eq!(buried["buried"][0]["why"], "no answer");
    let elsewhere = home
        .run(&["hold", "ls", "--lane", "other", "--json"])
        .json();
    assert_eq!(elsewhere["totals"]["shelves"], 0);
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_shown_without_its_body_and_its_recipient_only_on_demand() {
    let home = Home::new();
    let _hold = filled(&home).await;
    let masked = home.run(&["hold", "show", "m-1"]);
    assert!(masked.out.contains("+82********78"), "{masked:?}");
    let clear = home.run(&["hold", "show", "m-1", "--reveal"]);
    assert!(clear.out.contains("+821012345678"), "{clear:?}");
    assert!(!clear.out.contains("secret-body"), "{clear:?}");
    let unknown = home.run(&["hold", "show", "nobody"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("no message is known"), "{unknown:?}");
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_needs_a_yes_counts_and_files_one_receipt() {
    let home = Home::new();
    let hold = filled(&home).await;
    let recall = ["hold", "recall", "--campaign", "가을맞이"];
    let unasked = home.run(&recall);
    assert_eq!(unasked.code, 2);
    assert!(unasked.err.contains("--yes"), "{unasked:?}");
    assert_eq!(state(&hold, "m-1").await, State::Held);
    let done = home.run(&[&recall[..], &["--yes", "--json"]].concat());
    assert_eq!(
        done.json(),
        serde_json::json!({ "recalled": 2, "in_flight": 0, "noted": false })
    );
    assert_eq!(state(&hold, "m-1").await, State::Recalled);
    assert_eq!(state(&hold, "m-3").await, State::Held);
    let again = home.run(&[&recall[..], &["--yes", "--json"]].concat());
    assert_eq!(again.json()["recalled"], 0);
    let receipts = home
        .run(&["receipts", "--campaign", "가을맞이", "--json"])
        .lines();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(receipts[0]["event"], "recalled");
    assert_eq!(receipts[0]["count"], 2);
    assert_eq!(
        home.run(&["hold", "recall", "--yes"]).code,
        2,
        "nothing is named"
    );
    let two = [
        "hold",
        "recall",
        "--yes",
        "--id",
        "m-3",
        "--campaign",
        "winter",
    ];
    assert_eq!(home.run(&two).code, 2, "two scopes");
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_buried_is_kicked_and_a_receipt_tells() {
    let home = Home::new();
    let hold = filled(&home).await;
    let kicked = home.run(&["hold", "kick", "--lane", "main", "--json"]);
    assert_eq!(kicked.json()["kicked"], 1);
    assert_eq!(state(&hold, "bad").await, State::Held);
    let receipts = home.run(&["receipts", "--json"]).lines();
    assert_eq!(receipts[0]["event"], "kicked");
    assert_eq!(receipts[0]["lane"], "main");
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_paused_and_resumed_by_name_and_all_together() {
    let home = Home::new();
    let _hold = filled(&home).await;
    let lanes = || home.run(&["lanes", "--json"]).json()[0].clone();
    assert_eq!(lanes()["held"], 3);
    assert_eq!(lanes()["paused_since"], serde_json::Value::Null);
    assert_eq!(home.run(&["lanes", "pause", "all"]).code, 0);
    assert_eq!(lanes()["paused_by_all"], true);
    assert_eq!(home.run(&["lanes", "pause", "main"]).code, 0);
    let resumed = home.run(&["lanes", "resume", "all"]);
    assert!(
        resumed.out.contains("still paused on their own: main"),
        "{resumed:?}"
    );
    assert_eq!(lanes()["paused_by_all"], false);
    assert_eq!(home.run(&["lanes", "resume", "main"]).code, 0);
    assert_eq!(lanes()["paused_since"], serde_json::Value::Null);
    let typo = home.run(&["lanes", "pause", "mian"]);
    assert_eq!(typo.code, 2);
    assert!(typo.err.contains("choose main or all"), "{typo:?}");
}

#[test]
fn a_command_that_looks_makes_no_data_directory() {
    let home = Home::new();
    for args in [&["hold", "ls"][..], &["lanes"], &["receipts"]] {
        let ran = home.run(args);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("data.dir"), "{ran:?}");
    }
    assert!(!home.path("nightgate-data").exists());
    let memory = home.run(&["hold", "ls", "--set", "hold.store=memory"]);
    assert_eq!(memory.code, 2, "{memory:?}");
}

#[test]
fn an_import_takes_the_good_lines_and_tells_the_bad_ones_without_recipients() {
    let home = Home::new();
    let text = "recipient,scope,act,at\n\
        010-1234-5678,general,grant,2026-11-20T09:00:00+09:00\n\
        010-7777-8888,weekly,grant,2026-11-20T09:00:00+09:00\n\
        010-1234-5678,night,grant,yesterday\n";
    let file = home.write("users.csv", text);
    let ran = home.run(&["consent", "import", file]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.out
            .contains("3 lines: 1 new, 0 known already, 2 faulty"),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("line 3: `scope`") && ran.err.contains("line 4: `at`"),
        "{ran:?}"
    );
    assert!(!ran.err.contains("7777"), "{ran:?}");
    let again = home.run(&["consent", "import", file, "--json"]).json();
    assert_eq!((&again["new"], &again["known"]), (&0.into(), &1.into()));
    let unnamed = home.pipe(text, &["consent", "import", "-"]);
    assert_eq!(unnamed.code, 2, "{unnamed:?}");
    let piped = home.pipe(text, &["consent", "import", "-", "--format", "csv"]);
    assert_eq!(piped.code, 3, "{piped:?}");
}

#[test]
fn consents_are_granted_withdrawn_and_shown_with_their_history() {
    let home = Home::new();
    let at = ["--at", "2026-11-20T09:00:00+09:00"];
    let who = "010-1234-5678";
    let act = |act: &str, scope: &str, more: &[&str]| {
        let ran = home.run(&[&["consent", act, who, "--scope", scope][..], more].concat());
        assert!(!ran.out.contains("1234"), "{ran:?}");
        ran.code
    };
    assert_eq!(act("grant", "general", &at), 0);
    assert_eq!(act("grant", "night", &at), 0);
    assert_eq!(
        act("withdraw", "night", &["--at", "2026-11-21T09:00:00+09:00"]),
        0
    );
    let ends = [
        "--basis",
        "transaction-exception",
        "--ends",
        "2027-05-20T00:00:00+09:00",
    ];
    assert_eq!(act("grant", "night", &ends), 2, "night consent is explicit");
    let shown = home
        .run(&["consent", "show", "+821012345678", "--json"])
        .json();
    assert_eq!(shown["consent"]["general"]["standing"], "valid");
    assert_eq!(shown["consent"]["night"]["standing"], "withdrawn");
    let acts: Vec<_> = shown["history"].as_array().unwrap().iter().collect();
    assert_eq!(acts.len(), 3);
    assert_eq!(acts[2]["act"], "withdraw");
    assert_eq!(acts[2]["source"], "cli");
}
