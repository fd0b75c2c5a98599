use tempfile::TempDir;

use super::*;

const SCHEMA: Schema = Schema {
    part: "test",
    application: 0x7465_7374,
    version: 3,
    page_bytes: 4096,
    upgrade: None,
    create: "CREATE TABLE row (n INTEGER PRIMARY KEY) STRICT",
};

/// Inserts numbers; 7 plays a disk that fails, 8 a file that another process holds, 9 a full disk.
/// Putting 70, 80 or 90 in order fails likewise, that of 60 finds damage.
#[derive(Default)]
struct Numbers {
    untidy: Option<i64>,
}

impl Work for Numbers {
    type Row = i64;

    fn apply(&mut self, conn: &Connection, callers: Vec<Vec<i64>>) -> rusqlite::Result<Vec<u64>> {
        let code = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        for row in callers.iter().flatten() {
            conn.execute("INSERT INTO row VALUES (?1)", [row])?;
            self.untidy = Some(*row).filter(|row| row % 10 == 0);
            match row {
                7 => return Err(code(rusqlite::ffi::SQLITE_IOERR_FSYNC)),
                8 => return Err(code(rusqlite::ffi::SQLITE_BUSY)),
                9 => return Err(code(rusqlite::ffi::SQLITE_FULL)),
                _ => {}
            }
        }
        Ok(callers.iter().map(|rows| rows.len() as u64).collect())
    }

    fn forget(&mut self) {}

    fn untidy(&self) -> bool {
        self.untidy.is_some()
    }

    fn tidy(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let synchronous: i64 = conn.pragma_query_one(None, "synchronous")?;
        let row = self.untidy.take().unwrap();
        conn.execute("INSERT INTO row VALUES (?1)", [100 * row + synchronous])?;
        let code = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        match row {
            60 => Err(corrupt("a row")),
            70 => Err(code(rusqlite::ffi::SQLITE_IOERR_FSYNC)),
            80 => Err(code(rusqlite::ffi::SQLITE_BUSY)),
            90 => Err(code(rusqlite::ffi::SQLITE_FULL)),
            _ => Ok(()),
        }
    }
}

fn writer(path: &Path) -> Writer<i64> {
    Writer::start(
        "test",
        "write numbers",
        open(path, &SCHEMA).unwrap(),
        Numbers::default(),
    )
    .unwrap()
}

async fn numbers(path: &Path) -> Vec<i64> {
    let read = |conn: &Connection| {
        let mut statement = conn.prepare("SELECT n FROM row ORDER BY n")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    Readers::new("test", path)
        .read("read numbers", read)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_failed_write_poisons_and_leaves_nothing_of_itself() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    let book = writer(&path);
    assert_eq!(book.write(vec![1, 2]).await.unwrap(), 2);
    assert_eq!(
        book.write(vec![3, 7]).await.unwrap_err().kind,
        Kind::Poisoned
    );
    assert_eq!(book.write(vec![4]).await.unwrap_err().kind, Kind::Poisoned);
    assert_eq!(book.check().unwrap_err().kind, Kind::Poisoned);
    assert_eq!(
        numbers(&path).await,
        [1, 2],
        "what was promised before is still read"
    );
    drop(book);
    assert_eq!(
        writer(&path).write(vec![3]).await.unwrap(),
        1,
        "a restart lifts it"
    );
}

#[tokio::test]
async fn a_file_held_by_another_is_unavailable_and_poisons_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    let book = writer(&path);
    assert_eq!(
        book.write(vec![8]).await.unwrap_err().kind,
        Kind::Unavailable
    );
    assert_eq!(book.write(vec![1]).await.unwrap(), 1);
    assert_eq!(numbers(&path).await, [1]);
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_leaves_nothing_of_the_write() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    let book = writer(&path);
    let full = book.write(vec![1, 9]).await.unwrap_err();
    assert_eq!(full.kind, Kind::Unavailable);
    book.check().unwrap();
    assert_eq!(book.write(vec![2]).await.unwrap(), 1);
    assert_eq!(numbers(&path).await, [2]);
}

#[tokio::test]
async fn writes_that_wait_together_share_one_transaction() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    let conn = open(&path, &SCHEMA).unwrap();
    let mut desk = Desk {
        part: "test",
        op: "write numbers",
        conn,
        work: Numbers::default(),
        poisoned: Arc::new(AtomicBool::new(false)),
    };
    let (mut group, mut answers) = (Vec::new(), Vec::new());
    for rows in [vec![1], vec![2, 3], vec![8]] {
        let (done, answer) = oneshot::channel();
        group.push(Job { rows, done });
        answers.push(answer);
    }
    desk.settle(group);
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap_err().kind, Kind::Unavailable);
    }
    assert_eq!(numbers(&path).await, [] as [i64; 0], "all or nothing");
}

#[test]
fn a_file_of_another_kind_or_a_newer_version_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    open(&path, &SCHEMA).unwrap();
    let newer = open(
        &path,
        &Schema {
            version: 2,
            ..SCHEMA
        },
    )
    .unwrap_err();
    assert_eq!(newer.kind, Kind::Invalid);
    assert!(
        newer
            .to_string()
            .contains("it has version 3, this program knows 2"),
        "{newer}"
    );
    let other = open(
        &path,
        &Schema {
            application: 1,
            ..SCHEMA
        },
    )
    .unwrap_err();
    assert_eq!(other.kind, Kind::Invalid);
    let path = dir.path().join("text.db");
    std::fs::write(
        &path,
        "this is no database, however long one reads on in it",
    )
    .unwrap();
    assert_eq!(open(&path, &SCHEMA).unwrap_err().kind, Kind::Corrupt);
}

#[test]
fn many_may_open_a_new_file_at_once() {
    for _ in 0..20 {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("new/rows.db");
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| open(&path, &SCHEMA)))
                .collect();
            for opener in openers {
                opener.join().unwrap().unwrap();
            }
        });
    }
}

#[test]
fn an_instant_keeps_its_whole_range() {
    let conn = Connection::open_in_memory().unwrap();
    let texts = [
        "-009999-01-02T01:59:59Z",
        "1601-01-01T00:00:00.5Z",
        "9999-12-30T22:00:00.999999999Z",
    ];
    let far = texts.map(|text| text.parse().unwrap());
    let near =
        [0, 1, -1, i64::MAX, i64::MIN].map(|n| Timestamp::from_nanosecond(n.into()).unwrap());
    for at in far.into_iter().chain(near) {
        let back: Instant = conn
            .query_row("SELECT ?1", [Instant(at)], |row| row.get(0))
            .unwrap();
        assert_eq!(back.0, at);
    }
    let wrong = conn
        .query_row("SELECT 'soon'", [], |row| row.get::<_, Instant>(0))
        .unwrap_err();
    assert_eq!(kind(&wrong, false), Kind::Corrupt);
}

#[tokio::test]
async fn what_is_put_in_order_behind_the_callers_is_whole_or_not_there() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    let book = writer(&path);
    for row in [10, 80, 90, 60, 20] {
        assert_eq!(book.write(vec![row]).await.unwrap(), 1);
    }
    drop(book);
    // 1 is NORMAL: not synced, since it can be done again.
    assert_eq!(numbers(&path).await, [10, 20, 60, 80, 90, 1001, 2001]);
}

#[tokio::test]
async fn a_disk_that_fails_behind_the_callers_poisons() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    let book = writer(&path);
    assert_eq!(book.write(vec![70]).await.unwrap(), 1);
    // The next call may still overtake the failure in the queue, but is told of it then.
    assert_eq!(book.write(vec![1]).await.unwrap_err().kind, Kind::Poisoned);
    assert_eq!(book.check().unwrap_err().kind, Kind::Poisoned);
    assert_eq!(numbers(&path).await, [70]);
}

#[tokio::test]
async fn commits_after_putting_in_order_are_synced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("rows.db");
    let mut desk = Desk {
        part: "test",
        op: "write numbers",
        conn: open(&path, &SCHEMA).unwrap(),
        work: Numbers::default(),
        poisoned: Arc::new(AtomicBool::new(false)),
    };
    for row in [10, 80] {
        desk.work.untidy = Some(row);
        desk.tidy();
        let synchronous: i64 = desk.conn.pragma_query_one(None, "synchronous").unwrap();
        assert_eq!(synchronous, 2, "FULL");
    }
}
