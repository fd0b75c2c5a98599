//! What only the socket promises. What it carries is tested with every other backend.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::{
    Channel, Class, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::wire::{self, AskForm, Fault, Part, Reply, Request, Welcome};
use super::*;
use crate::error::{Error, Kind};
use crate::hold::care::{Finding, Ill, Lost};
use crate::hold::memory::MemoryHold;
use crate::hold::{
    Backup, Capability, End, Export, Found, HORIZON_DEFAULT, Held, HoldStore, Lane, LeaseAsk,
    Leased, Pause, Pick, Put, Recalled, Report, Room, Scope, Settle, Settled, Shelf, State, Token,
    Verdict,
};

const TTL: SignedDuration = SignedDuration::from_mins(10);

fn now() -> Timestamp {
    "2026-11-22T12:00:00.123456789Z".parse().unwrap()
}

fn lane() -> Lane {
    Lane::new("sms")
}

fn held(id: &str, body: usize) -> Held {
    Held {
        message: Message {
            id: MessageId::new(id).unwrap(),
            recipient: Recipient::new("010-1234-5678").unwrap(),
            channel: Channel::Lms,
            purpose: Purpose::Advertising,
            campaign: Some("autumn".into()),
            priority: Priority::default(),
            jurisdiction: Some(Jurisdiction::new("KR").unwrap()),
            zone: None,
            send_at: Some(Timestamp::MIN),
            expires_at: Some(Timestamp::MAX),
            collapse_key: None,
            content_type: "text/plain".into(),
            attributes: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            body: vec![7; body].into(),
        },
        key: RecipientKey::from_stored("+821012345678"),
        lane: lane(),
        class: Class::from_name("advertising/lms/KR/Asia/Seoul"),
        due: now(),
        accepted_at: now(),
    }
}

fn home() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    (dir, socket)
}

fn memory() -> Arc<dyn HoldStore> {
    Arc::new(MemoryHold::new(HORIZON_DEFAULT))
}

async fn lease(hold: &dyn HoldStore, max: usize) -> Vec<Leased> {
    let ask = LeaseAsk {
        lane: &lane(),
        pick: Pick::Any,
        now: now(),
        max,
        ttl: TTL,
    };
    hold.lease(&ask).await.unwrap()
}

fn kind<T>(result: crate::error::Result<T>) -> Kind {
    result.err().unwrap().kind
}

#[tokio::test]
async fn a_dead_owners_socket_is_replaced_and_a_living_ones_is_not() {
    let (_dir, socket) = home();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "a dead owner leaves its socket behind");
    assert_eq!(kind(RemoteHold::connect(&socket).await), Kind::Unavailable);
    let server = serve(memory(), &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    assert_eq!(kind(serve(memory(), &socket)), Kind::Unavailable);
    remote.check().await.unwrap();
    drop(server);
    assert!(
        !socket.exists(),
        "an owner that ends takes its socket along"
    );
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let (_dir, socket) = home();
    std::fs::write(&socket, "mine").unwrap();
    assert_eq!(kind(serve(memory(), &socket)), Kind::Invalid);
    assert_eq!(std::fs::read(&socket).unwrap(), b"mine");
}

#[tokio::test]
async fn the_sockets_rights_are_0600_and_its_path_may_be_long() {
    let (dir, _) = home();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let socket = deep.join("socket");
    let _server = serve(memory(), &socket).unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let remote = RemoteHold::connect(&socket).await.unwrap();
    assert_eq!(
        remote.put(vec![held("a", 1)], now()).await.unwrap(),
        [Put::New]
    );
}

#[tokio::test]
async fn another_user_is_sent_away() {
    let (_dir, socket) = home();
    let listener = UnixListener::bind(&socket).unwrap();
    let own = maker(&socket);
    let hold = memory();
    let serving = tokio::spawn(server::accept(listener, Arc::downgrade(&hold), own + 1));
    assert_eq!(kind(RemoteHold::connect(&socket).await), Kind::Unavailable);
    serving.abort();
}

/// Whoever made a file is who runs this.
fn maker(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().uid()
}

#[tokio::test]
async fn garbage_on_the_socket_breaks_only_that_connection() {
    let (_dir, socket) = home();
    let _server = serve(memory(), &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    let mut greeting = b"nighthld".to_vec();
    greeting.extend(WIRE_VERSION.to_le_bytes());
    let after = |frame: &[u8]| [&greeting, frame].concat();
    let too_large = u32::try_from(FRAME_MAX_BYTES + 1).unwrap().to_le_bytes();
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        after(&[0xFF; 64]),
        after(&too_large),
        after(&[3, 0, 0, 0, 0, 0xFF, 0xFF]),
        after(&[0, 0, 0, 0]),
    ] {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(&garbage).await.unwrap();
        let mut said = Vec::new();
        // It ends: by itself, since this side keeps its half open. A reset is an end too.
        let _ = stream.read_to_end(&mut said).await;
        remote.check().await.unwrap();
    }
    assert_eq!(
        remote.put(vec![held("a", 1)], now()).await.unwrap(),
        [Put::New]
    );
}

/// Greets one caller as an owner of this version does.
async fn welcome(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(wire::greet(&mut stream).await.unwrap());
    let capability = memory().capability();
    let welcome = Welcome {
        name: "memory".to_owned(),
        capability,
    };
    wire::write(&mut stream, &mut Vec::new(), &welcome)
        .await
        .unwrap();
    stream
}

#[tokio::test]
async fn an_owner_that_dies_within_a_call_makes_it_unavailable() {
    let (_dir, socket) = home();
    let listener = UnixListener::bind(&socket).unwrap();
    let dying = async {
        let mut stream = welcome(&listener).await;
        let asked: Option<Request<'static>> =
            wire::read(&mut stream, &mut Vec::new()).await.unwrap();
        assert!(matches!(asked, Some(Request::Put(messages, _)) if messages.len() == 1));
        drop(stream);
        drop(listener);
    };
    let calling = async {
        let remote = RemoteHold::connect(&socket).await.unwrap();
        let put = remote.put(vec![held("a", 1)], now()).await;
        assert_eq!(kind(put), Kind::Unavailable, "its answer never came");
        assert_eq!(
            kind(remote.check().await),
            Kind::Unavailable,
            "nobody is there"
        );
    };
    tokio::join!(dying, calling);
}

#[tokio::test]
async fn an_owner_that_ends_is_unavailable_and_its_successor_is_reached_again() {
    let (_dir, socket) = home();
    let hold = memory();
    let server = serve(Arc::clone(&hold), &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    remote.put(vec![held("a", 1)], now()).await.unwrap();
    drop(server);
    assert_eq!(kind(remote.check().await), Kind::Unavailable);
    let _server = serve(hold, &socket).unwrap();
    let again = remote.put(vec![held("a", 1)], now()).await.unwrap();
    assert_eq!(again, [Put::Duplicate]);
}

#[tokio::test]
async fn an_idle_caller_keeps_no_hold_alive() {
    let (_dir, socket) = home();
    let hold = memory();
    let server = serve(Arc::clone(&hold), &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    remote.check().await.unwrap();
    drop(server);
    assert_eq!(Arc::strong_count(&hold), 1);
}

#[tokio::test]
async fn an_owner_of_another_version_is_not_talked_to() {
    let (_dir, socket) = home();
    let listener = UnixListener::bind(&socket).unwrap();
    let other = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = b"nighthld".to_vec();
        greeting.extend((WIRE_VERSION + 1).to_le_bytes());
        stream.write_all(&greeting).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
    };
    let calling = async { RemoteHold::connect(&socket).await.err().unwrap() };
    let ((), error) = tokio::join!(other, calling);
    assert_eq!(error.kind, Kind::Unsupported);
    assert!(error.to_string().contains("use the same one"), "{error}");
}

#[tokio::test]
async fn large_calls_go_over_in_parts_and_come_back_in_order() {
    let (_dir, socket) = home();
    let _server = serve(memory(), &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    let all: Vec<Held> = (0..9_000)
        .map(|number| held(&format!("m{number}"), number % 5_000))
        .collect();
    let mut twice = all.clone();
    twice.push(all[0].clone());
    let answers = remote.put(twice, now()).await.unwrap();
    assert!(answers[..9_000].iter().all(|put| *put == Put::New));
    assert_eq!(answers[9_000..], [Put::Duplicate]);

    let ids: Vec<_> = all.iter().map(|held| held.message.id.clone()).collect();
    let found = remote.find(&ids).await.unwrap().into_iter().flatten();
    assert!(found.map(|found| found.held).eq(all.clone()));
    let listed = remote.list(State::Held, None, usize::MAX).await.unwrap();
    let listed = listed.iter().map(|found| &found.held.message.id);
    assert!(listed.eq(&ids));

    let loans = lease(&remote, usize::MAX).await;
    assert!(loans.iter().map(|loan| &loan.held).eq(&all));
    let settle = |loan: &Leased| Settle {
        token: loan.token,
        verdict: Verdict::Bury {
            why: "x".repeat(1_000),
        },
    };
    let mut settlements: Vec<_> = loans.iter().map(settle).collect();
    settlements.push(settle(&loans[0]));
    let settled = remote.settle(settlements, now()).await.unwrap();
    assert!(settled[..9_000].iter().all(|it| *it == Settled::Yes));
    assert_eq!(settled[9_000..], [Settled::Lapsed]);
}

#[tokio::test]
async fn a_lease_of_many_large_messages_may_lend_fewer_and_loses_none() {
    const BODY: usize = 256 * 1024;
    let (_dir, socket) = home();
    let hold = memory();
    let _server = serve(Arc::clone(&hold), &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    let count = LEASE_MAX_BYTES / BODY + 100;
    let all = (0..count).map(|number| held(&format!("m{number:04}"), BODY));
    hold.put(all.collect(), now()).await.unwrap();
    let first = lease(&remote, usize::MAX).await;
    assert!(first.len() < count && first.len() * BODY >= LEASE_MAX_BYTES - BODY);
    let rest = lease(&remote, usize::MAX).await;
    let lent = first.iter().chain(&rest);
    let right = (0..count).map(|number| format!("m{number:04}"));
    assert!(lent.map(|loan| loan.held.message.id.to_string()).eq(right));
}

#[tokio::test]
async fn a_message_that_fits_no_frame_is_invalid_and_the_next_call_goes_on() {
    let (_dir, socket) = home();
    let _server = serve(memory(), &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    let put = remote.put(vec![held("a", FRAME_MAX_BYTES)], now()).await;
    assert_eq!(kind(put), Kind::Invalid);
    remote.check().await.unwrap();
}

#[test]
fn an_error_arrives_as_it_was() {
    for kind in [
        Kind::Unavailable,
        Kind::Unsupported,
        Kind::Invalid,
        Kind::Corrupt,
        Kind::Poisoned,
    ] {
        let error = Error::new(kind, "hold", "put 3 messages").with("the disk is gone");
        let form = postcard::to_stdvec(&Fault::from(&error)).unwrap();
        let fault: Fault = postcard::from_bytes(&form).unwrap();
        let arrived = Error::from(fault);
        assert_eq!(arrived.to_string(), error.to_string());
        assert_eq!((arrived.kind, arrived.part), (kind, "hold"));
    }
}

/// One of everything that can be asked.
fn requests() -> Vec<Request<'static>> {
    let pick = Pick::Campaign(Purpose::Informational, Some("autumn"));
    let ask = LeaseAsk {
        lane: &lane(),
        pick,
        now: now(),
        max: 9,
        ttl: SignedDuration::new(60, 5),
    };
    let settle = |verdict| Settle {
        token: Token { seq: 5, lease: 6 },
        verdict,
    };
    let due = Timestamp::MAX;
    let settles = vec![
        settle(Verdict::Done(End::Rejected)),
        settle(Verdict::Defer {
            due,
            attempted: true,
        }),
        settle(Verdict::Bury { why: "w".into() }),
    ];
    let (key, class) = (held("a", 3).key, Class::from_name("c"));
    vec![
        Request::Put(vec![held("a", 3)].into(), now()),
        Request::Lease(AskForm::of(&ask)),
        Request::Lease(AskForm::of(&LeaseAsk {
            pick: Pick::Any,
            ..ask
        })),
        Request::Settle(settles.into(), now()),
        Request::NextDue(lane(), now()),
        Request::Shelves(Some(lane()), Some(now())),
        Request::Find(vec![held("a", 3).message.id].into()),
        Request::List(State::Rejected, None, 7),
        Request::Recall(Scope::Id(held("a", 3).message.id), now()),
        Request::Recall(Scope::Campaign("c".into()), now()),
        Request::Kick(Scope::Recipient(key), now()),
        Request::Kick(Scope::Lane(lane()), now()),
        Request::Redate(lane(), class, now(), Timestamp::MIN),
        Request::Pause(None, true, now()),
        Request::Pauses,
        Request::Sweep(now()),
        Request::Check,
        Request::Room,
        Request::Verify,
        Request::Backup("/backup/one".into(), now()),
        Request::Export(7, 8),
    ]
}

/// One of everything that can be answered.
fn replies() -> Vec<Reply> {
    let found = Found {
        held: held("a", 3),
        state: State::Buried,
        attempts: 2,
        lapsed: true,
        why: Some("w".into()),
    };
    let leased = Leased {
        token: Token { seq: 5, lease: 6 },
        held: held("a", 3),
        until: now(),
        attempts: 1,
        lapsed: true,
    };
    let shelf = Shelf {
        lane: lane(),
        purpose: Purpose::Advertising,
        class: Class::from_name("c"),
        campaign: None,
        priority: 5,
        due: now(),
        held: 1,
        leased: 2,
        buried: 3,
    };
    let pause = Pause {
        lane: None,
        since: now(),
    };
    let mut report = Report::default();
    report.note(Finding {
        ill: Ill::Aside,
        file: "f".to_owned(),
        bytes: Some((1, 2)),
        messages: 3,
        detail: Some("d".to_owned()),
    });
    let lost = Lost {
        file: "f".to_owned(),
        at: 4,
        messages: 5,
        ids: vec!["a".to_owned()],
    };
    let export = Export {
        found: vec![found.clone()],
        lost: vec![lost],
        next: Some(6),
    };
    vec![
        Reply::Put(vec![Put::New, Put::Duplicate, Put::Full]),
        Reply::Leased(vec![leased]),
        Reply::Settled(vec![Settled::Yes, Settled::Lapsed]),
        Reply::NextDue(Some(now())),
        Reply::Shelves(vec![shelf]),
        Reply::Found(vec![None, Some(found.clone())]),
        Reply::Listed(vec![found]),
        Reply::Recalled(Recalled::default()),
        Reply::Count(8),
        Reply::Pauses(vec![pause]),
        Reply::Room(Room::of(9, Some(10), 11, 0)),
        Reply::Verified(report),
        Reply::BackedUp(Backup::default()),
        Reply::Exported(export),
        Reply::Done,
        Reply::Failed(Fault::from(&Error::new(Kind::Corrupt, "hold", "x"))),
    ]
}

/// Two processes of one version must understand each other. If this fails, a type that crosses the
/// socket has changed: raise `WIRE_VERSION`, then write down the new sum.
#[test]
fn the_wire_form_changes_only_with_its_version() {
    const SUM: (u32, u32) = (5, 2_203_176_599);
    let capability: Capability = memory().capability();
    let name = "memory".to_owned();
    let mut form = postcard::to_stdvec(&Welcome { name, capability }).unwrap();
    for request in requests() {
        let one = postcard::to_stdvec(&request).unwrap();
        let read: Request<'static> = postcard::from_bytes(&one).unwrap();
        assert_eq!(postcard::to_stdvec(&read).unwrap(), one, "{request:?}");
        form.extend(one);
    }
    for reply in replies() {
        let part = Part { last: true, reply };
        let one = postcard::to_stdvec(&part).unwrap();
        let read: Part = postcard::from_bytes(&one).unwrap();
        assert_eq!(postcard::to_stdvec(&read).unwrap(), one, "{part:?}");
        form.extend(one);
    }
    assert_eq!((WIRE_VERSION, crc32c::crc32c(&form)), SUM);
}

#[test]
fn instants_and_spans_arrive_exactly() {
    for at in [Timestamp::MIN, Timestamp::MAX, now(), Timestamp::UNIX_EPOCH] {
        let form = postcard::to_stdvec(&at).unwrap();
        assert_eq!(postcard::from_bytes::<Timestamp>(&form).unwrap(), at);
    }
    for span in [
        SignedDuration::MAX,
        SignedDuration::MIN,
        TTL,
        SignedDuration::new(1, 1),
    ] {
        let form = postcard::to_stdvec(&span).unwrap();
        let read = postcard::from_bytes::<SignedDuration>(&form).unwrap();
        assert_eq!(read, span);
    }
}

#[test]
fn a_weight_is_never_less_than_what_goes_over() {
    use super::wire::Weigh;
    let Reply::Found(found) = &replies()[5] else {
        unreachable!("the sixth");
    };
    let wide = held("w", 0);
    let ids = [wide.message.id.clone()];
    assert!(postcard::to_stdvec(&wide).unwrap().len() <= wide.weight());
    assert!(postcard::to_stdvec(found).unwrap().len() <= found.iter().map(Weigh::weight).sum());
    assert!(postcard::to_stdvec(&ids).unwrap().len() <= ids[0].weight());
}
