//! Joins what several pollers received, so that the hold gets large batches.
//!
//! Two steps run side by side: while the receipts of one batch are filed, the next is put. Batches
//! pass both in the order in which they were joined.

use std::sync::Arc;
use std::time::Duration;

use nightgate_core::Message;
use tokio::sync::{mpsc, oneshot};

use super::intake::Answered;
use crate::clock::{Clock, pass};
use crate::gate::{Detail, Entered, Gate};

/// Batches that are put and wait to be filed.
const FILING_MAX: usize = 1;

/// The messages of one receive.
pub(super) struct Parcel {
    pub(super) messages: Vec<Message>,
    pub(super) answer: oneshot::Sender<Answered>,
}

/// Who waits for a batch, and for how many answers of it.
type Waiting = Vec<(usize, oneshot::Sender<Answered>)>;

/// How much is joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Parcels that can be there at once: with as many there is nobody left to wait for.
    pub(super) parcels: usize,
    /// Messages at which a batch is full.
    pub(super) messages: usize,
    /// How long the first parcel waits for others.
    pub(super) wait: Duration,
}

/// Takes parcels to the gate until nobody can send any more.
pub(super) async fn run(
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    size: Size,
    mut parcels: mpsc::Receiver<Parcel>,
) {
    let (put, filing) = mpsc::channel(FILING_MAX);
    let filing = file(&gate, filing);
    let putting = async {
        // Owned here, so that the filing ends when this does.
        let put = put;
        while let Some(batch) = gather(&mut parcels, &*clock, size).await {
            let (mut messages, mut waiting) = (Vec::new(), Waiting::new());
            for parcel in batch {
                waiting.push((parcel.messages.len(), parcel.answer));
                messages.extend(parcel.messages);
            }
            let entered = gate.put(messages, Detail::Rulings).await;
            if put.send((entered, waiting)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(putting, filing);
}

async fn file(gate: &Gate, mut put: mpsc::Receiver<(Entered, Waiting)>) {
    while let Some((entered, waiting)) = put.recv().await {
        let filed = gate.file(entered).await;
        let kind = filed.as_ref().err().map(|failed| failed.fault.kind);
        let mut answers = filed.unwrap_or_default().into_iter();
        for (count, answer) in waiting {
            let own = match kind {
                None => Ok(answers.by_ref().take(count).collect()),
                Some(kind) => Err(kind),
            };
            // Whoever asked may be gone: then the message comes again and is known.
            let _ = answer.send(own);
        }
    }
}

/// The next parcels; `None` when there will be none.
async fn gather(
    parcels: &mut mpsc::Receiver<Parcel>,
    clock: &dyn Clock,
    size: Size,
) -> Option<Vec<Parcel>> {
    let first = parcels.recv().await?;
    let mut messages = first.messages.len();
    let mut batch = vec![first];
    let waited = pass(clock, size.wait);
    tokio::pin!(waited);
    while messages < size.messages && batch.len() < size.parcels {
        let next = tokio::select! {
            biased;
            next = parcels.recv() => next,
            () = &mut waited => None,
        };
        let Some(next) = next else { break };
        messages += next.messages.len();
        batch.push(next);
    }
    Some(batch)
}
