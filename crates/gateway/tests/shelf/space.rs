//! Space comes back, and what was delivered is not on the disk any more.

use std::path::Path;

use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{Found, HoldStore, State};
use nightgate_log::disk::SimDisk;

use crate::support::*;
use crate::world::{HORIZON, at, lane, with};

/// Stands in every body and nowhere else.
const MARKER: &str = "one time password 483920";
const MESSAGES: usize = 600;

fn real() -> Options {
    Options {
        segment_bytes: 1024 * 1024,
        ..options()
    }
}

/// Whether any file has the marker. Bodies are compressed, so they are looked for raw.
fn is_marked(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir.join("shelf")).unwrap();
    let marked = |file: std::io::Result<std::fs::DirEntry>| {
        let Ok(bytes) = std::fs::read(file.unwrap().path()) else {
            return false;
        };
        bytes
            .windows(MARKER.len())
            .any(|window| window == MARKER.as_bytes())
    };
    files.into_iter().any(marked)
}

/// Bytes of disk that the files occupy.
fn occupied(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir.join("shelf")).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

#[tokio::test]
async fn bodies_of_delivered_messages_leave_the_disk_and_space_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = fastrand::Rng::with_seed(1);
    let hold = ShelfHold::open(dir.path(), real()).await.unwrap();
    for round in 0..MESSAGES / 10 {
        let message = |number: usize| {
            // Noise all over: no compression, so that the marker stands there as it is.
            let noise: Vec<u8> = std::iter::repeat_with(|| dice.u8(..))
                .take(20_000)
                .collect();
            let body = [noise.as_slice(), MARKER.as_bytes()].concat();
            with(&format!("m{round}-{number}"), |held| {
                held.message.body = body.into()
            })
        };
        let messages = (0..10).map(message).collect();
        hold.put(messages, at(0)).await.unwrap();
    }
    assert!(is_marked(dir.path()), "what is held is on the disk");
    let full = occupied(dir.path());
    let leased = lend(&hold, &lane(), at(0), MESSAGES).await.unwrap();
    assert_eq!(leased.len(), MESSAGES);
    deliver(&hold, &leased, at(0)).await;
    // A last log that is not full yet is sealed when the next one begins.
    let closing = noise(&mut dice, 1_200_000);
    let last = with("last", |held| held.message.body = closing.into());
    hold.put(vec![last], at(0)).await.unwrap();
    hold.sweep(at(0)).await.unwrap();
    until(async || !is_marked(dir.path())).await;
    until(async || occupied(dir.path()) < full / 3).await;
    // Their ids are remembered all the same.
    let found = hold.find(&[crate::world::id("m0-0")]).await.unwrap();
    assert!(found[0].as_ref().unwrap().held.message.body.is_empty());

    let leased = lend(&hold, &lane(), at(0), MESSAGES).await.unwrap();
    deliver(&hold, &leased, at(0)).await;
    let later = at(0) + HORIZON + HORIZON;
    assert_eq!(hold.sweep(later).await.unwrap(), MESSAGES as u64 + 1);
    until(async || occupied(dir.path()) < full / 3).await;
}

#[tokio::test]
async fn a_loan_over_several_logs_ends_in_each_of_them() {
    let disk = SimDisk::seeded(2);
    let mut dice = fastrand::Rng::with_seed(2);
    let hold = open(&disk);
    for round in 0..12 {
        let message = |number: usize| {
            let body = noise(&mut dice, 400);
            with(&format!("m{round}-{number}"), |held| {
                held.message.body = body.into()
            })
        };
        hold.put((0..10).map(message).collect(), at(0))
            .await
            .unwrap();
    }
    assert!(files(&disk, "log-").len() > 3, "several logs");
    let leased = lend(&hold, &lane(), at(0), 120).await.unwrap();
    deliver(&hold, &leased, at(0)).await;
    let ids: Vec<_> = leased
        .iter()
        .map(|loan| loan.held.message.id.clone())
        .collect();
    let delivered = async |hold: &ShelfHold| {
        let found = hold.find(&ids).await.unwrap();
        let is_delivered = |found: &Option<Found>| {
            found
                .as_ref()
                .is_some_and(|found| found.state == State::Delivered)
        };
        found.iter().all(is_delivered)
    };
    assert!(delivered(&hold).await);
    drop(hold);
    let hold = open(&disk);
    assert!(delivered(&hold).await);
    // Every one of them is forgotten once the horizon has passed, and its log with it.
    let later = at(0) + HORIZON + HORIZON;
    assert_eq!(hold.sweep(later).await.unwrap(), 120);
    until(async || files(&disk, "idx-").is_empty()).await;
}
