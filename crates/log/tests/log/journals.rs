//! Group commit: order, groups, rolls, reads of what is not on the disk yet, and faults.

use std::io::ErrorKind;
use std::sync::Arc;

use nightgate_log::head::HEAD_LEN;
use nightgate_log::journal::{Options, Tail, Ticket};
use nightgate_log::{Disk, DiskFile, Journal, SimDisk, frame, head};

use super::support::{Gated, data_of, journal_at, make_log, meta_of, name, salt, scan_log};

fn append(journal: &Journal, lsn: u64) -> nightgate_log::Appended {
    journal.append(&meta_of(lsn), &[&data_of(lsn)]).unwrap()
}

/// A journal on a gated file: the group with frame 1 stands at its sync.
fn held_at_the_gate(disk: &SimDisk) -> (Arc<Gated>, Journal) {
    let gated = Gated::new(make_log(disk, 1).unwrap());
    let journal = journal_at(1, gated.clone(), HEAD_LEN, 1);
    append(&journal, 1);
    gated.wait_for_sync();
    (gated, journal)
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let disk = SimDisk::new();
    let (gated, journal) = held_at_the_gate(&disk);
    for lsn in 2..=40 {
        append(&journal, lsn);
    }
    let (writes, syncs) = (disk.writes(), disk.syncs());
    gated.open();
    journal.durable_blocking(journal.last_ticket()).unwrap();
    assert_eq!(disk.writes() - writes, 1);
    assert_eq!(
        disk.syncs() - syncs,
        2,
        "that of frame 1 and that of the 39 others"
    );
    let tally = journal.tally();
    assert_eq!((tally.groups, tally.frames), (2, 40));
    let (lsns, end) = scan_log(&disk, 1, 1);
    assert_eq!(lsns, (1..=40).collect::<Vec<_>>());
    assert_eq!(tally.bytes, end.valid_to - HEAD_LEN);
}

#[test]
fn appended_says_where_the_data_will_lie() {
    let disk = SimDisk::new();
    let file = make_log(&disk, 1).unwrap();
    let journal = journal_at(1, file.clone(), HEAD_LEN, 7);
    assert_eq!(journal.last_ticket(), Ticket(7));
    journal.durable_blocking(journal.last_ticket()).unwrap();
    let mut at = HEAD_LEN;
    for lsn in 7..30 {
        let done = append(&journal, lsn);
        assert_eq!((done.no, done.lsn), (1, lsn));
        assert_eq!(
            done.data_at,
            at + (frame::FRAME_HEAD + meta_of(lsn).len()) as u64
        );
        at += frame::frame_len(meta_of(lsn).len(), data_of(lsn).len() as u64);
        assert_eq!(done.end_at, at);
        assert_eq!(journal.last_ticket(), done.ticket);
    }
    journal.durable_blocking(journal.last_ticket()).unwrap();
    assert_eq!(journal.durable_lsn(), 30);
    assert_eq!(scan_log(&disk, 1, 7).1.valid_to, at);
}

#[test]
fn nothing_is_durable_before_its_sync() {
    let disk = SimDisk::new();
    let (gated, journal) = held_at_the_gate(&disk);
    let second = append(&journal, 2);
    assert_eq!(journal.durable_lsn(), 1);
    gated.let_one_through();
    journal.durable_blocking(Ticket(2)).unwrap();
    gated.wait_for_sync();
    assert_eq!(journal.durable_lsn(), 2);
    gated.open();
    journal.durable_blocking(second.ticket).unwrap();
    assert_eq!(journal.durable_lsn(), 3);
}

#[test]
fn bytes_are_read_wherever_they_are() {
    let disk = SimDisk::new();
    let (gated, journal) = held_at_the_gate(&disk);
    gated.let_one_through();
    journal.durable_blocking(Ticket(2)).unwrap();
    let in_flight: Vec<_> = (2..4).map(|lsn| append(&journal, lsn)).collect();
    gated.wait_for_sync();
    let pending: Vec<_> = (4..8).map(|lsn| append(&journal, lsn)).collect();
    for done in in_flight.iter().chain(&pending) {
        let mut data = vec![0; data_of(done.lsn).len()];
        journal
            .read_at(1, gated.as_ref(), &mut data, done.data_at)
            .unwrap();
        assert_eq!(data, data_of(done.lsn));
    }
    // Frames 2 and 3 may be in flight both or one pending: a range over all of them is whole.
    let end = pending.last().unwrap().end_at;
    let mut all = vec![0; end as usize];
    journal.read_at(1, gated.as_ref(), &mut all, 0).unwrap();
    let beyond = journal
        .read_at(1, gated.as_ref(), &mut [0; 2], end - 1)
        .unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);
    gated.open();
    drop(journal);
    let mut written = vec![0; end as usize];
    nightgate_log::read_exact_at(gated.as_ref(), &mut written, 0).unwrap();
    assert_eq!(all, written);
}

#[test]
fn a_roll_ends_the_old_file_before_the_new_one_begins() {
    let disk = SimDisk::new();
    let (gated, journal) = held_at_the_gate(&disk);
    append(&journal, 2);
    journal
        .roll(2, make_log(&disk, 2).unwrap(), salt(2))
        .unwrap();
    let first = append(&journal, 3);
    assert_eq!((first.no, first.lsn), (2, 3));
    assert_eq!(
        first.data_at,
        HEAD_LEN + (frame::FRAME_HEAD + meta_of(3).len()) as u64
    );
    let mut data = vec![0; data_of(3).len()];
    let second = disk.open(&name(2), false).unwrap();
    journal
        .read_at(2, second.as_ref(), &mut data, first.data_at)
        .unwrap();
    assert_eq!(data, data_of(3));
    gated.let_one_through();
    journal.durable_blocking(Ticket(2)).unwrap();
    gated.wait_for_sync();
    assert_eq!(
        scan_log(&disk, 2, 3).0,
        Vec::<u64>::new(),
        "the old file's sync comes first"
    );
    gated.open();
    journal.durable_blocking(journal.last_ticket()).unwrap();
    assert_eq!(scan_log(&disk, 1, 1).0, [1, 2]);
    assert_eq!(scan_log(&disk, 2, 3).0, [3]);
}

#[test]
fn dropping_the_journal_writes_what_is_pending() {
    let disk = SimDisk::new();
    let journal = journal_at(1, make_log(&disk, 1).unwrap(), HEAD_LEN, 1);
    for lsn in 1..=30 {
        append(&journal, lsn);
    }
    drop(journal);
    let after = disk.crash(&mut fastrand::Rng::with_seed(1));
    assert_eq!(scan_log(&after, 1, 1).0.len(), 30);
}

#[test]
fn a_failed_sync_poisons_for_good_and_is_not_tried_again() {
    let disk = SimDisk::seeded(4);
    let file = make_log(&disk, 1).unwrap();
    let journal = journal_at(1, file.clone(), HEAD_LEN, 1);
    let first = append(&journal, 1);
    journal.durable_blocking(first.ticket).unwrap();
    disk.fail_sync(disk.syncs() + 1);
    let second = append(&journal, 2);
    let stopped = journal.durable_blocking(second.ticket).unwrap_err();
    assert!(stopped.cause.contains("log-00000001"), "{stopped}");
    assert_eq!(journal.fault(), Some(stopped.clone()));
    assert_eq!(journal.append(b"", &[]).unwrap_err(), stopped);
    assert_eq!(journal.roll(2, file.clone(), salt(2)).unwrap_err(), stopped);
    journal
        .durable_blocking(first.ticket)
        .expect("what was durable stays so");
    let mut data = vec![0; data_of(2).len()];
    journal
        .read_at(1, file.as_ref(), &mut data, second.data_at)
        .unwrap();
    assert_eq!(data, data_of(2), "what was appended can still be read");
    let syncs = disk.syncs();
    drop(journal);
    assert_eq!(
        (disk.syncs(), disk.failed_syncs()),
        (syncs, 1),
        "a failed sync is never repeated"
    );
}

#[test]
fn a_full_disk_poisons_and_leaves_what_was_durable() {
    let disk = SimDisk::new();
    let journal = journal_at(1, make_log(&disk, 1).unwrap(), HEAD_LEN, 1);
    disk.space_left(Some(10_000));
    let mut durable = 0;
    let stopped = loop {
        let step = journal.append(&meta_of(durable + 1), &[&data_of(durable + 1)]);
        match step.and_then(|done| journal.durable_blocking(done.ticket)) {
            Ok(()) => durable += 1,
            Err(stopped) => break stopped,
        }
    };
    assert_eq!(stopped.kind, ErrorKind::StorageFull);
    assert!(durable > 0);
    drop(journal);
    disk.space_left(None);
    let (lsns, end) = scan_log(&disk, 1, 1);
    assert_eq!(lsns.len() as u64, durable);
    assert_eq!(end.damage, []);
    assert!(end.torn.is_some(), "the part that fitted");
}

#[test]
fn short_writes_are_gone_on_with() {
    let disk = SimDisk::new();
    disk.short_writes(Some(7));
    let journal = journal_at(1, make_log(&disk, 1).unwrap(), HEAD_LEN, 1);
    for lsn in 1..=20 {
        append(&journal, lsn);
    }
    journal.durable_blocking(journal.last_ticket()).unwrap();
    assert_eq!(scan_log(&disk, 1, 1).0.len(), 20);
}

#[test]
fn room_set_aside_reads_as_an_end_and_not_as_torn() {
    let disk = SimDisk::new();
    let file = make_log(&disk, 1).unwrap();
    let options = Options {
        reserve: 100_000,
        ..Options::default()
    };
    let tail = Tail {
        no: 1,
        file: file.clone(),
        salt: salt(1),
        at: HEAD_LEN,
        next_lsn: 1,
    };
    let journal = Journal::start(options, tail);
    let done = append(&journal, 1);
    journal.durable_blocking(done.ticket).unwrap();
    assert!(file.len().unwrap() > 100_000);
    let (_, end) = scan_log(&disk, 1, 1);
    assert_eq!((end.valid_to, end.torn.clone()), (done.end_at, None));
    frame::cut(file.as_ref(), &end).unwrap();
    assert_eq!(file.len().unwrap(), done.end_at);
}

#[test]
fn a_frame_too_long_is_refused_and_stops_nothing() {
    let disk = SimDisk::new();
    let journal = journal_at(1, make_log(&disk, 1).unwrap(), HEAD_LEN, 1);
    let long = vec![0; frame::META_MAX + 1];
    assert_eq!(
        journal.append(&long, &[]).unwrap_err().kind,
        ErrorKind::InvalidInput
    );
    assert_eq!(journal.fault(), None);
    journal
        .durable_blocking(append(&journal, 1).ticket)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_wait_and_each_finds_its_frame() {
    let disk = SimDisk::new();
    let journal = Arc::new(journal_at(1, make_log(&disk, 1).unwrap(), HEAD_LEN, 1));
    let order = Arc::new(std::sync::Mutex::new(()));
    let task = |_| {
        let (journal, order) = (journal.clone(), order.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                let done = {
                    let _guard = order.lock().unwrap();
                    let lsn = journal.last_ticket().0;
                    append(&journal, lsn)
                };
                journal.durable(done.ticket).await.unwrap();
                assert!(journal.durable_lsn() > done.lsn);
            }
        })
    };
    for task in (0..50).map(task).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(scan_log(&disk, 1, 1).0.len(), 1_000);
}

#[tokio::test]
async fn a_poisoned_journal_wakes_every_task_that_waits() {
    let disk = SimDisk::new();
    let (gated, journal) = held_at_the_gate(&disk);
    let journal = Arc::new(journal);
    disk.fail_sync(disk.syncs() + 1);
    let wait = |lsn: u64| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.durable(Ticket(lsn + 1)).await })
    };
    append(&journal, 2);
    let tasks: Vec<_> = [1, 2, 1, 2].into_iter().map(wait).collect();
    tokio::task::yield_now().await;
    gated.open();
    for task in tasks {
        assert!(task.await.unwrap().is_err());
    }
}

#[test]
fn a_thread_that_panics_leaves_nobody_waiting() {
    struct Broken;
    impl DiskFile for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<usize> {
            panic!("a bug in a disk")
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
            Ok(0)
        }
        fn sync(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn len(&self) -> std::io::Result<u64> {
            Ok(0)
        }
        fn set_len(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn reserve(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn punch(&self, _: u64, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn occupied(&self) -> std::io::Result<u64> {
            Ok(0)
        }
    }
    let journal = journal_at(1, Arc::new(Broken), head::HEAD_LEN, 1);
    let done = append(&journal, 1);
    let stopped = journal.durable_blocking(done.ticket).unwrap_err();
    assert!(stopped.cause.contains("panicked"), "{stopped}");
}
