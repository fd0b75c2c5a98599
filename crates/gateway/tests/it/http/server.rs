//! The real server on a loopback socket.

use std::net::SocketAddr;
use std::time::Duration;

use nightgate::http::{Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::world::{World, limits, message, world_with};

/// A server that runs.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) world: World,
    stop: watch::Sender<bool>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(super) async fn start(limits: Limits) -> Self {
        let world = world_with(nightgate::http::Auth::default(), limits.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(listener, world.app.clone(), limits, stopped));
        Self {
            address,
            world,
            stop,
            served,
        }
    }

    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.served.await.unwrap().unwrap();
    }

    /// Sends bytes as they are and reads until the server closes.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn quick() -> Limits {
    Limits {
        request_timeout: Duration::from_millis(200),
        bulk_idle_timeout: Duration::from_millis(200),
        ..limits()
    }
}

const CLOSE: &str = "Host: localhost\r\nConnection: close\r\n";

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let running = Running::start(limits()).await;
    let large = "x".repeat(5_000);
    let answer = running
        .raw(format!(
            "GET /healthz HTTP/1.1\r\nX: {large}\r\n{CLOSE}\r\n"
        ))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 431") && answer.contains("large-head"),
        "{answer}"
    );
    let long = "x".repeat(9_000);
    let answer = running
        .raw(format!("GET /{long} HTTP/1.1\r\n{CLOSE}\r\n"))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 414") && answer.contains("long-uri"),
        "{answer}"
    );
    // So much that not even a proper problem is built.
    let huge = "x".repeat(200_000);
    let answer = running
        .raw(format!("GET /healthz HTTP/1.1\r\nX: {huge}\r\n{CLOSE}\r\n"))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 431") || answer.is_empty(),
        "{answer}"
    );
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_http_never_harms_the_next_client() {
    let running = Running::start(limits()).await;
    for junk in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: \
          99999999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ] {
        let answer = running.raw(junk).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    let answer = running
        .raw(format!("GET /healthz HTTP/1.1\r\n{CLOSE}\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_or_body_is_sent_away() {
    let running = Running::start(quick()).await;
    assert!(!running.raw("GET /healthz HT").await.contains(" 200 "));
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nContent-Type: application/json\r\n\
         Content-Length: 10\r\n{CLOSE}\r\n{{"
    );
    let answer = running.raw(head).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("too-slow"),
        "{answer}"
    );
    let line = message("m-1", "informational");
    let head = format!(
        "POST /v1/messages/bulk HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: 100000\r\n{CLOSE}\r\n{line}\n"
    );
    let answer = running.raw(head).await;
    assert!(answer.contains(r#""status":"accepted""#), "{answer}");
    assert!(
        answer.contains(r#""complete":false,"why":"nothing came for too long""#),
        "{answer}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_expects_to_be_asked_on_is() {
    let running = Running::start(limits()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let line = format!("{}\n", message("m-1", "informational"));
    let head = format!(
        "POST /v1/messages/bulk HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n{CLOSE}\r\n",
        line.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""accepted":1"#), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_takes_nothing_new() {
    let running = Running::start(limits()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let body = message("m-1", "informational").to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // Once the server asks for the body, the request is under way.
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 25]).await.unwrap();
    let (address, stopping) = (running.address, tokio::spawn(running.stop()));
    // The port is free once the server has stopped to listen.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""status":"accepted""#), "{answer}");
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_end_within_the_grace() {
    let limits = Limits {
        shutdown_grace: Duration::from_millis(50),
        ..limits()
    };
    let running = Running::start(limits).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
                Content-Length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 25]).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn further_connections_wait_until_one_is_free() {
    let limits = Limits {
        connections_max: 1,
        ..limits()
    };
    let running = Running::start(limits).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    first.read_exact(&mut [0; 12]).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second
        .write_all(format!("GET /healthz HTTP/1.1\r\n{CLOSE}\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = [0; 12];
    let waited = tokio::time::timeout(Duration::from_millis(100), second.read(&mut answer)).await;
    assert!(
        waited.is_err(),
        "the second is not served while the first is there"
    );
    drop(first);
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(running.world.get("/healthz").await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_for_good_loses_its_place() {
    let limits = Limits {
        connections_max: 1,
        ..quick()
    };
    let running = Running::start(limits).await;
    let mut deaf = TcpStream::connect(running.address).await.unwrap();
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // More answers than all buffers between us hold.
    let _ = deaf.write_all(asked.repeat(2_000).as_bytes()).await;
    let answer = running
        .raw(format!("GET /healthz HTTP/1.1\r\n{CLOSE}\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(deaf);
    running.stop().await;
}
