//! What a table knows, and what it lets go.

use super::*;

/// A hash that is as good as any, of a number.
fn hash(number: u32) -> [u8; HASH_BYTES] {
    let mut hash = [7; HASH_BYTES];
    hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_le_bytes());
    hash[4..8].copy_from_slice(&number.to_le_bytes());
    hash
}

fn pack(numbers: std::ops::Range<u32>) -> Vec<u8> {
    numbers.flat_map(hash).collect()
}

fn stamp(number: u64) -> Stamp {
    number.to_le_bytes()
}

/// Places suspected of one id, by block and slot.
fn suspects(table: &Table, number: u32) -> Vec<(u64, u64)> {
    let ask = table.ask(&hash(number));
    let read = |one: &[u8]| {
        assert_eq!((&one[..2], &one[10..]), (&[0, 0][..], &hash(number)[..]));
        let mut block = [0; 8];
        block[..6].copy_from_slice(&one[2..8]);
        let slot = u64::from(u16::from_le_bytes([one[8], one[9]]));
        (u64::from_le_bytes(block), slot)
    };
    ask.suspects.chunks_exact(20).map(read).collect()
}

fn loaded(chapter_ids: usize) -> Table {
    let mut table = Table::new(Some(chapter_ids));
    table.replace(Table::new(None), (0, Stamp::default()), 0);
    table
}

fn learn(table: &mut Table, block: u64, told: Told<'_>) {
    assert_eq!(table.learn(block, told, block), Ok(()));
    table.advance();
}

#[test]
fn an_id_is_suspected_wherever_it_was_put_in_all_chapters_and_nowhere_else() {
    let mut table = loaded(10);
    for block in 1..=20_u32 {
        let ids = pack(block * 30..block * 30 + 30);
        learn(
            &mut table,
            block.into(),
            Told::Ids(stamp(block.into()), &ids),
        );
    }
    learn(&mut table, 21, Told::Ids(stamp(21), &pack(95..96)));
    assert_eq!(table.upto(), (21, stamp(21)));
    assert_eq!(table.len(), 601);
    assert!(table.chapters.len() > 4, "{}", table.chapters.len());
    assert_eq!(suspects(&table, 95), [(3, 5), (21, 0)]);
    assert_eq!(suspects(&table, 629), [(20, 29)]);
    assert_eq!(suspects(&table, 5_000), []);
}

#[test]
fn a_chapter_never_outgrows_the_memory_it_took() {
    let mut table = loaded(CHAPTER_IDS);
    table.chapter_ids = None;
    table.insert(1, &pack(0..1));
    for block in 2..=1_900 {
        let ids = pack(block * 1_000..block * 1_000 + 1_000);
        table.insert(block.into(), &ids);
    }
    let last = table.chapters.last().unwrap();
    assert_eq!(last.room, CHAPTER_IDS);
    assert_eq!(last.entries.capacity(), CHAPTER_IDS, "as it was made");
    assert!(table.chapters.iter().all(|it| it.entries.len() <= it.room));
    assert_eq!(size_of::<Entry>(), 8);
}

#[test]
fn blocks_far_apart_and_out_of_turn_stand_in_chapters_that_can_name_them() {
    let mut table = loaded(1_000);
    let far = [
        5_000,
        4_000,
        100,
        CHAPTER_BLOCKS * 3,
        CHAPTER_BLOCKS * 3 - 9,
    ];
    for (block, id) in far.into_iter().zip(0_u32..) {
        table.insert(block, &pack(id..id + 1));
        assert_eq!(suspects(&table, id), [(block, 0)]);
    }
}

#[test]
fn empty_slots_are_no_ids() {
    let mut table = loaded(10);
    table.insert(1, &[0; 3 * HASH_BYTES]);
    assert_eq!((table.len(), table.chapters.len()), (0, 0));
}

#[test]
fn what_is_known_ends_before_the_first_gap_and_at_a_block_with_a_stamp() {
    let mut table = loaded(10);
    learn(&mut table, 2, Told::Ids(stamp(2), &pack(2..3)));
    assert_eq!(table.upto().0, 0);
    learn(&mut table, 1, Told::Ids(stamp(1), &pack(1..2)));
    assert_eq!(table.upto(), (2, stamp(2)));
    learn(&mut table, 3, Told::Gone(None));
    assert_eq!(table.upto().0, 2, "its stamp is not known");
    learn(&mut table, 4, Told::Own(stamp(4)));
    assert_eq!(table.upto().0, 2, "its answer is still to come");
    learn(&mut table, 4, Told::Ids(stamp(4), &pack(4..5)));
    assert_eq!(table.upto(), (4, stamp(4)));
    learn(&mut table, 4, Told::Ids(stamp(4), &pack(4..5)));
    assert_eq!(table.len(), 3, "told twice, known once");
    learn(&mut table, 5, Told::Gone(Some(stamp(5))));
    assert_eq!(table.upto(), (5, stamp(5)));
}

#[test]
fn a_block_that_is_another_than_the_one_known_makes_all_stale() {
    let mut table = loaded(10);
    learn(&mut table, 1, Told::Ids(stamp(1), &[]));
    learn(&mut table, 3, Told::Ids(stamp(3), &[]));
    for (block, other) in [(1, 9), (3, 9)] {
        for told in [Told::Ids(stamp(other), &[]), Told::Own(stamp(other))] {
            assert_eq!(table.learn(block, told, 9), Err(Stale));
        }
    }
    assert_eq!(table.learn(1, Told::Gone(None), 9), Err(Stale));
    let epoch = table.epoch();
    table.reset(epoch);
    assert_eq!((table.epoch(), table.is_loaded()), (epoch + 1, false));
    table.replace(Table::new(None), (7, stamp(7)), 9);
    assert!(
        !table.is_ready(),
        "what was written since may have moved some"
    );
    table.reset(epoch);
    assert!(table.is_loaded(), "an old answer resets nothing new");
}

#[test]
fn calls_under_way_are_told_unless_they_share_an_id() {
    let mut table = loaded(10);
    let (one, two) = (pack(0..5), pack(5..9));
    let first = table.depart(stamp(1), &one);
    let second = table.depart(stamp(2), &two);
    assert_eq!(table.ask(&pack(8..12)).own, stamp(1));
    assert!(table.ask(&pack(3..7)).own.is_empty());
    table.arrive(first, &one);
    assert_eq!(table.ask(&pack(3..5)).own, stamp(2));
    table.arrive(second, &two);
    assert!(table.flights.is_empty() && table.calls.is_empty());
}

#[test]
fn ids_of_blocks_that_are_gone_and_places_left_give_their_memory_back() {
    let mut table = loaded(100);
    for block in 1..=4_u32 {
        let ids = pack(block * 50..block * 50 + 50);
        learn(
            &mut table,
            block.into(),
            Told::Ids(stamp(block.into()), &ids),
        );
    }
    table.forget(2, 5, &hash(105), 4);
    assert!(table.is_ready());
    assert_eq!(suspects(&table, 105), []);
    assert_eq!(table.len(), 199);
    let rounds: Vec<_> = (0..4).filter_map(|it| table.some_blocks(it, 1)).collect();
    let blocks: Vec<u64> = rounds.iter().flat_map(|it| it.1.clone()).collect();
    assert_eq!(blocks, [1, 3, 2, 4], "by turns");
    table.drop_blocks(rounds[0].0, &HashSet::from([1, 2]), 4);
    assert_eq!((table.len(), table.chapters.len()), (100, 1));
    assert_eq!(suspects(&table, 60), []);
    assert_eq!(suspects(&table, 160), [(3, 10)]);
    table.drop_blocks(rounds[1].0, &HashSet::from([3, 4]), 6);
    assert_eq!((table.len(), table.chapters.len()), (0, 0));
    assert!(
        !table.is_ready(),
        "a failover may bring back what moved to block 5 or 6"
    );
    assert!(table.is_past(5) && !table.is_past(6));
    assert!(table.some_blocks(0, 10).is_none());
}
