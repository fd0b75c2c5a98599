//! The machine's clock, and one that runs beside it at a fixed distance (libfaketime).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
];

thread_local! {
    static CLOCK: SystemClock = SystemClock::default();
}

pub(crate) fn now() -> Timestamp {
    CLOCK.with(SystemClock::now)
}

/// Time since the system started, near enough; the same for all threads.
pub(crate) fn monotonic() -> Duration {
    static CLOCK: std::sync::OnceLock<SystemClock> = std::sync::OnceLock::new();
    CLOCK.get_or_init(SystemClock::default).monotonic()
}

pub(crate) async fn pause(length: Duration) {
    let until = now() + length;
    while now() < until {
        SystemClock::default().sleep_until(until).await;
    }
}

/// A clock that shows another time and runs as fast as the machine's: what a process under it
/// calls now, the test can tell too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fake {
    ahead: SignedDuration,
}

impl Fake {
    /// Shows `at` right now.
    pub(crate) fn showing(at: &str) -> Self {
        let at: Timestamp = at.parse().unwrap();
        // Whole milliseconds: libfaketime reads a decimal fraction.
        let ahead = at.duration_since(now()).as_millis();
        let ahead = SignedDuration::from_millis(i64::try_from(ahead).unwrap());
        Self { ahead }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.of(now())
    }

    /// What it showed when the machine's clock showed `at`.
    pub(crate) fn of(&self, at: Timestamp) -> Timestamp {
        at + self.ahead
    }

    pub(crate) async fn wait_until(&self, at: &str) {
        let at: Timestamp = at.parse().unwrap();
        while self.now() < at {
            SystemClock::default().sleep_until(at - self.ahead).await;
        }
    }

    /// What libfaketime is told.
    pub(crate) fn offset(&self) -> String {
        format!("{:+.3}", self.ahead.as_secs_f64())
    }

    /// Lets `command` run under this clock. Monotonic time stays the machine's.
    pub(crate) fn dress(&self, command: &mut Command) {
        let library = LIBRARIES.iter().find(|path| Path::new(path).exists());
        let library = library.expect(
            "libfaketime is needed to run the binary under another clock: \
             apt-get install faketime (scripts/test.sh does)",
        );
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME", self.offset())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
    }
}
