use std::sync::atomic::AtomicUsize;

use super::*;
use crate::alert::text;
use crate::clock::ManualClock;
use crate::error::{Error, Kind};

const BOUND: Duration = Duration::from_secs(20);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(at("2026-11-22T23:00:00Z")))
}

fn desk(ports: Vec<Arc<dyn AlertPort>>) -> Alerts {
    let options = DeskOptions {
        backoff: Duration::ZERO,
        ..DeskOptions::default()
    };
    Alerts::new(ports, clock(), options)
}

/// Fails so often, then takes everything.
#[derive(Default)]
struct Flaky {
    failures: AtomicUsize,
    tries: AtomicUsize,
    taken: MemoryPort,
}

#[async_trait]
impl AlertPort for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }

    async fn deliver(&self, alert: &Alert) -> Result<()> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        let less = |left: usize| left.checked_sub(1);
        if self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
        {
            return Err(Error::new(Kind::Unavailable, "alert", "post"));
        }
        self.taken.deliver(alert).await
    }
}

/// Never answers.
struct Stuck;

#[async_trait]
impl AlertPort for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    async fn deliver(&self, _: &Alert) -> Result<()> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn repeats_within_the_window_are_one_alarm_and_the_next_one_tells_how_many() {
    let port = Arc::new(MemoryPort::default());
    let desk = desk(vec![Arc::<MemoryPort>::clone(&port)]);
    for minute in ["00", "05", "14"] {
        desk.raise(text::buried(
            "ads",
            1,
            at(&format!("2026-11-22T23:{minute}:00Z")),
        ));
    }
    desk.raise(text::buried("news", 1, at("2026-11-22T23:05:00Z")));
    desk.raise(text::nothing_moved(
        "ads",
        1,
        at("2026-11-22T23:00:00Z"),
        at("2026-11-22T23:05:00Z"),
    ));
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:15:00Z")));
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:30:00Z")));
    assert!(desk.flush(BOUND).await);

    let sent = port.alerts();
    assert_eq!(
        sent.len(),
        5,
        "ads, news, nothing moved, ads again, ads once more"
    );
    assert!(!sent[0].english.contains("more times"));
    assert!(
        sent[3]
            .english
            .contains("(2 more times since 2026-11-22T23:00:00Z.)")
    );
    assert!(sent[3].korean.contains("2회 더"));
    assert!(!sent[4].english.contains("more times"), "told once");
    assert_eq!(
        desk.counts(),
        AlertCounts {
            sent: 5,
            suppressed: 2,
            dropped: 0,
            failed: 0
        }
    );
}

#[tokio::test]
async fn raise_never_blocks_a_full_queue_drops_and_counts() {
    let port = Arc::new(MemoryPort::default());
    let desk = desk(vec![Arc::<MemoryPort>::clone(&port)]);
    for lane in 0..QUEUE_MAX + 3 {
        desk.raise(text::buried(
            &format!("lane-{lane}"),
            1,
            at("2026-11-22T23:00:00Z"),
        ));
    }
    assert_eq!(desk.counts().dropped, 3);
    assert!(desk.flush(BOUND).await);
    assert_eq!(port.alerts().len(), QUEUE_MAX);
    assert_eq!(port.alerts()[0].subject, "lane-0", "in order");
}

#[tokio::test]
async fn what_is_remembered_of_repeats_is_bounded() {
    let desk = desk(Vec::new());
    for lane in 0..REMEMBERED_MAX + 10 {
        desk.raise(text::buried(
            &format!("lane-{lane}"),
            1,
            at("2026-11-22T23:00:00Z"),
        ));
    }
    assert_eq!(locked(&desk.0.seen).len(), REMEMBERED_MAX);
}

#[tokio::test]
async fn a_port_is_tried_again_a_few_times_and_then_given_up() {
    let port = Arc::new(Flaky {
        failures: (ATTEMPTS_MAX as usize - 1).into(),
        ..Flaky::default()
    });
    let desk = desk(vec![Arc::<Flaky>::clone(&port)]);
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:00:00Z")));
    assert!(desk.flush(BOUND).await);
    assert_eq!((port.taken.alerts().len(), desk.counts().sent), (1, 1));

    port.failures.store(usize::MAX, Ordering::SeqCst);
    port.tries.store(0, Ordering::SeqCst);
    desk.raise(text::buried("news", 1, at("2026-11-22T23:00:00Z")));
    assert!(desk.flush(BOUND).await, "given up is not pending");
    assert_eq!(port.tries.load(Ordering::SeqCst), ATTEMPTS_MAX as usize);
    assert_eq!(desk.counts().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn one_failing_port_never_holds_back_another_and_a_flush_is_bounded() {
    let port = Arc::new(MemoryPort::default());
    let desk = desk(vec![Arc::new(Stuck), Arc::<MemoryPort>::clone(&port)]);
    for lane in ["ads", "news"] {
        desk.raise(text::buried(lane, 1, at("2026-11-22T23:00:00Z")));
    }
    assert!(
        !desk.flush(BOUND).await,
        "the stuck port still has its alarms"
    );
    assert_eq!(port.alerts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_does_not_answer_is_cut_off() {
    let desk = desk(vec![Arc::new(Stuck)]);
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:00:00Z")));
    assert!(desk.flush(PORT_TIMEOUT_DEFAULT * (ATTEMPTS_MAX + 1)).await);
    assert_eq!(desk.counts().failed, 1);
}

#[tokio::test]
async fn the_pause_between_attempts_doubles_and_follows_the_clock_it_was_given() {
    let clock = clock();
    let port = Arc::new(Flaky {
        failures: 2.into(),
        ..Flaky::default()
    });
    let options = DeskOptions::default();
    let desk = Alerts::new(
        vec![Arc::<Flaky>::clone(&port)],
        Arc::<ManualClock>::clone(&clock),
        options,
    );
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:00:00Z")));
    let mut flush = std::pin::pin!(desk.flush(BOUND));
    let steps = [(1, 0), (1, 999), (2, 1), (2, 1999)];
    for (tries, millis) in steps {
        clock.advance(Duration::from_millis(millis));
        assert!(futures_util::poll!(&mut flush).is_pending());
        assert_eq!(port.tries.load(Ordering::SeqCst), tries);
    }
    clock.advance(Duration::from_millis(1));
    assert!(flush.await);
    assert_eq!(port.tries.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn run_delivers_what_is_raised_and_ends_when_told() {
    let port = Arc::new(MemoryPort::default());
    let desk = desk(vec![Arc::<MemoryPort>::clone(&port)]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(desk.clone().run(async {
        let _ = stopped.await;
    }));
    for lane in ["ads", "news"] {
        desk.raise(text::buried(lane, 1, at("2026-11-22T23:00:00Z")));
        while port.alerts().last().is_none_or(|last| last.subject != lane) {
            tokio::task::yield_now().await;
        }
    }
    stop.send(()).unwrap();
    task.await.unwrap();
    desk.raise(text::buried("late", 1, at("2026-11-22T23:00:00Z")));
    assert!(desk.flush(BOUND).await);
    assert_eq!(
        port.alerts().len(),
        3,
        "a flush after the end still delivers"
    );
}

#[tokio::test]
async fn an_alarm_that_the_stop_cut_is_delivered_by_the_flush() {
    let clock = clock();
    let port = Arc::new(Flaky {
        failures: 1.into(),
        ..Flaky::default()
    });
    let desk = Alerts::new(
        vec![Arc::<Flaky>::clone(&port)],
        clock,
        DeskOptions::default(),
    );
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:00:00Z")));
    // The first attempt fails and the pause before the second never ends: the clock stands still.
    desk.clone().run(tokio::task::yield_now()).await;
    assert_eq!(port.taken.alerts().len(), 0);
    assert!(desk.flush(BOUND).await);
    assert_eq!(port.taken.alerts().len(), 1);
}

#[tokio::test]
async fn a_silent_desk_takes_everything_and_keeps_nothing() {
    let desk = Alerts::silent();
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:00:00Z")));
    assert!(desk.flush(BOUND).await);
    assert_eq!(desk.counts(), AlertCounts::default());
}

#[tokio::test]
async fn a_clock_set_back_neither_repeats_an_alarm_nor_silences_it_for_ever() {
    let desk = desk(vec![Arc::new(MemoryPort::default())]);
    desk.raise(text::buried("ads", 1, at("2026-11-22T23:00:00Z")));
    desk.raise(text::buried("ads", 1, at("2026-11-22T22:50:00Z")));
    desk.raise(text::buried("ads", 1, at("2026-11-22T20:00:00Z")));
    assert!(desk.flush(BOUND).await);
    assert_eq!((desk.counts().sent, desk.counts().suppressed), (2, 1));
}
