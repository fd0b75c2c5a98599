//! What the sink and the queues make of a network that fails: nothing is lost, nothing is sent
//! twice, and what cannot be known is called so.

use std::sync::Arc;
use std::time::Duration;

use nightgate::aws::queues::{Ask, FaultKind, Queue, Queues};
use nightgate::sink::Sink as _;

use crate::emulators::{Emulator, Kind};
use crate::proxy::{Fault, Proxy};
use crate::world::{HIDE, TIMEOUT, make, numbered, outgoing, queues, sink, take, words};

const SEND: &str = "SendMessageBatch";
const DELETE: &str = "DeleteMessageBatch";
const RECEIVE: &str = "ReceiveMessage";

/// A queue, a way to it that fails as it is told, and one that does not.
struct World {
    proxy: Proxy,
    queue: Queue,
    through: Arc<dyn Queues>,
    straight: Arc<dyn Queues>,
    _emulator: Emulator,
}

impl World {
    async fn start() -> Self {
        let emulator = Emulator::start(Kind::Fauxqs).await;
        let proxy = Proxy::start(&emulator.url).await;
        Self {
            queue: make(&emulator.url, "send", &[]).await,
            through: queues(&proxy.url),
            straight: queues(&emulator.url),
            proxy,
            _emulator: emulator,
        }
    }

    /// Hands `count` messages over through the proxy.
    async fn deliver(&self, count: usize) -> Vec<&'static str> {
        let sink = sink(Arc::clone(&self.through), &self.queue);
        words(&sink.deliver(numbered(count)).await)
    }

    /// Messages that are in the queue.
    async fn there(&self) -> u64 {
        self.straight.look(&self.queue).await.unwrap().visible
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_messages_are_there_once() {
    let world = World::start().await;
    world.proxy.script(SEND, &[Fault::Lost]);
    assert_eq!(world.deliver(10).await, ["unknown"; 10]);
    assert_eq!(
        world.proxy.count(SEND),
        (1, 1),
        "a send is never made again"
    );
    assert_eq!(world.there().await, 10, "it had been carried out");
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_unknown_and_the_messages_are_there_once() {
    let world = World::start().await;
    world.proxy.script(SEND, &[Fault::Late(TIMEOUT * 4)]);
    assert_eq!(world.deliver(3).await, ["unknown"; 3]);
    assert_eq!(world.proxy.count(SEND), (1, 1));
    assert_eq!(world.there().await, 3);
}

#[tokio::test]
async fn a_server_that_fails_within_a_send_may_have_kept_it() {
    let world = World::start().await;
    let rows = [
        (
            Fault::Error(500, "InternalFailure", "InternalFailure"),
            "unknown",
        ),
        (Fault::Error(502, "", ""), "unknown"),
        (
            Fault::Error(503, "ServiceUnavailable", "ServiceUnavailable"),
            "retry lane",
        ),
        (
            Fault::Error(400, "AWS.SimpleQueueService.NonExistentQueue", "X"),
            "retry lane",
        ),
        (
            Fault::Error(403, "AccessDenied", "AccessDenied"),
            "retry lane",
        ),
    ];
    let count = rows.len();
    for (fault, word) in rows {
        world.proxy.script(SEND, std::slice::from_ref(&fault));
        assert_eq!(world.deliver(2).await, [word; 2], "{fault:?}");
    }
    assert_eq!(
        world.proxy.count(SEND),
        (count, 0),
        "none is made again by itself"
    );
    assert_eq!(world.there().await, 0);
}

#[tokio::test]
async fn throttling_backs_the_lane_off_and_the_next_call_sends() {
    let world = World::start().await;
    let throttled = Fault::Error(400, "RequestThrottled", "RequestThrottled");
    world.proxy.script(SEND, &vec![throttled; 16]);
    assert_eq!(world.deliver(400).await, ["retry lane"; 400]);
    let (requests, _) = world.proxy.count(SEND);
    assert!(
        requests <= 16,
        "of 40 requests {requests} were made: the rest was held back"
    );
    assert_eq!(world.there().await, 0);
    world.proxy.forget();
    assert_eq!(world.deliver(400).await, ["delivered"; 400]);
    assert_eq!(world.there().await, 400);
}

#[tokio::test]
async fn a_failed_entry_costs_only_itself() {
    let rows = [
        ("InvalidMessageContents", true, "rejected"),
        ("InternalError", false, "retry"),
        ("RequestThrottled", true, "retry lane"),
    ];
    for (code, ours, word) in rows {
        let world = World::start().await;
        world
            .proxy
            .script(SEND, &[Fault::Failed(&[3, 7], code, ours)]);
        let mut right = ["delivered"; 10];
        right[3] = word;
        right[7] = word;
        assert_eq!(world.deliver(10).await, right, "{code}");
        assert_eq!(world.there().await, 8);
    }
}

#[tokio::test]
async fn what_does_no_harm_twice_is_tried_again_until_it_is_done() {
    let world = World::start().await;
    assert_eq!(world.deliver(5).await, ["delivered"; 5]);
    let busy = Fault::Error(500, "InternalFailure", "InternalFailure");
    world.proxy.script(RECEIVE, std::slice::from_ref(&busy));
    let got = take(&*world.through, &world.queue, 5).await;
    assert_eq!(got.len(), 5);
    world.proxy.script(DELETE, &[busy, Fault::Lost]);
    let handles: Vec<String> = got.into_iter().map(|one| one.handle).collect();
    let deleted = world.through.delete(&world.queue, &handles).await;
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    assert_eq!(world.proxy.count(DELETE), (3, 2));
    let look = world.straight.look(&world.queue).await.unwrap();
    assert_eq!((look.visible, look.in_flight), (0, 0));
}

#[tokio::test]
async fn entries_that_could_not_be_deleted_are_named() {
    let world = World::start().await;
    assert_eq!(world.deliver(5).await, ["delivered"; 5]);
    let got = take(&*world.through, &world.queue, 5).await;
    world
        .proxy
        .script(DELETE, &[Fault::Failed(&[1], "InternalError", false)]);
    let handles: Vec<String> = got.into_iter().map(|one| one.handle).collect();
    let deleted = world.through.delete(&world.queue, &handles).await;
    let kinds: Vec<_> = deleted
        .iter()
        .map(|one| one.as_ref().err().map(|f| f.kind))
        .collect();
    assert_eq!(
        kinds,
        [None, Some(FaultKind::Unavailable), None, None, None]
    );
    let look = world.straight.look(&world.queue).await.unwrap();
    assert_eq!(look.in_flight, 1);
}

#[tokio::test]
async fn a_short_poll_that_asked_the_wrong_servers_is_empty_and_no_fault() {
    let world = World::start().await;
    let sent = world.straight.send(&world.queue, vec![outgoing("a")]).await;
    assert!(sent[0].is_ok());
    world.proxy.script(RECEIVE, &[Fault::Nothing, Fault::Twice]);
    let ask = Ask {
        max: 10,
        hide: HIDE,
        wait: Duration::ZERO,
    };
    let empty = world.through.receive(&world.queue, &ask).await.unwrap();
    assert!(empty.is_empty());
    let twice = world.through.receive(&world.queue, &ask).await.unwrap();
    assert_eq!(twice.len(), 2, "SQS may give a message more than once");
    assert_eq!(twice[0].id, twice[1].id, "and it is told by its id");
}

#[tokio::test]
async fn when_nobody_listens_any_more_nothing_left_and_the_lane_waits() {
    let world = World::start().await;
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nowhere.local_addr().unwrap());
    drop(nowhere);
    let sink = sink(queues(&url), &world.queue);
    let outcomes = sink.deliver(numbered(30)).await;
    assert_eq!(words(&outcomes), ["retry lane"; 30]);
}

#[tokio::test]
async fn on_a_fifo_queue_what_was_lost_and_goes_again_arrives_once_and_in_order() {
    let mut world = World::start().await;
    world.queue = make(&world.proxy.url, "send.fifo", &[("FifoQueue", "true")]).await;
    world.proxy.script(SEND, &[Fault::Lost]);
    let first = world.deliver(25).await;
    assert_eq!(first[..10], ["unknown"; 10]);
    assert_eq!(
        first[10..],
        ["retry lane"; 15],
        "nothing overtakes what may be lost"
    );
    assert_eq!(world.deliver(25).await, ["delivered"; 25]);
    let mut bodies = Vec::new();
    while bodies.len() < 25 {
        // A group is lent to one at a time: what is done with is deleted before the next.
        let some = take(&*world.straight, &world.queue, 1).await;
        assert!(!some.is_empty(), "only {bodies:?} arrived");
        let handles: Vec<String> = some.iter().map(|one| one.handle.clone()).collect();
        bodies.extend(some.into_iter().map(|one| one.body));
        let deleted = world.straight.delete(&world.queue, &handles).await;
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }
    let right: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    assert_eq!(bodies, right);
    assert_eq!(world.there().await, 0, "each is there once");
}
