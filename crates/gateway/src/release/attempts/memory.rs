//! Claims in memory: for tests and for trying out. Nothing survives it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::MessageId;

use super::record::{Judged, Record, State};
use super::{Attempts, Claim, Fate, Trail, Try};
use crate::error::Result;

/// The claims.
#[derive(Debug)]
pub struct MemoryAttempts {
    horizon: SignedDuration,
    records: Mutex<HashMap<MessageId, Record>>,
}

impl MemoryAttempts {
    /// None yet. Ids are kept for `horizon` after a message's end.
    #[must_use]
    pub fn new(horizon: SignedDuration) -> Self {
        Self {
            horizon,
            records: Mutex::default(),
        }
    }

    fn judge(&self, asks: &Try, now: Timestamp, take: bool) -> Trail {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let known = records.get(&asks.claim.id);
        let judged = known.map_or(Judged::Take, |known| known.judge(asks, now, self.horizon));
        match judged {
            Judged::Leave(trail) => trail,
            Judged::Take => {
                if take {
                    records.insert(asks.claim.id.clone(), Record::open(&asks.claim, now));
                }
                Trail::Clear
            }
        }
    }
}

#[async_trait]
impl Attempts for MemoryAttempts {
    fn claims(&self) -> bool {
        true
    }

    async fn trails(&self, lapsed: &[Claim], now: Timestamp) -> Result<Vec<Trail>> {
        let again = false;
        let asks = lapsed.iter().cloned().map(|claim| Try { claim, again });
        Ok(asks.map(|asks| self.judge(&asks, now, false)).collect())
    }

    async fn claim(&self, tries: &[Try], now: Timestamp) -> Vec<Result<Trail>> {
        let judge = |asks| Ok(self.judge(asks, now, true));
        tries.iter().map(judge).collect()
    }

    async fn conclude(&self, ended: Vec<(Claim, Fate)>, now: Timestamp) -> Result<()> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for (claim, fate) in ended {
            if let Some(end) = Record::ended(&claim, fate, now) {
                records.insert(claim.id, end);
                continue;
            }
            let Some(known) = records.get_mut(&claim.id) else {
                continue;
            };
            if fate == Fate::PutAside {
                known.aside.insert(claim.copy);
            } else if known.token == claim.token && known.state == State::Open {
                known.state = State::Free;
            }
        }
        Ok(())
    }
}
