//! Stores whose files were changed by more than a bit: cut, spliced, doubled, zeroed, swapped, one
//! or several at once. Opening answers, nothing panics, and no message ever reads as another.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use nightgate::error::{Error, Kind};
use nightgate::hold::shelf::ShelfHold;
use nightgate::hold::{End, Found, Held, HoldStore, Lane, Scope, Settle, State, Verdict};
use nightgate_core::MessageId;
use nightgate_log::disk::{Disk, SimDisk, read_exact_at, write_all_at};

use crate::support::*;
use crate::world::{ALL, at, id, put, with};

/// Damaged stores of each seed.
const ROUNDS: usize = 60;
/// What a disk loses, repeats or mixes up at once, in bytes.
const SECTOR: usize = 4_096;
/// Calls that may fail while upkeep is at work, a twenty-fifth of a second apart.
const PATIENCE: u32 = 250;
const LANES: [&str; 2] = ["sms", "push"];
const STATES: [State; 8] = [
    State::Held,
    State::Leased,
    State::Buried,
    State::Recalled,
    State::Delivered,
    State::Refused,
    State::Expired,
    State::Rejected,
];

type Messages = BTreeMap<MessageId, Held>;

fn message(dice: &mut fastrand::Rng, number: usize) -> Held {
    with(&format!("m{number}"), |held| {
        held.lane = Lane::new(LANES[number % 2]);
        held.due = at(dice.i64(0..3));
        held.message.campaign = [None, Some("x".into())][dice.usize(..2)].clone();
        held.message.attributes = [("n".to_owned(), number.to_string())].into();
        let len = dice.usize(20..700);
        held.message.body = noise(dice, len).into();
    })
}

/// A store with sealed logs and an open one, and what was ever put into it.
async fn build(seed: u64) -> (SimDisk, Messages) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let disk = SimDisk::seeded(seed);
    let hold = open(&disk);
    let mut all = Messages::new();
    for round in 0..16 {
        let numbers = round * 8..round * 8 + 8;
        let messages: Vec<Held> = numbers.map(|number| message(&mut dice, number)).collect();
        all.extend(
            messages
                .iter()
                .map(|held| (held.message.id.clone(), held.clone())),
        );
        put(&hold, messages).await;
        let lane = Lane::new(LANES[round % 2]);
        let mut settlements = Vec::new();
        for loan in lend(&hold, &lane, at(4), 5).await.unwrap() {
            let verdict = match dice.u8(..4) {
                0 => continue,
                1 => Verdict::Defer {
                    due: at(3),
                    attempted: true,
                },
                2 => Verdict::Bury {
                    why: "a test".to_owned(),
                },
                _ => Verdict::Done(End::Delivered),
            };
            let token = loan.token;
            settlements.push(Settle { token, verdict });
        }
        hold.settle(settlements, at(4)).await.unwrap();
        let name = format!("m{}", dice.usize(..all.len()));
        hold.recall(&Scope::Id(id(&name)), at(4)).await.unwrap();
    }
    until(async || files(&disk, "idx-").len() + 1 == files(&disk, "log-").len()).await;
    drop(hold);
    disk.sync_names().unwrap();
    (disk, all)
}

fn read(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, false).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

fn write(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(name, false).unwrap();
    file.set_len(0).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file.sync().unwrap();
}

/// Changes one file in one way. Says what was done.
fn mutate(disk: &SimDisk, dice: &mut fastrand::Rng) -> String {
    let names = disk.names().unwrap();
    let name = &names[dice.usize(..names.len())];
    let mut bytes = read(disk, name);
    if bytes.is_empty() {
        return format!("nothing in {name}");
    }
    let alike = files(disk, &name[..3]);
    let other = &alike[dice.usize(..alike.len())];
    let other_bytes = read(disk, other);
    let at = dice.usize(..bytes.len());
    let sector = at / SECTOR * SECTOR;
    let sector_end = bytes.len().min(sector + SECTOR);
    let how = dice.u8(..8);
    match how {
        0 => bytes.truncate(at),
        1 => bytes[sector..sector_end].fill(0),
        2 => {
            let to = dice.usize(..=(bytes.len() - (sector_end - sector)) / SECTOR) * SECTOR;
            bytes.copy_within(sector..sector_end, to);
        }
        3 => {
            let end = sector_end.min(other_bytes.len()).max(sector);
            let foreign = other_bytes.get(sector..end).unwrap_or_default();
            bytes[sector..sector + foreign.len()].copy_from_slice(foreign);
        }
        4 => bytes.clone_from(&other_bytes),
        5 => bytes[at..].fill(0xff),
        6 => {
            let end = bytes.len().min(at + dice.usize(1..300));
            bytes.drain(at..end);
        }
        _ => {
            let end = bytes.len().min(at + 8);
            bytes[at..end].fill([0, 0x7f, 0x80, 0xff][dice.usize(..4)]);
        }
    }
    write(disk, name, &bytes);
    format!("way {how} at {at} of {name}, with {other}")
}

/// An error of a damaged store that a person can act on.
fn is_told(error: &Error) {
    let text = error.to_string();
    assert!(
        matches!(
            error.kind,
            Kind::Corrupt | Kind::Invalid | Kind::Unavailable
        ),
        "{text}"
    );
    let names = [
        "log", "MANIFEST", "state-", "idx-", "ids-", "run", "index", "find",
    ];
    assert!(
        names.iter().any(|name| text.contains(name)),
        "names no file: {text}"
    );
}

/// Whatever is told of a message is of that message.
fn is_true(found: &Found, all: &Messages) {
    let message = &found.held.message;
    let put = &all[&message.id].message;
    assert!(
        message.body.is_empty() || message.body == put.body,
        "{}",
        message.id
    );
    assert!(message.attributes.is_empty() || message.attributes == put.attributes);
    assert_eq!(message.recipient.expose(), put.recipient.expose());
}

/// Asks everything that can be asked, and delivers what can be lent. Says what that was.
async fn look(hold: &ShelfHold, all: &Messages) -> BTreeSet<MessageId> {
    let (mut delivered, mut patience) = (BTreeSet::new(), PATIENCE);
    for (id, answer) in all.keys().zip(find_each(hold, all).await) {
        match answer {
            Ok(Some(found)) => {
                assert_eq!(found.held.message.id, *id);
                is_true(&found, all);
            }
            Ok(None) => {}
            Err(error) => is_told(&error),
        }
    }
    for state in STATES {
        match hold.list(state, None, ALL).await {
            Ok(listed) => listed.iter().for_each(|found| is_true(found, all)),
            Err(error) => is_told(&error),
        }
    }
    let mut now = at(30);
    for lane in LANES.iter().cycle().take(4).map(|lane| Lane::new(lane)) {
        now += SignedDuration::from_mins(11);
        for _ in 0..all.len() {
            let leased = match lend(hold, &lane, now, 16).await {
                Ok(leased) => leased,
                Err(error) => {
                    is_told(&error);
                    if patience == 0 {
                        break;
                    }
                    // Upkeep may be telling an index anew.
                    patience -= 1;
                    let mut looks = 0;
                    until(async || {
                        looks += 1;
                        looks > 2
                    })
                    .await;
                    continue;
                }
            };
            for loan in &leased {
                let message = &loan.held.message;
                assert_eq!(*message, all[&message.id].message, "lent as it was put");
                delivered.insert(message.id.clone());
            }
            if leased.is_empty() {
                break;
            }
            deliver(hold, &leased, now).await;
        }
    }
    delivered
}

async fn find_each(hold: &ShelfHold, all: &Messages) -> Vec<Result<Option<Found>, Error>> {
    let mut answers = Vec::with_capacity(all.len());
    for id in all.keys() {
        let found = hold.find(std::slice::from_ref(id)).await;
        answers.push(found.map(|mut found| found.remove(0)));
    }
    answers
}

#[tokio::test]
async fn however_files_are_changed_no_message_reads_as_another() {
    let (mut opened, mut refused) = (0, 0);
    for seed in seeds(3) {
        let (disk, all) = build(seed).await;
        let mut dice = fastrand::Rng::with_seed(seed);
        for round in 0..ROUNDS {
            let disk = disk.crash(&mut fastrand::Rng::with_seed(0));
            for _ in 0..dice.usize(1..4) {
                println!("seed {seed}, round {round}: {}", mutate(&disk, &mut dice));
            }
            match try_open(&disk) {
                Ok(hold) => {
                    opened += 1;
                    look(&hold, &all).await;
                }
                Err(error) => {
                    refused += 1;
                    is_told(&error);
                }
            }
        }
    }
    assert!(opened > refused, "{opened} opened, {refused} refused");
}

/// Cuts a sealed log in half, whose index is damaged too: places stand in no block that is known.
/// A lease that met such places on two shelves at once put them aside again and again, for ever.
#[tokio::test]
async fn a_lease_ends_that_meets_places_of_no_known_block() {
    let (disk, all) = build(2).await;
    for index in files(&disk, "idx-") {
        let disk = disk.crash(&mut fastrand::Rng::with_seed(0));
        let log = index.replace("idx-", "log-");
        for cut in [3_071, 8_000] {
            let mut bytes = read(&disk, &log);
            bytes.truncate(cut);
            write(&disk, &log, &bytes);
            assert!(disk.flip(&index, 70, 0xff));
            let hold = open(&disk);
            look(&hold, &all).await;
        }
    }
}

/// A log or an index in another's place: its blocks are places of another segment, and putting
/// those aside ended messages there, which were whole.
#[tokio::test]
async fn blocks_of_another_segment_are_not_taken_for_ones_own() {
    let (disk, all) = build(0).await;
    let sealed = files(&disk, "idx-");
    let other = &sealed[sealed.len() - 1];
    for index in &sealed[..sealed.len() - 1] {
        let (log, other_log) = (index.replace("idx-", "log-"), other.replace("idx-", "log-"));
        let gone = disk.crash(&mut fastrand::Rng::with_seed(0));
        gone.remove(&log).unwrap();
        gone.remove(index).unwrap();
        let without = look(&open(&gone), &all).await;
        // The log and no index, an index and no log, both, each another's.
        for (is_log, is_index) in [(true, false), (false, true), (true, true)] {
            let disk = disk.crash(&mut fastrand::Rng::with_seed(0));
            match is_log {
                true => write(&disk, &log, &read(&disk, &other_log)),
                false => write(&disk, &log, &[]),
            }
            match is_index {
                true => write(&disk, index, &read(&disk, other)),
                false => disk.remove(index).unwrap(),
            }
            let delivered = look(&open(&disk), &all).await;
            assert_eq!(delivered, without, "{index}, {is_log}, {is_index}");
        }
    }
}
