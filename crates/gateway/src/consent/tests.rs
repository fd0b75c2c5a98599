//! The promises of the consent port, on every book, and the import.

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nightgate_core::Fact;
use proptest::prelude::*;
use tempfile::TempDir;

use super::import::{BATCH, FAULTS_KEPT, Format, ImportFault, LINE_MAX_BYTES, import, rows};
use super::memory::MemoryBook;
#[cfg(feature = "mongodb")]
use super::mongodb::MongoBook;
use super::sqlite::SqliteBook;
use super::*;
#[cfg(feature = "mongodb")]
use crate::mongodb::tests::{BOTH, anew};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn key(text: &str) -> RecipientKey {
    RecipientKey::from_stored(text)
}

fn event(who: &str, scope: Scope, act: Act, when: &str) -> ConsentEvent {
    ConsentEvent {
        key: key(who),
        scope,
        act,
        at: at(when),
        source: "test".to_owned(),
    }
}

const YES: Act = Act::Grant(Basis::Explicit);

/// Runs one promise on a book in memory, on one on disk and on those elsewhere.
async fn on_each<F: AsyncFn(&dyn ConsentBook)>(promise: F) {
    #[cfg(feature = "redis")]
    {
        let (_server, book) = redis_book().await;
        promise(&book).await;
    }
    promise(&MemoryBook::default()).await;
    let dir = TempDir::new().unwrap();
    promise(&SqliteBook::open(&dir.path().join("consent.db")).unwrap()).await;
    #[cfg(feature = "mongodb")]
    for kind in BOTH {
        promise(&MongoBook::open(anew(kind).await).await.unwrap()).await;
    }
}

#[cfg(feature = "redis")]
async fn redis_book() -> (crate::redis::server::Server, super::redis::RedisBook) {
    let server = crate::redis::server::Server::start(&["--appendonly", "no"]);
    let url = crate::secret::Secret::new(server.url());
    let options = crate::redis::RedisOptions::single(url);
    let redis = crate::redis::Redis::open(&options).await.unwrap();
    (server, super::redis::RedisBook::new(redis))
}

async fn one(book: &dyn ConsentBook, who: &str) -> Consent {
    book.look_up(&[key(who)]).await.unwrap()[0]
}

#[tokio::test]
async fn a_recipient_never_heard_of_has_the_empty_consent() {
    on_each(async |book| {
        book.record(vec![event(
            "b",
            Scope::General,
            YES,
            "2026-01-01T00:00:00Z",
        )])
        .await
        .unwrap();
        let found = book.look_up(&[key("a"), key("b"), key("a")]).await.unwrap();
        assert_eq!(found[0], Consent::default());
        assert_eq!(
            found[1].general.unwrap().granted.unwrap().at,
            at("2026-01-01T00:00:00Z")
        );
        assert_eq!(
            found[2],
            Consent::default(),
            "the answers stand in the order of the keys"
        );
        assert_eq!(book.look_up(&[]).await.unwrap(), []);
        assert_eq!(book.history(&key("a")).await.unwrap(), []);
        assert_eq!(book.count().await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_same_event_twice_is_recorded_once() {
    on_each(async |book| {
        let yes = event("a", Scope::General, YES, "2026-01-01T00:00:00Z");
        let elsewhere = ConsentEvent {
            source: "another".to_owned(),
            ..yes.clone()
        };
        assert_eq!(
            book.record(vec![yes.clone(), yes.clone()]).await.unwrap(),
            1
        );
        assert_eq!(book.record(vec![yes.clone(), elsewhere]).await.unwrap(), 0);
        assert_eq!(
            book.history(&key("a")).await.unwrap(),
            [yes],
            "the first source is kept"
        );
        assert_eq!(book.record(Vec::new()).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_withdrawal_at_the_same_instant_wins() {
    on_each(async |book| {
        let when = "2026-01-01T00:00:00Z";
        let no = event("a", Scope::General, Act::Withdraw, when);
        let yes = event("a", Scope::General, YES, when);
        assert_eq!(book.record(vec![no, yes]).await.unwrap(), 2);
        let Fact {
            granted,
            withdrawn_at,
        } = one(book, "a").await.general.unwrap();
        assert_eq!(
            (granted.unwrap().at, withdrawn_at),
            (at(when), Some(at(when)))
        );
        let standing = one(book, "a").await.standing(Scope::General, at(when), &[]);
        assert_eq!(
            standing,
            nightgate_core::Standing::Withdrawn { at: at(when) }
        );
    })
    .await;
}

#[tokio::test]
async fn a_general_withdrawal_takes_night_along() {
    on_each(async |book| {
        let (first, then) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        let given = vec![
            event("a", Scope::General, YES, first),
            event("a", Scope::Night, YES, first),
        ];
        book.record(given).await.unwrap();
        book.record(vec![event("a", Scope::General, Act::Withdraw, then)])
            .await
            .unwrap();
        assert_eq!(
            one(book, "a").await.night.unwrap().withdrawn_at,
            Some(at(then))
        );
        assert_eq!(book.count().await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_older_fact_that_arrives_late_never_undoes_a_newer_one() {
    on_each(async |book| {
        let no = event("a", Scope::General, Act::Withdraw, "2026-02-01T00:00:00Z");
        let late = event("a", Scope::General, YES, "2026-01-01T00:00:00Z");
        book.record(vec![no.clone()]).await.unwrap();
        let before = one(book, "a").await.general.unwrap().withdrawn_at;
        assert_eq!(book.record(vec![late.clone()]).await.unwrap(), 1);
        assert_eq!(one(book, "a").await.general.unwrap().withdrawn_at, before);
        assert_eq!(
            book.history(&key("a")).await.unwrap(),
            [late, no],
            "oldest first"
        );
    })
    .await;
}

#[tokio::test]
async fn what_was_recorded_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deep/er/consent.db");
    let ends = at("9999-12-30T22:00:00Z");
    let events = vec![
        event(
            "a",
            Scope::General,
            Act::Grant(Basis::TransactionException { ends }),
            "1601-01-01T00:00:00Z",
        ),
        event("a", Scope::Night, YES, "2026-01-01T00:00:00.123456789Z"),
        event("b", Scope::General, Act::Withdraw, "2026-01-02T00:00:00Z"),
    ];
    let before = {
        let book = SqliteBook::open(&path).unwrap();
        assert_eq!(book.record(events.clone()).await.unwrap(), 3);
        book.look_up(&[key("a"), key("b")]).await.unwrap()
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let book = SqliteBook::open(&path).unwrap();
    assert_eq!(book.look_up(&[key("a"), key("b")]).await.unwrap(), before);
    assert_eq!(
        book.history(&key("a")).await.unwrap(),
        events[..2],
        "far instants keep as they are"
    );
    assert_eq!(book.record(events).await.unwrap(), 0);
    assert_eq!(book.count().await.unwrap(), 2);
}

#[tokio::test]
async fn two_books_on_one_file_see_each_other() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("consent.db");
    let (one_book, other) = (
        SqliteBook::open(&path).unwrap(),
        SqliteBook::open(&path).unwrap(),
    );
    let many = |from: u32| {
        let who = move |n| format!("+8210{n:08}");
        let yes = move |n| event(&who(n), Scope::General, YES, "2026-01-01T00:00:00Z");
        (from..from + 500).map(yes).collect::<Vec<_>>()
    };
    let (mine, yours) = tokio::join!(one_book.record(many(0)), other.record(many(250)));
    assert_eq!(
        mine.unwrap() + yours.unwrap(),
        750,
        "the 250 in both are new once"
    );
    assert_eq!(one_book.count().await.unwrap(), 750);
    let no = event(
        "+821000000000",
        Scope::General,
        Act::Withdraw,
        "2026-02-01T00:00:00Z",
    );
    other.record(vec![no]).await.unwrap();
    let seen = one(&one_book, "+821000000000").await;
    assert_eq!(
        seen.general.unwrap().withdrawn_at,
        Some(at("2026-02-01T00:00:00Z"))
    );
}

#[tokio::test]
async fn the_history_refuses_to_be_rewritten() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("consent.db");
    let book = SqliteBook::open(&path).unwrap();
    book.record(vec![event(
        "a",
        Scope::General,
        YES,
        "2026-01-01T00:00:00Z",
    )])
    .await
    .unwrap();
    let conn = rusqlite::Connection::open(&path).unwrap();
    for sql in [
        "DELETE FROM consent_event",
        "UPDATE consent_event SET act = 2",
    ] {
        let refused = conn.execute(sql, []).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
}

fn any_events() -> impl Strategy<Value = Vec<ConsentEvent>> {
    let ends = (0..6_i64).prop_map(|s| Basis::TransactionException {
        ends: Timestamp::from_second(s).unwrap(),
    });
    let act = prop_oneof![Just(YES), ends.prop_map(Act::Grant), Just(Act::Withdraw)];
    let scope = prop_oneof![Just(Scope::General), Just(Scope::Night)];
    let one = ("[ab]", scope, act, -3..3_i64).prop_map(|(who, scope, act, second)| ConsentEvent {
        key: key(&who),
        scope,
        act,
        at: Timestamp::from_second(second).unwrap(),
        source: "test".to_owned(),
    });
    prop::collection::vec(one, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn both_books_answer_alike_in_any_order_and_any_batches(
        events in any_events()
            .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        cut in 0..12_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        let memory = MemoryBook::default();
        let disk = SqliteBook::open(&dir.path().join("consent.db")).unwrap();
        let (events, mut shuffled) = events;
        let rest = shuffled.split_off(cut.min(shuffled.len()));
        runtime.block_on(async {
            let new = memory.record(events).await.unwrap();
            let first = disk.record(shuffled).await.unwrap();
            assert_eq!(new, first + disk.record(rest).await.unwrap());
            let keys = [key("a"), key("b")];
            assert_eq!(memory.look_up(&keys).await.unwrap(), disk.look_up(&keys).await.unwrap());
            assert_eq!(memory.count().await.unwrap(), disk.count().await.unwrap());
            for who in &keys {
                assert_eq!(memory.history(who).await.unwrap(), disk.history(who).await.unwrap());
            }
        });
    }
}

type Rows = Vec<std::result::Result<ConsentEvent, ImportFault>>;

fn read(text: impl AsRef<[u8]>, format: Format) -> Rows {
    rows(text.as_ref(), format, "KR", "import users").collect()
}

fn broken(rows: &Rows) -> Vec<(u64, &str)> {
    rows.iter()
        .filter_map(|row| row.as_ref().err())
        .map(|f| (f.line, &f.field[..]))
        .collect()
}

#[test]
fn of_five_lines_two_bad_ones_cost_only_themselves() {
    let text = r#"{"recipient":"010-1234-5678","scope":"general","at":"2026-11-01T09:00:00+09:00"}
{"recipient":"010-1234-5678","scope":"nightly","at":"2026-11-01T09:00:00+09:00"}
{"recipient":"+821012345678","scope":"night","act":"withdraw","at":"2026-11-02T00:00:00Z"}
{"recipient":"01099998888","scope":"general","at":"yesterday"}
{"recipient":"a@b.kr","scope":"general","at":"2026-11-01T00:00:00Z",EXCEPTION}
"#;
    let exception = r#""basis":"transaction_exception","ends":"2027-05-01T00:00:00Z""#;
    let text = text.replace("EXCEPTION", &format!(r#"{exception},"source":"orders""#));
    let rows = read(text, Format::Ndjson);
    assert_eq!(broken(&rows), [(2, "scope"), (4, "at")]);
    let good: Vec<_> = rows.into_iter().flatten().collect();
    assert_eq!(
        good[0],
        ConsentEvent {
            key: key("+821012345678"),
            scope: Scope::General,
            act: YES,
            at: at("2026-11-01T00:00:00Z"),
            source: "import users".to_owned(),
        }
    );
    assert_eq!((&good[1].key, good[1].act), (&good[0].key, Act::Withdraw));
    let ends = at("2027-05-01T00:00:00Z");
    assert_eq!(
        good[2].act,
        Act::Grant(Basis::TransactionException { ends })
    );
    assert_eq!(good[2].source, "orders");
}

#[test]
fn a_file_of_korean_excel_reads_with_bom_crlf_and_quotes() {
    let text = "\u{feff}recipient,\"scope\",at,act,source\r\n\
        \"010-1234-5678\",general,2026-11-01T09:00:00+09:00,,\"가입, \"\"앱\"\"\"\r\n\
        \r\n\
        010-2222-3333 ,night,2026-11-01T09:00:00+09:00,withdraw,\r\n\
        010-2222-4444,general,2026-11-01T09:00:00+09:00,grant,";
    let rows = read(text, Format::Csv);
    let good: Vec<_> = rows.into_iter().map(std::result::Result::unwrap).collect();
    assert_eq!(good.len(), 3);
    assert_eq!(
        (&good[0].key, &good[0].source[..]),
        (&key("+821012345678"), "가입, \"앱\"")
    );
    assert_eq!((good[1].scope, good[1].act), (Scope::Night, Act::Withdraw));
    assert_eq!(good[2].source, "import users");
}

#[test]
fn an_unclosed_quote_costs_only_its_line() {
    let good = "01011112222,general,2026-11-01T00:00:00Z";
    let text = format!(
        "recipient,scope,at\n{good}\n\"0101111,general,x\n{good}\n01\r0,general,x\n{good},\n{good}"
    );
    let rows = read(text, Format::Csv);
    assert_eq!(broken(&rows), [(3, "line"), (5, "line"), (6, "line")]);
    assert_eq!(rows.iter().flatten().count(), 3);
}

#[test]
fn a_wrong_header_reads_nothing() {
    for (header, field) in [
        ("recipient,scope,at,night_consent", "night_consent"),
        ("recipient,scope", "at"),
        ("recipient,at,scope,at", "at"),
        ("01011112222,general,2026-11-01T00:00:00Z", "(hidden)"),
    ] {
        let rows = read(
            format!("{header}\n01011112222,general,2026-11-01T00:00:00Z,\n"),
            Format::Csv,
        );
        assert_eq!(broken(&rows), [(1, field)], "{header}");
        assert_eq!(rows.len(), 1);
    }
}

#[test]
fn a_line_too_long_is_passed_over_whole() {
    let good = r#"{"recipient":"a@b.kr","scope":"general","at":"2026-11-01T00:00:00Z"}"#;
    let fits = format!("{good}{}", " ".repeat(LINE_MAX_BYTES - good.len()));
    for long in [LINE_MAX_BYTES + 1, LINE_MAX_BYTES + 2, 5 * LINE_MAX_BYTES] {
        let text = format!(
            "{fits}\r\n{}\r\n{good}\n{}",
            "x".repeat(long),
            "x".repeat(long)
        );
        let rows = read(text, Format::Ndjson);
        assert_eq!(broken(&rows), [(2, "line"), (4, "line")], "{long}");
        assert_eq!(rows.iter().flatten().count(), 2);
    }
}

#[test]
fn a_fault_never_shows_the_recipient() {
    let who = "1098765432";
    for (line, field) in [
        (
            format!(r#"{{"recipient":{who},"scope":"general","at":"2026-11-01T00:00:00Z"}}"#),
            "recipient",
        ),
        (
            format!(r#"{{"recipient":" {who}","scope":"general","at":"2026-11-01T00:00:00Z"}}"#),
            "recipient",
        ),
        (format!(r#"{{"{who}":"general"}}"#), "(hidden)"),
        (
            format!(r#"{{"recipient":"{who}","scope":"{who}","at":"{who}"}}"#),
            "scope",
        ),
        (
            format!(r#"{{"recipient":"{who}","scope":"general","at":"{who}"}}"#),
            "at",
        ),
        (format!(r#""{who}""#), "line"),
        (format!(r#"{{"recipient":"{who}"#), "line"),
        (
            format!(r#"{{"recipient":"{who}","scope":"general"}}"#),
            "at",
        ),
    ] {
        let rows = read(&line, Format::Ndjson);
        assert_eq!(broken(&rows), [(1, field)], "{line}");
        let shown = rows[0].as_ref().unwrap_err();
        assert!(!format!("{shown} {shown:?}").contains(who), "{shown}");
    }
    let rows = read(b"recipient,scope,at\n010\xb0\xa1,general,x\n", Format::Csv);
    assert!(
        rows[0].as_ref().unwrap_err().rule.contains("CSV UTF-8"),
        "{rows:?}"
    );
}

#[test]
fn grounds_that_the_law_does_not_know_are_faults() {
    let line = |rest: &str| {
        let text = format!(r#"{{"recipient":"a","at":"2026-11-01T00:00:00Z",{rest}}}"#);
        broken(&read(text, Format::Ndjson))
            .first()
            .map_or(String::new(), |(_, f)| (*f).to_owned())
    };
    let exception = r#""basis":"transaction_exception""#;
    let ends = r#""ends":"2027-05-01T00:00:00Z""#;
    assert_eq!(
        line(&format!(r#""scope":"general",{exception},{ends}"#)),
        ""
    );
    assert_eq!(
        line(&format!(r#""scope":"night",{exception},{ends}"#)),
        "basis"
    );
    assert_eq!(line(&format!(r#""scope":"general",{exception}"#)), "ends");
    assert_eq!(line(&format!(r#""scope":"general",{ends}"#)), "ends");
    assert_eq!(line(r#""scope":"general","basis":"implied""#), "basis");
    assert_eq!(
        line(&format!(r#""scope":"general","act":"withdraw",{ends}"#)),
        "ends"
    );
    assert_eq!(
        line(&format!(
            r#""scope":"general","act":"withdraw",{exception},{ends}"#
        )),
        "basis"
    );
    assert_eq!(line(r#""scope":"general","act":"revoke""#), "act");
    assert_eq!(line(r#""scope":"general","act":null,"source":"""#), "");
    let before = r#""ends":"2026-11-01T00:00:00Z""#;
    assert_eq!(
        line(&format!(r#""scope":"general",{exception},{before}"#)),
        "ends"
    );
}

#[tokio::test]
async fn an_import_counts_new_known_and_faulty_and_can_run_again() {
    on_each(async |book| {
        let rest = r#""scope":"general","at":"2026-11-01T00:00:00Z""#;
        let line = |n: usize| {
            if n.is_multiple_of(10) {
                return "{}\n\n".to_owned();
            }
            format!("{{\"recipient\":\"user-{}\",{rest}}}\n", n / 2)
        };
        let text: String = (0..3 * BATCH).map(line).collect();
        let mut told = Vec::new();
        let reader = rows(Cursor::new(text.clone()), Format::Ndjson, "KR", "x");
        let done = import(book, reader, |summary| told.push(summary.lines))
            .await
            .unwrap();
        // Odd numbers are each a new recipient; even ones name it again, or are faulty.
        let all = 3 * BATCH as u64;
        assert_eq!((done.lines, done.faulty), (all, all / 10));
        assert_eq!((done.new, done.known), (all / 2, all / 10 * 4));
        assert_eq!((done.faults.len(), done.faults[0].line), (FAULTS_KEPT, 1));
        assert_eq!(told, [1, 2, 3].map(|batches| batches * BATCH as u64));
        assert_eq!(book.count().await.unwrap(), all / 2);
        let again = rows(Cursor::new(text), Format::Ndjson, "KR", "x");
        let again = import(book, again, |_| {}).await.unwrap();
        assert_eq!((again.new, again.known), (0, all / 10 * 9));
    })
    .await;
}

#[tokio::test]
async fn an_import_that_cannot_be_read_on_says_after_which_line() {
    struct Torn(Cursor<Vec<u8>>);
    impl std::io::Read for Torn {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(std::io::Error::other("the cable is out")),
                read => Ok(read),
            }
        }
    }
    let line = b"{\"recipient\":\"a\",\"scope\":\"general\",\"at\":\"2026-11-01T00:00:00Z\"}\n";
    let book = MemoryBook::default();
    let reader = rows(Torn(Cursor::new(line.to_vec())), Format::Ndjson, "KR", "x");
    let error = import(&book, reader, |_| {}).await.unwrap_err();
    assert_eq!(error.kind, crate::error::Kind::Unavailable);
    assert_eq!(error.op, "read past line 1");
    assert_eq!(book.count().await.unwrap(), 1, "what was read is recorded");
}
