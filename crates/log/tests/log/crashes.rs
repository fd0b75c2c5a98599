//! A run of the journal cut at every sync boundary, and what every kind of power loss leaves.

use std::collections::BTreeMap;
use std::io;

use nightgate_log::frame;
use nightgate_log::head::{HEAD_LEN, Head, HeadFault};
use nightgate_log::{Disk, Journal, SimDisk, Stopped, Ticket};

use super::support::{KIND, data_of, journal_at, make_log, meta_of, name, salt, scan_log};

/// Appends in a run: three files, groups of many sizes.
const FRAMES: u64 = 60;
/// Power losses tried at each boundary.
const LOSSES: u64 = 25;
/// Frames after which the log rolls.
const ROLL_EVERY: u64 = 25;

/// What a run had been told when the power went.
#[derive(Default)]
struct Told {
    /// Every lsn below is durable.
    durable: u64,
    /// First lsn of each file begun.
    files: BTreeMap<u32, u64>,
}

/// Appends frames, waits for some of them, rolls now and then; ends early when the journal stops.
fn work(disk: &SimDisk, seed: u64, told: &mut Told) -> io::Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let file = make_log(disk, 1)?;
    told.files.insert(1, 1);
    told.durable = 1;
    let journal = journal_at(1, file, HEAD_LEN, 1);
    let mut no = 1;
    for lsn in 1..=FRAMES {
        if lsn % ROLL_EVERY == 0 {
            no += 1;
            let file = make_log(disk, no)?;
            told.files.insert(no, lsn);
            journal.roll(no, file, salt(no))?;
        }
        let done = append(&journal, lsn)?;
        if rng.u8(..4) == 0 {
            wait(&journal, done, told)?;
        }
    }
    wait(&journal, journal.last_ticket(), told)?;
    Ok(())
}

fn append(journal: &Journal, lsn: u64) -> Result<Ticket, Stopped> {
    let data = data_of(lsn);
    let (first, second) = data.split_at(data.len() / 3);
    let done = journal.append(&meta_of(lsn), &[first, second])?;
    assert_eq!(done.lsn, lsn);
    Ok(done.ticket)
}

fn wait(journal: &Journal, ticket: Ticket, told: &mut Told) -> Result<(), Stopped> {
    journal.durable_blocking(ticket)?;
    told.durable = told.durable.max(ticket.0);
    assert!(journal.durable_lsn() >= ticket.0);
    Ok(())
}

/// Reads all files as after a crash: the lsns in order. Fails on damage and on a gap.
fn recover(disk: &SimDisk, told: &Told) -> u64 {
    let mut next_lsn = 1;
    let last = told.files.keys().max().copied().unwrap_or(0);
    for (no, first) in &told.files {
        let Ok(file) = disk.open(&name(*no), false) else {
            assert!(
                *first >= told.durable,
                "the name of a file with durable frames is gone"
            );
            return next_lsn;
        };
        match Head::read(file.as_ref(), KIND, 1) {
            Ok(_) => {}
            Err(HeadFault::Unfinished { .. } | HeadFault::Damaged { .. }) if *no == last => break,
            Err(fault) => panic!("{fault}"),
        }
        let (lsns, end) = scan_log(disk, *no, *first);
        assert_eq!(end.damage, [], "a power loss is no damage");
        assert_eq!(lsns, (*first..end.next_lsn).collect::<Vec<_>>());
        if end.next_lsn > *first {
            assert_eq!(
                next_lsn, *first,
                "a later file has frames and an earlier one lacks some"
            );
            next_lsn = end.next_lsn;
        }
    }
    next_lsn
}

/// Goes on where a crash left the log, and finds everything again.
fn go_on(disk: &SimDisk, told: &Told) {
    let whole = told.files.iter().rev().find(|(no, _)| {
        let file = disk.open(&name(**no), false);
        file.is_ok_and(|file| Head::read(file.as_ref(), KIND, 1).is_ok())
    });
    let Some((no, first)) = whole else { return };
    let (_, end) = scan_log(disk, *no, *first);
    let file = disk.open(&name(*no), false).unwrap();
    frame::cut(file.as_ref(), &end).unwrap();
    let journal = journal_at(*no, file, end.valid_to, end.next_lsn);
    for lsn in end.next_lsn..end.next_lsn + 5 {
        append(&journal, lsn).unwrap();
    }
    drop(journal);
    let (lsns, after) = scan_log(disk, *no, *first);
    assert_eq!(lsns.last(), Some(&(end.next_lsn + 4)));
    assert_eq!((after.torn, after.damage), (None, Vec::new()));
}

#[test]
fn whatever_was_durable_is_there_after_a_power_loss_at_any_sync() {
    let whole = SimDisk::new();
    work(&whole, 0, &mut Told::default()).unwrap();
    let most = whole.syncs() + FRAMES;
    let (mut cut_short, mut torn_ends) = (0, 0);
    for boundary in 1..=most {
        let (disk, mut told) = (SimDisk::new(), Told::default());
        disk.crash_at_sync(boundary);
        if work(&disk, boundary, &mut told).is_ok() {
            break;
        }
        cut_short += 1;
        for seed in 0..LOSSES {
            let left = disk.crash(&mut fastrand::Rng::with_seed(seed));
            let found = recover(&left, &told);
            assert!(
                found >= told.durable,
                "boundary {boundary}, seed {seed}: {found} < {}",
                told.durable
            );
            torn_ends += u64::from(any_torn(&left, &told));
            go_on(&left, &told);
        }
    }
    assert!(cut_short > 8, "only {cut_short} boundaries were cut at");
    assert!(torn_ends > 20, "only {torn_ends} torn ends were met");
}

fn any_torn(disk: &SimDisk, told: &Told) -> bool {
    told.files.iter().any(|(no, first)| {
        let file = disk.open(&name(*no), false);
        let whole = file.is_ok_and(|file| Head::read(file.as_ref(), KIND, 1).is_ok());
        whole && scan_log(disk, *no, *first).1.torn.is_some()
    })
}

#[test]
fn a_process_that_dies_loses_nothing_that_was_written() {
    let (disk, mut told) = (SimDisk::new(), Told::default());
    work(&disk, 3, &mut told).unwrap();
    assert_eq!(recover(&disk, &told), FRAMES + 1);
    assert_eq!(told.durable, FRAMES + 1);
}

#[test]
fn losing_power_twice_in_a_row_loses_no_more_than_once() {
    for boundary in 4..12 {
        let (disk, mut told) = (SimDisk::new(), Told::default());
        disk.crash_at_sync(boundary);
        if work(&disk, boundary, &mut told).is_ok() {
            break;
        }
        let once = disk.crash(&mut fastrand::Rng::with_seed(1));
        let found = recover(&once, &told);
        let twice = once.crash(&mut fastrand::Rng::with_seed(2));
        assert_eq!(
            recover(&twice, &told),
            found,
            "nothing was written in between"
        );
    }
}
