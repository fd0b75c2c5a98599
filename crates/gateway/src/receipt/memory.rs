//! A receipt log in memory: for tests, the demo and the simulator.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nightgate_core::MessageId;

use super::{Filed, PAGE_MAX, Receipt, ReceiptAsk, ReceiptLog};
use crate::error::Result;

/// The log. Nothing outlives the process.
#[derive(Debug, Default)]
pub struct MemoryLog {
    filed: Mutex<Vec<Filed>>,
}

impl MemoryLog {
    fn filed(&self) -> MutexGuard<'_, Vec<Filed>> {
        self.filed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ReceiptLog for MemoryLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        let mut filed = self.filed();
        for receipt in receipts {
            let seq = filed.len() as u64 + 1;
            filed.push(Filed { seq, receipt });
        }
        Ok(())
    }

    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        let filed = self.filed();
        let asked = filed.iter().filter(|filed| ask.covers(filed));
        Ok(asked.take(ask.page()).cloned().collect())
    }

    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        let filed = self.filed();
        let of = |id| {
            filed
                .iter()
                .any(|f| f.receipt.subject.message.as_ref() == Some(id))
        };
        Ok(ids.iter().map(of).collect())
    }
}

impl ReceiptAsk {
    pub(crate) fn covers(&self, filed: &Filed) -> bool {
        let Receipt { at, subject, .. } = &filed.receipt;
        self.message
            .as_ref()
            .is_none_or(|id| subject.message.as_ref() == Some(id))
            && self
                .recipient
                .as_ref()
                .is_none_or(|key| subject.recipient.as_ref() == Some(key))
            && self
                .campaign
                .as_ref()
                .is_none_or(|name| subject.campaign.as_ref() == Some(name))
            && self.from.is_none_or(|from| *at >= from)
            && self.to.is_none_or(|to| *at < to)
            && self.after.is_none_or(|after| filed.seq > after)
    }

    /// How many receipts one query answers at most.
    pub(crate) fn page(&self) -> usize {
        if self.max == 0 {
            PAGE_MAX
        } else {
            self.max.min(PAGE_MAX)
        }
    }
}
