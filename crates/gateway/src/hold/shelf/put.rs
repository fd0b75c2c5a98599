//! Taking messages in: which are new, which shelf each goes on, one frame for all.

use std::hash::BuildHasherDefault;

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use nightgate_core::MessageId;
use nightgate_log::journal::Ticket;

use super::fault::Outcome;
use super::ids::Same;
use super::marks::Fate;
use super::op::{BlockLine, Label, Op, Stretch};
use super::store::{Change, Core, Inner, joined};
use crate::hold::block::{BLOCK_RAW_BYTES, Packed, Packer, Record, weight};
use crate::hold::instant::{nanos, storable};
use crate::hold::{Held, Put};

/// Most messages in one block: what one look-up has to decode stays small.
const BLOCK_MESSAGES: usize = 4_096;

/// What the store knows of an id that is put.
enum Known {
    Nothing,
    /// Held, or ended within the horizon.
    Yes,
    /// Ended longer ago: to be forgotten before it is put again.
    Old(Stretch),
}

/// What was found out about a call's messages.
struct Sifted {
    hashes: Vec<u64>,
    /// Ended places that must be forgotten first.
    old: Vec<Stretch>,
    /// The versions of the ids they were compared with.
    seen: (u64, u64),
    /// Messages that came earlier in the same call: (message, the first of its id).
    twins: Vec<(usize, usize)>,
}

/// The label of the shelf on which `held` belongs.
pub(super) fn label_of(held: &Held) -> Label {
    Label {
        lane: held.lane.clone(),
        purpose: held.message.purpose,
        class: held.class.clone(),
        campaign: held.message.campaign.clone(),
        priority: held.message.priority,
        due: nanos(held.due),
        buried: false,
    }
}

/// Whether `held` belongs on the shelf of `label`; quick where names are shared.
fn is_on(held: &Held, label: &Label) -> bool {
    let same = |one: &str, two: &str| std::ptr::eq(one, two) || one == two;
    let campaigns = match (&held.message.campaign, &label.campaign) {
        (Some(one), Some(two)) => same(one, two),
        (None, None) => true,
        _ => false,
    };
    campaigns
        && nanos(held.due) == label.due
        && held.message.priority == label.priority
        && held.message.purpose == label.purpose
        && same(held.lane.as_str(), label.lane.as_str())
        && same(held.class.as_str(), label.class.as_str())
}

impl Inner {
    pub(super) fn put(
        &self,
        mut messages: Vec<Held>,
        now: Timestamp,
    ) -> Outcome<(Vec<Put>, Ticket)> {
        for held in &mut messages {
            held.due = storable(held.due);
        }
        let mut answers = vec![Put::New; messages.len()];
        let Sifted {
            hashes,
            old,
            seen,
            twins,
        } = self.sift(&messages, now, &mut answers)?;
        let groups = self.admitted(&messages, &mut answers);
        for (twin, first) in twins {
            // Of what was turned away, nothing is here of which it could be a duplicate.
            if answers[first] == Put::Full {
                answers[twin] = Put::Full;
            }
        }
        if groups.is_empty() {
            return Ok((answers, self.journal.last_ticket()));
        }
        // Packing is most of the work, and needs no lock.
        let packed = self.pack(&messages, &groups);
        let all = groups.iter().flat_map(|(_, members)| members);
        let layout: Vec<u32> = all.map(|(at, _)| *at).collect();
        let labels: Vec<Label> = groups.into_iter().map(|(label, _)| label).collect();

        let mut core = self.core();
        let late = self.came_meanwhile(&core, seen, (&messages, &hashes, &layout), now)?;
        let mut change = Change::default();
        let base = core.state.next_place;
        change.meta.base = base;
        let mut shelf_of = Vec::new();
        for (label, blocks) in labels.iter().zip(packed) {
            let no = Self::shelf_no(&core, &mut change, label);
            for block in blocks {
                if !late.is_empty() {
                    shelf_of.extend(std::iter::repeat_n(no, block.count as usize));
                }
                block.add_to(&mut change, no);
            }
        }
        if !old.is_empty() {
            change.meta.ops.push(Op::Forget { stretches: old });
        }
        if !late.is_empty() {
            let places = late
                .iter()
                .map(|&slot| (base + slot as u64, shelf_of[slot]));
            let stretches = joined(places.collect());
            let (fate, at) = (Fate::Elsewhere, nanos(now));
            change.meta.ops.push(Op::End {
                fate,
                at,
                stretches,
            });
        }
        let (ticket, _) = self.commit(&mut core, &change)?;
        for &slot in &late {
            answers[layout[slot] as usize] = Put::Duplicate;
        }
        let entries = (base..).zip(layout.iter().map(|&at| hashes[at as usize]));
        let mut slot = 0;
        let is_new = |_: &(u64, u64)| {
            slot += 1;
            late.binary_search(&(slot - 1)).is_err()
        };
        core.note(layout.len(), entries.filter(is_new));
        drop(core);
        Ok((answers, ticket))
    }

    /// Tells the new from the known.
    fn sift(&self, messages: &[Held], now: Timestamp, answers: &mut [Put]) -> Outcome<Sifted> {
        let (mut runs, mut seals, key) = {
            let core = self.core();
            (core.ids.runs(), core.seals, *core.ids.key())
        };
        let hash = |held: &Held| key.hash(held.message.id.as_str().as_bytes());
        let hashes: Vec<u64> = messages.iter().map(hash).collect();
        let twins = mark_twins(messages, &hashes, answers);
        let mut suspects = Vec::new();
        let core = loop {
            suspects.clear();
            for run in runs.iter() {
                run.maybe_all(&hashes, &mut suspects)
                    .map_err(|cause| self.core().ids.unanswered(cause))?;
            }
            let core = self.core();
            if core.seals == seals {
                break core;
            }
            // A segment was sealed meanwhile: its ids are in a run that was not asked.
            (runs, seals) = (core.ids.runs(), core.seals);
        };
        suspects.sort_unstable();
        let mut old = Vec::new();
        for (at, &hash) in hashes.iter().enumerate() {
            let is_suspect = core.ids.is_fresh(hash)
                || (!suspects.is_empty() && suspects.binary_search(&at).is_ok());
            if answers[at] != Put::New || !is_suspect {
                continue;
            }
            match self.known(&core, hash, &messages[at].message.id, now)? {
                Known::Nothing => {}
                Known::Yes => answers[at] = Put::Duplicate,
                Known::Old(stretch) => old.push(stretch),
            }
        }
        let seen = (core.version, core.seals);
        Ok(Sifted {
            hashes,
            old,
            seen,
            twins,
        })
    }

    /// The new messages for which there is room, by shelf.
    fn admitted(&self, messages: &[Held], answers: &mut [Put]) -> Vec<(Label, Members)> {
        let mut core = self.core();
        let room = self.room(&mut core);
        drop(core);
        let mut new = Vec::with_capacity(messages.len());
        for (at, held) in (0_u32..).zip(messages) {
            let answer = &mut answers[at as usize];
            if *answer == Put::New && room.refuses(held.message.purpose) {
                *answer = Put::Full;
            }
            if *answer == Put::New {
                new.push(at);
            }
        }
        let mut groups = by_shelf(messages, &new);
        if self.options.shelf_max.is_some() {
            let core = self.core();
            for (label, members) in &mut groups {
                let room = self.shelf_room(&core, label);
                let room = usize::try_from(room)
                    .unwrap_or(usize::MAX)
                    .min(members.len());
                for (at, _) in members.drain(room..) {
                    answers[at as usize] = Put::Full;
                }
            }
            groups.retain(|(_, members)| !members.is_empty());
        }
        groups
    }

    /// Slots of `layout` whose ids other calls put since they were sifted.
    fn came_meanwhile(
        &self,
        core: &Core,
        seen: (u64, u64),
        (messages, hashes, layout): (&[Held], &[u64], &[u32]),
        now: Timestamp,
    ) -> Outcome<Vec<usize>> {
        let mut late = Vec::new();
        if core.version == seen.0 {
            return Ok(late);
        }
        for (slot, &at) in layout.iter().enumerate() {
            let hash = hashes[at as usize];
            // What came meanwhile is in an open segment, unless one was sealed.
            let may_be = core.ids.is_fresh(hash)
                || (core.seals != seen.1 && !core.ids.places(hash)?.is_empty());
            if may_be {
                let id = &messages[at as usize].message.id;
                if let Known::Yes = self.known(core, hash, id, now)? {
                    late.push(slot);
                }
            }
        }
        Ok(late)
    }

    /// Packs each shelf's messages into blocks.
    fn pack(&self, messages: &[Held], groups: &[(Label, Members)]) -> Vec<Vec<Ready>> {
        let mut packer = self.packer();
        let mut all = Vec::with_capacity(groups.len());
        let mut records: Vec<Record<'_>> = Vec::new();
        for (_, members) in groups {
            let mut blocks = Vec::new();
            let mut bytes = 0;
            for &(at, arrival) in members {
                let held = &messages[at as usize];
                let (attempts, lapsed, why) = (0, false, None);
                records.push(Record {
                    held,
                    arrival,
                    attempts,
                    lapsed,
                    why,
                });
                bytes += weight(held);
                if bytes >= BLOCK_RAW_BYTES || records.len() >= BLOCK_MESSAGES {
                    blocks.push(Ready::of(&mut packer, &records));
                    records.clear();
                    bytes = 0;
                }
            }
            if !records.is_empty() {
                blocks.push(Ready::of(&mut packer, &records));
                records.clear();
            }
            all.push(blocks);
        }
        self.put_back(packer);
        all
    }

    /// What is known of an id.
    fn known(&self, core: &Core, hash: u64, id: &MessageId, now: Timestamp) -> Outcome<Known> {
        let Some(spot) = self.newest(core, hash, id)? else {
            return Ok(Known::Nothing);
        };
        let standing = core
            .state
            .standing(spot.place, core.shelf(spot.block.line.shelf)?);
        Ok(match (standing.known, standing.ended) {
            (None, _) => Known::Nothing,
            // What cannot be read any more will never leave, so it may come again.
            (Some(_), _) if standing.damaged => Known::Nothing,
            (Some(_), Some(at)) if at < self.forgotten_before(now) => Known::Old(spot.stretch()),
            (Some(_), _) => Known::Yes,
        })
    }
}

/// Answers `Duplicate` for what came earlier in the same call, and names what that is.
fn mark_twins(messages: &[Held], hashes: &[u64], answers: &mut [Put]) -> Vec<(usize, usize)> {
    let mut twins = Vec::new();
    let mut seen: HashSet<u64, BuildHasherDefault<Same>> =
        HashSet::with_capacity_and_hasher(messages.len(), BuildHasherDefault::default());
    for (at, &hash) in hashes.iter().enumerate() {
        // Two ids may share a hash, so the ids themselves are compared, with all before.
        if !seen.insert(hash) {
            let id = |at: usize| &messages[at].message.id;
            let first = (0..at).find(|&one| hashes[one] == hash && id(one) == id(at));
            if let Some(first) = first {
                answers[at] = Put::Duplicate;
                twins.push((at, first));
            }
        }
    }
    twins
}

/// A block that is ready to be written, summed up before the lock is taken.
pub(super) struct Ready {
    count: u32,
    head_crc: u32,
    body_crc: u32,
    packed: Packed,
}

impl Ready {
    pub(super) fn of(packer: &mut Packer, records: &[Record<'_>]) -> Self {
        let packed = packer.pack(records);
        Self {
            count: u32::try_from(records.len()).unwrap_or(u32::MAX),
            head_crc: crc32c::crc32c(&packed.head),
            body_crc: crc32c::crc32c(&packed.body),
            packed,
        }
    }

    /// Adds it to a change, as a block of `shelf`.
    pub(super) fn add_to(self, change: &mut Change, shelf: u32) {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Packed { head, body, .. } = self.packed;
        change.meta.blocks.push(BlockLine {
            shelf,
            count: self.count,
            head_len: len(&head),
            body_len: len(&body),
            head_crc: self.head_crc,
            body_crc: self.body_crc,
        });
        change.heads.push(head);
        change.bodies.push(body);
    }
}

/// Members of a shelf: place in the call, and order among the new.
type Members = Vec<(u32, u32)>;

/// The new messages by shelf, shelves in their order, messages in order of arrival.
fn by_shelf(messages: &[Held], new: &[u32]) -> Vec<(Label, Members)> {
    let mut groups: Vec<(Label, Members)> = Vec::new();
    let mut last = 0;
    let mut lookup: HashMap<Label, usize> = HashMap::new();
    for (order, &at) in (0_u32..).zip(new) {
        let held = &messages[at as usize];
        let same = groups
            .get(last)
            .is_some_and(|(label, _)| is_on(held, label));
        if !same {
            let label = label_of(held);
            last = match lookup.get(&label) {
                Some(&group) => group,
                None => {
                    lookup.insert(label.clone(), groups.len());
                    groups.push((label, Vec::new()));
                    groups.len() - 1
                }
            };
        }
        groups[last].1.push((at, order));
    }
    groups.sort_by(|(one, _), (two, _)| {
        let key = |label: &Label| (label.lane.clone(), label.due, label.priority);
        key(one).cmp(&key(two))
    });
    groups
}
