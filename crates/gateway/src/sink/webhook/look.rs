//! The last look: a request body that gives itself away only while every message in it may leave.
//!
//! It stands in the connection's own write path, behind name look-up, connecting and TLS, so the
//! time those take cannot carry a message past the end of its permit. And because it knows whether
//! it was ever asked for, a failed request is certainly not taken, or it may have been: no guess.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::clock::Clock;
use crate::sink::Outbound;

/// How far a body came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Passage {
    /// Nobody asked for it: the other side certainly has nothing.
    #[default]
    Waiting,
    /// It was asked for too late for these messages, and stayed.
    Shut(Vec<usize>),
    /// It went to the connection.
    Open,
}

/// Reads how far the body came, after the body itself is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness(Arc<Mutex<Passage>>);

impl Witness {
    pub(super) fn passage(&self) -> Passage {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, passage: Passage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = passage;
    }
}

/// A body of one frame, and the messages it holds by their places in the batch.
pub(super) struct LastLook {
    pub(super) bytes: Bytes,
    pub(super) batch: Arc<Vec<Outbound>>,
    pub(super) places: Arc<[usize]>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) witness: Witness,
}

impl Body for LastLook {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let now = this.clock.now();
        let late = Outbound::late(&this.batch, &this.places, now);
        if late.is_empty() {
            this.witness.set(Passage::Open);
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.bytes)))))
        } else {
            this.witness.set(Passage::Shut(late));
            Poll::Ready(Some(Err(TooLate)))
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// The permit ended while the connection was being made.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too late to leave")
    }
}

impl std::error::Error for TooLate {}
