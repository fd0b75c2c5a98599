//! What Nightgate relies on, asked of each emulator. None is complete: what one lacks is declared,
//! and only that is not asked.

use std::time::Duration;

use nightgate::aws::queues::{
    Answer, Ask, Attribute, BYTES_MAX, FaultKind, Outgoing, Queue, Queues, Value,
};

use crate::emulators::{Emulator, Kind};
use crate::world::{HIDE, make, outgoing, queues, take};

/// What an emulator may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Takes characters beyond U+FFFF, as emoji are.
    Emoji,
    /// Turns down one entry for characters it may not hold, and takes the others.
    Characters,
    /// Tells trace header, group and counts of receives when asked for `All` by their new name.
    SystemAttributes,
    /// Keeps the trace header of a message in a batch.
    Trace,
    /// Keeps the group of a message on a standard queue.
    FairGroup,
    /// Lends no more of a group while one of it is lent.
    GroupBlocks,
    /// Turns down a handle that never was one.
    Handles,
    /// Counts without what is in flight.
    Counts,
    /// Deletes again what is deleted, and calls it done.
    DeletesTwice,
    /// Measures the bodies of a batch.
    BodyBytes,
    /// Counts attributes when it measures a batch.
    AttributeBytes,
}

struct Place {
    kind: Kind,
    lacks: &'static [Lack],
    url: String,
    queues: std::sync::Arc<dyn Queues>,
    _emulator: Emulator,
}

impl Place {
    async fn start(kind: Kind, lacks: &'static [Lack]) -> Self {
        let emulator = Emulator::start(kind).await;
        Self {
            kind,
            lacks,
            url: emulator.url.clone(),
            queues: queues(&emulator.url),
            _emulator: emulator,
        }
    }

    fn has(&self, lack: Lack) -> bool {
        !self.lacks.contains(&lack)
    }

    async fn everything(&self) {
        self.messages_travel().await;
        self.limits_hold().await;
        self.one_bad_entry_costs_only_itself().await;
        self.what_is_hidden_comes_back().await;
        self.handles_are_judged_one_by_one().await;
        self.a_queue_tells_of_itself().await;
        self.a_fifo_queue_keeps_order_and_sends_once().await;
        self.what_is_not_there_is_denied().await;
    }

    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Answer<String>> {
        let count = messages.len();
        let answers = self.queues.send(queue, messages).await;
        assert_eq!(answers.len(), count, "{:?}", self.kind);
        answers
    }

    /// Body, attributes of every type, group and trace header.
    async fn messages_travel(&self) {
        let queue = make(&self.url, "travel", &[]).await;
        let whole = whole(self.has(Lack::FairGroup), self.has(Lack::Trace));
        let mut bodies = vec![
            "{\"to\":\"+82\",\"text\":\"안녕\"}",
            "\\u0000 %00 \u{80}",
            " \t\n",
            "AAEC",
        ];
        if self.has(Lack::Emoji) {
            bodies.push("👩‍👩‍👧 \u{10ffff}");
        }
        let mut sent: Vec<Outgoing> = bodies.iter().map(|body| outgoing(body)).collect();
        sent.push(whole.clone());
        for answer in self.send(&queue, sent.clone()).await {
            answer.unwrap();
        }
        let mut got = take(&*self.queues, &queue, sent.len()).await;
        assert_eq!(got.len(), sent.len(), "{:?}", self.kind);
        got.sort_by(|a, b| a.body.cmp(&b.body));
        sent.sort_by(|a, b| a.body.cmp(&b.body));
        for (got, sent) in got.iter().zip(&sent) {
            assert!(got.body == sent.body, "{:?}: {:?}", self.kind, sent.body);
            assert!(
                got.attributes == sent.attributes,
                "{:?}: {got:?}",
                self.kind
            );
            if self.has(Lack::SystemAttributes) {
                assert_eq!(got.group, sent.group, "{:?}", self.kind);
                assert_eq!(got.trace, sent.trace, "{:?}", self.kind);
                assert_eq!(got.receives, 1, "{:?}", self.kind);
                assert!(got.sent_at.as_second() > 0, "{:?}", self.kind);
            }
        }
        let handles: Vec<String> = got.into_iter().map(|one| one.handle).collect();
        let times = if self.has(Lack::DeletesTwice) { 2 } else { 1 };
        for _ in 0..times {
            let deleted = self.queues.delete(&queue, &handles).await;
            assert!(
                deleted.iter().all(Result::is_ok),
                "{:?}: {deleted:?}",
                self.kind
            );
        }
        let look = self.queues.look(&queue).await.unwrap();
        assert_eq!((look.visible, look.in_flight), (0, 0), "{:?}", self.kind);
    }

    async fn limits_hold(&self) {
        let queue = make(&self.url, "limits", &[]).await;
        let large = "밤".repeat(BYTES_MAX / 3) + "a";
        assert_eq!(large.len(), BYTES_MAX);
        self.send(&queue, vec![outgoing(&large)])
            .await
            .remove(0)
            .unwrap();
        let got = take(&*self.queues, &queue, 1).await;
        assert!(got.len() == 1 && got[0].body == large, "{:?}", self.kind);
        let mut refused = Vec::new();
        if self.has(Lack::BodyBytes) {
            refused.push(vec![outgoing(&(large.clone() + "b"))]);
            refused.push(vec![outgoing(&large), outgoing("b")]);
        }
        if self.has(Lack::AttributeBytes) {
            let mut with_attribute = outgoing(&large);
            with_attribute.attributes = vec![Attribute::text("a", "1")];
            refused.push(vec![with_attribute]);
        }
        for (n, request) in refused.into_iter().enumerate() {
            for answer in self.send(&queue, request).await {
                let kind = answer.map_err(|fault| fault.kind);
                assert_eq!(kind, Err(FaultKind::Rejected), "{:?}, {n}", self.kind);
            }
        }
    }

    async fn one_bad_entry_costs_only_itself(&self) {
        if !self.has(Lack::Characters) {
            return;
        }
        let queue = make(&self.url, "entries", &[]).await;
        let bodies = ["a", "bell \u{7}", "c"];
        let messages = bodies.iter().map(|body| outgoing(body)).collect();
        let answers = self.send(&queue, messages).await;
        let kinds: Vec<_> = answers
            .iter()
            .map(|one| one.as_ref().err().map(|f| f.kind))
            .collect();
        assert_eq!(
            kinds,
            [None, Some(FaultKind::Rejected), None],
            "{:?}",
            self.kind
        );
        assert_eq!(take(&*self.queues, &queue, 2).await.len(), 2);
    }

    async fn what_is_hidden_comes_back(&self) {
        let queue = make(&self.url, "hidden", &[]).await;
        self.send(&queue, vec![outgoing("a")])
            .await
            .remove(0)
            .unwrap();
        let first = take(&*self.queues, &queue, 1).await.remove(0);
        let ask = Ask {
            max: 10,
            hide: HIDE,
            wait: Duration::ZERO,
        };
        let meanwhile = self.queues.receive(&queue, &ask).await.unwrap();
        assert!(meanwhile.is_empty(), "{:?}", self.kind);
        let look = self.queues.look(&queue).await.unwrap();
        assert_eq!(look.in_flight, 1, "{:?}", self.kind);
        if self.has(Lack::Counts) {
            assert_eq!(look.visible, 0, "{:?}", self.kind);
        }
        for (hide, ok) in [(HIDE, true), (Duration::ZERO, true)] {
            let hidden = self
                .queues
                .hide(&queue, &[(first.handle.clone(), hide)])
                .await;
            assert_eq!(hidden[0].is_ok(), ok, "{:?}: {hidden:?}", self.kind);
        }
        let again = take(&*self.queues, &queue, 1).await.remove(0);
        assert_eq!(again.id, first.id);
        if self.has(Lack::SystemAttributes) {
            assert_eq!(again.receives, 2, "{:?}", self.kind);
            assert_eq!(again.sent_at, first.sent_at, "{:?}", self.kind);
        }
    }

    async fn handles_are_judged_one_by_one(&self) {
        let queue = make(&self.url, "handles", &[]).await;
        self.send(&queue, vec![outgoing("a")])
            .await
            .remove(0)
            .unwrap();
        let got = take(&*self.queues, &queue, 1).await.remove(0);
        if self.has(Lack::Handles) {
            let both = ["junk".to_owned(), got.handle.clone()];
            let deleted = self.queues.delete(&queue, &both).await;
            let kind = deleted[0].as_ref().map_err(|fault| fault.kind);
            assert_eq!(kind, Err(FaultKind::Rejected), "{:?}", self.kind);
            assert!(deleted[1].is_ok(), "{:?}: {deleted:?}", self.kind);
        }
    }

    async fn a_queue_tells_of_itself(&self) {
        let settings = [
            ("VisibilityTimeout", "300"),
            ("MessageRetentionPeriod", "1209600"),
        ];
        let queue = make(&self.url, "itself", &settings).await;
        assert_eq!(
            self.queues.find("itself").await.unwrap().as_ref(),
            Some(&queue)
        );
        assert_eq!(
            self.queues.find("nowhere").await.unwrap(),
            None,
            "{:?}",
            self.kind
        );
        let look = self.queues.look(&queue).await.unwrap();
        assert_eq!(
            look.retention,
            Duration::from_secs(1_209_600),
            "{:?}",
            self.kind
        );
        assert_eq!(look.hide, Duration::from_secs(300), "{:?}", self.kind);
        assert_eq!(look.bytes_max, BYTES_MAX, "{:?}", self.kind);
        assert!(self.queues.tags(&queue).await.unwrap().is_empty());
        self.queues
            .tag(&queue, "paused", Some("야간"))
            .await
            .unwrap();
        let tags = self.queues.tags(&queue).await.unwrap();
        assert_eq!(
            tags.get("paused").map(String::as_str),
            Some("야간"),
            "{:?}",
            self.kind
        );
        self.queues.tag(&queue, "paused", None).await.unwrap();
        assert!(
            self.queues.tags(&queue).await.unwrap().is_empty(),
            "{:?}",
            self.kind
        );
    }

    async fn a_fifo_queue_keeps_order_and_sends_once(&self) {
        let queue = make(&self.url, "order.fifo", &[("FifoQueue", "true")]).await;
        let in_group = |body: &str, group: &str, once: &str| Outgoing {
            group: Some(group.to_owned()),
            deduplication: Some(once.to_owned()),
            ..outgoing(body)
        };
        let twice = in_group("a0", "a", "once-0");
        let mut messages = vec![twice.clone(), in_group("a1", "a", "once-1"), twice];
        messages.push(in_group("b0", "b", "once-2"));
        for answer in self.send(&queue, messages).await {
            answer.unwrap();
        }
        let one = Ask {
            max: 1,
            hide: HIDE,
            wait: Duration::from_secs(1),
        };
        let first = self.queues.receive(&queue, &one).await.unwrap().remove(0);
        assert_eq!(first.body, "a0", "{:?}", self.kind);
        if self.has(Lack::GroupBlocks) {
            let other = self.queues.receive(&queue, &one).await.unwrap().remove(0);
            assert_eq!(other.body, "b0", "{:?}: a is lent", self.kind);
        }
        let deleted = self.queues.delete(&queue, &[first.handle]).await;
        assert!(deleted[0].is_ok());
        let rest = take(&*self.queues, &queue, 3).await;
        let of_a: Vec<&str> = rest
            .iter()
            .map(|one| &*one.body)
            .filter(|b| b.starts_with('a'))
            .collect();
        assert_eq!(of_a, ["a1"], "{:?}: in order, and once", self.kind);
    }

    async fn what_is_not_there_is_denied(&self) {
        let url = make(&self.url, "there", &[])
            .await
            .url()
            .replace("there", "gone");
        let gone = Queue::new(&url);
        let sent = self.send(&gone, vec![outgoing("a")]).await.remove(0);
        assert_eq!(sent.unwrap_err().kind, FaultKind::Denied, "{:?}", self.kind);
        let look = self.queues.look(&gone).await;
        assert_eq!(look.unwrap_err().kind, FaultKind::Denied, "{:?}", self.kind);
    }
}

/// A message with everything a message can have.
fn whole(group: bool, trace: bool) -> Outgoing {
    let typed = |name: &str, kind: &str, value: Value| Attribute {
        name: name.to_owned(),
        kind: kind.to_owned(),
        value,
    };
    let text = |text: &str| Value::Text(text.to_owned());
    Outgoing {
        body: "whole".to_owned(),
        attributes: vec![
            typed("label", "String.label", text("x")),
            typed(
                "logo",
                "Binary.png",
                Value::Bytes(vec![0, 159, 146, 150, 255]),
            ),
            typed("price", "Number", text("12.50")),
            typed("template", "String", text("주문 🚚")),
        ],
        group: group.then(|| "fair".to_owned()),
        trace: trace.then(|| "Root=1-5759e988-bd862e3fe1be46a994272793".to_owned()),
        ..Outgoing::default()
    }
}

#[tokio::test]
async fn ministack_does_what_we_rely_on() {
    let lacks = &[Lack::AttributeBytes, Lack::DeletesTwice, Lack::Trace];
    Place::start(Kind::Ministack, lacks)
        .await
        .everything()
        .await;
}

#[tokio::test]
async fn fauxqs_does_what_we_rely_on() {
    let lacks = &[Lack::Emoji, Lack::Trace, Lack::FairGroup, Lack::Handles];
    Place::start(Kind::Fauxqs, lacks).await.everything().await;
}

#[tokio::test]
async fn local_aws_sqs_does_what_we_rely_on() {
    let lacks = &[
        Lack::Characters,
        Lack::SystemAttributes,
        Lack::GroupBlocks,
        Lack::Counts,
        Lack::BodyBytes,
        Lack::AttributeBytes,
    ];
    Place::start(Kind::LocalAwsSqs, lacks)
        .await
        .everything()
        .await;
}
