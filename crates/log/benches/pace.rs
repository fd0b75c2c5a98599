//! What the ground costs: group commit beside the bare disk, and runs of hashes.
//!
//! `cargo bench -p nightgate-log --bench pace [-- journal|run|scan]`; `TMPDIR` chooses the disk,
//! `KEYS` the size of a run (8,000,000). CPU is that of the whole process, so it stands beside
//! other work.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails may panic"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench measures the machine, not the house"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use nightgate_log::frame::{self, DataSum};
use nightgate_log::head::{HEAD_LEN, Head, Salt};
use nightgate_log::journal::{Options, Tail};
use nightgate_log::{Disk, DiskFile, Entry, FilterHome, HashKey, Journal, RealDisk, Run};
use nightgate_log::{disk, write_all_at};

/// Bytes of a frame's data: about a thousand messages, compressed.
const FRAME: usize = 330_000;
/// Bytes of a small frame: one settle.
const SMALL: usize = 200;
const BIG_FRAMES: usize = 3_000;
const SMALL_FRAMES: usize = 20_000;
const SALT: Salt = Salt([7; 16]);

fn main() {
    let wanted = std::env::args()
        .nth(1)
        .filter(|word| !word.starts_with('-'));
    let wants = |name: &str| wanted.as_deref().is_none_or(|word| word == name);
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    if wants("journal") {
        journal(&disk);
    }
    if wants("scan") {
        scan(&disk);
    }
    if wants("run") {
        let keys = std::env::var("KEYS").map_or(8_000_000, |text| text.parse().unwrap());
        run(&disk, keys);
    }
}

/// Runs `work` and prints nanoseconds of wall time and of CPU for each of `count`.
fn time<T>(name: &str, count: usize, bytes: usize, work: impl FnOnce() -> T) -> T {
    let (cpu, begun) = (cpu_ms(), Instant::now());
    let out = work();
    let (wall, cpu) = (begun.elapsed(), cpu_ms() - cpu);
    let each = |ns: f64| ns / count as f64;
    let rate = bytes as f64 / wall.as_secs_f64() / 1e6;
    println!(
        "{name:<44} {:>9.1} ns wall {:>9.1} ns cpu {rate:>7.0} MB/s",
        each(wall.as_nanos() as f64),
        each(cpu * 1e6),
    );
    out
}

/// CPU this process has used, in steps of 10 ms.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap() * 10.0)
        .sum()
}

fn fresh(disk: &RealDisk, name: &str, reserve: u64) -> Arc<dyn DiskFile> {
    let file = disk.open(name, true).unwrap();
    file.set_len(0).unwrap();
    file.reserve(reserve).unwrap();
    let (kind, version, salt) = (1, 1, SALT);
    Head {
        kind,
        version,
        salt,
    }
    .write(file.as_ref())
    .unwrap();
    file.sync().unwrap();
    file
}

fn journal(disk: &RealDisk) {
    let mut data = vec![0; FRAME];
    fastrand::Rng::with_seed(1).fill(&mut data);
    for (what, ahead) in [("growing", 0), ("reserved", 64 << 20)] {
        let file = fresh(disk, "bare", 0);
        let bytes = BIG_FRAMES * FRAME;
        let mut reserved = 0;
        time(
            &format!("bare write and sync, 330 KB, {what}"),
            BIG_FRAMES,
            bytes,
            || {
                for index in 0..BIG_FRAMES as u64 {
                    let end = (index + 1) * FRAME as u64;
                    if ahead > 0 && end > reserved {
                        reserved = end + ahead;
                        file.reserve(reserved).unwrap();
                    }
                    write_all_at(file.as_ref(), &data, index * FRAME as u64).unwrap();
                    file.sync().unwrap();
                }
            },
        );
        disk.remove("bare").unwrap();
        for callers in [1, 4] {
            append(
                disk,
                &format!("330 KB, {callers} callers, {what}"),
                callers,
                &data,
                ahead,
            );
        }
    }
    append(disk, "200 B, 4 callers", 4, &data[..SMALL], 64 << 20);
    append(disk, "200 B, 64 callers", 64, &data[..SMALL], 64 << 20);
    copy_only(&data);
}

fn append(disk: &RealDisk, name: &str, callers: usize, data: &[u8], ahead: u64) {
    let file = fresh(disk, "log", 0);
    let options = Options {
        reserve: ahead,
        ..Options::default()
    };
    let tail = Tail {
        no: 1,
        file,
        salt: SALT,
        at: HEAD_LEN,
        next_lsn: 1,
    };
    let journal = Arc::new(Journal::start(options, tail));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let frames = if data.len() < FRAME {
        SMALL_FRAMES
    } else {
        BIG_FRAMES
    };
    time(
        &format!("append and durable, {name}"),
        frames,
        frames * data.len(),
        || {
            let data: Arc<[u8]> = data.into();
            let tasks: Vec<_> = (0..callers)
                .map(|_| {
                    let (journal, data) = (Arc::clone(&journal), Arc::clone(&data));
                    runtime.spawn(async move {
                        for _ in 0..frames / callers {
                            let sum = DataSum::of(&[&data]);
                            let done = journal.append_summed(b"meta", &[&data], sum).unwrap();
                            journal.durable(done.ticket).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                runtime.block_on(task).unwrap();
            }
        },
    );
    println!("    {:?}", journal.tally());
    drop(journal);
    disk.remove("log").unwrap();
}

/// The part of an append that happens under the caller's lock.
fn copy_only(data: &[u8]) {
    let sim = disk::SimDisk::new();
    let file = sim.open("log", true).unwrap();
    let tail = Tail {
        no: 1,
        file,
        salt: SALT,
        at: HEAD_LEN,
        next_lsn: 1,
    };
    let options = Options {
        pending_max: usize::MAX,
        ..Options::default()
    };
    let journal = Journal::start(options, tail);
    let small = &data[..SMALL];
    let sum = DataSum::of(&[small]);
    time("append alone, 200 B", 200_000, 200_000 * SMALL, || {
        for _ in 0..200_000 {
            black_box(journal.append_summed(b"meta", &[small], sum).unwrap());
        }
    });
}

fn scan(disk: &RealDisk) {
    let mut data = vec![0; FRAME];
    fastrand::Rng::with_seed(1).fill(&mut data);
    let file = fresh(disk, "scan", 0);
    let mut bytes = Vec::new();
    for lsn in 1..200 {
        frame::encode(&SALT, lsn, b"meta", &[&data], &mut bytes);
    }
    write_all_at(file.as_ref(), &bytes, HEAD_LEN).unwrap();
    let look = |verify| {
        let end = frame::scan(file.as_ref(), &SALT, HEAD_LEN, 1, verify, &mut |_| Ok(())).unwrap();
        assert_eq!(end.next_lsn, 200);
    };
    time("scan, heads alone", 199, bytes.len(), || look(false));
    time("scan, data verified", 199, bytes.len(), || look(true));
    file.reserve(bytes.len() as u64 + (64 << 20)).unwrap();
    time(
        "scan, verified, 64 MiB of zeros behind",
        199,
        bytes.len(),
        || look(true),
    );
    disk.remove("scan").unwrap();
}

fn run(disk: &RealDisk, keys: usize) {
    let key = HashKey([3; 16]);
    let ids: Vec<String> = (0..100_000).map(|n| format!("order-{n:012}")).collect();
    time("hash of an id", ids.len() * 10, 0, || {
        for _ in 0..10 {
            for id in &ids {
                black_box(key.hash(id.as_bytes()));
            }
        }
    });
    let mut rng = fastrand::Rng::with_seed(5);
    let mut entries: Vec<Entry> = (0..keys as u64)
        .map(|place| Entry {
            hash: rng.u64(..),
            place,
        })
        .collect();
    time("sort of entries", keys, 0, || entries.sort_unstable());
    let bytes = keys * 13;
    time("run built", keys, bytes, || {
        Run::write(disk, "a", 0, entries.iter().copied(), keys as u64).unwrap()
    });
    let a = time("run opened, filter read", keys, bytes, || {
        Run::open(disk, "a", FilterHome::InMemory).unwrap()
    });
    println!(
        "    {:?}, filter of {} bytes",
        a.summary(),
        a.filter_bytes()
    );
    let absent: Vec<Vec<u64>> = (0..2_000)
        .map(|_| (0..1_000).map(|_| rng.u64(..)).collect())
        .collect();
    filter_in_memory(&a, &absent);
    let mut places = Vec::new();
    time("find, present", 100_000, 0, || {
        for _ in 0..100_000 {
            let entry = entries[rng.usize(..entries.len())];
            places.clear();
            a.find(entry.hash, &mut places).unwrap();
            assert!(places.contains(&entry.place));
        }
    });
    time("entries streamed", keys, bytes, || {
        assert_eq!(a.entries().count(), keys)
    });
    for entry in &mut entries {
        *entry = Entry {
            hash: rng.u64(..),
            place: entry.place + keys as u64,
        };
    }
    entries.sort_unstable();
    Run::write(disk, "b", 0, entries.iter().copied(), keys as u64).unwrap();
    let b = Run::open(disk, "b", FilterHome::OnDisk).unwrap();
    filter_on_disk(&b, &absent);
    time("merge of two", keys * 2, bytes * 2, || {
        Run::merge(disk, &[&a, &b], "c").unwrap()
    });
}

/// Two million hashes that are not there.
fn filter_in_memory(run: &Run, absent: &[Vec<u64>]) {
    let mut hits = Vec::new();
    time("maybe_all, absent, 1,000 at a time", 2_000_000, 0, || {
        for hashes in absent {
            run.maybe_all(hashes, &mut hits).unwrap();
        }
    });
    println!(
        "    {:.2} % pass that are not there",
        hits.len() as f64 / 20_000.0
    );
    time("maybe, one by one", 2_000_000, 0, || {
        absent
            .iter()
            .flatten()
            .filter(|hash| run.maybe(**hash).unwrap())
            .count()
    });
}

fn filter_on_disk(run: &Run, absent: &[Vec<u64>]) {
    let mut hits = Vec::new();
    time("maybe_all, filter on disk", 100_000, 0, || {
        for hashes in &absent[..100] {
            run.maybe_all(hashes, &mut hits).unwrap();
        }
    });
}
