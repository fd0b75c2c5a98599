//! What of a block is asked for.

use super::block::Block;
use super::press::Column;
use crate::receipt::{Event, ReceiptAsk};
use crate::sqlite::nanoseconds;

/// Instants asked for, as columns compare them.
pub(in crate::receipt) struct Span {
    pub(in crate::receipt) least: i64,
    pub(in crate::receipt) most: i64,
}

impl Span {
    /// `None` where nothing can lie in it: no receipt is dated outside the range of a column.
    pub(in crate::receipt) fn of(ask: &ReceiptAsk) -> Option<Self> {
        let least = match ask.from.map(|from| (from, nanoseconds(from))) {
            Some((_, Some(nanos))) => nanos,
            Some((from, None)) if from.as_second() > 0 => return None,
            _ => i64::MIN,
        };
        let most = match ask.to.map(|to| (to, nanoseconds(to))) {
            Some((_, Some(nanos))) => nanos.checked_sub(1)?,
            Some((to, None)) if to.as_second() < 0 => return None,
            _ => i64::MAX,
        };
        Some(Self { least, most })
    }
}

/// The numbers of the receipts in `block` that meet every condition of `ask` but its page.
pub(in crate::receipt) fn wanted(block: &mut Block<'_>, ask: &ReceiptAsk) -> Option<Vec<u32>> {
    let mut wanted: Option<Vec<u32>> = None;
    let mut narrow = |found: Vec<u32>| {
        wanted = Some(match wanted.take() {
            None => found,
            Some(both) => both
                .into_iter()
                .filter(|n| found.binary_search(n).is_ok())
                .collect(),
        });
    };
    if let Some(id) = &ask.message {
        narrow(block.with_text(Column::MessageLengths, id.as_str())?);
    }
    if let Some(key) = &ask.recipient {
        narrow(block.with_text(Column::RecipientLengths, key.expose())?);
    }
    if let Some(campaign) = &ask.campaign {
        narrow(block.with_campaign(campaign)?);
    }
    if ask.from.is_some() || ask.to.is_some() {
        narrow(block.dated(ask.from, ask.to)?);
    }
    Some(wanted.unwrap_or_else(|| (0..block.receipts() as u32).collect()))
}

/// Marks in `known` which of `open`, sorted, stand in `block`.
pub(in crate::receipt) fn look_for(
    block: &mut Block<'_>,
    open: &[(&str, usize)],
    known: &mut [bool],
) -> Option<()> {
    each_of(block, open, |_, place| known[place] = true)
}

/// Adds to `events`, by the places of `asked`, which is sorted, those of the receipts of `block`
/// but for the first `skipped`.
pub(in crate::receipt) fn add_events(
    block: &mut Block<'_>,
    asked: &[(&str, usize)],
    skipped: u64,
    events: &mut [Vec<Event>],
) -> Option<()> {
    let mut found: Vec<(u32, usize)> = Vec::new();
    each_of(block, asked, |number, place| found.push((number, place)))?;
    found.retain(|(number, _)| u64::from(*number) >= skipped);
    let mut numbers: Vec<u32> = found.iter().map(|(number, _)| *number).collect();
    numbers.dedup();
    let receipts = block.receipts_at(&numbers)?;
    for (number, place) in found {
        let receipt = receipts.get(numbers.binary_search(&number).ok()?)?;
        events[place].push(receipt.event);
    }
    Some(())
}

/// Shows which of `asked`, sorted, stand in `block`: the numbers of their receipts, ascending, and
/// their places.
fn each_of(
    block: &mut Block<'_>,
    asked: &[(&str, usize)],
    mut show: impl FnMut(u32, usize),
) -> Option<()> {
    let mut text = Vec::new();
    block.each_text(Column::MessageLengths, |number, lead, rest| {
        text.clear();
        text.extend_from_slice(lead);
        text.extend_from_slice(rest);
        let first = asked.partition_point(|(id, _)| id.as_bytes() < &text[..]);
        let same = asked[first..]
            .iter()
            .take_while(|(id, _)| id.as_bytes() == text);
        same.for_each(|(_, place)| show(number, *place));
    })
}
