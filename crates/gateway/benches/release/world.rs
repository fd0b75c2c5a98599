//! Messages held and due, people who agreed, and the parts of a road.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::consent::ConsentBook;
use nightgate::consent::import::{Format, import, rows};
use nightgate::consent::sqlite::SqliteBook;
use nightgate::decider::Decider;
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{Held, HoldStore, Lane};
use nightgate::receipt::ReceiptLog;
use nightgate::receipt::sqlite::SqliteLog;
use nightgate_core::ruleset::PackSource;
use nightgate_core::{
    Channel, Class, House, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient,
    RecipientKey, Ruleset,
};

use crate::Outcome;
use crate::watch::Watches;

pub(crate) const LANE: &str = "sms";
const RECIPIENTS: u64 = 1_000_000;
const CAMPAIGNS: u64 = 50;
const BODY_BYTES: usize = 300;
/// Messages in one call of `put`.
const GROUP: u64 = 1_000;
/// A Monday noon in Seoul: advertising may leave.
const NOW: &str = "2026-11-23T12:00:00+09:00";

/// The machine's clock, as if it were [`NOW`] when it started.
pub(crate) struct Noon {
    from: Timestamp,
    clock: SystemClock,
}

#[async_trait]
impl Clock for Noon {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.clock.monotonic());
        self.from + passed.unwrap_or(SignedDuration::ZERO)
    }
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
    async fn sleep_until(&self, at: Timestamp) {
        let ahead = at.duration_since(self.now());
        self.clock.sleep_until(self.clock.now() + ahead).await;
    }
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) clock: Arc<Noon>,
    book: Arc<SqliteBook>,
    rules: Arc<Ruleset>,
    hold: Option<Arc<ShelfHold>>,
    filled: u64,
    cold: bool,
    logs: std::sync::atomic::AtomicU64,
}

impl World {
    /// `BENCH_BOOK` names a file in which the consents are kept from run to run.
    pub(crate) async fn open(cold: bool) -> Outcome<Self> {
        let root = std::env::var("BENCH_DIR").unwrap_or_else(|_| "/tmp".to_owned());
        let dir = tempfile::tempdir_in(root)?;
        let path = std::env::var("BENCH_BOOK").map(PathBuf::from);
        let path = path.unwrap_or_else(|_| dir.path().join("consent.db"));
        let book = SqliteBook::open(&path)?;
        if book.count().await? < RECIPIENTS {
            let mut csv = String::from("recipient,scope,at,act\n");
            for number in 0..RECIPIENTS {
                let month = number % 9 + 1;
                let to = phone(number);
                writeln!(csv, "{to},general,2026-0{month}-02T10:00:00+09:00,")?;
            }
            let rows = rows(std::io::Cursor::new(csv), Format::Csv, "KR", "bench");
            import(&book, rows, |_| {}).await?;
        }
        let text = include_str!("../../../../rules/kr.toml").to_owned();
        let name = "kr.toml".to_owned();
        let rules = Ruleset::load(&[PackSource { name, text }]).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join(", ")
        })?;
        let (from, clock) = (NOW.parse()?, SystemClock::default());
        Ok(Self {
            dir,
            clock: Arc::new(Noon { from, clock }),
            book: Arc::new(book),
            rules: Arc::new(rules),
            hold: None,
            filled: 0,
            cold,
            logs: std::sync::atomic::AtomicU64::new(0),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A fresh hold with so many messages, all due. The consent book was asked about each, as the
    /// gate does, unless the process is to be as after a restart.
    pub(crate) async fn fill(&mut self, messages: u64) -> Outcome<()> {
        self.hold = None;
        self.filled += 1;
        let dir = self.dir.path().join(format!("hold-{}", self.filled));
        let hold = Arc::new(ShelfHold::open(&dir, Options::default()).await?);
        let decider = self.decider(None);
        let campaigns: Vec<Arc<str>> = (0..CAMPAIGNS)
            .map(|number| format!("campaign-{number:02}").into())
            .collect();
        let mut text = vec![b' '; 65_536];
        let mut dice = fastrand::Rng::with_seed(7);
        let letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        text.iter_mut()
            .for_each(|byte| *byte = letters[dice.usize(..letters.len())]);
        for first in (0..messages).step_by(usize::try_from(GROUP)?) {
            let group = first..messages.min(first + GROUP);
            let held: Outcome<Vec<Held>> = group
                .map(|number| self.held(number, &decider, &campaigns, &text))
                .collect();
            let held = held?;
            if !self.cold {
                let messages: Vec<&Message> = held.iter().map(|one| &one.message).collect();
                let keys: Vec<&RecipientKey> = held.iter().map(|one| &one.key).collect();
                decider.decide(&messages, &keys, self.clock.now()).await;
            }
            hold.put(held, self.clock.now()).await?;
        }
        self.hold = Some(hold);
        Ok(())
    }

    fn held(
        &self,
        number: u64,
        decider: &Decider,
        campaigns: &[Arc<str>],
        text: &[u8],
    ) -> Outcome<Held> {
        // To the recipients in no order.
        let to = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % RECIPIENTS;
        let at = usize::try_from(number * 7_919 % 65_000)?;
        let mut body = format!("(광고) 가을 세일 {number:09} ").into_bytes();
        body.extend(&text[at..at + BODY_BYTES - body.len()]);
        let campaign = &campaigns[usize::try_from(number / GROUP % CAMPAIGNS)?];
        let message = Message {
            id: MessageId::new(&format!("msg-{number:09}"))?,
            recipient: Recipient::new(&phone(to))?,
            channel: Channel::Sms,
            purpose: Purpose::Advertising,
            campaign: Some(Arc::clone(campaign)),
            priority: Priority::default(),
            jurisdiction: None,
            zone: None,
            send_at: None,
            expires_at: None,
            collapse_key: None,
            content_type: "text/plain; charset=utf-8".into(),
            attributes: Default::default(),
            body: Bytes::from(body),
        };
        Ok(Held {
            key: decider.key(&message),
            message,
            lane: Lane::new(LANE),
            class: Class::from_name("advertising/sms/KR/Asia/Seoul"),
            due: NOW.parse()?,
            accepted_at: NOW.parse()?,
        })
    }

    pub(crate) fn hold(&self) -> Arc<dyn HoldStore> {
        self.hold.clone().expect("filled")
    }

    /// A fresh log.
    pub(crate) fn receipts(&self) -> Outcome<Arc<dyn ReceiptLog>> {
        let number = self.logs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.dir.path().join(format!("receipts-{number}.db"));
        Ok(Arc::new(SqliteLog::open(&path)?))
    }

    pub(crate) fn decider(&self, watches: Option<&Arc<Watches>>) -> Arc<Decider> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let book: Arc<dyn ConsentBook> = self.book.clone();
        let book = watches.map_or(book.clone(), |watches| watches.book(&clock, book));
        let jurisdiction = Jurisdiction::new("KR").expect("a country");
        let zone = TimeZone::get("Asia/Seoul").expect("a zone");
        let house = House { jurisdiction, zone };
        Arc::new(Decider::new(Arc::clone(&self.rules), house, book))
    }
}

fn phone(number: u64) -> String {
    format!("+8210{:08}", 20_000_000 + number)
}
