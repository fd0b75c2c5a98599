//! What this process has on loan. A receipt handle is known here alone, so loans of another process
//! cannot be settled here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::body::Letter;
use crate::hold::{Lane, Token};

/// One message on loan.
#[derive(Clone, Debug)]
pub(super) struct Loan {
    pub(super) lane: Lane,
    /// Its queue, by its place in the lane.
    pub(super) place: usize,
    pub(super) handle: String,
    pub(super) until: Timestamp,
    /// As it is to be sent when it is put back.
    pub(super) letter: Letter,
}

/// The loans that run.
#[derive(Debug)]
pub(super) struct Loans {
    /// Tokens of another process, or of this one's earlier life, carry another number.
    life: u64,
    last: u64,
    by_seq: HashMap<u64, Loan>,
    ends: BTreeMap<Lane, BTreeSet<(Timestamp, u64)>>,
}

impl Loans {
    /// None yet, in a life of this number.
    pub(super) fn new(life: u64) -> Self {
        Self {
            life,
            last: 0,
            by_seq: HashMap::new(),
            ends: BTreeMap::new(),
        }
    }

    /// Notes a loan.
    pub(super) fn lend(&mut self, loan: Loan) -> Token {
        self.last += 1;
        let ends = self.ends.entry(loan.lane.clone()).or_default();
        ends.insert((loan.until, self.last));
        self.by_seq.insert(self.last, loan);
        Token {
            seq: self.last,
            lease: self.life,
        }
    }

    /// Ends a loan that runs at `now`.
    pub(super) fn end(&mut self, token: Token, now: Timestamp) -> Option<Loan> {
        let runs = |loan: &Loan| token.lease == self.life && loan.until > now;
        self.by_seq.get(&token.seq).filter(|loan| runs(loan))?;
        let loan = self.by_seq.remove(&token.seq)?;
        if let Some(ends) = self.ends.get_mut(&loan.lane) {
            ends.remove(&(loan.until, token.seq));
        }
        Some(loan)
    }

    /// Forgets loans that are over; says of which queues, and since when.
    pub(super) fn purge(&mut self, now: Timestamp) -> BTreeSet<(Lane, usize, Timestamp)> {
        let mut over = BTreeSet::new();
        for (lane, ends) in &mut self.ends {
            while let Some(end) = ends.first().copied().filter(|end| end.0 <= now) {
                ends.remove(&end);
                let loan = self.by_seq.remove(&end.1);
                over.extend(loan.map(|loan| (lane.clone(), loan.place, end.0)));
            }
        }
        over
    }

    /// When the first loan of a lane is over.
    pub(super) fn first_end(&self, lane: &Lane) -> Option<Timestamp> {
        Some(self.ends.get(lane)?.first()?.0)
    }

    /// How many run of one queue.
    pub(super) fn of(&self, lane: &Lane, place: usize) -> u64 {
        let here = |loan: &&Loan| loan.lane == *lane && loan.place == place;
        self.by_seq.values().filter(here).count() as u64
    }
}
