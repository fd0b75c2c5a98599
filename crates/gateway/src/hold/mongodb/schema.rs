//! Collections and indexes.

use ::mongodb::bson::{Document, doc};

use super::op;
use crate::error::Result;
use crate::hold::State;
use crate::mongodb::{Ask, Index, Mongo, int};

/// The version of what stands in the collections. A newer one is refused.
pub const VERSION: i64 = 1;
/// The heads of messages, one each.
pub(super) const MESSAGES: &str = "hold_messages";
/// Numbers given so far.
pub(super) const COUNTERS: &str = "hold_counters";
/// The counter of messages that arrived.
pub(super) const ARRIVALS: &str = "arrivals";
/// The counter that a check writes to.
pub(super) const CHECKS: &str = "checks";
/// The stops in force.
pub(super) const STOPS: &str = "hold_stops";

/// States of messages that are held, on loan or buried.
pub(super) fn live() -> Document {
    doc! { "$lte": code(State::Buried) }
}

/// The number under which a state is stored.
pub(super) fn code(state: State) -> i32 {
    i32::from(state.code())
}

/// Indexes of [`MESSAGES`]. Each holds only what its queries look for, so that a message stands in
/// few of them at a time and an ended one in three.
fn indexes() -> Vec<Index> {
    let only = |keys: Document, state: Document| Index {
        keys,
        only: Some(doc! { "state": state }),
        ..Index::default()
    };
    let is = |state| doc! { "$eq": code(state) };
    vec![
        Index {
            keys: doc! { "name": 1 },
            unique: true,
            ..Index::default()
        },
        // Lending, in its order.
        only(
            doc! { "lane": 1, "priority": 1, "due": 1, "seq": 1 },
            is(State::Held),
        ),
        // Counting shelves without a look at messages; the next due; moving shelves.
        only(doc! { "lane": 1, "due": 1, "shelf": 1, "state": 1 }, live()),
        // Loans that are over.
        only(doc! { "lane": 1, "until": 1 }, is(State::Leased)),
        only(doc! { "seq": 1 }, is(State::Buried)),
        // Recalls.
        only(doc! { "campaign": 1 }, live()),
        only(doc! { "key": 1 }, live()),
        // Collections of bodies in which nothing is held any more.
        only(doc! { "place": 1 }, live()),
        // Ids to forget.
        only(doc! { "ended_at": 1 }, doc! { "$gt": code(State::Buried) }),
    ]
}

/// Makes what is missing; refuses what a newer program wrote.
pub(super) async fn prepare(mongo: &Mongo) -> Result<()> {
    mongo.claim_format("hold", VERSION).await?;
    let op = op("make its indexes");
    mongo.index(op, MESSAGES, &indexes()).await?;
    // Counters that are missing beside messages go on behind them. The filter bounds nothing, but
    // without a bound nx-27017 sorts numbers of messages as texts.
    let last = Ask {
        filter: doc! { "_id": { "$gte": 0_i64 } },
        sort: doc! { "_id": -1 },
        max: Some(1),
        only: Some(doc! { "_id": 1 }),
    };
    let last = mongo.find(op, &mongo.collection(MESSAGES), last).await?;
    let last = last.first().and_then(|head| int(head, "_id"));
    let counters = [
        doc! { "_id": ARRIVALS, "value": last.unwrap_or_default() },
        doc! { "_id": CHECKS, "value": 0_i64 },
    ];
    let into = mongo.collection(COUNTERS);
    mongo.insert_new(op, &into, &counters).await.map(drop)
}
