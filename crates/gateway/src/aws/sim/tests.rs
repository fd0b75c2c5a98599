use super::*;
use crate::aws::queues::{DELAY_MAX, HIDE_MAX, WAIT_MAX};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const Q: &str = "q";

fn world(options: SimOptions) -> (SimQueues, Arc<ManualClock>, Queue) {
    let evening = "2026-11-22T12:00:00.123456789Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(evening));
    let sim = SimQueues::new(Arc::clone(&clock));
    let name = if options.fifo { "q.fifo" } else { Q };
    let queue = sim.create(name, options);
    (sim, clock, queue)
}

fn text(body: &str) -> Outgoing {
    Outgoing {
        body: body.to_owned(),
        ..Outgoing::default()
    }
}

async fn send(sim: &SimQueues, queue: &Queue, message: Outgoing) -> Answer<String> {
    sim.send(queue, vec![message]).await.remove(0)
}

async fn send_all(sim: &SimQueues, queue: &Queue, bodies: &[&str]) {
    for body in bodies {
        send(sim, queue, text(body)).await.unwrap();
    }
}

const ASK: Ask = Ask {
    max: BATCH_MAX,
    hide: MINUTE,
    wait: Duration::ZERO,
};

async fn receive(sim: &SimQueues, queue: &Queue) -> Vec<Incoming> {
    sim.receive(queue, &ASK).await.unwrap()
}

fn bodies(received: &[Incoming]) -> Vec<&str> {
    received.iter().map(|one| one.body.as_str()).collect()
}

async fn delete(sim: &SimQueues, queue: &Queue, one: &Incoming) -> Answer<()> {
    let handles = [one.handle.clone()];
    sim.delete(queue, &handles).await.remove(0)
}

async fn hide(sim: &SimQueues, queue: &Queue, one: &Incoming, by: Duration) -> Answer<()> {
    let handles = [(one.handle.clone(), by)];
    sim.hide(queue, &handles).await.remove(0)
}

fn kind<T: std::fmt::Debug>(answer: Answer<T>) -> FaultKind {
    answer.unwrap_err().kind
}

#[tokio::test]
async fn what_is_received_is_hidden_and_comes_again_with_another_handle_and_the_same_first_time() {
    let (sim, clock, queue) = world(SimOptions::default());
    send_all(&sim, &queue, &["a"]).await;
    clock.advance(HOUR);
    let first = receive(&sim, &queue).await.remove(0);
    assert_eq!(first.receives, 1);
    clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(receive(&sim, &queue).await, []);
    clock.advance(Duration::from_millis(1));
    let second = receive(&sim, &queue).await.remove(0);
    assert_eq!((second.receives, &second.id), (2, &first.id));
    assert_eq!(second.first_received_at, first.first_received_at);
    assert_eq!(second.sent_at, first.sent_at);
    assert_eq!(
        first.first_received_at.to_string(),
        "2026-11-22T13:00:00.123Z",
        "in milliseconds"
    );
    assert_ne!(second.handle, first.handle);
    delete(&sim, &queue, &first).await.unwrap();
    assert_eq!(sim.messages(Q).len(), 1, "an old handle deletes nothing");
    delete(&sim, &queue, &second).await.unwrap();
    delete(&sim, &queue, &second).await.unwrap();
    assert_eq!(sim.messages(Q), []);
}

#[tokio::test]
async fn a_handle_deletes_after_its_time_while_nobody_else_received_the_message() {
    let (sim, clock, queue) = world(SimOptions::default());
    send_all(&sim, &queue, &["a"]).await;
    let one = receive(&sim, &queue).await.remove(0);
    clock.advance(HOUR);
    assert_eq!(
        kind(hide(&sim, &queue, &one, MINUTE).await),
        FaultKind::Rejected
    );
    delete(&sim, &queue, &one).await.unwrap();
    assert_eq!(sim.messages(Q), []);
    let junk = sim.delete(&queue, &["junk".to_owned()]).await.remove(0);
    assert_eq!(kind(junk), FaultKind::Rejected);
}

#[tokio::test]
async fn a_message_can_be_hidden_for_twelve_hours_from_its_receive_and_not_longer() {
    let (sim, clock, queue) = world(SimOptions::default());
    send_all(&sim, &queue, &["a"]).await;
    let one = receive(&sim, &queue).await.remove(0);
    clock.advance(Duration::from_secs(30));
    assert_eq!(
        kind(hide(&sim, &queue, &one, HIDE_MAX).await),
        FaultKind::Rejected
    );
    let rest = HIDE_MAX - Duration::from_secs(30);
    hide(&sim, &queue, &one, rest).await.unwrap();
    clock.advance(rest - Duration::from_secs(1));
    assert_eq!(receive(&sim, &queue).await, []);
    clock.advance(Duration::from_secs(1));
    let again = receive(&sim, &queue).await.remove(0);
    hide(&sim, &queue, &again, HIDE_MAX).await.unwrap();
    hide(&sim, &queue, &again, Duration::ZERO).await.unwrap();
    assert_eq!(
        receive(&sim, &queue).await.len(),
        1,
        "zero shows it at once"
    );
}

#[tokio::test]
async fn a_delayed_message_comes_after_its_delay() {
    let (sim, clock, queue) = world(SimOptions::default());
    let delay = |delay| Outgoing { delay, ..text("a") };
    send(&sim, &queue, delay(DELAY_MAX)).await.unwrap();
    let look = sim.look(&queue).await.unwrap();
    assert_eq!((look.visible, look.delayed), (0, 1));
    clock.advance(DELAY_MAX - Duration::from_secs(1));
    assert_eq!(receive(&sim, &queue).await, []);
    clock.advance(Duration::from_secs(1));
    assert_eq!(bodies(&receive(&sim, &queue).await), ["a"]);
    for wrong in [DELAY_MAX + Duration::from_secs(1), Duration::from_millis(1)] {
        assert_eq!(
            kind(send(&sim, &queue, delay(wrong)).await),
            FaultKind::Rejected
        );
    }
}

#[tokio::test]
async fn a_message_is_gone_after_the_retention_also_while_it_is_lent() {
    let (sim, clock, queue) = world(SimOptions {
        retention: HOUR,
        ..SimOptions::default()
    });
    send_all(&sim, &queue, &["a"]).await;
    clock.advance(HOUR / 2);
    send_all(&sim, &queue, &["b"]).await;
    let one = receive(&sim, &queue).await;
    assert_eq!(bodies(&one), ["a", "b"]);
    clock.advance(HOUR / 2);
    let look = sim.look(&queue).await.unwrap();
    assert_eq!((look.visible, look.in_flight), (1, 0));
    assert_eq!(bodies(&receive(&sim, &queue).await), ["b"]);
}

#[tokio::test]
async fn in_flight_messages_are_bounded_and_a_short_poll_says_so_while_a_long_one_is_empty() {
    let (sim, clock, queue) = world(SimOptions {
        in_flight_max: 3,
        ..SimOptions::default()
    });
    send_all(&sim, &queue, &["a", "b", "c", "d"]).await;
    let lent = receive(&sim, &queue).await;
    assert_eq!(lent.len(), 3, "as many as fit");
    assert_eq!(kind(sim.receive(&queue, &ASK).await), FaultKind::Throttled);
    let long = Ask {
        wait: WAIT_MAX,
        ..ASK
    };
    assert_eq!(sim.receive(&queue, &long).await.unwrap(), []);
    delete(&sim, &queue, &lent[0]).await.unwrap();
    assert_eq!(bodies(&receive(&sim, &queue).await), ["d"]);
    clock.advance(MINUTE);
    assert_eq!(receive(&sim, &queue).await.len(), 3);
}

#[tokio::test]
async fn a_group_of_a_fifo_queue_is_blocked_while_one_of_it_is_in_flight() {
    let (sim, clock, queue) = world(SimOptions {
        fifo: true,
        ..SimOptions::default()
    });
    for (group, body) in [("g", "1"), ("g", "2"), ("h", "3"), ("g", "4")] {
        let message = Outgoing {
            group: Some(group.to_owned()),
            deduplication: Some(body.to_owned()),
            ..text(body)
        };
        send(&sim, &queue, message).await.unwrap();
    }
    let ask = Ask { max: 1, ..ASK };
    let first = sim.receive(&queue, &ask).await.unwrap();
    assert_eq!(bodies(&first), ["1"]);
    assert_eq!(bodies(&receive(&sim, &queue).await), ["3"]);
    delete(&sim, &queue, &first[0]).await.unwrap();
    let rest = receive(&sim, &queue).await;
    assert_eq!(
        bodies(&rest),
        ["2", "4"],
        "several of a group in one answer"
    );
    clock.advance(MINUTE);
    let late = delete(&sim, &queue, &rest[0]).await;
    assert_eq!(kind(late), FaultKind::Rejected, "its time was over");
}

#[tokio::test]
async fn a_fifo_queue_sends_the_same_message_once_in_five_minutes() {
    for by_content in [false, true] {
        let (sim, clock, queue) = world(SimOptions {
            fifo: true,
            by_content,
            ..SimOptions::default()
        });
        let message = || Outgoing {
            group: Some("g".to_owned()),
            deduplication: (!by_content).then(|| "1".to_owned()),
            ..text("a")
        };
        let first = send(&sim, &queue, message()).await.unwrap();
        clock.advance(MINUTE * 5 - Duration::from_secs(1));
        assert_eq!(send(&sim, &queue, message()).await.unwrap(), first);
        assert_eq!(sim.messages("q.fifo").len(), 1);
        clock.advance(Duration::from_secs(1));
        assert_ne!(send(&sim, &queue, message()).await.unwrap(), first);
        let bare = text("a");
        assert_eq!(kind(send(&sim, &queue, bare).await), FaultKind::Rejected);
        let delayed = Outgoing {
            delay: MINUTE,
            ..message()
        };
        assert_eq!(kind(send(&sim, &queue, delayed).await), FaultKind::Rejected);
    }
}

#[tokio::test]
async fn a_message_received_too_often_is_moved_to_the_dead_letter_queue_with_its_age() {
    let (sim, clock, queue) = world(SimOptions {
        dead_letter: Some((2, "dead".to_owned())),
        ..SimOptions::default()
    });
    let dead = sim.create("dead", SimOptions::default());
    send_all(&sim, &queue, &["a"]).await;
    let sent_at = sim.messages(Q)[0].sent_at;
    for _ in 0..2 {
        assert_eq!(receive(&sim, &queue).await.len(), 1);
        clock.advance(MINUTE);
    }
    assert_eq!(receive(&sim, &queue).await, []);
    assert_eq!(sim.messages(Q), []);
    assert_eq!(receive(&sim, &dead).await[0].sent_at, sent_at);
    assert_eq!(sim.look(&queue).await.unwrap().receives_max, Some(2));
    clock.advance(RETENTION_MAX);
    assert_eq!(sim.messages("dead"), []);
}

#[tokio::test]
async fn messages_that_break_a_rule_are_turned_away_and_the_others_of_the_request_are_sent() {
    let (sim, _, queue) = world(SimOptions::default());
    let with = |attributes| Outgoing {
        attributes,
        ..text("a")
    };
    let attribute = |name: &str| with(vec![Attribute::text(name, "x")]);
    let many = (0..11).map(|n| Attribute::text(format!("n{n}"), "x"));
    let mut wrong = vec![
        text(""),
        text("a\u{0}"),
        text("a\u{FFFE}"),
        with(many.collect()),
        with(vec![Attribute::text("n", "")]),
        attribute("AWS.x"),
        attribute(".x"),
        attribute("x y"),
        Outgoing {
            deduplication: Some("1".to_owned()),
            ..text("a")
        },
    ];
    wrong.push(text("good \t\r\n 한글 \u{1F600}"));
    let answers = sim.send(&queue, wrong).await;
    let (good, wrong) = answers.split_last().unwrap();
    assert!(good.is_ok());
    for answer in wrong {
        assert_eq!(kind(answer.clone()), FaultKind::Rejected, "{answer:?}");
    }
    assert_eq!(sim.messages(Q).len(), 1);
}

#[tokio::test]
async fn requests_over_the_limits_fail_as_a_whole() {
    let (sim, _, queue) = world(SimOptions::default());
    assert!(
        send(&sim, &queue, text(&"x".repeat(BYTES_MAX)))
            .await
            .is_ok()
    );
    let over = send(&sim, &queue, text(&"x".repeat(BYTES_MAX + 1))).await;
    assert_eq!(kind(over), FaultKind::Rejected);
    let half = || text(&"x".repeat(BYTES_MAX / 2));
    let mut named = half();
    named.attributes.push(Attribute::text("n", "x"));
    let answers = sim.send(&queue, vec![half(), named]).await;
    assert!(answers.iter().all(Result::is_err), "attributes count");
    assert!(
        sim.send(&queue, vec![half(), half()])
            .await
            .iter()
            .all(Result::is_ok)
    );
    let eleven = sim.send(&queue, vec![text("a"); BATCH_MAX + 1]).await;
    assert_eq!(eleven.iter().filter(|one| one.is_err()).count(), 11);
    assert_eq!(sim.messages(Q).len(), 3);
    for ask in [
        Ask { max: 0, ..ASK },
        Ask { max: 11, ..ASK },
        Ask {
            hide: HIDE_MAX + Duration::from_secs(1),
            ..ASK
        },
        Ask {
            wait: WAIT_MAX + Duration::from_secs(1),
            ..ASK
        },
    ] {
        assert_eq!(kind(sim.receive(&queue, &ask).await), FaultKind::Rejected);
    }
    sim.create(
        "small",
        SimOptions {
            bytes_max: 1024,
            ..SimOptions::default()
        },
    );
    let small = sim.find("small").await.unwrap().unwrap();
    let over = send(&sim, &small, text(&"x".repeat(1025))).await;
    assert_eq!(kind(over), FaultKind::Rejected);
}

#[tokio::test]
async fn a_short_poll_may_be_empty_while_messages_remain_and_a_long_one_is_not() {
    let (sim, _, queue) = world(SimOptions::default());
    send_all(&sim, &queue, &["a", "b"]).await;
    let noise = |unseen_percent| Noise {
        unseen_percent,
        ..Noise::default()
    };
    sim.noise(noise(100), 1);
    assert_eq!(receive(&sim, &queue).await, []);
    let long = Ask {
        wait: Duration::from_secs(1),
        ..ASK
    };
    assert_eq!(sim.receive(&queue, &long).await.unwrap().len(), 2);
    let mut seen = [0; 3];
    for seed in 0..50 {
        let (sim, _, queue) = world(SimOptions::default());
        send_all(&sim, &queue, &["a", "b"]).await;
        sim.noise(noise(50), seed);
        seen[receive(&sim, &queue).await.len()] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[tokio::test]
async fn a_long_poll_on_an_empty_queue_answers_at_once() {
    let (sim, _, queue) = world(SimOptions::default());
    let long = Ask {
        wait: WAIT_MAX,
        ..ASK
    };
    assert_eq!(sim.receive(&queue, &long).await.unwrap(), []);
}

#[tokio::test]
async fn noise_delivers_twice_forgets_deletes_and_shuffles() {
    let (sim, clock, queue) = world(SimOptions::default());
    let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    send_all(&sim, &queue, &names).await;
    assert_eq!(bodies(&receive(&sim, &queue).await), names, "in order");
    clock.advance(MINUTE);
    let all = Noise {
        twice_percent: 100,
        undeleted_percent: 100,
        shuffled: true,
        ..Noise::default()
    };
    sim.noise(all, 7);
    let first = receive(&sim, &queue).await;
    assert_ne!(bodies(&first), names);
    let again = receive(&sim, &queue).await;
    assert_eq!(again.len(), 10, "nothing was hidden");
    delete(&sim, &queue, &again[0]).await.unwrap();
    assert_eq!(sim.messages(Q).len(), 10);
}

#[tokio::test]
async fn counts_may_be_old_for_as_long_as_a_test_says() {
    let (sim, clock, queue) = world(SimOptions::default());
    let lag = Noise {
        counts_lag: MINUTE,
        ..Noise::default()
    };
    sim.noise(lag, 0);
    assert_eq!(sim.look(&queue).await.unwrap().visible, 0);
    send_all(&sim, &queue, &["a"]).await;
    assert_eq!(sim.look(&queue).await.unwrap().visible, 0);
    clock.advance(MINUTE);
    assert_eq!(sim.look(&queue).await.unwrap().visible, 1);
}

#[tokio::test]
async fn planned_faults_fail_before_or_after_the_work_or_at_single_entries() {
    let (sim, _, queue) = world(SimOptions::default());
    let slow = Fault::new(FaultKind::Throttled, "RequestThrottled");
    let lost = Fault::new(FaultKind::Unknown, "no answer");
    sim.faults.next(Op::Send, FaultPlan::Before(slow.clone()));
    sim.faults.next(Op::Send, FaultPlan::After(lost.clone()));
    sim.faults
        .next(Op::Send, FaultPlan::Entries(vec![1], slow.clone()));
    assert_eq!(send(&sim, &queue, text("a")).await, Err(slow.clone()));
    assert_eq!(sim.messages(Q).len(), 0);
    assert_eq!(send(&sim, &queue, text("b")).await, Err(lost.clone()));
    assert_eq!(sim.messages(Q).len(), 1, "it was carried out");
    let answers = sim
        .send(&queue, vec![text("c"), text("d"), text("e")])
        .await;
    assert_eq!(
        answers.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(sim.faults.requests(Op::Send), 3);
    sim.faults
        .always(Op::Receive, Some(FaultPlan::Before(slow)));
    assert!(sim.receive(&queue, &ASK).await.is_err());
    assert!(sim.receive(&queue, &ASK).await.is_err());
    sim.faults.always(Op::Receive, None);
    sim.faults.next(Op::Receive, FaultPlan::After(lost));
    assert!(sim.receive(&queue, &ASK).await.is_err());
    assert_eq!(receive(&sim, &queue).await, [], "they are hidden");
}

#[tokio::test]
async fn queues_are_found_by_name_and_keep_tags() {
    let (sim, _, queue) = world(SimOptions::default());
    assert_eq!(sim.find(Q).await.unwrap(), Some(queue.clone()));
    assert_eq!(sim.find("other").await.unwrap(), None);
    sim.tag(&queue, "k", Some("v")).await.unwrap();
    assert_eq!(sim.tags(&queue).await.unwrap()["k"], "v");
    sim.tag(&queue, "k", None).await.unwrap();
    assert!(sim.tags(&queue).await.unwrap().is_empty());
    sim.remove(Q);
    assert_eq!(kind(sim.look(&queue).await), FaultKind::Denied);
    assert_eq!(kind(send(&sim, &queue, text("a")).await), FaultKind::Denied);
}
