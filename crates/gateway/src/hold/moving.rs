//! Moving what is held from one hold to another: copied first, taken back then, so that whenever it
//! ends nothing is lost, and nothing leaves twice while the old hold is stopped.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use nightgate_core::MessageId;
use serde::Serialize;

use super::{Held, HoldStore, Pause, Put, Scope, State};
use crate::error::Result;

/// Bytes of messages that are read at once.
const PAGE_BYTES: usize = 1024 * 1024;
/// Messages taken back at the same time: they share a wait for the disk.
const ABREAST: usize = 512;

/// What one walk through the old hold did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Messages that are in the new hold and no longer in the old one.
    pub moved: u64,
    /// Those of them whose id the new hold knew already: an earlier walk did not come to its end,
    /// or a producer sent it there as well.
    pub known: u64,
    /// On loan: whoever has them may have handed them over.
    pub on_loan: u64,
    /// Buried: a person decides before they go anywhere.
    pub buried: u64,
    /// Whose id ended in the new hold: delivered there, or taken back.
    pub ended: u64,
    /// For which the new hold has no room.
    pub full: u64,
    /// That cannot be read.
    pub unreadable: u64,
    /// Lent before, and nobody can tell whether they were handed over.
    pub lapsed: u64,
    /// Lent while they were moved: somebody does not see the stop. They may leave twice.
    pub lent: u64,
}

impl Moved {
    /// Messages that stay in the old hold.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.on_loan + self.buried + self.ended + self.full + self.unreadable + self.lapsed
    }
}

/// Sets the stop of everything on `from`, after its stops were carried over to `to`. Says which
/// were.
///
/// # Errors
/// When a hold fails.
pub async fn stop(from: &dyn HoldStore, to: &dyn HoldStore, now: Timestamp) -> Result<Vec<Pause>> {
    let pauses = from.pauses().await?;
    for pause in &pauses {
        to.pause(pause.lane.as_ref(), true, now).await?;
    }
    from.pause(None, true, now).await?;
    Ok(pauses)
}

/// Moves every held message of `from`, which is stopped, to `to`; tells `seen` after each page how
/// many were met. `unsent` says of messages whose loans lapsed whether it is certain that they were
/// not handed over: the new hold would not know that they may have been. What was moved counts no
/// attempts any more; ids whose messages have ended stay known to the old hold alone.
///
/// # Behaviour
/// - a message is taken back from the old hold once the new one has it
/// - killed at any point and run again, nothing is lost or doubled
/// - what is on loan or buried stays, and is counted
/// - what lapsed moves where it is certain that it was not handed over, and stays otherwise
/// - what the new hold has no room for stays, and so does what ended there
/// - what was moved can move back: the old hold forgets it
///
/// # Errors
/// When a hold fails, or the old one can neither be read through nor take back by id.
pub async fn walk(
    from: &dyn HoldStore,
    to: &dyn HoldStore,
    now: Timestamp,
    unsent: impl AsyncFn(Vec<MessageId>) -> Result<Vec<bool>>,
    mut seen: impl FnMut(u64),
) -> Result<Moved> {
    let (mut all, mut at) = (Moved::default(), Some(0));
    while let Some(place) = at {
        let page = from.export(place, PAGE_BYTES).await?;
        at = page.next;
        seen(page.found.len() as u64);
        all.unreadable += page.lost.iter().map(|lost| lost.messages).sum::<u64>();
        let mut held = Vec::with_capacity(page.found.len());
        let mut lapsed = Vec::new();
        for found in page.found {
            match found.state {
                State::Held if found.lapsed => lapsed.push(found.held),
                State::Held => held.push(found.held),
                State::Leased => all.on_loan += 1,
                State::Buried => all.buried += 1,
                // Its road ended since the page was read.
                _ => {}
            }
        }
        let ids = lapsed.iter().map(|held| held.message.id.clone()).collect();
        let mut sure = match lapsed.is_empty() {
            true => Vec::new(),
            false => unsent(ids).await?,
        }
        .into_iter();
        for one in lapsed {
            match sure.next() {
                Some(true) => held.push(one),
                _ => all.lapsed += 1,
            }
        }
        carry(from, to, held, now, &mut all).await?;
    }
    from.sweep(now).await?;
    Ok(all)
}

async fn carry(
    from: &dyn HoldStore,
    to: &dyn HoldStore,
    held: Vec<Held>,
    now: Timestamp,
    all: &mut Moved,
) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = held.iter().map(|held| held.message.id.clone()).collect();
    let answers = to.put(held, now).await?;
    let (mut over, mut known) = (Vec::with_capacity(ids.len()), Vec::new());
    for (id, put) in ids.into_iter().zip(answers) {
        match put {
            Put::Full => all.full += 1,
            Put::New => over.push(id),
            Put::Duplicate => known.push(id),
        }
    }
    let found = to.find(&known).await?;
    for (id, found) in known.into_iter().zip(found) {
        let lives = |state| matches!(state, State::Held | State::Leased | State::Buried);
        if found.is_some_and(|found| lives(found.state)) {
            all.known += 1;
            over.push(id);
        } else {
            all.ended += 1;
        }
    }
    all.moved += over.len() as u64;
    let scopes = over.into_iter().map(Scope::Id);
    // An end so long ago is beyond every horizon: the id may be put again, to move back.
    let long_ago = Timestamp::UNIX_EPOCH;
    let taken = stream::iter(scopes)
        .map(|scope| async move { from.recall(&scope, long_ago).await })
        .buffer_unordered(ABREAST);
    all.lent += taken
        .try_fold(0, async |sum, taken| Ok(sum + taken.in_flight))
        .await?;
    Ok(())
}
