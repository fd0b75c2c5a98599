//! A consent book in memory: for tests, the demo and the simulator.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nightgate_core::{Consent, RecipientKey};

use super::{ConsentBook, ConsentEvent};
use crate::error::Result;

/// The book. Nothing outlives the process.
#[derive(Debug, Default)]
pub struct MemoryBook {
    pages: Mutex<BTreeMap<RecipientKey, Page>>,
}

#[derive(Debug, Default)]
struct Page {
    consent: Consent,
    events: Vec<ConsentEvent>,
}

impl MemoryBook {
    fn pages(&self) -> MutexGuard<'_, BTreeMap<RecipientKey, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ConsentBook for MemoryBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let pages = self.pages();
        let consent = |key| pages.get(key).map(|page| page.consent).unwrap_or_default();
        Ok(keys.iter().map(consent).collect())
    }

    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64> {
        let mut pages = self.pages();
        let mut new = 0;
        for event in events {
            let page = pages.entry(event.key.clone()).or_default();
            if page
                .events
                .iter()
                .any(|known| known.order() == event.order())
            {
                continue;
            }
            event.fold_into(&mut page.consent);
            page.events.push(event);
            page.events.sort_by_key(ConsentEvent::order);
            new += 1;
        }
        Ok(new)
    }

    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        Ok(self
            .pages()
            .get(key)
            .map(|page| page.events.clone())
            .unwrap_or_default())
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.pages().len() as u64)
    }
}
