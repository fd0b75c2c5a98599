//! Blocks as a whole: what goes in comes out, and what nobody wrote is damage.

mod any;
mod figures;
mod fuzz;
mod golden;

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;

use self::any::{Row, any_rows, plain_row};
use super::*;

fn packed(packer: &mut Packer, rows: &[Row]) -> Packed {
    let records: Vec<Record<'_>> = rows.iter().map(Row::record).collect();
    packer.pack(&records)
}

#[track_caller]
fn reads_back(packer: &mut Packer, rows: &[Row]) -> Packed {
    let packed = packed(packer, rows);
    let count = rows.len() as u32;
    let head = open_head(&packed.head, count).unwrap();
    let body = open_body(&packed.body, count).unwrap();
    let shelf = ShelfKey::of(&rows[0].held);
    let due = rows[0].held.due;
    assert_eq!(head.len(), rows.len());
    let all = helds(&head, &body, 0..rows.len(), &shelf, due);
    assert_eq!(all.len(), rows.len());
    for (slot, (row, held)) in rows.iter().zip(all).enumerate() {
        assert_eq!(held, row.held);
        // The masks of `Debug` and the rule of equality hide nothing here.
        assert_eq!(
            held.message.recipient.expose(),
            row.held.message.recipient.expose()
        );
        assert_eq!(head.id(slot), row.held.message.id.as_str());
        assert_eq!(head.recipient_key(slot), row.held.key.expose());
        assert_eq!(head.arrival(slot), row.arrival);
        assert_eq!(head.attempts(slot), row.attempts);
        assert_eq!(head.lapsed(slot), row.lapsed);
        assert_eq!(head.why(slot), row.why.as_deref());
        let mut bare = row.held.clone();
        bare.message.body = Bytes::new();
        bare.message.attributes = BTreeMap::new();
        assert_eq!(head.held(slot, &shelf, due), bare);
    }
    packed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_message_reads_back_byte_for_byte(rows in any_rows()) {
        reads_back(&mut Packer::new(), &rows);
    }
}

#[test]
fn one_packer_writes_many_blocks_alike() {
    let mut packer = Packer::new();
    let large: Vec<Row> = (0..300).map(|row| plain_row(row, 200)).collect();
    let small: Vec<Row> = (0..3).map(|row| plain_row(row, 10)).collect();
    let first = reads_back(&mut packer, &large);
    let second = reads_back(&mut packer, &small);
    assert_eq!(reads_back(&mut packer, &large), first);
    assert_eq!(reads_back(&mut Packer::new(), &small), second);
}

#[test]
fn the_largest_messages_read_back() {
    let mut rows: Vec<Row> = (0..3).map(|row| plain_row(row, 256 * 1024)).collect();
    for row in &mut rows {
        let pair = |pair: usize| (format!("{pair:064}"), "값".repeat(1024 / 3));
        row.held.message.attributes = (0..32).map(pair).collect();
        row.why = Some("밤 ".repeat(2000));
    }
    rows[1].held.message.body = Bytes::new();
    reads_back(&mut Packer::new(), &rows);
    let mut random = fastrand::Rng::with_seed(1);
    for row in &mut rows {
        let noise = (0..256 * 1024).map(|_| random.u8(..));
        row.held.message.body = noise.collect();
    }
    let packed = reads_back(&mut Packer::new(), &rows);
    assert!(packed.body.len() > 3 * 256 * 1024);
}

#[test]
fn a_full_block_reads_back() {
    let rows: Vec<Row> = (0..BLOCK_COUNT_MAX)
        .map(|row| plain_row(row, row % 3))
        .collect();
    reads_back(&mut Packer::new(), &rows);
}

#[test]
fn what_messages_share_is_written_once() {
    let one: Vec<Row> = (0..1).map(|row| plain_row(row, 0)).collect();
    let many: Vec<Row> = (0..200).map(|row| plain_row(row, 0)).collect();
    let mut packer = Packer::new();
    let first = reads_back(&mut packer, &one);
    let all = reads_back(&mut packer, &many);
    // A counter of six digits and a phone number of eight take three and four bytes at most.
    let each = (all.head.len() - first.head.len()) / (many.len() - 1);
    assert!(each <= 7, "{each} bytes a message");
    assert!(all.body.len() <= first.body.len());
}

#[test]
fn bodies_share_one_buffer_and_repeated_texts_one_copy() {
    let rows: Vec<Row> = (0..50).map(|row| plain_row(row, 40)).collect();
    let packed = packed(&mut Packer::new(), &rows);
    let section = Bytes::from(packed.body);
    let body = open_body_of(&section, 50).unwrap();
    let head = open_head(&packed.head, 50).unwrap();
    let (first, next) = (body.bytes(0), body.bytes(1));
    assert_eq!(first.as_ptr().wrapping_add(first.len()), next.as_ptr());
    let shelf = ShelfKey::of(&rows[0].held);
    let types: Vec<_> = helds(&head, &body, 0..2, &shelf, Timestamp::UNIX_EPOCH)
        .map(|held| held.message.content_type)
        .collect();
    assert!(std::sync::Arc::ptr_eq(&types[0], &types[1]));
}

#[test]
fn bodies_that_do_not_shrink_are_not_copied_out_of_their_section() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut rows: Vec<Row> = (0..40).map(|row| plain_row(row, 0)).collect();
    for row in &mut rows {
        row.held.message.body = (0..300).map(|_| random.u8(..)).collect();
    }
    let section = Bytes::from(packed(&mut Packer::new(), &rows).body);
    let body = open_body_of(&section, 40).unwrap();
    assert!(section.as_ptr_range().contains(&body.bytes(7).as_ptr()));
    assert!(section.len() < 40 * 301);
}

#[test]
fn a_slot_that_is_not_there_panics_like_a_slice() {
    let rows = [plain_row(0, 3), plain_row(1, 4)];
    let packed = packed(&mut Packer::new(), &rows);
    let body = open_body(&packed.body, 2).unwrap();
    let past = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body.bytes(2)));
    assert!(past.is_err());
}

#[test]
#[should_panic(expected = "a block holds 1 to 65536 messages, not 0")]
fn a_block_of_nothing_is_not_written() {
    Packer::new().pack(&[]);
}

#[test]
fn damage_is_told_with_its_place_and_without_its_value() {
    let mut rows = vec![plain_row(0, 3), plain_row(1, 4)];
    rows[0].held.message.recipient = nightgate_core::Recipient::new("010-9999-1234").unwrap();
    let mut section = packed(&mut Packer::new(), &rows).head;
    section.truncate(section.len() - 1);
    section[2] -= 1;
    let damaged = open_head(&section, 2).err().unwrap();
    assert_eq!(damaged.section, "head");
    assert_eq!(damaged.column, "why");
    let told = format!("{damaged} {damaged:?}");
    assert!(told.contains("`why` at byte"), "{told}");
    assert!(!told.contains("9999"), "{told}");
}
