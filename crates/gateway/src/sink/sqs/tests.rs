//! Every row of the outcome table, against a queue that answers as it is told.

mod fifo;
mod outcomes;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;

use super::*;
use crate::aws::queues::{
    Answer, Ask, BATCH_MAX, BYTES_MAX, Fault, FaultKind as K, Incoming, Look, Outgoing,
};
use crate::clock::ManualClock;
use crate::sink::testing;

const NOW: &str = "2026-11-22T23:30:00+09:00";
const LATER: &str = "2026-11-23T00:30:00+09:00";
const URL: &str = "https://sqs.ap-northeast-2.amazonaws.com/123456789012/send";
const FIFO: &str = "https://sqs.ap-northeast-2.amazonaws.com/123456789012/send.fifo";

/// What the queue says to one message of a request: `None`, it takes it.
type Judge = dyn Fn(&Outgoing) -> Option<K> + Send + Sync;

/// A queue that takes what its judge lets pass, and knows every request.
struct Desk {
    judge: Box<Judge>,
    requests: Mutex<Vec<Vec<Outgoing>>>,
    /// Turns a request down as a whole if one message of it is rejected.
    all_or_none: bool,
    /// Each request takes so much time of this clock.
    takes: Option<(Arc<ManualClock>, std::time::Duration)>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    groups_under_way: Mutex<Vec<String>>,
}

impl Desk {
    fn new(judge: impl Fn(&Outgoing) -> Option<K> + Send + Sync + 'static) -> Self {
        Self {
            judge: Box::new(judge),
            requests: Mutex::default(),
            all_or_none: false,
            takes: None,
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            groups_under_way: Mutex::default(),
        }
    }

    /// The bodies of each request.
    fn bodies(&self) -> Vec<Vec<String>> {
        let bodies = |request: &Vec<Outgoing>| request.iter().map(|one| one.body.clone()).collect();
        self.requests.lock().unwrap().iter().map(bodies).collect()
    }

    fn sent(&self) -> Vec<Outgoing> {
        self.requests.lock().unwrap().concat()
    }
}

#[async_trait]
impl Queues for Desk {
    async fn find(&self, _: &str) -> Answer<Option<Queue>> {
        unreachable!("a sink only sends")
    }

    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Answer<String>> {
        assert!((1..=BATCH_MAX).contains(&messages.len()));
        assert!(messages.iter().map(Outgoing::bytes).sum::<usize>() <= BYTES_MAX);
        assert!(messages.iter().all(|one| one.delay.is_zero()));
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        let mut groups: Vec<String> = messages
            .iter()
            .filter_map(|one| one.group.clone())
            .collect();
        groups.dedup();
        if queue.is_fifo() {
            let mut others = self.groups_under_way.lock().unwrap();
            groups
                .iter()
                .for_each(|one| assert!(!others.contains(one), "{one} twice at once"));
            others.extend(groups.clone());
        }
        self.requests.lock().unwrap().push(messages.clone());
        tokio::task::yield_now().await;
        if let Some((clock, takes)) = &self.takes {
            clock.advance(*takes);
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.groups_under_way
            .lock()
            .unwrap()
            .retain(|one| !groups.contains(one));
        let judged: Vec<Option<K>> = messages.iter().map(|one| (self.judge)(one)).collect();
        let all = self.all_or_none && judged.contains(&Some(K::Rejected));
        let answer = |(one, kind): (&Outgoing, Option<K>)| {
            let kind = if all { Some(K::Rejected) } else { kind };
            kind.map_or_else(
                || Ok(format!("sqs-{}", one.body)),
                |kind| Err(Fault::new(kind, format!("{kind:?}"))),
            )
        };
        messages.iter().zip(judged).map(answer).collect()
    }

    async fn receive(&self, _: &Queue, _: &Ask) -> Answer<Vec<Incoming>> {
        unreachable!("a sink only sends")
    }

    async fn delete(&self, _: &Queue, _: &[String]) -> Vec<Answer<()>> {
        unreachable!("a sink only sends")
    }

    async fn hide(&self, _: &Queue, _: &[(String, std::time::Duration)]) -> Vec<Answer<()>> {
        unreachable!("a sink only sends")
    }

    async fn look(&self, _: &Queue) -> Answer<Look> {
        unreachable!("a sink only sends")
    }

    async fn tags(&self, _: &Queue) -> Answer<BTreeMap<String, String>> {
        unreachable!("a sink only sends")
    }

    async fn tag(&self, _: &Queue, _: &str, _: Option<&str>) -> Answer<()> {
        unreachable!("a sink only sends")
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(at(NOW)))
}

fn sink(desk: &Arc<Desk>, url: &str, requests: usize) -> SqsSink {
    sink_at(desk, url, requests, clock())
}

fn sink_at(desk: &Arc<Desk>, url: &str, requests: usize, clock: Arc<ManualClock>) -> SqsSink {
    let options = SqsSinkOptions {
        requests,
        ..SqsSinkOptions::new(Queue::new(url))
    };
    SqsSink::new(Arc::clone(desk) as Arc<dyn Queues>, options, clock).unwrap()
}

/// Messages with an hour to go, of which body and campaign are given.
fn batch(messages: &[(&str, Option<&str>)]) -> Vec<Outbound> {
    let one = |(n, (body, campaign)): (usize, &(&str, Option<&str>))| {
        let mut message = testing::message(&format!("m-{n}"), body.as_bytes());
        message.campaign = campaign.map(Into::into);
        testing::decided(message, at(NOW), at(LATER))
    };
    messages.iter().enumerate().map(one).collect()
}

/// `count` messages with bodies `0`, `1`, ...
fn numbered(count: usize) -> Vec<Outbound> {
    let bodies: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let messages: Vec<_> = bodies.iter().map(|body| (&**body, None)).collect();
    batch(&messages)
}

/// One word an outcome, for tables.
fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Retry {
            whole_lane: true, ..
        } => "retry lane",
        other => other.name(),
    };
    outcomes.iter().map(word).collect()
}
