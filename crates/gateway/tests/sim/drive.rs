//! Runs one night: polls every process of it by hand, in one order, and moves true time on to
//! whatever comes next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jiff::{SignedDuration, Timestamp};
use nightgate::error::Result;
use nightgate::gate::{Accepted, Gate};
use nightgate::hold::{Found, Held, HoldStore, Lane, Put, State};
use nightgate::release::{Releaser, Tick};
use nightgate_core::{Class, MessageId};

use crate::build::{self, Stores};
use crate::faults::Faults;
use crate::forgetful::is_left;
use crate::history::{Entry, What, Who};
use crate::knobs::{Knobs, LANES, RELEASERS};
use crate::script::{Do, ENDS, OPENS, Script};
use crate::store::FaultyHold;
use crate::world::{World, at_once};

/// Ticks of one night; more means that a lane spins.
const TICKS_MAX: usize = 100_000;

/// How things stood when the night was over.
pub(crate) struct Night {
    pub(crate) script: Script,
    pub(crate) history: Vec<Entry>,
    /// What the hold knew of each message of the script.
    pub(crate) found: Vec<Option<Found>>,
    /// Whether it still knew the id.
    pub(crate) known: Vec<bool>,
    /// Held, on loan, buried: by the hold's own count.
    pub(crate) counts: [u64; 3],
    pub(crate) ticks: usize,
}

impl Night {
    /// What was left in the hold: all that it must know whole, whatever it says of what ended.
    pub(crate) fn left(&self) -> Vec<Option<&Found>> {
        let left = |found: &&Found| is_left(found.state);
        let found = self.found.iter();
        found.map(|found| found.as_ref().filter(left)).collect()
    }
}

enum Done {
    Ticked(Result<Tick>),
    Answered(Result<Vec<Accepted>>),
}

type Running = Pin<Box<dyn Future<Output = Done>>>;

enum Job {
    /// A lane of a releaser: for ever.
    Lane { releaser: u8, lane: usize },
    /// A producer with a batch: until it has its answer, or gives up.
    Offer { ids: Vec<usize>, tries: u32 },
}

struct Slot {
    job: Job,
    running: Option<Running>,
    /// When it runs next.
    next: Timestamp,
}

struct Driver {
    script: Script,
    world: Arc<World>,
    stores: Stores,
    gate: Arc<Gate>,
    releasers: Vec<Option<Releaser>>,
    /// When a crashed releaser is started again.
    down: Vec<Option<Timestamp>>,
    slots: Vec<Slot>,
    /// By how much the wall clock is wrong.
    wrong: SignedDuration,
    ticks: usize,
}

/// Runs the night of `knobs` over `stores`.
pub(crate) fn night(knobs: Knobs, stores: Stores) -> Night {
    let script = Script::of(&knobs);
    let world = Arc::new(World::new(knobs, script.hour(OPENS)));
    let mut todo = script.todo.clone().into_iter().peekable();
    let mut driver = Driver::new(script, world, stores);
    let end = driver.script.hour(ENDS);
    loop {
        let now = driver.world.now();
        while let Some((_, act)) = todo.next_if(|(at, _)| *at <= now) {
            driver.act(act);
        }
        driver.start_again();
        while driver.poll_all() {}
        let next = todo.peek().map(|(at, _)| *at).into_iter();
        let next = next.chain(driver.next_event()).min().unwrap_or(end);
        if next >= end || driver.ticks > TICKS_MAX {
            break;
        }
        driver
            .world
            .advance_to(next.max(now + SignedDuration::from_micros(100)));
    }
    driver.finish()
}

impl Driver {
    fn new(script: Script, world: Arc<World>, stores: Stores) -> Self {
        for change in &script.before {
            note_change(&world, change);
            at_once(stores.book.record(vec![change.event()])).unwrap();
        }
        let gate = Arc::new(build::gate(&script, &world, &stores));
        let releasers = (0..RELEASERS).map(|_| None).collect();
        let down = vec![Some(world.now()); usize::from(RELEASERS)];
        let lanes = (0..RELEASERS).flat_map(|r| (0..LANES.len()).map(move |lane| (r, lane)));
        let slots = lanes
            .map(|(releaser, lane)| Slot {
                job: Job::Lane { releaser, lane },
                running: None,
                next: world.now(),
            })
            .collect();
        let wrong = SignedDuration::ZERO;
        Self {
            script,
            world,
            stores,
            gate,
            releasers,
            down,
            slots,
            wrong,
            ticks: 0,
        }
    }

    /// What people, and bad luck, do.
    fn act(&mut self, act: Do) {
        let (world, now) = (Arc::clone(&self.world), self.world.now());
        match act {
            Do::Offer(ids) => self.slots.push(Slot {
                job: Job::Offer { ids, tries: 0 },
                running: None,
                next: now,
            }),
            Do::Change(mut change) => {
                change.at = now;
                at_once(self.stores.book.record(vec![change.event()])).unwrap();
                note_change(&world, &change);
            }
            Do::Recall(reach) => self.recall(&reach),
            Do::Kick(lane) => {
                let buried = at_once(self.stores.hold.list(State::Buried, Some(&lane), 10_000));
                let ids = buried.unwrap().iter().map(number_of).collect();
                let reach = nightgate::hold::Scope::Lane(lane);
                at_once(self.stores.hold.kick(&reach, world.wall())).unwrap();
                world.note(What::Kicked { ids });
            }
            Do::Pause(lane, paused) => {
                let named = lane.map(|lane| Lane::new(LANES[lane].0));
                let wall = world.wall();
                at_once(self.stores.hold.pause(named.as_ref(), paused, wall)).unwrap();
                world.note(What::Paused { lane, paused });
            }
            Do::Step(by) => {
                self.wrong = by;
                world.clock.step_to(world.wall() + by);
                world.note(What::Stepped { by });
            }
            Do::Correct => {
                self.wrong = SignedDuration::ZERO;
                world.clock.step_to(now);
                world.note(What::Corrected);
            }
            Do::Crash(who) => self.crash(who),
            Do::Sweep => drop(at_once(self.stores.hold.sweep(world.wall())).unwrap()),
            Do::Calm => world.calm_down(),
        }
        self.nudge(1000);
    }

    /// Resting lanes look again within `ms`: real ones never sleep longer than a second.
    fn nudge(&mut self, ms: i64) {
        let now = self.world.now();
        for slot in self
            .slots
            .iter_mut()
            .filter(|slot| matches!(slot.job, Job::Lane { .. }))
        {
            let soon = SignedDuration::from_millis(self.world.chance(|rng| rng.i64(0..ms)));
            slot.next = slot.next.min(now + soon);
        }
    }

    fn recall(&self, reach: &nightgate::hold::Scope) {
        let (world, wall) = (&self.world, self.world.wall());
        let before = self.find_all();
        let hold = self.as_seen_by(Who::Gate);
        let said = at_once(hold.recall(reach, wall)).unwrap();
        let state = |found: &Option<Found>| found.as_ref().map(|found| found.state);
        let within = |id: usize| {
            let message = &self.script.lines[id].message;
            match reach {
                nightgate::hold::Scope::Id(id) => message.id == *id,
                nightgate::hold::Scope::Campaign(name) => message.campaign.as_ref() == Some(name),
                nightgate::hold::Scope::Recipient(key) => {
                    self.script.keys.number(key) == self.script.lines[id].key
                }
                nightgate::hold::Scope::Lane(_) => false,
            }
        };
        let after = self.find_all();
        let all = (0..before.len()).filter(|id| within(*id));
        let kept = |it| matches!(it, Some(State::Held | State::Buried));
        // Nothing else happens meanwhile: what is gone from a hold that forgets ends was recalled.
        let gone = |id: usize| match state(&after[id]) {
            None => before[id].is_some(),
            after => after == Some(State::Recalled),
        };
        let newly = |id: &usize| gone(*id) && state(&before[*id]) != Some(State::Recalled);
        let ids = all
            .clone()
            .filter(|id| kept(state(&before[*id])) || newly(id))
            .collect();
        let in_flight = all
            .filter(|id| state(&after[*id]) == Some(State::Leased))
            .collect();
        world.note(What::Recalled {
            ids,
            in_flight,
            said: said.recalled,
        });
    }

    fn find_all(&self) -> Vec<Option<Found>> {
        let ids: Vec<MessageId> = self
            .script
            .lines
            .iter()
            .map(|line| line.message.id.clone())
            .collect();
        at_once(self.stores.hold.find(&ids)).unwrap()
    }

    fn as_seen_by(&self, who: Who) -> FaultyHold {
        let faults = Faults::new(&self.world, who, "hold");
        FaultyHold {
            faults,
            inner: Arc::clone(&self.stores.hold),
        }
    }

    fn crash(&mut self, who: Who) {
        let Who::Releaser(crashed) = who else { return };
        let now = self.world.now();
        self.world.note(What::Crashed { who });
        for slot in &mut self.slots {
            if matches!(slot.job, Job::Lane { releaser, .. } if releaser == crashed) {
                slot.running = None;
            }
        }
        self.releasers[usize::from(crashed)] = None;
        let away = self.world.chance(|rng| {
            let most = if rng.u32(0..4) == 0 { 3 * 3600 } else { 120 };
            rng.i64(1..most)
        });
        self.down[usize::from(crashed)] = Some(now + SignedDuration::from_secs(away));
    }

    /// Starts releasers whose time has come. Not while the clock is wrong: a process that starts
    /// then cannot know it, see docs/SIMULATOR.md.
    fn start_again(&mut self) {
        let now = self.world.now();
        for releaser in 0..RELEASERS {
            let place = usize::from(releaser);
            if !self.wrong.is_zero() || self.down[place].is_none_or(|at| at > now) {
                continue;
            }
            self.down[place] = None;
            self.world.note(What::Started {
                who: Who::Releaser(releaser),
            });
            self.releasers[place] = Some(build::releaser(
                &self.script,
                &self.world,
                &self.stores,
                releaser,
            ));
            for slot in &mut self.slots {
                if matches!(slot.job, Job::Lane { releaser: it, .. } if it == releaser) {
                    slot.next = now;
                }
            }
        }
    }

    /// Polls everything once; says whether anything moved.
    fn poll_all(&mut self) -> bool {
        let mut moved = false;
        let mut place = 0;
        while place < self.slots.len() {
            let mut context = Context::from_waker(Waker::noop());
            if self.slots[place].running.is_none() && self.slots[place].next <= self.world.now() {
                self.slots[place].running = self.start(place);
            }
            let polled = self.slots[place]
                .running
                .as_mut()
                .map(|it| it.as_mut().poll(&mut context));
            if let Some(Poll::Ready(done)) = polled {
                moved = true;
                self.slots[place].running = None;
                self.done(place, done);
            }
            for who in self.world.take_crashes() {
                moved = true;
                match who {
                    Who::Gate => {
                        self.slots[place].running = None;
                        self.no_answer(place);
                    }
                    Who::Releaser(_) => self.crash(who),
                }
            }
            place += 1;
        }
        self.slots.retain(|slot| slot.next < Timestamp::MAX);
        moved
    }

    fn start(&mut self, place: usize) -> Option<Running> {
        match &self.slots[place].job {
            Job::Lane { releaser, lane } => {
                let releaser = self.releasers[usize::from(*releaser)].as_ref()?;
                let lane = Arc::clone(&releaser.lanes()[*lane]);
                self.ticks += 1;
                Some(Box::pin(async move { Done::Ticked(lane.tick().await) }))
            }
            Job::Offer { ids, .. } => {
                let line = |id: &usize| self.script.lines[*id].message.clone();
                let messages = ids.iter().map(line).collect();
                let gate = Arc::clone(&self.gate);
                Some(Box::pin(async move {
                    Done::Answered(gate.accept(messages).await)
                }))
            }
        }
    }

    fn done(&mut self, place: usize, done: Done) {
        match done {
            Done::Ticked(ticked) => self.ticked(place, &ticked),
            Done::Answered(Err(_)) => self.no_answer(place),
            Done::Answered(Ok(answers)) => {
                for answer in answers {
                    let id = crate::world::number(answer.id.as_str());
                    self.world.note(What::Answered {
                        id,
                        status: answer.status,
                    });
                }
                self.slots[place].next = Timestamp::MAX;
                self.nudge(20);
            }
        }
    }

    fn no_answer(&mut self, place: usize) {
        let now = self.world.now();
        let Job::Offer { ids, tries } = &mut self.slots[place].job else {
            return;
        };
        self.world.note(What::NoAnswer { ids: ids.clone() });
        *tries += 1;
        let gives_up = *tries > 8 || self.world.chance(|rng| rng.u32(0..10)) == 0;
        let pause = SignedDuration::from_secs(self.world.chance(|rng| rng.i64(1..120)));
        self.slots[place].next = if gives_up {
            Timestamp::MAX
        } else {
            now + pause
        };
    }

    fn ticked(&mut self, place: usize, ticked: &Result<Tick>) {
        let (now, wall) = (self.world.now(), self.world.wall());
        let Job::Lane { releaser, lane } = self.slots[place].job else {
            return;
        };
        let ms = |world: &World, from, to| {
            SignedDuration::from_millis(world.chance(|rng| rng.i64(from..to)))
        };
        let world = &self.world;
        let next = match ticked {
            Ok(tick) => {
                let status = self.releasers[usize::from(releaser)]
                    .as_ref()
                    .map(|it| it.lanes()[lane].status());
                let frozen = status.as_ref().is_some_and(|status| status.frozen);
                let stopped = frozen || status.is_some_and(|status| status.paused);
                let ahead = tick.wake.unwrap_or(Timestamp::MAX).duration_since(wall);
                let work = ms(world, 1, 20);
                // A real one would look every second. Nothing can come of it, so look less often.
                let most = if frozen {
                    ms(world, 1000, 60_000)
                } else {
                    ms(world, 60_000, 3_000_000)
                };
                now + if stopped {
                    most
                } else {
                    ahead.clamp(work, most)
                }
            }
            Err(fault) => {
                let who = Who::Releaser(releaser);
                world.note(What::TickFailed {
                    who,
                    lane,
                    kind: fault.kind,
                });
                now + SignedDuration::from_secs(1)
            }
        };
        self.slots[place].next = next;
    }

    fn next_event(&self) -> impl Iterator<Item = Timestamp> {
        let up = |slot: &&Slot| match slot.job {
            Job::Lane { releaser, .. } => self.releasers[usize::from(releaser)].is_some(),
            Job::Offer { .. } => true,
        };
        let idle = self
            .slots
            .iter()
            .filter(|slot| slot.running.is_none())
            .filter(up);
        let down = self.down.iter().flatten().filter(|_| self.wrong.is_zero());
        idle.map(|slot| slot.next)
            .chain(down.copied())
            .chain(self.world.next_timer())
    }

    /// Whether each id is known: of what has ended a hold may tell no more than that.
    fn known(&self, found: &[Option<Found>]) -> Vec<bool> {
        let mut known: Vec<bool> = found.iter().map(Option::is_some).collect();
        if self.stores.hold.capability().ended {
            return known;
        }
        let wall = self.world.wall();
        let again = |line: &crate::script::Line| Held {
            key: line.message.recipient.key("KR"),
            message: line.message.clone(),
            lane: Lane::new(LANES[0].0),
            class: Class::from_name("asked for once more"),
            due: wall,
            accepted_at: wall,
        };
        for (id, known) in known.iter_mut().enumerate().filter(|(_, known)| !**known) {
            let messages = vec![again(&self.script.lines[id])];
            let put = at_once(self.stores.hold.put(messages, wall)).unwrap();
            *known = put == [Put::Duplicate];
        }
        known
    }

    fn finish(self) -> Night {
        let found = self.find_all();
        let shelves = at_once(self.stores.hold.shelves(None, None)).unwrap();
        let sum = |count: fn(&nightgate::hold::Shelf) -> u64| shelves.iter().map(count).sum();
        let counts = [sum(|s| s.held), sum(|s| s.leased), sum(|s| s.buried)];
        let known = self.known(&found);
        let history = self.world.take_history();
        Night {
            script: self.script,
            history,
            found,
            known,
            counts,
            ticks: self.ticks,
        }
    }
}

fn number_of(found: &Found) -> usize {
    crate::world::number(found.held.message.id.as_str())
}

fn note_change(world: &World, change: &crate::script::Change) {
    let (key, scope, at, lapses) = (change.key, change.scope, change.at, change.lapses);
    world.note(match change.grant {
        Some(basis) => What::Granted {
            key,
            scope,
            basis,
            at,
            lapses,
        },
        None => What::Withdrew { key, scope, at },
    });
}
