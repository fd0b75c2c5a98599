//! Taking messages back, and bringing back what was buried: whoever asks, over HTTP, on the command
//! line or in the demo, it is done and filed in one way.

use std::sync::Arc;

use jiff::Timestamp;

use crate::error::Result;
use crate::hold::{HoldStore, Recalled, Scope};
use crate::receipt::{Event, Receipt, ReceiptLog, Subject};

/// Where it is done and where it is filed.
#[derive(Clone, Copy)]
pub struct Recaller<'a> {
    /// The messages.
    pub hold: &'a dyn HoldStore,
    /// The receipts.
    pub receipts: &'a dyn ReceiptLog,
    /// What the receipt says of where it was asked from, if it says anything.
    pub from: Option<&'static str>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// Messages taken back, or brought back.
    pub count: u64,
    /// Messages on loan at that moment: taken back if they return, gone if they were handed over.
    pub in_flight: u64,
    /// The hold cannot tell how many: the recall is noted, and bites wherever a message of its
    /// scope is met from now on.
    pub noted: bool,
    /// The receipt that was filed; `None` when nothing was done.
    pub receipt: Option<Receipt>,
}

impl Recaller<'_> {
    /// Takes back what is still held of `scope`.
    ///
    /// # Behaviour
    /// - one receipt stands for all messages of the scope; none is filed where there were none
    /// - where the hold cannot count, the receipt says so, and stands for as many as are met
    /// - the receipt of one message says all there is to say about it, others what the scope names
    ///
    /// # Errors
    /// When the hold fails: nothing was promised. When the receipt log does: it is done and not
    /// filed.
    pub async fn take_back(&self, scope: &Scope, now: Timestamp) -> Result<Acted> {
        let Recalled {
            recalled,
            in_flight,
        } = self.hold.recall(scope, now).await?;
        let noted = !self.hold.capability().exact_depth;
        let on_loan = match noted {
            true => Some("noted; how many there are is not known".to_owned()),
            false => (in_flight > 0).then(|| format!("{in_flight} more on loan")),
        };
        let receipt = match recalled + in_flight {
            0 if !noted => None,
            _ => Some(
                self.file(Event::Recalled, scope, recalled, on_loan, now)
                    .await?,
            ),
        };
        Ok(Acted {
            count: recalled,
            in_flight,
            noted,
            receipt,
        })
    }

    /// Brings back what is buried of `scope`, due now.
    ///
    /// # Behaviour
    /// - filed like [`Recaller::take_back`]
    ///
    /// # Errors
    /// Those of [`Recaller::take_back`].
    pub async fn bring_back(&self, scope: &Scope, now: Timestamp) -> Result<Acted> {
        let count = self.hold.kick(scope, now).await?;
        let receipt = match count {
            0 => None,
            _ => Some(self.file(Event::Kicked, scope, count, None, now).await?),
        };
        Ok(Acted {
            count,
            in_flight: 0,
            noted: false,
            receipt,
        })
    }

    async fn file(
        &self,
        event: Event,
        scope: &Scope,
        count: u64,
        more: Option<String>,
        now: Timestamp,
    ) -> Result<Receipt> {
        let said = [self.from.map(str::to_owned), more].into_iter().flatten();
        let detail = said.reduce(|from, more| format!("{from}; {more}"));
        let receipt = Receipt {
            count,
            detail,
            ..Receipt::of(event, self.subject(scope).await?, now)
        };
        self.receipts.append(vec![receipt.clone()]).await?;
        Ok(receipt)
    }

    async fn subject(&self, scope: &Scope) -> Result<Subject> {
        let none = Subject::default();
        Ok(match scope {
            Scope::Id(id) => match self.hold.find(std::slice::from_ref(id)).await?.pop() {
                Some(Some(found)) => {
                    Subject::of(&found.held.message, &found.held.key, &found.held.lane)
                }
                _ => Subject {
                    message: Some(id.clone()),
                    ..none
                },
            },
            Scope::Campaign(campaign) => Subject {
                campaign: Some(Arc::clone(campaign)),
                ..none
            },
            Scope::Recipient(key) => Subject {
                recipient: Some(key.clone()),
                ..none
            },
            Scope::Lane(lane) => Subject {
                lane: Some(lane.clone()),
                ..none
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use nightgate_core::Class;

    use super::*;
    use crate::hold::memory::MemoryHold;
    use crate::hold::{HORIZON_DEFAULT, Held, Lane, LeaseAsk, Pick, Settle, Verdict};
    use crate::ingest::wire;
    use crate::receipt::ReceiptAsk;
    use crate::receipt::memory::MemoryLog;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn held(id: &str) -> Held {
        let json = serde_json::json!({
            "id": id, "recipient": "010-1234-5678", "channel": "sms", "purpose": "advertising",
            "campaign": "autumn", "body": "hello",
        });
        let message = wire::read(json.to_string().as_bytes()).unwrap();
        Held {
            key: message.recipient.key("KR"),
            message,
            lane: Lane::new("main"),
            class: Class::from_name("advertising/sms/KR/Asia/Seoul"),
            due: NOW,
            accepted_at: NOW,
        }
    }

    /// Three messages: one held, one on loan, one buried.
    async fn filled() -> (MemoryHold, MemoryLog) {
        let hold = MemoryHold::new(HORIZON_DEFAULT);
        hold.put(vec![held("buried"), held("lent"), held("held")], NOW)
            .await
            .unwrap();
        let lane = Lane::new("main");
        let ask = LeaseAsk {
            lane: &lane,
            pick: Pick::Any,
            now: NOW,
            max: 2,
            ttl: SignedDuration::from_mins(1),
        };
        let token = hold.lease(&ask).await.unwrap()[0].token;
        let why = "no answer".to_owned();
        let verdict = Verdict::Bury { why };
        hold.settle(vec![Settle { token, verdict }], NOW)
            .await
            .unwrap();
        (hold, MemoryLog::default())
    }

    async fn filed(receipts: &MemoryLog) -> Vec<Receipt> {
        let filed = receipts.query(&ReceiptAsk::default()).await.unwrap();
        filed.into_iter().map(|filed| filed.receipt).collect()
    }

    #[tokio::test]
    async fn one_receipt_stands_for_a_scope_and_none_is_filed_where_nothing_was() {
        let (hold, receipts) = filled().await;
        let recaller = Recaller {
            hold: &hold,
            receipts: &receipts,
            from: Some("cli"),
        };
        let campaign = Scope::Campaign("autumn".into());
        let kicked = recaller.bring_back(&campaign, NOW).await.unwrap();
        assert_eq!((kicked.count, kicked.in_flight), (1, 0));
        let recalled = recaller.take_back(&campaign, NOW).await.unwrap();
        assert_eq!((recalled.count, recalled.in_flight), (2, 1));
        for nothing in [
            recaller.take_back(&campaign, NOW).await.unwrap(),
            recaller.bring_back(&campaign, NOW).await.unwrap(),
        ] {
            assert_eq!((nothing.count, nothing.receipt), (0, None));
        }
        let filed = filed(&receipts).await;
        let (kick, recall) = (&filed[0], &filed[1]);
        assert_eq!((kick.event, kick.count), (Event::Kicked, 1));
        assert_eq!(kick.detail.as_deref(), Some("cli"));
        assert_eq!((recall.event, recall.count), (Event::Recalled, 2));
        assert_eq!(recall.detail.as_deref(), Some("cli; 1 more on loan"));
        assert_eq!(recall.subject.campaign.as_deref(), Some("autumn"));
        assert_eq!(recall.subject.message, None);
        let told = [kicked.receipt, recalled.receipt].map(Option::unwrap);
        assert_eq!(filed, told);
    }

    #[tokio::test]
    async fn the_receipt_of_one_message_says_all_there_is_to_say_about_it() {
        let (hold, receipts) = filled().await;
        let recaller = Recaller {
            hold: &hold,
            receipts: &receipts,
            from: None,
        };
        for id in ["held", "lent"] {
            let id = held(id).message.id;
            recaller.take_back(&Scope::Id(id), NOW).await.unwrap();
        }
        let buried = Scope::Id(held("buried").message.id);
        recaller.bring_back(&buried, NOW).await.unwrap();
        let filed = filed(&receipts).await;
        for (receipt, id) in filed.iter().zip(["held", "lent", "buried"]) {
            let Held {
                message, key, lane, ..
            } = held(id);
            assert_eq!(receipt.subject, Subject::of(&message, &key, &lane));
        }
        assert_eq!(filed[0].detail, None);
        assert_eq!(
            (filed[1].count, filed[1].detail.as_deref()),
            (0, Some("1 more on loan"))
        );
    }

    #[cfg(feature = "sqs")]
    #[tokio::test]
    async fn a_recall_that_cannot_be_counted_is_noted_and_has_its_receipt() {
        use crate::aws::sim::{SimOptions, SimQueues};
        use crate::clock::ManualClock;
        use crate::hold::sqs::marks::MemoryMarks;
        use crate::hold::sqs::{SqsHold, SqsHoldOptions};

        let clock = Arc::new(ManualClock::new(NOW));
        let queues = Arc::new(SimQueues::new(Arc::clone(&clock)));
        for name in ["ready", "wait", "buried"] {
            queues.create(&format!("n-main-{name}"), SimOptions::default());
        }
        let options = SqsHoldOptions {
            marks: Some(Arc::new(MemoryMarks::default())),
            ..SqsHoldOptions::new("n", vec![Lane::new("main")])
        };
        let hold = SqsHold::open(queues, options, clock).await.unwrap();
        let receipts = MemoryLog::default();
        let recaller = Recaller {
            hold: &hold,
            receipts: &receipts,
            from: Some("cli"),
        };
        let scope = Scope::Campaign("autumn".into());
        let acted = recaller.take_back(&scope, NOW).await.unwrap();
        assert!(acted.noted);
        let filed = filed(&receipts).await;
        assert_eq!(filed, [acted.receipt.unwrap()]);
        assert_eq!((filed[0].event, filed[0].count), (Event::Recalled, 0));
        let detail = filed[0].detail.as_deref().unwrap();
        assert!(detail.starts_with("cli; noted"), "{detail}");
    }
}
