//! How full a hold may get, and who is turned away first.

use std::sync::Arc;

use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{Held, HoldStore, Limit, Put, Refusing};
use nightgate_core::Purpose;
use nightgate_log::disk::SimDisk;

use crate::support::*;
use crate::world::{at, due, find, held, totals, with};

fn sized(options: Options) -> (SimDisk, ShelfHold) {
    let disk = SimDisk::new();
    let hold = ShelfHold::open_on(Arc::new(disk.clone()), options).unwrap();
    (disk, hold)
}

fn large(name: &str, purpose: Purpose, dice: &mut fastrand::Rng) -> Held {
    let body = noise(dice, 1_000);
    with(name, |held| {
        held.message.purpose = purpose;
        held.message.body = body.into();
    })
}

/// Puts single messages of a purpose until one is turned away; says how many were taken.
async fn fill(hold: &ShelfHold, purpose: Purpose, dice: &mut fastrand::Rng) -> usize {
    for number in 0..1_000 {
        let name = format!("{purpose:?}-{number}");
        let put = hold
            .put(vec![large(&name, purpose, dice)], at(0))
            .await
            .unwrap();
        if put == [Put::Full] {
            assert_eq!(
                find(hold, &name).await,
                None,
                "what is turned away is not known"
            );
            return number;
        }
        assert_eq!(put, [Put::New]);
    }
    panic!("never full");
}

#[tokio::test]
async fn a_hold_with_a_size_turns_advertising_away_before_information() {
    let mut dice = fastrand::Rng::with_seed(1);
    let options = Options {
        max_bytes: Some(100_000),
        ..options()
    };
    let (_disk, hold) = sized(options);
    let advertising = fill(&hold, Purpose::Advertising, &mut dice).await;
    let room = hold.room().await.unwrap();
    assert_eq!(room.refusing, Refusing::Advertising);
    let information = fill(&hold, Purpose::Informational, &mut dice).await;
    assert!(
        advertising > information && information > 0,
        "{advertising}, {information}"
    );
    let room = hold.room().await.unwrap();
    assert_eq!(room.refusing, Refusing::All);
    assert_eq!(room.limit(Purpose::Advertising), Limit::MaxBytes);
    let all = (advertising + information) as u64;
    assert_eq!(totals(&hold).await, (all, 0, 0));
}

#[tokio::test]
async fn a_hold_takes_again_what_fits_once_space_was_given_back() {
    let mut dice = fastrand::Rng::with_seed(2);
    let options = Options {
        max_bytes: Some(100_000),
        ..options()
    };
    let (disk, hold) = sized(options.clone());
    let taken = fill(&hold, Purpose::Informational, &mut dice).await;
    let lane = crate::world::lane();
    let leased = lend(&hold, &lane, at(0), taken).await.unwrap();
    deliver(&hold, &leased, at(0)).await;
    // Beyond the horizon nothing is left of it; opening anew tidies first of all.
    hold.sweep(at(200)).await.unwrap();
    drop(hold);
    let hold = ShelfHold::open_on(Arc::new(disk.clone()), options).unwrap();
    until(async || hold.room().await.unwrap().refusing == Refusing::None).await;
    let again = large("again", Purpose::Advertising, &mut dice);
    assert_eq!(hold.put(vec![again], at(200)).await.unwrap(), [Put::New]);
}

#[tokio::test]
async fn a_full_shelf_turns_away_and_the_others_take() {
    let options = Options {
        shelf_max: Some(3),
        ..options()
    };
    let (_disk, hold) = sized(options);
    let messages = (0..5).map(|number| held(&format!("a{number}"))).collect();
    let answers = hold.put(messages, at(0)).await.unwrap();
    assert_eq!(
        answers,
        [Put::New, Put::New, Put::New, Put::Full, Put::Full]
    );
    assert_eq!(find(&hold, "a3").await, None);
    let answers = hold
        .put(vec![due("later", at(30)), held("a4")], at(0))
        .await
        .unwrap();
    assert_eq!(answers, [Put::New, Put::Full]);
    assert_eq!(totals(&hold).await, (4, 0, 0));
    // One that is on loan is on the shelf still.
    let leased = lend(&hold, &crate::world::lane(), at(0), 1).await.unwrap();
    assert_eq!(
        hold.put(vec![held("a5")], at(0)).await.unwrap(),
        [Put::Full]
    );
    deliver(&hold, &leased, at(0)).await;
    assert_eq!(hold.put(vec![held("a6")], at(0)).await.unwrap(), [Put::New]);
}

#[tokio::test]
async fn the_twin_of_a_message_that_was_turned_away_is_turned_away_too() {
    let options = Options {
        shelf_max: Some(1),
        ..options()
    };
    let (_disk, hold) = sized(options);
    let messages = vec![held("first"), held("twin"), held("twin"), held("first")];
    let answers = hold.put(messages, at(0)).await.unwrap();
    // `Duplicate` would tell the caller that it is safe here.
    assert_eq!(answers, [Put::New, Put::Full, Put::Full, Put::Duplicate]);
}

#[tokio::test]
async fn space_on_the_disk_is_kept_free() {
    let mut dice = fastrand::Rng::with_seed(4);
    let disk = SimDisk::new();
    disk.space_left(Some(12 * 1024 * 1024));
    let options = Options {
        keep_free: 4 * 1024 * 1024,
        segment_bytes: 256 * 1024,
        ..options()
    };
    let hold = ShelfHold::open_on(Arc::new(disk.clone()), options).unwrap();
    let taken = fill_large(&hold, &mut dice).await;
    assert!(taken > 0);
    let room = hold.room().await.unwrap();
    assert_eq!(room.limit(Purpose::Advertising), Limit::KeepFree);
    assert_eq!(totals(&hold).await.0, taken);
    assert!(
        hold.check().await.is_ok(),
        "turned away before the disk was full"
    );
}

/// The same with messages so large that the disk is looked at now and then.
async fn fill_large(hold: &ShelfHold, dice: &mut fastrand::Rng) -> u64 {
    for number in 0..1_000 {
        let body = noise(dice, 200_000);
        let message = with(&format!("m{number}"), |held| {
            held.message.body = body.into()
        });
        if hold.put(vec![message], at(0)).await.unwrap() == [Put::Full] {
            return number;
        }
    }
    panic!("never full");
}
