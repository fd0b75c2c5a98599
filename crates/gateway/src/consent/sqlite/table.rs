//! Consents in memory, in front of the book: a table of fixed size that forgets what does not fit.
//!
//! A consent is known by 96 bits of a keyed hash of its recipient, so that no text is kept and
//! nobody can make two recipients meet. A recipient never heard of has the empty consent, and that
//! is remembered too. The table knows up to which change of the file it has been told: an answer
//! that was read before must not come in after.

use jiff::Timestamp;
use nightgate_core::consent::Grant;
use nightgate_core::{Basis, Consent, Fact};

/// Places in one set: where a recipient can stand.
const WAYS: usize = 16;
/// One consent: hash, rest of the hash, six instants. A line of the processor's cache.
type Entry = [u64; 8];
/// Bytes of a set: its entries and a tag for each.
const SET_BYTES: usize = WAYS * (size_of::<Entry>() + size_of::<u16>());
/// Bits of the second half of a hash that an entry keeps.
const REST_BITS: u32 = 32;

/// A keyed hash of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash {
    /// This half tells other processes which recipients a change is about.
    pub(super) first: u64,
    pub(super) second: u64,
}

/// The table.
pub(super) struct Table {
    /// For each entry, 16 bits of its hash; 0 where there is none.
    tags: Vec<[u16; WAYS]>,
    entries: Vec<[Entry; WAYS]>,
    /// The number of the last change it was told of.
    told: i64,
}

impl Table {
    /// A table of at most `bytes`, for a file whose last change is `told`.
    pub(super) fn new(bytes: usize, told: i64) -> Self {
        let sets = (bytes / SET_BYTES).max(1);
        // Zeroes: the system gives the memory when it is written to.
        Self {
            tags: vec![[0; WAYS]; sets],
            entries: vec![[[0; 8]; WAYS]; sets],
            told,
        }
    }

    /// The number of the last change it was told of.
    pub(super) fn told(&self) -> i64 {
        self.told
    }

    /// How many recipients fit without pushing each other out: three in four places, since some
    /// sets fill before others.
    pub(super) fn room(&self) -> u64 {
        (self.tags.len() * WAYS / 4 * 3) as u64
    }

    fn set(&self, hash: Hash) -> usize {
        let sets = self.tags.len() as u128;
        ((u128::from(hash.first) * sets) >> u64::BITS) as usize
    }

    /// What is remembered of a recipient.
    pub(super) fn get(&self, hash: Hash) -> Option<Consent> {
        let (set, tag) = (self.set(hash), tag(hash.first));
        for (way, other) in self.tags[set].iter().enumerate() {
            if *other == tag {
                let [first, rest, instants @ ..] = &self.entries[set][way];
                if *first == hash.first && *rest == hash.second >> REST_BITS {
                    return unpack(instants);
                }
            }
        }
        None
    }

    /// Remembers what was read of a recipient when the last change of the file was `read`, unless
    /// the table has been told of a later one: it may have been about this very recipient.
    pub(super) fn put(&mut self, hash: Hash, consent: &Consent, read: i64) {
        let Some(instants) = pack(consent).filter(|_| read >= self.told) else {
            return;
        };
        let (set, tag) = (self.set(hash), tag(hash.first));
        let rest = hash.second >> REST_BITS;
        let (tags, entries) = (&mut self.tags[set], &mut self.entries[set]);
        let same = |way: &usize| tags[*way] == tag && entries[*way][..2] == [hash.first, rest];
        let free = |way: &usize| tags[*way] == 0;
        let way = (0..WAYS).find(same).or_else(|| (0..WAYS).find(free));
        // Whoever it is must go: a hash is as good as dice.
        let way = way.unwrap_or(hash.second as usize % WAYS);
        let [a, b, c, d, e, f] = instants;
        tags[way] = tag;
        entries[way] = [hash.first, rest, a, b, c, d, e, f];
    }

    /// Forgets whoever has one of these first halves, since change number `change` is about them.
    pub(super) fn forget(&mut self, firsts: impl Iterator<Item = u64>, change: i64) {
        for first in firsts {
            let (set, tag) = (self.set(Hash { first, second: 0 }), tag(first));
            for (way, other) in self.tags[set].iter_mut().enumerate() {
                if *other == tag && self.entries[set][way][0] == first {
                    *other = 0;
                }
            }
        }
        self.told = self.told.max(change);
    }

    /// Forgets everybody.
    pub(super) fn clear(&mut self, change: i64) {
        self.tags.fill([0; WAYS]);
        self.told = self.told.max(change);
    }
}

fn tag(first: u64) -> u16 {
    (first as u16).max(1)
}

/// Bits of an instant's nanosecond.
const NANO_BITS: u32 = 30;
/// Seconds before 1970 that an instant in memory reaches; as many after.
const REACH: i64 = 1 << 33;

/// An instant in 64 bits, from 1698 to 2242, never 0; beyond, the file is asked each time.
fn pack_instant(at: Timestamp) -> Option<u64> {
    let (mut second, mut nano) = (at.as_second(), at.subsec_nanosecond());
    if nano < 0 {
        (second, nano) = (second - 1, nano + 1_000_000_000);
    }
    let second = u64::try_from(second + REACH).ok()?;
    let fits = second > 0 && second < 2 * REACH.cast_unsigned();
    fits.then_some(second << NANO_BITS | u64::from(nano.cast_unsigned()))
}

fn unpack_instant(packed: u64) -> Option<Timestamp> {
    let nano = (packed & ((1 << NANO_BITS) - 1)) as i32;
    Timestamp::new((packed >> NANO_BITS).cast_signed() - REACH, nano).ok()
}

/// The six instants of a consent, 0 where there is none.
fn pack(consent: &Consent) -> Option<[u64; 6]> {
    let mut instants = [0; 6];
    let Consent { general, night } = consent;
    for (fact, place) in [general, night].into_iter().zip(instants.chunks_mut(3)) {
        let Some(Fact {
            granted,
            withdrawn_at,
        }) = fact
        else {
            continue;
        };
        let ends = granted.and_then(|grant| match grant.basis {
            Basis::Explicit => None,
            Basis::TransactionException { ends } => Some(ends),
        });
        let each = [granted.map(|grant| grant.at), ends, *withdrawn_at];
        for (at, place) in each.into_iter().zip(place) {
            if let Some(at) = at {
                *place = pack_instant(at)?;
            }
        }
    }
    Some(instants)
}

fn unpack(instants: &[u64; 6]) -> Option<Consent> {
    let fact = |[at, ends, withdrawn]: [u64; 3]| {
        if at == 0 && withdrawn == 0 {
            return Some(None);
        }
        let instant = |packed| match packed {
            0 => Some(None),
            packed => unpack_instant(packed).map(Some),
        };
        let ends = instant(ends)?;
        let basis = ends.map_or(Basis::Explicit, |ends| Basis::TransactionException { ends });
        Some(Some(Fact {
            granted: instant(at)?.map(|at| Grant { at, basis }),
            withdrawn_at: instant(withdrawn)?,
        }))
    };
    let [a, b, c, d, e, f] = *instants;
    Some(Consent {
        general: fact([a, b, c])?,
        night: fact([d, e, f])?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(first: u64, second: u64) -> Hash {
        Hash { first, second }
    }

    fn given(second: i64) -> Consent {
        let at = Timestamp::from_second(second).unwrap();
        let basis = Basis::Explicit;
        Consent {
            general: Some(Fact {
                granted: Some(Grant { at, basis }),
                withdrawn_at: None,
            }),
            night: None,
        }
    }

    #[test]
    fn an_answer_read_before_a_change_does_not_come_in_after_it() {
        let (mut table, who) = (Table::new(1 << 16, 7), hash(1 << 40, 5));
        table.put(who, &given(1), 7);
        assert_eq!(table.get(who), Some(given(1)));
        table.forget([who.first].into_iter(), 8);
        assert_eq!(table.get(who), None);
        table.put(who, &given(1), 7);
        assert_eq!(table.get(who), None, "read before the change");
        table.put(who, &given(2), 9);
        assert_eq!(
            table.get(who),
            Some(given(2)),
            "read after one not yet told"
        );
        table.clear(9);
        assert_eq!((table.get(who), table.told()), (None, 9));
    }

    #[test]
    fn a_full_table_forgets_some_and_confuses_nobody() {
        let mut table = Table::new(4 * SET_BYTES, 0);
        let mut random = fastrand::Rng::with_seed(1);
        let all: Vec<_> = (0..1_000)
            .map(|n| (hash(random.u64(..), random.u64(..)), given(n)))
            .collect();
        for (who, consent) in &all {
            table.put(*who, consent, 0);
            assert_eq!(table.get(*who), Some(*consent));
        }
        let kept = all.iter().filter_map(|(who, consent)| {
            let found = table.get(*who)?;
            assert_eq!(found, *consent);
            Some(())
        });
        let kept = kept.count();
        assert!((1..=4 * WAYS).contains(&kept), "{kept}");
    }

    #[test]
    fn hashes_that_share_a_half_are_two_recipients() {
        let mut table = Table::new(1 << 16, 0);
        let (one, other) = (hash(9, 1 << 32), hash(9, 2 << 32));
        table.put(one, &given(1), 0);
        assert_eq!(table.get(other), None);
        table.put(other, &given(2), 0);
        assert_eq!(
            (table.get(one), table.get(other)),
            (Some(given(1)), Some(given(2)))
        );
        table.forget([9].into_iter(), 1);
        assert_eq!((table.get(one), table.get(other)), (None, None));
    }

    fn instant() -> impl Strategy<Value = Timestamp> {
        let any = (
            Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(),
            0..1_000_000_000,
        );
        let near = (
            -REACH - 2..REACH + 2,
            prop_oneof![Just(0), 0..1_000_000_000],
        );
        prop_oneof![any, near].prop_filter_map("in range", |(second, nano)| {
            Timestamp::new(second, nano).ok()
        })
    }

    fn fact() -> impl Strategy<Value = Option<Fact>> {
        let ends = instant().prop_map(|ends| Basis::TransactionException { ends });
        let grant = (instant(), prop_oneof![Just(Basis::Explicit), ends]);
        let grant = grant.prop_map(|(at, basis)| Grant { at, basis });
        (prop::option::of(grant), prop::option::of(instant())).prop_map(
            |(granted, withdrawn_at)| {
                (granted.is_some() || withdrawn_at.is_some()).then_some(Fact {
                    granted,
                    withdrawn_at,
                })
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_exactly_what_was_read(general in fact(), night in fact()) {
            let consent = Consent { general, night };
            if let Some(packed) = pack(&consent) {
                prop_assert_eq!(unpack(&packed), Some(consent));
            }
            let (mut table, who) = (Table::new(1 << 14, 0), hash(3, 4));
            table.put(who, &consent, 0);
            let found = table.get(who);
            prop_assert!(found.is_none() || found == Some(consent));
        }
    }
}
