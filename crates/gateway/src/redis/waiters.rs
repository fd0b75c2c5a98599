//! Links for calls that wait for replicas. A server answers nothing on a connection while it waits
//! there, so whoever waits has a connection alone, and nobody else waits with him.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::Inner;
use super::fault::Fault;
use super::link::Link;

/// Links in use at once: so many calls wait at the same time. Writes that wait for a disk wait up
/// to a second each, with `appendfsync everysec`.
const LINKS_MAX: usize = 32;
/// The same in a cluster, where a link has a connection to each node.
const LINKS_MAX_CLUSTER: usize = 8;
/// Links kept for later. Others are closed: whoever is not used for long is closed by servers and
/// load balancers, and the next call on it would fail.
const KEPT_MAX: usize = 2;

/// The links.
pub(super) struct Waiters {
    idle: Mutex<Vec<Link>>,
    permits: Semaphore,
}

/// A link for one caller alone. One that is dropped and not given back, as its call was given up,
/// is closed: an answer may still be on its way there.
pub(super) struct Alone<'a> {
    link: Link,
    _permit: SemaphorePermit<'a>,
}

impl std::ops::Deref for Alone<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl Waiters {
    pub(super) fn new(link: &Link) -> Self {
        let most = match link.clustered() {
            true => LINKS_MAX_CLUSTER,
            false => LINKS_MAX,
        };
        Self {
            idle: Mutex::default(),
            permits: Semaphore::new(most),
        }
    }

    /// A link that nobody else uses.
    pub(super) async fn take(&self, inner: &Inner) -> Result<Alone<'_>, Fault> {
        let permit = tokio::time::timeout(inner.timeout, self.permits.acquire()).await;
        let permit = permit.ok().and_then(Result::ok);
        let permit = permit.ok_or_else(Fault::busy)?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let link = match kept {
            Some(link) => link,
            None => inner.link.another().await?,
        };
        Ok(Alone {
            link,
            _permit: permit,
        })
    }

    /// Keeps a link for the next caller.
    pub(super) fn give_back(&self, alone: Alone<'_>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT_MAX {
            idle.push(alone.link);
        }
    }
}
