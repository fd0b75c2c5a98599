//! Claims in the DynamoDB table that also keeps consents: one item a message (`pk = attempt#ID`,
//! `sk = claim`), which the table's time-to-live (`ttl`) takes away.
//!
//! A claim is a PutItem with a condition, many at once: BatchWriteItem knows no conditions, and
//! TransactWriteItems costs twice as much and fails for all of a hundred where one is taken. An end
//! needs no condition, since nothing outdoes it, and travels by 25.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::record::{Judged, Record, State};
use super::{Attempts, Claim, Fate, Trail, Try};
use crate::aws::tables::{Item, Table, Words, key, text, text_of, ttl};
use crate::error::{Error, Kind, Result};
use crate::hold::Token;

/// What the partition key of a message begins with.
const PARTITION: &str = "attempt#";
/// The sort key: there is one item a message.
const SORT: &str = "claim";
/// Claims under way at once.
const ABREAST: usize = 64;
/// How often a claim that somebody else changed meanwhile is judged again.
const CHANGED_MAX: usize = 3;
/// What is kept at least so long: a queue may bring a message back for 14 days, and clocks differ.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(15 * 24);
/// Claims remembered that may stand in the table although nothing was handed over.
const UNSURE_MAX: usize = 100_000;
/// May be taken by anybody: never claimed, ours already (the answer was lost), given back, or past
/// its time and not yet taken away.
const FREE: &str = "attribute_not_exists(#loan) OR #state = :free OR #ttl <= :now OR \
                    (#loan = :loan AND #state = :open)";
/// As it was when it was judged.
const SAME: &str = "#loan = :seen AND #state = :state";

/// The claims.
pub struct DynamoAttempts {
    table: Table,
    horizon: SignedDuration,
    /// Loans of this process whose claims could not be made or given back for certain. Nothing was
    /// handed over on them.
    unsure: Mutex<HashSet<Token>>,
}

impl DynamoAttempts {
    /// Claims in `table`. Ids are kept for `horizon` after a message's end.
    #[must_use]
    pub fn new(table: &Table, horizon: SignedDuration) -> Self {
        Self {
            table: table.of("release"),
            horizon,
            unsure: Mutex::default(),
        }
    }

    async fn claim_one(&self, asks: &Try, now: Timestamp) -> Result<Trail> {
        const OP: &str = "claim a hand-over";
        let claim = &asks.claim;
        let item = self.item(claim, &Record::open(claim, now), now);
        let words = Words::default()
            .name("#loan", "loan")
            .name("#state", "state")
            .name("#ttl", "ttl")
            .text(":loan", &loan(claim.token))
            .text(":free", word(State::Free))
            .text(":open", word(State::Open))
            .value(":now", ttl(now));
        let mut old = self.table.put_if(OP, item.clone(), FREE, &words).await?;
        for _ in 0..CHANGED_MAX {
            let Some(known) = old else {
                self.sure(claim.token);
                return Ok(Trail::Clear);
            };
            let known = record(&known)?;
            if let Judged::Leave(trail) = self.judge(&known, asks, now) {
                return Ok(trail);
            }
            let words = Words::default()
                .name("#loan", "loan")
                .name("#state", "state")
                .text(":seen", &loan(known.token))
                .text(":state", word(known.state));
            old = self.table.put_if(OP, item.clone(), SAME, &words).await?;
            if old.is_none() {
                self.sure(known.token);
            }
        }
        match old {
            None => Ok(Trail::Clear),
            Some(_) => {
                let op = format!("{OP}: others keep claiming it");
                Err(Error::new(Kind::Unavailable, "release", op))
            }
        }
    }

    async fn claim_or_doubt(&self, asks: &Try, now: Timestamp) -> Result<Trail> {
        let claimed = self.claim_one(asks, now).await;
        if claimed.is_err() {
            self.doubt(asks.claim.token);
        }
        claimed
    }

    fn judge(&self, known: &Record, asks: &Try, now: Timestamp) -> Judged {
        let unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        match known.state == State::Open && unsure.contains(&known.token) {
            true => Judged::Take,
            false => known.judge(asks, now, self.horizon),
        }
    }

    fn sure(&self, token: Token) {
        let mut unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        unsure.remove(&token);
    }

    /// Nothing was handed over on this loan, and the table may not know it.
    fn doubt(&self, token: Token) {
        let mut unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        if unsure.len() < UNSURE_MAX {
            unsure.insert(token);
        }
    }

    /// Gives a claim back; one that is somebody else's by now stays as it is.
    async fn free(&self, claim: &Claim) -> Result<()> {
        let words = Words::default()
            .name("#loan", "loan")
            .name("#state", "state")
            .text(":seen", &loan(claim.token))
            .text(":state", word(State::Open))
            .text(":free", word(State::Free));
        let (op, keys) = ("give a claim back", keys(claim));
        let freed = self
            .table
            .update(op, keys, "SET #state = :free", Some(SAME), &words)
            .await;
        match freed {
            Ok(_) => self.sure(claim.token),
            Err(_) => self.doubt(claim.token),
        }
        freed.map(drop)
    }

    /// Notes that a copy was put aside.
    async fn put_aside(&self, claim: &Claim, now: Timestamp) -> Result<()> {
        let copy = AttributeValue::Ss(vec![instant(claim.copy)]);
        let words = Words::default()
            .name("#aside", "aside")
            .name("#ttl", "ttl")
            .value(":copy", copy)
            .value(":ttl", self.ttl(now));
        let (op, change) = (
            "note what was put aside",
            "ADD #aside :copy SET #ttl = :ttl",
        );
        let noted = self.table.update(op, keys(claim), change, None, &words);
        noted.await.map(drop)
    }

    fn ttl(&self, now: Timestamp) -> AttributeValue {
        let kept = self.horizon.max(KEPT_FOR);
        ttl(now.checked_add(kept).unwrap_or(Timestamp::MAX))
    }

    fn item(&self, claim: &Claim, record: &Record, now: Timestamp) -> Item {
        let mut item = keys(claim);
        let mut set = |name: &str, value| item.insert(name.to_owned(), value);
        set("state", text(word(record.state)));
        set("copy", text(&instant(record.copy)));
        set("loan", text(&loan(record.token)));
        set("until", text(&instant(record.until)));
        set("at", text(&instant(record.at)));
        set("ttl", self.ttl(now));
        item
    }
}

#[async_trait]
impl Attempts for DynamoAttempts {
    fn claims(&self) -> bool {
        true
    }

    async fn trails(&self, lapsed: &[Claim], now: Timestamp) -> Result<Vec<Trail>> {
        let mut seen = HashSet::new();
        let different = lapsed.iter().filter(|claim| seen.insert(&claim.id));
        let wanted = different.map(keys).collect();
        let mut known = HashMap::new();
        for item in self.table.get("read claims", wanted).await? {
            // A copy may have been noted as put aside after its claim had gone: nobody claims it.
            if let Some(pk) = text_of(&item, "pk").filter(|_| item.contains_key("loan")) {
                known.insert(pk.to_owned(), record(&item)?);
            }
        }
        let trail = |claim: &Claim| {
            let asks = Try {
                claim: claim.clone(),
                again: false,
            };
            let judge = |known| self.judge(known, &asks, now);
            match known.get(&partition(claim)).map_or(Judged::Take, judge) {
                Judged::Take => Trail::Clear,
                Judged::Leave(trail) => trail,
            }
        };
        Ok(lapsed.iter().map(trail).collect())
    }

    async fn claim(&self, tries: &[Try], now: Timestamp) -> Vec<Result<Trail>> {
        let mut claims = Vec::with_capacity(tries.len());
        for asks in tries {
            claims.push(self.claim_or_doubt(asks, now).boxed());
        }
        stream::iter(claims).buffered(ABREAST).collect().await
    }

    async fn conclude(&self, ended: Vec<(Claim, Fate)>, now: Timestamp) -> Result<()> {
        let (mut ends, mut rest) = (HashMap::new(), Vec::new());
        for (claim, fate) in ended {
            match Record::ended(&claim, fate, now) {
                // One request may not name an item twice.
                Some(end) => drop(ends.insert(partition(&claim), self.item(&claim, &end, now))),
                None => rest.push((claim, fate)),
            }
        }
        let ends = ends.into_values().collect();
        let told = self.table.write("note ends of hand-overs", ends).await;
        let mut updates = Vec::with_capacity(rest.len());
        for (claim, fate) in &rest {
            updates.push(match fate {
                Fate::PutAside => self.put_aside(claim, now).boxed(),
                _ => self.free(claim).boxed(),
            });
        }
        let updates = stream::iter(updates).buffered(ABREAST);
        updates.fold(told, async |told, one| told.and(one)).await
    }
}

fn partition(claim: &Claim) -> String {
    format!("{PARTITION}{}", claim.id)
}

fn keys(claim: &Claim) -> Item {
    key(&partition(claim), SORT)
}

fn instant(at: Timestamp) -> String {
    format!("{at:.9}")
}

fn loan(token: Token) -> String {
    format!("{:x}-{:x}", token.lease, token.seq)
}

const fn word(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Free => "free",
        State::Delivered => "delivered",
        State::Rejected => "rejected",
    }
}

/// The record of an item.
fn record(item: &Item) -> Result<Record> {
    read(item).ok_or_else(|| {
        let op = "read a claim: its item is of another shape";
        Error::new(Kind::Corrupt, "release", op)
    })
}

fn read(item: &Item) -> Option<Record> {
    let instant = |name| text_of(item, name)?.parse::<Timestamp>().ok();
    let all = [State::Open, State::Free, State::Delivered, State::Rejected];
    let state = text_of(item, "state")?;
    let (lease, seq) = text_of(item, "loan")?.split_once('-')?;
    let aside = match item.get("aside") {
        Some(aside) => aside.as_ss().ok()?.as_slice(),
        None => &[],
    };
    let aside = aside.iter().map(|copy| copy.parse().ok());
    Some(Record {
        state: all.into_iter().find(|known| word(*known) == state)?,
        copy: instant("copy")?,
        token: Token {
            seq: u64::from_str_radix(seq, 16).ok()?,
            lease: u64::from_str_radix(lease, 16).ok()?,
        },
        until: instant("until")?,
        at: instant("at")?,
        aside: aside.collect::<Option<BTreeSet<Timestamp>>>()?,
    })
}
