//! The night itself: who comes when, what goes wrong, and the releaser's ticks in between.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Code, MessageId, Scope};

use super::crowd::{Arrival, Crowd, instant};
use super::provider::{Mood, Provider};
use super::story::{Story, Sums};
use crate::cli::Failure;
use crate::cli::road::Road;
use crate::clock::{Clock, ManualClock};
use crate::config::Config;
use crate::consent::{Act, ConsentEvent};
use crate::gate::Status;
use crate::hold::{self, State};
use crate::recall::Recaller;
use crate::receipt::ReceiptAsk;

/// The simulated clock moves in steps of at least so long, as a sleeping process wakes.
const STEP: Duration = Duration::from_millis(250);
/// The same jitter every time, so that everybody sees the same night.
const SEED: u64 = 8;
/// Receipts read at a time.
const RECEIPTS_PAGE: usize = 5_000;
/// How long the crashed process is away.
const AWAY: SignedDuration = SignedDuration::from_secs(20);
/// The campaign that is taken back in the morning: a coupon for a night that is over.
const RECALLED: &str = "심야쿠폰";

/// What happens at a given instant, beside arrivals.
#[derive(Clone, Copy, Debug)]
enum Scene {
    Closing,
    Quiet,
    Midnight,
    Withdrawals,
    Recall,
    Opening,
    ProviderIll,
    ProviderWell,
    Crash,
    End,
}

/// When, in Korean time.
const SCENES: [(&str, Scene); 10] = [
    ("2026-11-23T20:59:30+09:00", Scene::Closing),
    ("2026-11-23T21:10:00+09:00", Scene::Quiet),
    ("2026-11-24T00:00:00+09:00", Scene::Midnight),
    ("2026-11-24T02:00:00+09:00", Scene::Withdrawals),
    ("2026-11-24T07:40:00+09:00", Scene::Recall),
    ("2026-11-24T08:00:00+09:00", Scene::Opening),
    ("2026-11-24T08:00:25+09:00", Scene::ProviderIll),
    ("2026-11-24T08:01:10+09:00", Scene::ProviderWell),
    ("2026-11-24T08:01:20+09:00", Scene::Crash),
    ("2026-11-24T08:20:00+09:00", Scene::End),
];

/// One night, live.
pub(super) struct Night {
    config: Config,
    clock: Arc<ManualClock>,
    /// None while the process is dead.
    road: Option<Road>,
    provider: Provider,
    story: Story,
    crowd: Crowd,
    ids: Vec<MessageId>,
    sums: Sums,
}

impl Night {
    /// Opens the road at 20:50 and records what people agreed to.
    pub(super) async fn begin(
        config: Config,
        provider: Provider,
        story: Story,
    ) -> Result<Self, Failure> {
        let crowd = Crowd::gather()?;
        let clock = Arc::new(ManualClock::new(instant("2026-11-23T20:50:00+09:00")?));
        let road = open(&config, &clock).await?;
        road.consent.record(crowd.consents.clone()).await?;
        let (ids, sums) = (Vec::new(), Sums::default());
        Ok(Self {
            config,
            clock,
            road: Some(road),
            provider,
            story,
            crowd,
            ids,
            sums,
        })
    }

    /// Lives through the night; whether the table adds up.
    pub(super) async fn live(mut self) -> Result<bool, Failure> {
        let (people, many) = (self.crowd.consents.len(), self.crowd.arrivals.len());
        self.tell(
            &format!("수신 동의 {people}건을 읽었습니다. 곧 알림 {many}건이 들어옵니다."),
            &format!("{people} consents are on file. {many} notifications are about to arrive."),
        )?;
        let mut arrivals = std::mem::take(&mut self.crowd.arrivals)
            .into_iter()
            .peekable();
        let mut scenes = SCENES.into_iter();
        let mut scene = next_scene(&mut scenes)?;
        while let Some((at, what)) = scene {
            let wake = self.tick().await?;
            let arrival = arrivals.peek().map(|arrival| arrival.at);
            let next = [Some(at), arrival, wake]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(at);
            self.clock.advance_to(next.max(self.clock.now()));
            let now = self.clock.now();
            let mut came = Vec::new();
            while let Some(arrival) = arrivals.next_if(|arrival| arrival.at <= now + RIPPLE) {
                came.push(arrival);
            }
            self.accept(came).await?;
            if now >= at {
                self.play(what).await?;
                scene = next_scene(&mut scenes)?;
            }
        }
        self.count().await?;
        self.story.table(&self.sums)?;
        Ok(self.sums.add_up())
    }

    fn tell(&self, korean: &str, english: &str) -> Result<(), Failure> {
        self.story.tell(self.clock.now(), korean, english)
    }

    /// One tick, and a look at what the provider took; when the next is worth it.
    async fn tick(&mut self) -> Result<Option<Timestamp>, Failure> {
        let tick = tokio::select! {
            tick = self.road()?.releaser.tick() => Some(tick?),
            () = self.provider.fell_silent() => None,
        };
        self.inspect();
        let Some(tick) = tick else {
            self.crash().await?;
            return Ok(Some(self.clock.now()));
        };
        let soonest = self.clock.now() + STEP;
        Ok(tick.wake.map(|wake| wake.max(soonest)))
    }

    async fn accept(&mut self, arrivals: Vec<Arrival>) -> Result<(), Failure> {
        if arrivals.is_empty() {
            return Ok(());
        }
        let messages = arrivals
            .into_iter()
            .map(|arrival| arrival.message)
            .collect();
        for answer in self.road()?.gate.accept(messages).await? {
            self.sums.posted += 1;
            match answer.status {
                Status::Accepted | Status::Held => {
                    self.sums.accepted += 1;
                    self.ids.push(answer.id);
                }
                _ => match answer.why.map(|why| why.reason.code) {
                    Some(Code::Expired) => self.sums.expires_too_soon += 1,
                    _ => self.sums.no_consent += 1,
                },
            }
        }
        Ok(())
    }

    /// Plays one scene and tells it.
    async fn play(&mut self, scene: Scene) -> Result<(), Failure> {
        let held = self.held().await?;
        let taken = self.provider.received().len();
        match scene {
            Scene::Closing => self.tell(
                &format!(
                    "광고 창이 30초 여유를 두고 닫힙니다. 지금까지 {taken}건 전달. 이제 야간 동의가 없는 \
                     광고는 보관합니다."
                ),
                &format!(
                    "The advertising window closes, 30 s early to be safe. {taken} delivered so \
                     far. From now on, advertising without night consent is held."
                ),
            ),
            Scene::Quiet => self.tell(
                &format!(
                    "{held}건 보관 중. 주문·배송 알림, 이메일, 야간 동의를 받은 광고는 계속 나갑니다 \
                     ({taken}건 전달)."
                ),
                &format!(
                    "{held} held. Orders, deliveries, e-mail and advertising with night consent go \
                     on leaving ({taken} delivered)."
                ),
            ),
            Scene::Midnight => self.tell(
                "밤사이에는 깨어날 일이 없습니다. 보관된 알림은 디스크에 있습니다.",
                "Nothing to wake for. What is held is on the disk.",
            ),
            Scene::Withdrawals => self.withdraw().await,
            Scene::Recall => self.recall().await,
            Scene::Opening => self.tell(
                &format!(
                    "08:00. {held}건이 순서대로, 천천히 속도를 올리며 나갑니다. 나가기 직전에 동의를 \
                     다시 확인합니다."
                ),
                &format!(
                    "08:00. {held} messages leave in order, slowly at first. Consent is asked \
                     again before each leaves."
                ),
            ),
            Scene::ProviderIll => {
                self.provider.feel(Mood::Ill);
                self.tell(
                    "발송사가 503으로 답하기 시작합니다. 레인이 물러서서 기다립니다. 잃는 것은 없습니다.",
                    "The provider starts to answer 503. The lane backs off. Nothing is lost.",
                )
            }
            Scene::ProviderWell => {
                self.provider.feel(Mood::Well);
                self.tell(
                    &format!("발송사가 돌아왔습니다. 남은 {held}건을 이어서 내보냅니다."),
                    &format!("The provider is back. {held} messages to go."),
                )
            }
            Scene::Crash => {
                self.provider.feel(Mood::Silent);
                Ok(())
            }
            Scene::End => self.tell(
                "아침 물량이 모두 빠졌습니다. 밤의 장부를 맞춰 봅니다.",
                "The morning has drained. Let us add up the night.",
            ),
        }
    }

    async fn withdraw(&mut self) -> Result<(), Failure> {
        let (at, source) = (self.clock.now(), "demo".to_owned());
        let events = self.crowd.withdrawing.iter().map(|key| ConsentEvent {
            key: key.clone(),
            scope: Scope::General,
            act: Act::Withdraw,
            at,
            source: source.clone(),
        });
        let many = self.road()?.consent.record(events.collect()).await?;
        self.tell(
            &format!(
                "{many}명이 수신 동의를 철회했습니다. 08:00에 나갈 그들의 광고는 나가지 않습니다."
            ),
            &format!(
                "{many} people withdraw their consent. What is held for them will not leave at \
                 08:00."
            ),
        )
    }

    fn road(&self) -> Result<&Road, Failure> {
        let dead = || Failure::failed("the demo has no process to ask");
        self.road.as_ref().ok_or_else(dead)
    }

    async fn recall(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        let recaller = Recaller {
            hold: &*self.road()?.hold,
            receipts: &*self.road()?.receipts,
            from: None,
        };
        let scope = hold::Scope::Campaign(RECALLED.into());
        let recalled = recaller.take_back(&scope, now).await?.count;
        self.tell(
            &format!("담당자가 캠페인 '{RECALLED}'을 회수합니다: {recalled}건."),
            &format!("Somebody recalls the campaign '{RECALLED}': {recalled} messages."),
        )
    }

    /// Everything in memory is gone, in the middle of a hand-over; the stores are opened again.
    async fn crash(&mut self) -> Result<(), Failure> {
        self.tell(
            "한 묶음을 넘기는 중에 프로세스가 죽었습니다. 답은 받지 못했습니다.",
            "The process dies in the middle of a hand-over; the answer never came.",
        )?;
        self.provider.feel(Mood::Well);
        self.clock.advance_to(self.clock.now() + AWAY);
        // A process that is dead lets go of its stores: the hold has one owner at a time.
        self.road = None;
        self.road = Some(open(&self.config, &self.clock).await?);
        let held = self.held().await?;
        self.tell(
            &format!(
                "다시 시작했습니다. 디스크에 {held}건이 그대로 있습니다. 결과를 모르는 광고는 다시 보내지 \
                 않고 확인 대상으로 둡니다."
            ),
            &format!(
                "Restarted. {held} messages are still on the disk. Advertising whose outcome \
                 nobody knows is not sent again but put aside for a person."
            ),
        )
    }

    async fn held(&self) -> Result<u64, Failure> {
        let shelves = self.road()?.hold.shelves(None, None).await?;
        Ok(shelves.iter().map(|shelf| shelf.held + shelf.leased).sum())
    }

    /// Keeps the provider's view of the law: what arrived in quiet hours, judged by the true clock.
    fn inspect(&mut self) {
        let now = self.clock.now();
        let hour = now
            .to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(9)))
            .hour();
        let quiet = !(8..21).contains(&hour);
        for (_, item) in self.provider.fresh() {
            let exempt = item.channel == "email" || self.crowd.night.contains(&item.recipient);
            if quiet && item.advertising && (!exempt || item.channel == "friendtalk") {
                self.sums.night_offences += 1;
            }
        }
    }

    /// Adds up, from the hold's states and the provider's books.
    async fn count(&mut self) -> Result<(), Failure> {
        for found in self
            .road()?
            .hold
            .find(&self.ids)
            .await?
            .into_iter()
            .flatten()
        {
            match found.state {
                State::Delivered => self.sums.delivered += 1,
                State::Refused | State::Rejected => self.sums.refused += 1,
                State::Expired => self.sums.expired += 1,
                State::Recalled => self.sums.recalled += 1,
                State::Held | State::Leased => self.sums.held += 1,
                State::Buried => {
                    self.sums.held += 1;
                    self.sums.buried += 1;
                }
            }
        }
        let received = self.provider.received();
        self.sums.taken_by_provider = received.len() as u64;
        for item in received.values().filter(|item| item.times > 1) {
            match item.advertising {
                true => self.sums.advertising_twice += 1,
                false => self.sums.information_twice += 1,
            }
        }
        self.count_receipts().await
    }

    async fn count_receipts(&mut self) -> Result<(), Failure> {
        let mut ask = ReceiptAsk {
            max: RECEIPTS_PAGE,
            ..ReceiptAsk::default()
        };
        loop {
            let page = self.road()?.receipts.query(&ask).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            self.sums.receipts += page.len() as u64;
            ask.after = Some(last.seq);
        }
    }
}

/// Arrivals this close together are accepted together.
const RIPPLE: SignedDuration = SignedDuration::from_secs(4);

async fn open(config: &Config, clock: &Arc<ManualClock>) -> Result<Road, Failure> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    Road::open(config, clock, fastrand::Rng::with_seed(SEED)).await
}

fn next_scene(
    scenes: &mut impl Iterator<Item = (&'static str, Scene)>,
) -> Result<Option<(Timestamp, Scene)>, Failure> {
    scenes
        .next()
        .map(|(at, scene)| Ok((instant(at)?, scene)))
        .transpose()
}
