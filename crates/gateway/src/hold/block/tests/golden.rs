//! Files of format 1, written once and read for good.
//!
//! A file is the length of the head section (u32 LE), the head section and the body section.

use std::path::PathBuf;

use nightgate_core::{Channel, Jurisdiction, Recipient};

use super::*;

/// Sections too small to compress: every byte is the format's.
const RAW: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/block-1-raw.bin"
));
/// Sections that zstd compressed.
const ZSTD: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/block-1-zstd.bin"
));

fn few() -> Vec<Row> {
    let mut rows: Vec<Row> = (0..4).map(|row| plain_row(row, row * 5)).collect();
    let changed = &mut rows[2];
    let message = &mut changed.held.message;
    message.recipient = Recipient::new("010-0001-5838").unwrap();
    message.channel = Channel::Alimtalk;
    message.jurisdiction = Some(Jurisdiction::new("KR").unwrap());
    message.zone = Some("Asia/Seoul".into());
    message.send_at = Some(Timestamp::MIN);
    message.expires_at = Some(Timestamp::MAX);
    message.collapse_key = Some("주문".into());
    message.content_type = "text/plain; charset=utf-8".into();
    message.attributes = [("template".to_owned(), "T_01".to_owned())].into();
    (changed.attempts, changed.lapsed) = (3, true);
    changed.why = Some("the provider never answered".to_owned());
    (rows[2].arrival, rows[3].arrival) = (7, 900);
    rows
}

fn many() -> Vec<Row> {
    let mut rows: Vec<Row> = (0..60).map(|row| plain_row(row, 120 + row)).collect();
    for (index, row) in rows.iter_mut().enumerate() {
        let id = format!("order/{}/night", index * index);
        row.held.message.id = nightgate_core::MessageId::new(&id).unwrap();
        let attributes = [("order".to_owned(), index.to_string())];
        row.held.message.attributes = attributes.into();
    }
    rows
}

fn file(packed: &Packed) -> Vec<u8> {
    let length = (packed.head.len() as u32).to_le_bytes();
    [&length, &*packed.head, &packed.body].concat()
}

#[track_caller]
fn holds(file: &[u8], rows: &[Row]) {
    let (length, sections) = file.split_first_chunk().unwrap();
    let (head, body) = sections.split_at(u32::from_le_bytes(*length) as usize);
    let count = rows.len() as u32;
    let (head, body) = (
        open_head(head, count).unwrap(),
        open_body(body, count).unwrap(),
    );
    let shelf = ShelfKey::of(&rows[0].held);
    let all = helds(&head, &body, 0..rows.len(), &shelf, rows[0].held.due);
    for (slot, (row, held)) in rows.iter().zip(all).enumerate() {
        assert_eq!(held, row.held);
        let state = (head.arrival(slot), head.attempts(slot), head.lapsed(slot));
        assert_eq!(state, (row.arrival, row.attempts, row.lapsed));
        assert_eq!(head.why(slot), row.why.as_deref());
    }
}

#[test]
fn blocks_of_format_1_are_read_for_good() {
    holds(RAW, &few());
    holds(ZSTD, &many());
    assert_eq!(ZSTD[5], 1, "the head is compressed");
}

#[test]
fn what_is_written_today_is_format_1_to_the_byte() {
    let rows = few();
    assert_eq!(file(&packed(&mut Packer::new(), &rows)), RAW);
}

#[test]
#[ignore = "writes the golden files anew, which only a new format may"]
fn write_golden_files() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, rows) in [("block-1-raw.bin", few()), ("block-1-zstd.bin", many())] {
        let bytes = file(&packed(&mut Packer::new(), &rows));
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}
