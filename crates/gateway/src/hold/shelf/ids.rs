//! From a message's id to the places at which it was written.
//!
//! Ids of segments that are still open are in hash maps, those of sealed ones in sorted runs. Both
//! answer with candidates only: whoever asks compares the id itself, so that two ids of one hash
//! are never taken for each other.

use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use nightgate_log::hash::HashKey;
use nightgate_log::run::Run;

use super::fault::{Outcome, disk, error};
use super::files::is_gone;
use crate::error::{Error, Kind};

/// The hashes are as good as random already.
#[derive(Clone, Copy, Default)]
pub(super) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Places = HashMap<u64, u64, BuildHasherDefault<Same>>;

/// The ids of one open segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Fresh {
    pub(super) segment: u32,
    newest: Places,
    /// Earlier places under a hash that came again.
    earlier: Vec<(u64, u64)>,
}

impl Fresh {
    fn new(segment: u32, likely: usize) -> Self {
        Self {
            segment,
            newest: Places::with_capacity_and_hasher(likely, BuildHasherDefault::default()),
            earlier: Vec::new(),
        }
    }

    /// Every entry, by hash and place: what a run is made of.
    pub(super) fn sorted(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = self
            .newest
            .iter()
            .map(|(&hash, &place)| (hash, place))
            .collect();
        all.extend(&self.earlier);
        all.sort_unstable();
        all
    }
}

/// Every id.
pub(super) struct Ids {
    key: HashKey,
    /// Oldest first.
    fresh: Vec<Arc<Fresh>>,
    /// Oldest first.
    runs: Arc<Vec<Arc<Run>>>,
    /// A page of a run could not be read.
    is_damaged: AtomicBool,
}

impl Ids {
    pub(super) fn new(key: HashKey, runs: Vec<Arc<Run>>) -> Self {
        Self {
            key,
            fresh: Vec::new(),
            runs: Arc::new(runs),
            is_damaged: AtomicBool::new(false),
        }
    }

    pub(super) fn key(&self) -> &HashKey {
        &self.key
    }

    /// The runs of this moment, oldest first. They never change; their list does.
    pub(super) fn runs(&self) -> Arc<Vec<Arc<Run>>> {
        Arc::clone(&self.runs)
    }

    pub(super) fn set_runs(&mut self, runs: Vec<Arc<Run>>) {
        self.runs = Arc::new(runs);
    }

    /// Notes about `count` ids written in `segment`, as (place, hash).
    pub(super) fn insert_all(
        &mut self,
        segment: u32,
        count: usize,
        entries: impl Iterator<Item = (u64, u64)>,
    ) {
        if self
            .fresh
            .last()
            .is_none_or(|fresh| fresh.segment != segment)
        {
            // Segments are of one size, so this one will hold about as many as the last.
            let before = self.fresh.last().map_or(0, |last| last.newest.len());
            self.fresh.push(Arc::new(Fresh::new(segment, before)));
        }
        let Some(fresh) = self.fresh.last_mut().map(Arc::make_mut) else {
            return;
        };
        fresh.newest.reserve(count);
        for (place, hash) in entries {
            if let Some(old) = fresh.newest.insert(hash, place) {
                fresh.earlier.push((hash, old));
            }
        }
    }

    /// The ids of an open segment.
    pub(super) fn fresh(&self, segment: u32) -> Option<Arc<Fresh>> {
        self.fresh
            .iter()
            .find(|fresh| fresh.segment == segment)
            .cloned()
    }

    /// Lets go of an open segment's ids: a run has them.
    pub(super) fn seal(&mut self, segment: u32) {
        self.fresh.retain(|fresh| fresh.segment != segment);
    }

    /// Whether an open segment may know this hash.
    pub(super) fn is_fresh(&self, hash: u64) -> bool {
        self.fresh
            .iter()
            .any(|fresh| fresh.newest.contains_key(&hash))
    }

    /// The error of a look-up that failed. The keeper makes a damaged run anew: it is worth trying
    /// again.
    pub(super) fn unanswered(&self, cause: io::Error) -> Error {
        if !is_gone(&cause) {
            return disk("look an id up")(cause);
        }
        self.is_damaged.store(true, Ordering::Release);
        let op = "look an id up: a run of ids is damaged and is being made anew, try again";
        error(Kind::Unavailable, op).with(cause)
    }

    /// Whether a page could not be read since this was asked last.
    pub(super) fn take_damage(&self) -> bool {
        self.is_damaged.swap(false, Ordering::AcqRel)
    }

    /// Places whose ids hash to `hash`, newest first.
    pub(super) fn places(&self, hash: u64) -> Outcome<Vec<u64>> {
        let mut places = Vec::new();
        for fresh in &self.fresh {
            places.extend(fresh.newest.get(&hash));
            if fresh.newest.contains_key(&hash) {
                let earlier = fresh.earlier.iter().filter(|(same, _)| *same == hash);
                places.extend(earlier.map(|(_, place)| *place));
            }
        }
        for run in self.runs.iter() {
            let asked = run.maybe(hash);
            if asked.map_err(|cause| self.unanswered(cause))? {
                let found = run.find(hash, &mut places);
                found.map_err(|cause| self.unanswered(cause))?;
            }
        }
        places.sort_unstable_by(|one, two| two.cmp(one));
        places.dedup();
        Ok(places)
    }
}
