//! Ending loans. Each write asks for exactly the loan that its token proves; what it matched is
//! marked with the call's own mark, and read back.

use std::collections::{BTreeMap, HashSet};

use ::mongodb::bson::oid::ObjectId;
use ::mongodb::bson::{Bson, Document, doc};
use jiff::Timestamp;

use super::document::reader;
use super::schema::{MESSAGES, code};
use super::shelf;
use super::{IN_MAX, MongoHold, natural, numbers, op};
use crate::error::Result;
use crate::hold::instant::nanos;
use crate::hold::{Settle, Settled, State, Token, Verdict};
use crate::mongodb::{Ask, Op, int, text};

/// One call of settle.
struct Call {
    mark: String,
    now: i64,
}

impl MongoHold {
    /// Ends loans; see [`crate::hold::HoldStore::settle`].
    pub(super) async fn end_all(
        &self,
        settlements: Vec<Settle>,
        now: Timestamp,
    ) -> Result<Vec<Settled>> {
        let what = format!("settle {} loans", settlements.len());
        let op = op(&what);
        let call = Call {
            mark: ObjectId::new().to_hex(),
            now: nanos(now),
        };
        // Only the first of a token counts: after it there is no loan.
        let mut seen = HashSet::new();
        let first = settlements.iter().filter(|one| seen.insert(one.token));
        let (done, back): (Vec<&Settle>, Vec<&Settle>) =
            first.partition(|one| matches!(one.verdict, Verdict::Done(_)));
        let mut statements = ended(&call, &done);
        statements.extend(self.put_back(op, &call, &back).await?);
        self.mongo.update_each(op, MESSAGES, statements).await?;
        let mut obeyed = self.obeyed(op, &call, &settlements).await?;
        let answer = |one: &Settle| match obeyed.remove(&one.token) {
            true => Settled::Yes,
            false => Settled::Lapsed,
        };
        Ok(settlements.iter().map(answer).collect())
    }

    /// Statements for what is deferred or buried: each arrives anew.
    async fn put_back(&self, op: Op<'_>, call: &Call, back: &[&Settle]) -> Result<Vec<Document>> {
        if back.is_empty() {
            return Ok(Vec::new());
        }
        let shelves = self.shelves_of(op, back).await?;
        let arrivals = self.arrivals(op, back.len()).await?;
        let mut statements = Vec::with_capacity(2 * back.len());
        for (one, seq) in back.iter().zip(arrivals) {
            let Some(shelf) = shelves.get(&one.token.seq) else {
                continue; // no such message
            };
            statements.extend(returned(call, one, seq, shelf)?);
        }
        Ok(statements)
    }

    /// The shelves of messages whose due changes. Only a loan that is over could change shelves
    /// meanwhile by other hands, and such a loan is not obeyed; re-dating one changes nothing here,
    /// since the due is the settlement's own.
    async fn shelves_of(&self, op: Op<'_>, of: &[&Settle]) -> Result<BTreeMap<u64, String>> {
        let mut shelves = BTreeMap::new();
        for part in of.chunks(IN_MAX) {
            let these = numbers(part.iter().map(|one| one.token.seq.cast_signed()));
            let ask = Ask {
                only: Some(doc! { "shelf": 1 }),
                ..Ask::of(doc! { "_id": { "$in": these } })
            };
            for head in self.mongo.find(op, &self.messages(), ask).await? {
                if let (Some(number), Some(shelf)) = (int(&head, "_id"), text(&head, "shelf")) {
                    shelves.insert(natural(number), shelf.to_owned());
                }
            }
        }
        Ok(shelves)
    }

    /// The tokens that this call ended.
    async fn obeyed(
        &self,
        op: Op<'_>,
        call: &Call,
        settlements: &[Settle],
    ) -> Result<HashSet<Token>> {
        let mut obeyed = HashSet::with_capacity(settlements.len());
        for part in settlements.chunks(IN_MAX) {
            let these = numbers(part.iter().map(|one| one.token.seq.cast_signed()));
            let ask = Ask {
                only: Some(doc! { "lease": 1 }),
                ..Ask::of(doc! { "_id": { "$in": these }, "by": &*call.mark })
            };
            for head in self.mongo.find(op, &self.messages(), ask).await? {
                obeyed.insert(Token {
                    seq: natural(reader(&head).int("_id")?),
                    lease: natural(reader(&head).int("lease")?),
                });
            }
        }
        Ok(obeyed)
    }
}

/// A loan that runs at the time of the call.
fn running(call: &Call, number: impl Into<Bson>, lease: u64) -> Document {
    doc! {
        "_id": number,
        "state": code(State::Leased),
        "lease": lease.cast_signed(),
        "until": { "$gt": call.now },
    }
}

fn change(call: &Call, mut set: Document) -> Document {
    set.insert("by", &*call.mark);
    doc! { "$set": set, "$unset": { "until": "", "claim": "" } }
}

/// Statements for what is done. Most loans are their messages' first and end alike, so one
/// statement ends hundreds.
fn ended(call: &Call, done: &[&Settle]) -> Vec<Document> {
    let mut alike: BTreeMap<(i32, u64), Vec<i64>> = BTreeMap::new();
    for one in done {
        if let Verdict::Done(how) = one.verdict {
            let group = (code(State::ended(how)), one.token.lease);
            let numbers = alike.entry(group).or_default();
            numbers.push(one.token.seq.cast_signed());
        }
    }
    let mut statements = Vec::new();
    for ((state, lease), these) in alike {
        for these in these.chunks(IN_MAX) {
            let these = doc! { "$in": numbers(these.iter().copied()) };
            statements.push(doc! {
                "q": running(call, these, lease),
                "u": change(call, doc! { "state": state, "ended_at": call.now }),
                "multi": true,
            });
        }
    }
    statements
}

/// The two statements for one that is deferred or buried: it goes back, or becomes recalled if that
/// was asked meanwhile.
fn returned(call: &Call, one: &Settle, seq: i64, shelf: &str) -> Result<Vec<Document>> {
    let (mut set, attempts) = match &one.verdict {
        Verdict::Defer { due, attempted } => {
            let due = nanos(*due);
            let key = shelf::read(shelf)?.at(Some(due));
            let set = doc! {
                "state": code(State::Held),
                "due": due,
                "shelf": shelf::write(&key)?,
            };
            (set, i64::from(*attempted))
        }
        Verdict::Bury { why } => (doc! { "state": code(State::Buried), "why": why }, 0),
        Verdict::Done(_) => return Ok(Vec::new()),
    };
    set.insert("seq", seq);
    let mut gone = set.clone();
    for field in ["due", "shelf"] {
        gone.remove(field);
    }
    gone.insert("state", code(State::Recalled));
    gone.insert("ended_at", call.now);
    let statement = |recall: i32, set: Document| {
        let mut which = running(call, one.token.seq.cast_signed(), one.token.lease);
        which.insert("recall", recall);
        let mut how = change(call, set);
        how.insert("$inc", doc! { "attempts": attempts });
        doc! { "q": which, "u": how }
    };
    Ok(vec![statement(0, set), statement(1, gone)])
}
