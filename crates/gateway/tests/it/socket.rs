//! Bytes that are no HTTP, or too much of it, at the open port: each costs its own connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::clock::pause;
use crate::gateway::{Gateway, Home};

/// How long a connection is listened to; a server that says nothing by then has nothing to say.
const LISTEN: Duration = Duration::from_secs(10);
const SEED: u64 = 8;
const RANDOM_CONNECTIONS: usize = 200;

/// Sends `bytes` and gives what comes back until the server closes, or [`LISTEN`] is over.
async fn say(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // The server may close before it has read all.
    let _ = stream.write_all(bytes).await;
    hear(stream).await
}

/// As [`say`], and says no more: a server may hang up on that without an answer.
async fn say_and_close(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    hear(stream).await
}

async fn hear(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::select! {
        _ = stream.read_to_end(&mut answer) => {}
        () = pause(LISTEN) => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

async fn quick() -> (Home, Gateway) {
    let home = Home::new(
        "[http]\nrequest_timeout = \"1s\"\nbulk_idle_timeout = \"1s\"\nconnections_max = 64\n",
    );
    let gateway = home.serve().await;
    (home, gateway)
}

async fn assert_well(gateway: &mut Gateway, home: &Home) {
    assert!(gateway.lives(), "{}", home.log());
    assert_eq!(gateway.get("/readyz").await.status, 200);
    assert!(!home.log().contains("panicked"), "{}", home.log());
}

/// Each costs its own connection and is answered with one of these statuses, if it is not cut.
async fn assert_turned_away(cases: &[(&str, Vec<u8>, &[u16])]) {
    let (home, mut gateway) = quick().await;
    for (name, bytes, wanted) in cases {
        let answer = say(&gateway, bytes).await;
        let got = status(&answer);
        assert!(
            got.is_some_and(|got| wanted.contains(&got)),
            "{name}: {answer}"
        );
    }
    assert_well(&mut gateway, &home).await;
}

fn ask(line: &str, headers: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_turned_away() {
    let bytes = |text: &str| text.as_bytes().to_vec();
    assert_turned_away(&[
        ("no HTTP", bytes("hello\r\n\r\n"), &[400]),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            &[400],
        ),
        ("a NUL", ask("GET /\0", ""), &[400]),
        (
            "no host",
            bytes("GET /v1/hold HTTP/1.1\r\n\r\n"),
            &[400, 403],
        ),
        (
            "another host",
            bytes("GET /v1/hold HTTP/1.1\r\nhost: evil.example\r\n\r\n"),
            &[403],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_turned_away() {
    let path = format!("GET /{}", "a".repeat(9_000));
    let many: String = (0..2_000).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let huge = format!("x: {}\r\n", "b".repeat(300_000));
    assert_turned_away(&[
        ("a long path", ask(&path, ""), &[414]),
        ("many headers", ask("GET /healthz", &many), &[431]),
        ("a huge header", ask("GET /healthz", &huge), &[431]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_their_head_says_are_turned_away() {
    let post = |headers: &str| {
        let json = "content-type: application/json\r\n";
        ask("POST /v1/messages", &format!("{json}{headers}"))
    };
    let no_chunk = [post("transfer-encoding: chunked\r\n"), b"zz\r\n".to_vec()].concat();
    let lies = post("content-length: 99\r\n");
    assert_turned_away(&[
        ("a negative length", post("content-length: -1\r\n"), &[400]),
        (
            "two lengths",
            post("content-length: 2\r\ncontent-length: 3\r\n"),
            &[400],
        ),
        ("a length that lies", lies, &[408]),
        (
            "a length beyond all bounds",
            post("content-length: 99999999999\r\n"),
            &[413],
        ),
        ("a chunk that is none", no_chunk, &[400]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_do_no_harm() {
    let (home, mut gateway) = quick().await;
    let mut random = fastrand::Rng::with_seed(SEED);
    let head = b"POST /v1/messages/bulk HTTP/1.1\r\nhost: localhost\r\n\
        content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    for round in 0..RANDOM_CONNECTIONS {
        let mut bytes = head.to_vec();
        if round % 2 == 0 {
            // A request with a few bytes changed.
            for _ in 0..random.usize(1..6) {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..);
            }
        }
        bytes.extend((0..random.usize(..200)).map(|_| random.u8(..)));
        let answer = say_and_close(&gateway, &bytes).await;
        assert!(
            status(&answer).is_none_or(|status| status < 500),
            "{round}: {answer}"
        );
    }
    assert_well(&mut gateway, &home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_hung_up_on() {
    let (home, mut gateway) = quick().await;
    let answer = say(&gateway, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(answer, "");
    assert_well(&mut gateway, &home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_one_behind_the_other_are_answered_in_order() {
    let (home, mut gateway) = quick().await;
    let one = |path: &str| ask(&format!("GET {path}"), "");
    let last = ask("GET /healthz", "connection: close\r\n");
    let all = [one("/healthz"), one("/nothing"), one("/v1/lanes"), last].concat();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&all).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let told = answer.split("HTTP/1.1 ").skip(1);
    let told: Vec<&str> = told.map(|answer| &answer[..3]).collect();
    assert_eq!(told, ["200", "404", "200", "200"]);
    assert_well(&mut gateway, &home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_finish_a_head_do_not_keep_others_out() {
    let (home, mut gateway) = quick().await;
    let mut slow = Vec::new();
    // As many as may be open at once; the next one waits until they are sent away.
    for _ in 0..64 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET /healthz HT").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(gateway.get("/healthz").await.status, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            status(&rest).is_none_or(|status| status == 408 || status == 400),
            "{rest}"
        );
    }
    assert_well(&mut gateway, &home).await;
}
