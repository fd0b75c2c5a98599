//! How messages are split into requests.

use std::ops::Range;

use super::queues::{BATCH_MAX, BYTES_MAX};

/// Splits messages of these sizes ([`super::queues::Outgoing::bytes`]) into requests, in order:
/// each of at most [`BATCH_MAX`] messages and [`BYTES_MAX`] in all. The ranges follow each other
/// and leave none out; a message that is too large for any request stands alone.
#[must_use]
pub fn pack(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut packs: Vec<Range<usize>> = Vec::with_capacity(sizes.len().div_ceil(BATCH_MAX));
    let mut bytes = 0_usize;
    for (place, size) in sizes.iter().enumerate() {
        match packs.last_mut() {
            Some(last) if last.len() < BATCH_MAX && bytes.saturating_add(*size) <= BYTES_MAX => {
                last.end = place + 1;
                bytes += size;
            }
            _ => {
                packs.push(place..place + 1);
                bytes = *size;
            }
        }
    }
    packs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_messages_go_by_tens_and_large_ones_alone() {
        assert!(pack(&[]).is_empty());
        assert_eq!(pack(&[100; 25]), [0..10, 10..20, 20..25]);
        assert_eq!(pack(&[BYTES_MAX; 2]), [0..1, 1..2]);
        assert_eq!(pack(&[BYTES_MAX / 2, BYTES_MAX / 2, 1]), [0..2, 2..3]);
        assert_eq!(pack(&[1, BYTES_MAX, 1]), [0..1, 1..2, 2..3]);
        assert_eq!(pack(&[1, usize::MAX, 1]), [0..1, 1..2, 2..3]);
    }

    proptest! {
        #[test]
        fn requests_keep_to_the_limits_and_leave_none_out(sizes in
            proptest::collection::vec(0..=BYTES_MAX, 0..60))
        {
            let packs = pack(&sizes);
            prop_assert_eq!(
                packs.iter().cloned().flatten().collect::<Vec<_>>(),
                (0..sizes.len()).collect::<Vec<_>>()
            );
            for one in &packs {
                prop_assert!(one.len() <= BATCH_MAX);
                prop_assert!(sizes[one.clone()].iter().sum::<usize>() <= BYTES_MAX);
            }
            for pair in packs.windows(2) {
                let with_next = pair[0].start..pair[1].start + 1;
                let full = pair[0].len() == BATCH_MAX;
                let no_room = sizes[with_next].iter().sum::<usize>() > BYTES_MAX;
                prop_assert!(full || no_room, "a request has room for the next message");
            }
        }
    }
}
