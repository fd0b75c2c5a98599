//! The hold on Redis beside the pattern that everybody writes by hand (a ZSET by due, a Lua script
//! that claims), on servers of the same settings, through the same connection, in one run.
//!
//! `cargo bench --features redis --bench redis --profile quick -- [MESSAGES] [always|everysec]`:
//! for each kind of body and each of the two: hold and release rate, processor seconds of client
//! and server a million, and the server's memory a message. With `scripts` in place of these: how
//! long the longest scripts block the server.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "the servers of the tests are used")]

#[path = "../tests/behaviour/redis/server.rs"]
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
mod server;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::hold::redis::{Options, RedisHold};
use nightgate::hold::{End, Held, HoldStore, Lane, LeaseAsk, Pick, Put, Settle, Settled, Verdict};
use nightgate::redis::{Call, Durability, Redis, RedisOptions, Script};
use nightgate::secret::Secret;
use nightgate_core::{
    Channel, Class, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};

use self::server::Server;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const MESSAGES_DEFAULT: u64 = 1_000_000;
/// Messages in one put, as in `shared/peers`.
const GROUP: u64 = 1_000;
/// Messages in one lease, as there.
const LEASE: usize = 500;
const IN_FLIGHT: usize = 2;
const BODY_BYTES: usize = 300;
const DUE: &str = "2026-11-22T23:00:00Z";
const NOW: &str = "2026-11-22T12:00:00Z";
/// The claim of `shared/peers/peer_redis.py`: due members move to a set of those in flight.
const CLAIM: &str = "
local m = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
local n = #m
if n == 0 then return m end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, n - 1)
local a = {}
for i = 1, n do a[2*i-1] = ARGV[3]; a[2*i] = m[i] end
redis.call('ZADD', '{h}inflight', unpack(a))
return m
";

#[derive(Clone, Copy, Debug)]
enum Text {
    /// Random bytes.
    Random,
    /// An order notice in Korean.
    Notice,
    /// As the peers': windows of one random text.
    Peers,
}

fn body(kind: Text, number: u64, letters: &[u8]) -> Vec<u8> {
    let to = number * 7_919 % 100_000_000;
    let campaign = number / GROUP % 50;
    match kind {
        Text::Random => {
            let mut body = vec![0; BODY_BYTES];
            fastrand::Rng::with_seed(number).fill(&mut body);
            body
        }
        Text::Notice => format!(
            "{{\"template\":\"N-17\",\"to\":\"+8210{to:08}\",\"text\":\"(광고) 가을 세일 안내: \
             {to}번 고객님, 주문번호 {number:09} 상품이 최대 {}% 할인됩니다. 무료수신거부 \
             080-000-0000\",\"link\":\"https://shop.example/c/{campaign:04}/{number}\",\
             \"button\":\"지금 보기\"}}",
            number % 50 + 10
        )
        .into_bytes(),
        Text::Peers => {
            let mut body = format!(
                "{{\"id\":\"msg-{number:09}\",\"to\":\"+8210{to:08}\",\"campaign\":\
                 \"cmp-{campaign:04}\",\"channel\":\"sms\",\"kind\":\"ad\",\
                 \"title\":\"Autumn sale\",\"text\":\""
            )
            .into_bytes();
            let at = usize::try_from(number * 7_919 % 65_000).unwrap();
            let length = BODY_BYTES - body.len() - 2;
            body.extend(&letters[at..at + length]);
            body.extend(b"\"}");
            body
        }
    }
}

fn held(number: u64, body: Vec<u8>, names: &(Lane, Class, Arc<str>)) -> Outcome<Held> {
    let to = number * 7_919 % 100_000_000;
    let recipient = Recipient::new(&format!("+8210{to:08}"))?;
    Ok(Held {
        key: RecipientKey::from_stored(recipient.expose()),
        message: Message {
            id: MessageId::new(&format!("msg-{number:09}"))?,
            recipient,
            channel: Channel::Sms,
            purpose: Purpose::Advertising,
            campaign: Some(format!("cmp-{:04}", number / GROUP % 50).into()),
            priority: Priority::default(),
            jurisdiction: None,
            zone: None,
            send_at: None,
            expires_at: None,
            collapse_key: None,
            content_type: Arc::clone(&names.2),
            attributes: std::collections::BTreeMap::new(),
            body: Bytes::from(body),
        },
        lane: names.0.clone(),
        class: names.1.clone(),
        due: DUE.parse()?,
        accepted_at: NOW.parse()?,
    })
}

/// Figures of one step.
struct Step {
    clock: SystemClock,
    start: Duration,
    client: f64,
    server: f64,
}

impl Step {
    fn begin(server: &Server) -> Self {
        let clock = SystemClock::default();
        let start = clock.monotonic();
        Self {
            clock,
            start,
            client: own_cpu(),
            server: server.cpu_seconds(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn end(self, what: &str, server: &Server, messages: u64, made: f64) {
        let wall = (self.clock.monotonic() - self.start).as_secs_f64();
        let million = messages as f64 / 1e6;
        let client = (own_cpu() - self.client - made) / million;
        let served = (server.cpu_seconds() - self.server) / million;
        println!(
            "  {what}: {:.0} a second, CPU s a million: client {client:.2} + server {served:.2} = \
             {:.2}",
            messages as f64 / (wall - made).max(1e-9),
            client + served
        );
    }
}

/// The processor time of this process, in seconds.
fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(") ").unwrap().1;
    let ticks = |at: usize| after.split(' ').nth(at).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn used_memory(server: &Server) -> u64 {
    let info = server.ask(&["INFO", "memory"]);
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .unwrap();
    used.trim().parse().unwrap()
}

fn memory(server: &Server, before: u64, messages: u64, body_bytes: u64) {
    let used = used_memory(server).saturating_sub(before);
    println!(
        "  memory: {} bytes a message, of bodies of {}",
        used / messages,
        body_bytes / messages
    );
}

/// `kill -9` of a server that has all of it on its disk, and how long until it answers again.
fn restart(server: &mut Server) {
    server.ask(&["CONFIG", "SET", "appendfsync", "always"]);
    server.ask(&["SET", "bench", "synced"]);
    let clock = SystemClock::default();
    let start = clock.monotonic();
    server.restart();
    println!(
        "  the server is back after {:.2} s",
        (clock.monotonic() - start).as_secs_f64()
    );
}

async fn connect(server: &Server) -> Outcome<Redis> {
    let mut options = RedisOptions::single(Secret::new(server.url()));
    options.timeout = Duration::from_secs(60);
    Ok(Redis::open(&options).await?)
}

/// Claims and removes everything; says how many.
async fn claim_all(redis: &Redis, due: Timestamp) -> Outcome<u64> {
    let claim = Script::new(CLAIM);
    let mut last: Vec<redis::Value> = Vec::new();
    let mut seen = 0;
    loop {
        let mut calls = Vec::new();
        if !last.is_empty() {
            let mut call = Call::on("ZREM", "{h}inflight");
            last.drain(..).for_each(|member| match member {
                redis::Value::BulkString(body) => call.push(body),
                _ => unreachable!("members are texts"),
            });
            calls.push(call);
        }
        let now = due.as_millisecond();
        calls.push(claim.call("{h}hold").arg(now).arg(LEASE).arg(now + 60_000));
        let mut said = redis
            .pipeline(&calls)
            .await
            .map_err(|fault| fault.error("bench", "claim"))?;
        let claimed = said
            .pop()
            .ok_or("no answer")?
            .map_err(|it| it.error("bench", "claim"))?;
        let redis::Value::Array(members) = claimed else {
            return Err("no members".into());
        };
        if members.is_empty() {
            break;
        }
        seen += members.len() as u64;
        last = members;
    }
    Ok(seen)
}

async fn pattern(kind: Text, messages: u64, fsync: &str, letters: &[u8]) -> Outcome<()> {
    let mut server = Server::start(&["--appendfsync", fsync]);
    let redis = connect(&server).await?;
    let due: Timestamp = DUE.parse()?;
    let (before, mut made, mut bytes) = (used_memory(&server), 0.0, 0);
    let step = Step::begin(&server);
    let mut from = 0;
    while from < messages {
        let start = own_cpu();
        let mut calls = Vec::new();
        for _ in 0..20 {
            let mut call = Call::on("ZADD", "{h}hold");
            for number in from..(from + GROUP).min(messages) {
                let body = body(kind, number, letters);
                bytes += body.len() as u64;
                call.push(due.as_millisecond());
                call.push(body);
            }
            from += GROUP;
            calls.push(call);
            if from >= messages {
                break;
            }
        }
        // The driver's own writing of arguments is its work; making bodies is not. It is half.
        made += (own_cpu() - start) / 2.0;
        let redis = &redis;
        let sent = stream::iter(calls).map(|call| async move { redis.call(&call).await });
        let sent: Vec<_> = sent.buffered(IN_FLIGHT).collect().await;
        for answer in sent {
            answer.map_err(|fault| fault.error("bench", "add"))?;
        }
    }
    step.end("hold", &server, messages, made);
    memory(&server, before, messages, bytes);
    restart(&mut server);
    // The first call meets the connection that is gone.
    let _ = redis.ping().await;
    redis.ping().await?;
    let step = Step::begin(&server);
    let seen = claim_all(&redis, due).await?;
    assert_eq!(seen, messages, "every message is claimed");
    step.end("release", &server, messages, 0.0);
    Ok(())
}

/// Lends and settles everything; says how many.
async fn lend_all(hold: &RedisHold, lane: &Lane, due: Timestamp) -> Outcome<u64> {
    let mut seen = 0;
    loop {
        let ask = LeaseAsk {
            lane,
            pick: Pick::Any,
            now: due,
            max: LEASE,
            ttl: SignedDuration::from_secs(60),
        };
        let loans = hold.lease(&ask).await?;
        if loans.is_empty() {
            break;
        }
        seen += loans.len() as u64;
        let done = |token| Settle {
            token,
            verdict: Verdict::Done(End::Delivered),
        };
        let settled = hold
            .settle(loans.iter().map(|loan| done(loan.token)).collect(), due)
            .await?;
        assert!(
            settled.iter().all(|it| *it == Settled::Yes),
            "every loan is settled"
        );
    }
    Ok(seen)
}

async fn nightgate(kind: Text, messages: u64, fsync: &str, letters: &[u8]) -> Outcome<()> {
    let mut server = Server::start(&["--appendfsync", fsync]);
    let options = Options {
        durability: Durability::Strict,
        ..Options::default()
    };
    let hold = RedisHold::open(connect(&server).await?, options).await?;
    let (now, due): (Timestamp, Timestamp) = (NOW.parse()?, DUE.parse()?);
    let class = Class::from_name("advertising/sms/KR/Asia/Seoul");
    let names = (Lane::new("sms"), class, Arc::from("application/json"));
    let (before, mut made, mut bytes) = (used_memory(&server), 0.0, 0);
    let step = Step::begin(&server);
    let mut from = 0;
    while from < messages {
        let start = own_cpu();
        let mut groups = Vec::new();
        for _ in 0..20 {
            let to = (from + GROUP).min(messages);
            let group = (from..to).map(|number| {
                let body = body(kind, number, letters);
                bytes += body.len() as u64;
                held(number, body, &names)
            });
            groups.push(group.collect::<Outcome<Vec<Held>>>()?);
            from = to;
            if from >= messages {
                break;
            }
        }
        made += own_cpu() - start;
        let hold = &hold;
        let put = stream::iter(groups).map(|group| async move { hold.put(group, now).await });
        let answers: Vec<Vec<Put>> = put.buffered(IN_FLIGHT).try_collect().await?;
        assert!(
            answers.iter().flatten().all(|put| *put == Put::New),
            "all are new"
        );
    }
    step.end("hold", &server, messages, made);
    memory(&server, before, messages, bytes);
    restart(&mut server);
    let _ = hold.check().await;
    hold.check().await?;
    let known = held(0, body(kind, 0, letters), &names)?;
    read_all(&server, messages, known).await?;
    let step = Step::begin(&server);
    let seen = lend_all(&hold, &names.0, due).await?;
    assert_eq!(seen, messages, "every message is lent");
    step.end("release", &server, messages, 0.0);
    let used = used_memory(&server).saturating_sub(before);
    println!(
        "  memory when all is done, ids remembered: {} bytes a message",
        used / messages
    );
    Ok(())
}

/// What a gateway does that starts beside a full hold: it reads which ids are known.
async fn read_all(server: &Server, messages: u64, known: Held) -> Outcome<()> {
    let (resident, clock) = (resident_kib(), SystemClock::default());
    let step = (clock.monotonic(), own_cpu(), server.cpu_seconds());
    let hold = RedisHold::open(connect(server).await?, Options::default()).await?;
    let said = hold.put(vec![known], NOW.parse()?).await?;
    assert_eq!(said, [Put::Duplicate], "it is known");
    println!(
        "  a start reads all ids: {:.2} s, CPU s client {:.2} + server {:.2}, {} bytes an id",
        (clock.monotonic() - step.0).as_secs_f64(),
        own_cpu() - step.1,
        server.cpu_seconds() - step.2,
        (resident_kib() - resident) * 1_024 / i64::try_from(messages)?
    );
    Ok(())
}

/// The memory of this process.
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// A message of shelf `shelf`.
fn of_shelf(name: &str, number: u64, shelf: u64, due: Timestamp) -> Outcome<Held> {
    let class = Class::from_name("advertising/sms/KR/Asia/Seoul");
    let names = (Lane::new("sms"), class, Arc::from("text/plain"));
    let mut held = held(number, body(Text::Notice, number, &[]), &names)?;
    held.message.id = MessageId::new(&format!("{name}-{number}"))?;
    held.message.campaign = Some(format!("c{shelf}").into());
    held.due = due;
    Ok(held)
}

/// Some, of so many shelves.
fn some(name: &str, count: u64, shelves: u64, due: Timestamp) -> Outcome<Vec<Held>> {
    let one = |number| of_shelf(name, number, number % shelves, due);
    (0..count).map(one).collect()
}

/// Tells the longest script since the last time.
fn longest(server: &Server, what: &str) {
    let info = server.ask(&["INFO", "latencystats"]);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("latency_percentiles_usec_evalsha:"));
    let longest = line.and_then(|line| line.rsplit('=').next());
    println!("  {what}: {} us", longest.unwrap_or("-").trim());
    server.ask(&["CONFIG", "RESETSTAT"]);
}

/// The longest scripts, each kind once, on a hold of a thousand blocks and more.
async fn scripts() -> Outcome<()> {
    let server = Server::start(&["--appendfsync", "everysec"]);
    let open = async || -> Outcome<RedisHold> {
        let redis = connect(&server).await?;
        Ok(RedisHold::open(redis, Options::default()).await?)
    };
    let (one, two) = (open().await?, open().await?);
    let (now, due): (Timestamp, Timestamp) = (NOW.parse()?, DUE.parse()?);
    println!("The longest script of each kind");
    two.put(some("first", 1, 1, due)?, now).await?;
    longest(&server, "load, nothing there");
    one.put(some("a", 1_000, 1, due)?, now).await?;
    longest(&server, "put 1,000 messages of one shelf");
    one.put(some("a", 1_000, 1, due)?, now).await?;
    longest(&server, "put the same again");
    for round in 0..6 {
        one.put(some(&format!("b{round}"), 1_000, 1, due)?, now)
            .await?;
    }
    longest(&server, "put 6 times 1,000");
    two.put(some("c", 1_000, 1, due)?, now).await?;
    longest(&server, "put 1,000, with 7,000 ids of others unseen");
    one.put(some("d", 1_000, 1_000, due)?, now).await?;
    longest(&server, "put 1,000 messages of 1,000 shelves");
    two.put(some("e", 1_000, 1, due)?, now).await?;
    longest(&server, "put 1,000, with 1,000 blocks of others unseen");
    for round in 0..300 {
        one.put(some(&format!("f{round}"), 200, 1, due)?, now)
            .await?;
    }
    longest(&server, "put 300 times 200");
    two.find(&[MessageId::new("f0-0")?]).await?;
    longest(&server, "read 300 blocks and 60,000 ids behind, by pages");
    open().await?.find(&[MessageId::new("f0-0")?]).await?;
    longest(&server, "look for one id in 1,300 blocks");
    open().await?.put(some("a", 1, 1, due)?, now).await?;
    longest(&server, "read all ids, by pages");
    scripts_out(&server, &one).await
}

/// Those by which messages leave.
async fn scripts_out(server: &Server, one: &RedisHold) -> Outcome<()> {
    let (now, due): (Timestamp, Timestamp) = (NOW.parse()?, DUE.parse()?);
    let class = Class::from_name("advertising/sms/KR/Asia/Seoul");
    let lane = Lane::new("sms");
    let hour = SignedDuration::from_hours(1);
    for round in 0..700 {
        one.put(some(&format!("g{round}"), 20, 1, due)?, now)
            .await?;
    }
    longest(server, "put 700 times 20");
    one.redate(&lane, &class, due, due + hour).await?;
    longest(server, "move a shelf of 1,000 blocks");
    let ask = |max| LeaseAsk {
        lane: &lane,
        pick: Pick::Any,
        now: due + hour,
        max,
        ttl: SignedDuration::from_secs(600),
    };
    let settles = |loans: &[nightgate::hold::Leased], verdict: &Verdict| -> Vec<Settle> {
        let settle = |loan: &nightgate::hold::Leased| Settle {
            token: loan.token,
            verdict: verdict.clone(),
        };
        loans.iter().map(settle).collect()
    };
    let loans = one.lease(&ask(4_000)).await?;
    longest(server, "lease 4,000 messages");
    one.settle(settles(&loans, &Verdict::Done(End::Delivered)), due)
        .await?;
    longest(server, "settle 1,000 as done");
    let loans = one.lease(&ask(1_000)).await?;
    let verdict = Verdict::Defer {
        due: due + hour,
        attempted: true,
    };
    one.settle(settles(&loans, &verdict), due).await?;
    longest(server, "defer 1,000");
    one.recall(&nightgate::hold::Scope::Lane(lane.clone()), due)
        .await?;
    longest(server, "recall 1,000 blocks");
    one.sweep(due + hour * 100).await?;
    longest(server, "sweep 200 blocks");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if args.first().is_some_and(|arg| arg == "scripts") {
        return scripts().await;
    }
    let messages = args
        .first()
        .map_or(Ok(MESSAGES_DEFAULT), |text| text.parse())?;
    let fsync = args.get(1).map_or("everysec", String::as_str);
    let mut dice = fastrand::Rng::with_seed(7);
    let all = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let letters: Vec<u8> = (0..65_536).map(|_| all[dice.usize(..all.len())]).collect();
    println!("{messages} messages by {GROUP}, leases of {LEASE}, appendfsync {fsync}");
    for kind in [Text::Random, Text::Notice, Text::Peers] {
        println!("{kind:?}, the pattern by hand (ZSET and a claim in Lua; no dedupe by id)");
        pattern(kind, messages, fsync, &letters).await?;
        println!("{kind:?}, nightgate");
        nightgate(kind, messages, fsync, &letters).await?;
    }
    Ok(())
}
