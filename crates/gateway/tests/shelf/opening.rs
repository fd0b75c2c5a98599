//! What opening costs, and what many lives leave behind.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use nightgate::hold::HoldStore;
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate_log::disk::{Disk, DiskFile, SimDisk, Space};

use crate::support::*;
use crate::world::{at, held, totals, with};

/// Bytes read, by the first letters of a file's name.
type Tally = Arc<Mutex<BTreeMap<String, u64>>>;

/// A disk that counts what is read of it.
struct Counting {
    disk: SimDisk,
    read: Tally,
}

struct CountingFile {
    file: Arc<dyn DiskFile>,
    read: Tally,
}

impl Disk for Counting {
    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name, make)?;
        let read = Arc::clone(&self.read);
        Ok(Arc::new(CountingFile { file, read }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

impl DiskFile for CountingFile {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.file.write_at(bytes, at)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let count = self.file.read_at(into, at)?;
        let kind = self.file.name().split('-').next().unwrap_or_default();
        let mut read = self.read.lock().unwrap();
        *read.entry(kind.to_owned()).or_default() += count as u64;
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.file.punch(at, len)
    }

    fn occupied(&self) -> io::Result<u64> {
        self.file.occupied()
    }
}

const LOG: u64 = 256 * 1024;

fn small() -> Options {
    Options {
        segment_bytes: LOG,
        ..options()
    }
}

async fn put_up_to(hold: &ShelfHold, from: usize, to: usize) {
    let mut dice = fastrand::Rng::with_seed(from as u64);
    for begin in (from..to).step_by(1_000) {
        let messages = (begin..begin + 1_000).map(|number| {
            let body = noise(&mut dice, 40);
            with(&format!("message-{number}"), |held| {
                held.message.body = body.into()
            })
        });
        hold.put(messages.collect(), at(0)).await.unwrap();
    }
}

/// All logs but the one that is written are sealed.
async fn settle_down(disk: &SimDisk) {
    until(async || files(disk, "idx-").len() + 1 == files(disk, "log-").len()).await;
    let mut state = files(disk, "state-");
    until(async || {
        // The last sealing ends with a checkpoint and lets go of the one before.
        let now = files(disk, "state-");
        std::mem::replace(&mut state, now.clone()) == now
    })
    .await;
}

#[tokio::test]
async fn what_opening_reads_does_not_grow_with_what_is_held() {
    let disk = SimDisk::new();
    let mut reads = Vec::new();
    let mut from = 0;
    for to in [10_000, 100_000] {
        let hold = ShelfHold::open_on(Arc::new(disk.clone()), small()).unwrap();
        put_up_to(&hold, from, to).await;
        from = to;
        settle_down(&disk).await;
        drop(hold);
        let read = Tally::default();
        let counting = Counting {
            disk: disk.clone(),
            read: Arc::clone(&read),
        };
        let hold = ShelfHold::open_on(Arc::new(counting), small()).unwrap();
        let opening = read.lock().unwrap().clone();
        assert_eq!(totals(&hold).await, (to as u64, 0, 0));
        drop(hold);
        println!("{to} held: {opening:?}");
        reads.push(opening);
    }
    for read in &reads {
        // Twice: checked as a log, and then the ids in it.
        assert!(
            read["log"] <= 2 * LOG,
            "only the log that is not sealed: {read:?}"
        );
    }
    let rest = |read: &BTreeMap<String, u64>| read.values().sum::<u64>() - read["log"];
    let (less, more) = (rest(&reads[0]), rest(&reads[1]));
    assert!(
        more - less < 90_000 * 3,
        "filters take about 1.3 bytes an id: {less}, {more}"
    );
}

#[tokio::test]
async fn many_restarts_leave_nothing_behind() {
    let disk = SimDisk::new();
    let mut counts = Vec::new();
    for round in 0..60 {
        let hold = open(&disk);
        let messages = vec![held(&format!("m{round}"))];
        hold.put(messages, at(0)).await.unwrap();
        drop(hold);
        counts.push(disk.names().unwrap().len());
    }
    assert!(counts[59] <= counts[9] + 4, "files pile up: {counts:?}");
    let hold = open(&disk);
    assert_eq!(totals(&hold).await, (60, 0, 0));
}
