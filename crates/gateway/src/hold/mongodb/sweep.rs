//! Upkeep: ids beyond the horizon are forgotten, collections in which nothing is held are dropped.

use ::mongodb::bson::doc;
use jiff::Timestamp;

use super::schema::live;
use super::{IN_MAX, MongoHold, numbers, op, place};
use crate::error::Result;
use crate::mongodb::{Ask, int};

impl MongoHold {
    /// Forgets ids that ended longer ago than the horizon; says how many.
    pub(super) async fn forget(&self, now: Timestamp) -> Result<u64> {
        let op = op("sweep");
        let forgotten = doc! { "$lte": self.forgotten_by(now) };
        let mut swept = 0;
        loop {
            let ask = Ask {
                filter: doc! { "ended_at": forgotten.clone(), "state": ended() },
                sort: doc! { "ended_at": 1 },
                max: Some(IN_MAX),
                only: Some(doc! { "_id": 1 }),
            };
            let old = self.mongo.find(op, &self.messages(), ask).await?;
            let these = numbers(old.iter().filter_map(|head| int(head, "_id")));
            if these.is_empty() {
                return Ok(swept);
            }
            let which = doc! { "_id": { "$in": these }, "ended_at": forgotten.clone() };
            let messages = self.messages();
            let delete = async { messages.delete_many(which).await };
            swept += self.mongo.call(op, delete).await?.deleted_count;
        }
    }

    /// Drops collections of bodies whose hour is over and in which nothing is held any more.
    pub(super) async fn drop_places(&self, now: Timestamp) -> Result<()> {
        let op = op("drop collections of bodies");
        let late = now.checked_sub(place::GRACE).unwrap_or(Timestamp::MIN);
        for name in self.mongo.names(op, place::PREFIX).await? {
            if place::over(&name).is_none_or(|over| over > late) {
                continue;
            }
            let ask = Ask {
                max: Some(1),
                only: Some(doc! { "_id": 1 }),
                ..Ask::of(doc! { "place": &*name, "state": live() })
            };
            if !self.mongo.find(op, &self.messages(), ask).await?.is_empty() {
                continue;
            }
            let place = self.mongo.collection(&name);
            let gone = async { place.drop().await };
            self.mongo.call(op, gone).await?;
        }
        Ok(())
    }
}

/// States of messages whose road has ended.
fn ended() -> ::mongodb::bson::Document {
    doc! { "$gt": super::schema::code(crate::hold::State::Buried) }
}
