use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::alert::desk::{DeskOptions, MemoryPort};
use crate::clock::ManualClock;
use crate::error::{Error, Kind};
use crate::release::freeze::{Freeze, Frost};

/// A shared clock that shows what it is told, takes so long, and may be away.
struct Told {
    clock: Arc<ManualClock>,
    behind: Mutex<SignedDuration>,
    takes: Mutex<Duration>,
    away: AtomicBool,
}

#[async_trait]
impl SharedClock for Told {
    async fn read(&self) -> Result<Timestamp> {
        let half = *self.takes.lock().unwrap() / 2;
        self.clock.advance(half);
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Unavailable, "redis", "ask for the time"));
        }
        let shown = self.clock.now() - *self.behind.lock().unwrap();
        self.clock.advance(half);
        Ok(shown)
    }
}

fn world() -> (Arc<ManualClock>, Told, Arc<Skew>) {
    let clock = Arc::new(ManualClock::new("2026-11-22T20:00:00Z".parse().unwrap()));
    let told = Told {
        clock: Arc::clone(&clock),
        behind: Mutex::default(),
        takes: Mutex::default(),
        away: AtomicBool::new(false),
    };
    (clock, told, Arc::new(Skew::new(SKEW_MAX_DEFAULT)))
}

fn secs(secs: i64) -> SignedDuration {
    SignedDuration::from_secs(secs)
}

#[tokio::test]
async fn a_clock_apart_stops_release_until_it_is_within_again() {
    let (clock, told, skew) = world();
    let freeze = Freeze::new(secs(60), Duration::from_secs(300)).beside(Arc::clone(&skew));
    assert_eq!(
        freeze.look(&*clock),
        Frost::Unlooked,
        "nobody has looked yet"
    );
    skew.look(&told, &*clock).await.unwrap();
    assert_eq!(freeze.look(&*clock), Frost::None);
    for behind in [3, -3] {
        *told.behind.lock().unwrap() = secs(behind);
        skew.look(&told, &*clock).await.unwrap();
        assert_eq!(freeze.look(&*clock), Frost::Apart(secs(behind)));
        freeze.thaw();
        assert_eq!(freeze.look(&*clock), Frost::Apart(secs(behind)));
    }
    *told.behind.lock().unwrap() = secs(2);
    skew.look(&told, &*clock).await.unwrap();
    assert_eq!(
        freeze.look(&*clock),
        Frost::None,
        "the bound itself is within"
    );
}

#[tokio::test]
async fn half_of_the_round_trip_is_the_error_and_what_proves_nothing_changes_nothing() {
    let (clock, told, skew) = world();
    *told.takes.lock().unwrap() = Duration::from_secs(4);
    *told.behind.lock().unwrap() = secs(3);
    let look = skew.look(&told, &*clock).await.unwrap();
    assert_eq!((look.ahead, look.error), (secs(3), secs(2)));
    assert_eq!(skew.standing(clock.monotonic()), Standing::Unknown);
    *told.behind.lock().unwrap() = secs(5);
    skew.look(&told, &*clock).await.unwrap();
    let apart = Standing::Apart(secs(5));
    assert_eq!(skew.standing(clock.monotonic()), apart);
    *told.behind.lock().unwrap() = secs(1);
    skew.look(&told, &*clock).await.unwrap();
    assert_eq!(skew.standing(clock.monotonic()), apart, "it may still be");
    *told.behind.lock().unwrap() = secs(0);
    skew.look(&told, &*clock).await.unwrap();
    assert_eq!(skew.standing(clock.monotonic()), Standing::Together);
}

#[tokio::test]
async fn a_look_is_good_for_a_while_and_then_nothing_leaves() {
    let (clock, told, skew) = world();
    skew.look(&told, &*clock).await.unwrap();
    told.away.store(true, Ordering::SeqCst);
    clock.advance(LOOK_GOOD - Duration::from_secs(1));
    skew.look(&told, &*clock).await.unwrap_err();
    assert_eq!(skew.standing(clock.monotonic()), Standing::Together);
    clock.advance(Duration::from_secs(1));
    assert_eq!(skew.standing(clock.monotonic()), Standing::Unknown);
}

#[tokio::test]
async fn the_watch_raises_the_alarm_with_both_figures() {
    let (clock, told, skew) = world();
    *told.behind.lock().unwrap() = secs(90);
    let port = Arc::new(MemoryPort::default());
    let ports = vec![Arc::clone(&port) as _];
    let alerts = Alerts::new(ports, Arc::clone(&clock) as _, DeskOptions::default());
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(told);
    let watch = watch_skew(skew, shared, clock, alerts.clone(), stopped);
    let mut watch = std::pin::pin!(watch);
    assert!(futures_util::poll!(&mut watch).is_pending());
    stop.send(true).unwrap();
    watch.await;
    assert!(alerts.flush(Duration::from_secs(1)).await);
    let [alarm] = &port.alerts()[..] else {
        panic!("one alarm, not {:?}", port.alerts());
    };
    assert_eq!(alarm.kind.as_str(), "clock_apart");
    let figures = [("ahead_seconds", "90"), ("bound_seconds", "2")];
    let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(alarm.figures, figures);
}
