//! A full pending group makes its caller wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nightgate_log::head::HEAD_LEN;
use nightgate_log::journal::{Options, Tail};
use nightgate_log::{Journal, SimDisk};

use super::support::{Gated, make_log, salt, scan_log};
use super::support::{data_of, meta_of};

const PENDING_MAX: usize = 20_000;
/// Longer than any frame of these tests.
const FRAME_MAX: u64 = 4_000;

#[test]
fn appending_waits_while_the_pending_group_is_full() {
    let disk = SimDisk::new();
    let gated = Gated::new(make_log(&disk, 1).unwrap());
    let options = Options {
        pending_max: PENDING_MAX,
        ..Options::default()
    };
    let tail = Tail {
        no: 1,
        file: gated.clone(),
        salt: salt(1),
        at: HEAD_LEN,
        next_lsn: 1,
    };
    let journal = Arc::new(Journal::start(options, tail));
    let far = Arc::new(AtomicU64::new(0));
    let caller = {
        let (journal, far, gated) = (journal.clone(), far.clone(), gated.clone());
        std::thread::spawn(move || {
            for lsn in 1..=200 {
                let done = journal.append(&meta_of(lsn), &[&data_of(lsn)]).unwrap();
                far.store(done.end_at, Ordering::SeqCst);
            }
            gated.open();
        })
    };
    // One group stands at the gate, one is pending: each was full when it had its last frame.
    while !caller.is_finished() {
        gated.wait_for_sync();
        let (written, ahead) = (journal.tally().bytes + HEAD_LEN, far.load(Ordering::SeqCst));
        if journal.last_ticket().0 <= 200 {
            let most = written + 2 * (PENDING_MAX as u64 + FRAME_MAX);
            assert!(ahead <= most, "{ahead} ran from {written}");
        }
        gated.let_one_through();
    }
    caller.join().unwrap();
    journal.durable_blocking(journal.last_ticket()).unwrap();
    assert!(journal.tally().groups >= 3, "it never had to wait");
    assert_eq!(scan_log(&disk, 1, 1).0.len(), 200);
}

#[test]
fn a_caller_that_waits_for_room_is_told_when_the_journal_stops() {
    let disk = SimDisk::new();
    let gated = Gated::new(make_log(&disk, 1).unwrap());
    let options = Options {
        pending_max: 1,
        ..Options::default()
    };
    let tail = Tail {
        no: 1,
        file: gated.clone(),
        salt: salt(1),
        at: HEAD_LEN,
        next_lsn: 1,
    };
    let journal = Arc::new(Journal::start(options, tail));
    journal.append(b"first", &[]).unwrap();
    gated.wait_for_sync();
    journal.append(b"fills the pending group", &[]).unwrap();
    disk.fail_sync(disk.syncs() + 1);
    let caller = {
        let journal = journal.clone();
        std::thread::spawn(move || journal.append(b"has to wait", &[]))
    };
    gated.open();
    assert!(caller.join().unwrap().is_err());
}
