//! `hold verify`, `export`, `backup` and `restore`, on the built binary.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use jiff::SignedDuration;
use nightgate::clock::{Clock, SystemClock};
use nightgate::hold::open::{OpenOptions, open};
use nightgate::hold::{
    End, Held, HoldStore, Lane, LeaseAsk, Pick, Put, Scope, Settle, State, Verdict,
};
use nightgate::ingest::wire;
use nightgate::receipt::sqlite::SqliteLog;
use nightgate::receipt::{Event, Receipt, ReceiptLog, Subject};
use nightgate_core::{Class, MessageId};

use crate::cli_home::Home;

async fn hold(home: &Home) -> Arc<dyn HoldStore> {
    let options = OpenOptions::new(&home.path("nightgate-data"));
    open("shelf", &options, SystemClock::default().now())
        .await
        .unwrap()
}

/// A message that may leave at any hour.
fn held(id: &str, due: jiff::Timestamp) -> Held {
    let json = serde_json::json!({
        "id": id, "recipient": "010-1234-5678", "channel": "sms", "purpose": "informational",
        "campaign": "orders", "body": format!("body of {id}"), "attributes": { "a": "b" },
    });
    let message = wire::read(json.to_string().as_bytes()).unwrap();
    Held {
        key: message.recipient.key("KR"),
        message,
        lane: Lane::new("main"),
        class: Class::from_name("informational/sms/KR/Asia/Seoul"),
        due,
        accepted_at: due,
    }
}

async fn put(hold: &Arc<dyn HoldStore>, ids: &[&str], due: jiff::Timestamp) {
    let messages = ids.iter().map(|id| held(id, due)).collect();
    let answers = hold.put(messages, due).await.unwrap();
    assert_eq!(answers, vec![Put::New; ids.len()]);
}

async fn settle_next(hold: &Arc<dyn HoldStore>, verdict: Verdict) -> Held {
    let now = SystemClock::default().now();
    let lane = Lane::new("main");
    let ask = LeaseAsk {
        lane: &lane,
        pick: Pick::Any,
        now,
        max: 1,
        ttl: SignedDuration::from_mins(1),
    };
    let leased = hold.lease(&ask).await.unwrap().remove(0);
    let token = leased.token;
    let settle = vec![Settle { token, verdict }];
    hold.settle(settle, now).await.unwrap();
    leased.held
}

fn receipts(home: &Home) -> SqliteLog {
    SqliteLog::open(&home.path("nightgate-data/receipts.db")).unwrap()
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_checked_beside_its_owner_and_alone_and_damage_is_told_in_both_languages() {
    let home = Home::new();
    let owner = hold(&home).await;
    let now = SystemClock::default().now();
    put(&owner, &["a", "b", "c"], now).await;
    let beside = home.run(&["hold", "verify", "--json"]);
    assert_eq!(beside.code, 0, "{beside:?}");
    assert_eq!(beside.json()["sound"], true);
    assert_eq!(beside.json()["held"], 3);
    drop(owner);
    let alone = home.run(&["hold", "verify", "--language", "en"]);
    assert_eq!(alone.code, 0, "{alone:?}");
    assert!(alone.out.ends_with("sound\n"), "{alone:?}");
    let path = home.path("nightgate-data/shelf/MANIFEST");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[80] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let english = home.run(&["hold", "verify", "--language", "en"]);
    assert_eq!(english.code, 1, "{english:?}");
    assert!(
        english.out.contains("MANIFEST: one of two copies") && english.out.contains("1 faults"),
        "{english:?}"
    );
    let korean = home.run(&["hold", "verify", "--language", "ko"]);
    assert!(korean.out.contains("MANIFEST: 두 사본 중"), "{korean:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing is mended");
    let json = home
        .run(&["hold", "verify", "nightgate-data", "--json"])
        .json();
    assert_eq!(json["findings"][0]["ill"], "copy_damaged");
    let nowhere = home.run(&["hold", "verify", "nowhere"]);
    assert_eq!(nowhere.code, 1, "{nowhere:?}");
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_for_its_owner_alone_and_can_be_sent_again() {
    let home = Home::new();
    let owner = hold(&home).await;
    let now = SystemClock::default().now();
    put(&owner, &["bad"], now).await;
    let why = "no answer".to_owned();
    settle_next(&owner, Verdict::Bury { why }).await;
    put(&owner, &["a", "b"], now).await;
    let ran = home.run(&["hold", "export", "--out", "all.ndjson"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("2 held, 0 leased, 1 buried"), "{ran:?}");
    let file = home.path("all.ndjson");
    let rights = file.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(rights, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    let bad = lines.iter().find(|line| line["state"] == "buried").unwrap();
    assert_eq!(
        (&bad["why"], &bad["message"]["id"]),
        (&"no answer".into(), &"bad".into())
    );
    assert_eq!(bad["message"]["body"], "body of bad");
    let again = home.run(&["hold", "export", "--out", "all.ndjson"]);
    assert_eq!(again.code, 2, "no file is replaced: {again:?}");
    let alone = home.run(&["hold", "export", "--messages"]);
    assert_eq!(alone.out.lines().count(), 2, "{alone:?}");
    for line in alone.out.lines() {
        let read = wire::read(line.as_bytes()).unwrap();
        assert_eq!(read, held(read.id.as_str(), now).message);
    }
    // Another gateway takes them as they are.
    let other = Home::new();
    let served = other.serve();
    let sent = other.pipe(&alone.out, &["send", "-", "--url", &served.url, "--json"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let all = home.run(&["hold", "export", "--messages", "--buried"]);
    assert_eq!(all.out.lines().count(), 3);
}

#[tokio::test]
async fn an_export_of_a_damaged_hold_has_the_rest_names_what_is_lost_and_ends_with_three() {
    let home = Home::new();
    let owner = hold(&home).await;
    let now = SystemClock::default().now();
    let mut large = held("a", now);
    let mut dice = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| dice.u8(..)).take(5_000).collect();
    large.message.body = noise.into();
    owner.put(vec![large], now).await.unwrap();
    put(&owner, &["b"], now).await;
    drop(receipts(&home));
    drop(owner);
    let log = home.path("nightgate-data/shelf/log-00000001");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[3_000] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let checked = home.run(&["hold", "verify", "--json"]);
    assert_eq!(
        (checked.code, &checked.json()["damaged"]),
        (1, &1.into()),
        "{checked:?}"
    );
    let ran = home.run(&["hold", "export", "--messages"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.lines().len(), 1, "{ran:?}");
    assert_eq!(ran.lines()[0]["id"], "b");
    let named = "log-00000001, byte ";
    assert!(
        ran.err.contains(named) && ran.err.contains("cannot be read: a"),
        "{ran:?}"
    );
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_a_receipt_since_the_backup_does_not_leave_again() {
    let home = Home::new();
    let owner = hold(&home).await;
    let now = SystemClock::default().now();
    let book = receipts(&home);
    let later = now + SignedDuration::from_hours(9);
    put(&owner, &["told", "untold", "open", "waits"], now).await;
    put(&owner, &["called"], later).await;
    let backup = home.run(&["hold", "backup", "--to", "safe", "--json"]);
    assert_eq!(backup.code, 0, "{backup:?}");
    assert_eq!(backup.json()["sound"], true);
    // What became of them since. `told` is in both books, `untold` left while the hold was not
    // told, of `open` nobody knows.
    let file = async |event, held: &Held| {
        let subject = Subject::of(&held.message, &held.key, &held.lane);
        let at = SystemClock::default().now();
        let receipt = Receipt {
            attempt: 1,
            ..Receipt::of(event, subject, at)
        };
        book.append(vec![receipt]).await.unwrap();
    };
    let told = settle_next(&owner, Verdict::Done(End::Delivered)).await;
    for one in [&told, &held("untold", now)] {
        file(Event::Attempted, one).await;
        file(Event::Delivered, one).await;
    }
    file(Event::Attempted, &held("open", now)).await;
    file(Event::Recalled, &held("called", later)).await;
    let id = |text: &str| MessageId::new(text).unwrap();
    owner.recall(&Scope::Id(id("called")), now).await.unwrap();
    let in_use = home.run(&["hold", "restore", "--from", "safe", "--replace"]);
    assert_eq!(in_use.code, 1, "{in_use:?}");
    drop(owner);
    let unasked = home.run(&["hold", "restore", "--from", "safe"]);
    assert!(
        unasked.code == 1 && unasked.err.contains("moved aside"),
        "{unasked:?}"
    );
    let ran = home.run(&["hold", "restore", "--from", "safe", "--replace", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        (&ran.json()["ended"], &ran.json()["recalled"]),
        (&2.into(), &1.into())
    );
    let sink = "lane.main.log.path=out.ndjson";
    let unknown = "lane.main.unknown_informational=bury";
    let drained = home.run(&["drain", "--json", "--set", sink, "--set", unknown]);
    assert_eq!(drained.code, 3, "one is buried: {drained:?}");
    let out = std::fs::read_to_string(home.path("out.ndjson")).unwrap();
    let left: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(left.len(), 1, "{out}");
    assert_eq!(left[0]["id"], "waits");
    let owner = hold(&home).await;
    let ids = ["told", "untold", "open", "called"].map(id);
    let found = owner.find(&ids).await.unwrap();
    let states = found.into_iter().map(|one| one.unwrap().state);
    let wanted = [
        State::Delivered,
        State::Delivered,
        State::Buried,
        State::Recalled,
    ];
    assert!(states.eq(wanted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_receipts_a_restore_buries_or_refuses_and_a_damaged_backup_is_refused() {
    let home = Home::new();
    let owner = hold(&home).await;
    let now = SystemClock::default().now();
    put(&owner, &["a", "b"], now).await;
    drop(receipts(&home));
    assert_eq!(home.run(&["hold", "backup", "--to", "safe"]).code, 0);
    drop(owner);
    std::fs::remove_file(home.path("nightgate-data/receipts.db")).unwrap();
    let restore = ["hold", "restore", "--from", "safe", "--replace"];
    let refused = home.run(&restore);
    assert!(
        refused.code == 1 && refused.err.contains("--put-aside"),
        "{refused:?}"
    );
    let buried = home.run(&[&restore[..], &["--put-aside", "--json"]].concat());
    assert_eq!(buried.code, 0, "{buried:?}");
    assert_eq!(buried.json()["buried"], 2);
    let manifest = home.path("safe/MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[80] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let damaged = home.run(&[&restore[..], &["--put-aside"]].concat());
    assert!(
        damaged.code == 1 && damaged.err.contains("--damaged"),
        "{damaged:?}"
    );
    let all = ["--put-aside", "--damaged"];
    let taken = home.run(&[&restore[..], &all].concat());
    assert_eq!(taken.code, 0, "{taken:?}");
    std::fs::remove_file(home.path("safe/BACKUP")).unwrap();
    let unnoted = home.run(&[&restore[..], &all].concat());
    assert!(
        unnoted.code == 2 && unnoted.err.contains("--taken-at"),
        "{unnoted:?}"
    );
}

// Commands are waited for on this thread while another answers them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_in_sqlite_is_checked_and_exported_page_by_page_too() {
    let home = Home::new();
    let now = SystemClock::default().now();
    let options = OpenOptions::new(&home.path("nightgate-data"));
    let hold = open("sqlite", &options, now).await.unwrap();
    put(&hold, &["a", "b", "c", "d"], now).await;
    settle_next(&hold, Verdict::Done(End::Delivered)).await;
    let store = ["--set", "hold.store=sqlite"];
    let checked = home.run(&[&["hold", "verify", "--json"], &store[..]].concat());
    assert_eq!(
        (checked.code, &checked.json()["held"]),
        (0, &3.into()),
        "{checked:?}"
    );
    let all = home
        .run(&[&["hold", "export"], &store[..]].concat())
        .lines();
    let ids: Vec<_> = all
        .iter()
        .map(|line| line["message"]["id"].clone())
        .collect();
    assert_eq!(ids, ["b", "c", "d"]);
    let (mut from, mut seen) = (Some(0), Vec::new());
    while let Some(at) = from {
        let page = hold.export(at, 1).await.unwrap();
        seen.extend(page.found.into_iter().map(|found| found.held.message));
        from = page.next;
    }
    assert_eq!(seen, ["b", "c", "d"].map(|id| held(id, now).message));
    let backup = home.run(&[&["hold", "backup", "--to", "safe"], &store[..]].concat());
    assert!(
        backup.code == 1 && backup.err.contains("cannot do that"),
        "{backup:?}"
    );
}

#[test]
fn each_of_these_commands_shows_how_it_is_used() {
    let home = Home::new();
    for (command, must) in [
        ("verify", "changes nothing"),
        ("export", "mode 0600"),
        ("backup", "whole or not at all"),
        ("restore", "must not leave again"),
    ] {
        let help = home.run(&["hold", command, "--help"]);
        assert_eq!(help.code, 0, "{help:?}");
        assert!(help.out.contains("Examples:"), "{help:?}");
        let text = help.out.replace('\n', " ");
        assert!(text.contains(must), "{command}: {text}");
    }
}
