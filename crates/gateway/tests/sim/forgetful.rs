//! A hold in memory that forgets what ended but for its id, as a hold on Redis does.

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::error::Result;
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Scope,
    Settle, Settled, Shelf, State,
};
use nightgate_core::{Class, MessageId};

pub(crate) struct Forgetful(pub(crate) MemoryHold);

pub(crate) fn is_left(state: State) -> bool {
    matches!(state, State::Held | State::Leased | State::Buried)
}

#[async_trait]
impl HoldStore for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }

    fn capability(&self) -> Capability {
        Capability {
            ended: false,
            ..self.0.capability()
        }
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.0.put(messages, now).await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.0.lease(ask).await
    }

    async fn settle(&self, settle: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.0.settle(settle, now).await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.0.next_due(lane, now).await
    }

    async fn shelves(&self, lane: Option<&Lane>, by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.0.shelves(lane, by).await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        let found = self.0.find(ids).await?.into_iter();
        let left = |found: Option<Found>| found.filter(|found| is_left(found.state));
        Ok(found.map(left).collect())
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        match is_left(state) {
            true => self.0.list(state, lane, max).await,
            false => Ok(Vec::new()),
        }
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.0.recall(scope, now).await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.0.kick(scope, now).await
    }

    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        self.0.redate(lane, class, now, to).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.0.pause(lane, paused, now).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.0.pauses().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.0.sweep(now).await
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
    }
}

mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;
    use nightgate::consent::{Act, ConsentBook, ConsentEvent};
    use nightgate::gate::{Gate, Status};
    use nightgate::hold::{End, Pick, Verdict};
    use nightgate::receipt::{Event, ReceiptAsk, ReceiptLog};
    use nightgate_core::{Basis, Channel, Purpose, Recipient, RecipientKey, Scope};

    use super::*;
    use crate::build;
    use crate::knobs::{Knobs, Weather};
    use crate::script::{OPENS, Script};
    use crate::stores::in_memory_forgetful;
    use crate::world::{World, at_once};

    /// The first of the script's people.
    const PHONE: &str = "+821012340000";

    fn says(book: &dyn ConsentBook, act: Act, at: Timestamp) {
        let event = ConsentEvent {
            key: RecipientKey::from_stored(PHONE),
            scope: Scope::General,
            act,
            at,
            source: "test".to_owned(),
        };
        at_once(book.record(vec![event])).unwrap();
    }

    fn offer(gate: &Gate, script: &Script, id: &str) -> Status {
        let mut message = script.lines[0].message.clone();
        message.id = MessageId::new(id).unwrap();
        message.recipient = Recipient::new(PHONE).unwrap();
        (message.channel, message.purpose) = (Channel::Sms, Purpose::Advertising);
        (message.send_at, message.expires_at) = (None, None);
        at_once(gate.accept(vec![message])).unwrap()[0].status
    }

    fn events(log: &dyn ReceiptLog, id: &str) -> Vec<Event> {
        let ask = ReceiptAsk {
            message: MessageId::new(id).ok(),
            ..ReceiptAsk::default()
        };
        let filed = at_once(log.query(&ask)).unwrap();
        filed.into_iter().map(|one| one.receipt.event).collect()
    }

    /// Offered once more by a producer that lost the answer, when consent is gone: a hold that does
    /// not know it any more made the gate refuse it, and say so in its receipts.
    #[test]
    fn what_was_let_in_and_ended_is_a_duplicate_and_not_refused_where_the_hold_forgets() {
        let calm = |seed: &u64| Knobs::of(*seed).weather == Weather::Calm;
        let knobs = Knobs::of((0..).find(calm).unwrap());
        let script = Script::of(&knobs);
        let start = script.hour(OPENS);
        let world = Arc::new(World::new(knobs, start));
        let stores = in_memory_forgetful();
        let gate = build::gate(&script, &world, &stores);
        let ago = |hours| start - SignedDuration::from_hours(hours);
        says(&*stores.book, Act::Grant(Basis::Explicit), ago(9));
        assert_eq!(offer(&gate, &script, "m-1"), Status::Accepted);
        let ask = LeaseAsk {
            lane: &Lane::new("sms"),
            pick: Pick::Any,
            now: start,
            max: 9,
            ttl: SignedDuration::from_mins(1),
        };
        let loan = at_once(stores.hold.lease(&ask)).unwrap().remove(0);
        let done = Settle {
            token: loan.token,
            verdict: Verdict::Done(End::Delivered),
        };
        let settled = at_once(stores.hold.settle(vec![done], start)).unwrap();
        assert_eq!(settled, [Settled::Yes]);
        says(&*stores.book, Act::Withdraw, start);
        assert_eq!(offer(&gate, &script, "m-1"), Status::Duplicate);
        assert_eq!(events(&*stores.log, "m-1"), [Event::Accepted]);
        for _ in 0..2 {
            assert_eq!(offer(&gate, &script, "m-2"), Status::Refused);
        }
        assert_eq!(events(&*stores.log, "m-2"), [Event::Refused; 2]);
    }
}
