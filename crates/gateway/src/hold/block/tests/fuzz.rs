//! Sections that nobody wrote.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::super::section::{HEAD_BYTES, RAW_MAX_BYTES, with_columns};
use super::*;

/// Changed sections of each kind.
const ROUNDS: usize = 20_000;
/// Of each block that is written.
const ROUNDS_A_BLOCK: usize = 200;

/// The same section, its columns as they are.
fn uncompressed(name: &'static str, section: &[u8]) -> Vec<u8> {
    with_columns(name, section, |columns| {
        let mut raw = vec![section[0], 0];
        raw.extend((columns.len() as u32).to_le_bytes());
        raw.extend_from_slice(columns);
        Ok(raw)
    })
    .unwrap()
}

fn mutate(random: &mut fastrand::Rng, section: &mut Vec<u8>) {
    const TELLING: [u8; 8] = [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff];
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..section.len());
        match random.u8(..6) {
            0 => section[at] ^= 1 << random.u8(..8),
            1 => section[at] = TELLING[random.usize(..TELLING.len())],
            2 => section[at] = random.u8(..),
            3 => section.insert(at, TELLING[random.usize(..TELLING.len())]),
            4 if section.len() > 1 => drop(section.remove(at)),
            _ => section.truncate(at.max(1)),
        }
    }
    // Most often the length agrees, or nothing behind it would ever be read.
    if random.u8(..8) > 0 && section.len() >= HEAD_BYTES {
        let length = (section.len() - HEAD_BYTES) as u32;
        section[..2].copy_from_slice(&[1, 0]);
        section[2..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads everything there is to read; says whether it could be opened.
fn read_head(section: &[u8], count: u32, shelf: &ShelfKey) -> bool {
    let Ok(head) = open_head(section, count) else {
        return false;
    };
    for slot in 0..head.len() {
        let held = head.held(slot, shelf, Timestamp::UNIX_EPOCH);
        assert_eq!(held.message.id.as_str(), head.id(slot));
        assert!(
            !head.recipient_key(slot).is_empty() || !held.message.recipient.expose().is_empty()
        );
        assert!(head.why(slot).is_none_or(|why| why.len() <= RAW_MAX_BYTES));
        let _ = (head.arrival(slot), head.attempts(slot), head.lapsed(slot));
        assert!(slot == 0 || head.arrival(slot - 1) < head.arrival(slot));
    }
    true
}

fn read_body(section: &[u8], count: u32) -> bool {
    let Ok(body) = open_body(section, count) else {
        return false;
    };
    let mut bytes = 0;
    for slot in 0..count as usize {
        bytes += body.bytes(slot).len();
        let _ = body.attributes(slot);
    }
    assert!(bytes <= RAW_MAX_BYTES);
    true
}

#[test]
fn a_changed_section_is_damage_or_reads_as_something_and_never_panics() {
    let seed = RngSeed::Fixed(20_261_122);
    let mut runner = TestRunner::new(Config {
        rng_seed: seed,
        ..Config::default()
    });
    let mut random = fastrand::Rng::with_seed(20_261_122);
    let mut packer = Packer::new();
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..ROUNDS / ROUNDS_A_BLOCK {
        let rows = any_rows().new_tree(&mut runner).unwrap().current();
        let count = rows.len() as u32;
        let shelf = ShelfKey::of(&rows[0].held);
        let good = packed(&mut packer, &rows);
        let head = uncompressed("head", &good.head);
        let body = uncompressed("body", &good.body);
        assert!(read_head(&head, count, &shelf) && read_body(&body, count));
        for round in 0..ROUNDS_A_BLOCK {
            // Some mutate what zstd reads.
            let compressed = round % 10 == 0;
            let mut bad = if compressed {
                good.head.clone()
            } else {
                head.clone()
            };
            mutate(&mut random, &mut bad);
            let head = read_head(&bad, count, &shelf);
            let mut bad = if compressed {
                good.body.clone()
            } else {
                body.clone()
            };
            mutate(&mut random, &mut bad);
            let body = read_body(&bad, count);
            opened += usize::from(head) + usize::from(body);
            refused += usize::from(!head) + usize::from(!body);
        }
    }
    // Both must be met often, or the mutations are too coarse or too fine to show anything.
    assert!(
        opened > ROUNDS / 50 && refused > ROUNDS / 5,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn a_count_that_is_not_the_blocks_own_never_panics() {
    let rows: Vec<Row> = (0..20).map(|row| plain_row(row, row)).collect();
    let shelf = ShelfKey::of(&rows[0].held);
    let packed = packed(&mut Packer::new(), &rows);
    for count in [0, 1, 19, 21, 65_536, 65_537, u32::MAX] {
        assert!(!read_head(&packed.head, count, &shelf), "{count}");
        assert!(!read_body(&packed.body, count), "{count}");
    }
}

/// A head section whose ids are `column` and whose columns before them are right.
fn with_ids(count: u32, column: &[u8]) -> Damaged {
    let mut columns = vec![1, 0, 0, 0, 0, 0];
    columns.extend_from_slice(column);
    let mut section = vec![1, 0];
    section.extend((columns.len() as u32).to_le_bytes());
    section.extend(columns);
    open_head(&section, count).err().unwrap()
}

#[test]
fn a_length_over_its_limit_is_refused_before_anything_is_made_of_it() {
    let told = |damaged: Damaged| (damaged.column, damaged.what);
    let length = (RAW_MAX_BYTES as u32 + 1).to_le_bytes();
    let mut section = vec![1, 1];
    section.extend(length);
    section.extend([0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0]);
    let refused = open_head(&section, 1).err().unwrap();
    assert_eq!(told(refused), ("section", "a length is over its limit"));
    let refused = open_body(&section, 1).err().unwrap();
    assert_eq!(told(refused), ("section", "a length is over its limit"));

    // A text of 2 GiB; then a prefix that 65,536 rows would repeat to 64 MiB; then rows of 2^60.
    let huge = [1, 0x80, 0x80, 0x80, 0x80, 0x08];
    assert_eq!(
        told(with_ids(1, &huge)),
        ("id", "a length is over its limit")
    );
    let mut repeated = vec![4, 0x80, 0x08];
    repeated.extend([b'x'; 1024]);
    repeated.extend([0, 1]);
    let refused = with_ids(65_536, &repeated);
    assert_eq!(told(refused), ("id", "texts are over their limit"));
    let rows = [
        4, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10,
    ];
    assert_eq!(told(with_ids(65_536, &rows)), ("id", "ends early"));
}

#[test]
fn texts_that_no_rule_lets_in_are_damage() {
    let told = |column: &[u8]| with_ids(1, column).what;
    assert_eq!(told(&[1, 3, b'a', b' ', b'b']), "an id that cannot be one");
    assert_eq!(told(&[1, 0]), "an id that cannot be one");
    assert_eq!(told(&[0]), "an id that cannot be one");
    assert_eq!(told(&[1, 2, 0xc3, 0x28]), "a text is not UTF-8");
    assert_eq!(told(&[9]), "no such layout of texts");
    // A character cut in two between two ids.
    let cut = [4, 0, 2, 2, 0, 1, 0xeb, 0xb0, 0xa4];
    assert_eq!(with_ids(2, &cut).what, "a text is not UTF-8");
}
