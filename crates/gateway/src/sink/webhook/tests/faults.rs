//! What it means that no answer came, or only part of one.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Takes one connection after another and hands each to `serve`; gives the address.
async fn raw<F>(scheme: &str, serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "{scheme}://{}/hook?token=swordfish",
        listener.local_addr().unwrap()
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    url
}

/// Reads one whole request: its head, and as much body as it tells.
async fn read_request(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.unwrap().parse().unwrap() {
                return;
            }
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the request ended early");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Closes so that the other side sees a reset.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

async fn expect(url: &str, wanted: &str, words_of_why: &str) {
    let outcomes = sink(url).deliver(batch(2)).await;
    assert_clean(&outcomes);
    assert_eq!(words(&outcomes), [wanted, wanted]);
    let text = format!("{outcomes:?}");
    assert!(text.contains(words_of_why), "{text}");
}

#[tokio::test]
async fn a_refused_port_certainly_took_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/hook?token=swordfish",
        listener.local_addr().unwrap()
    );
    drop(listener);
    expect(&url, "retry lane", "could not connect (connection refused)").await;
}

#[tokio::test]
async fn a_name_that_is_not_found_certainly_took_nothing() {
    // A label over 63 bytes cannot even be asked for (RFC 1035), so no name server sees this.
    let url = format!("http://{}.invalid/hook?token=swordfish", "n".repeat(64));
    let options = WebhookOptions {
        allow_plain_http: true,
        ..options(&url)
    };
    let outcomes = WebhookSink::new(&options, clock())
        .unwrap()
        .deliver(batch(1))
        .await;
    assert_clean(&outcomes);
    assert_eq!(words(&outcomes), ["retry lane"]);
    assert!(
        format!("{outcomes:?}").contains("name was not found"),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_failed_tls_handshake_certainly_took_nothing() {
    let url = raw("https", |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    expect(&url, "retry lane", "could not connect").await;
}

#[tokio::test]
async fn a_connect_time_out_certainly_took_nothing() {
    // Accepts and never speaks TLS: the handshake is part of connecting.
    let url = raw("https", |stream| async move {
        tokio::spawn(async move {
            let _stream = stream;
            std::future::pending::<()>().await;
        });
    })
    .await;
    let options = WebhookOptions {
        connect_timeout: Duration::from_millis(50),
        ..options(&url)
    };
    let outcomes = WebhookSink::new(&options, clock())
        .unwrap()
        .deliver(batch(2))
        .await;
    assert_eq!(words(&outcomes), ["retry lane", "retry lane"]);
    assert!(
        format!("{outcomes:?}").contains("connecting timed out"),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_reset_after_the_request_left_is_unknown() {
    let url = raw("http", |mut stream| async move {
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    expect(&url, "unknown", "was cut after it was on its way").await;
}

#[tokio::test]
async fn a_time_out_after_the_request_left_is_unknown() {
    let url = raw("http", |mut stream| async move {
        read_request(&mut stream).await;
        tokio::spawn(async move {
            let _stream = stream;
            std::future::pending::<()>().await;
        });
    })
    .await;
    let options = WebhookOptions {
        timeout: Duration::from_millis(1000),
        connect_timeout: Duration::from_millis(900),
        ..options(&url)
    };
    let outcomes = WebhookSink::new(&options, clock())
        .unwrap()
        .deliver(batch(2))
        .await;
    assert_eq!(words(&outcomes), ["unknown", "unknown"]);
    assert!(
        format!("{outcomes:?}").contains("timed out after it was on its way"),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_is_unknown_if_it_may_have_held_outcomes() {
    for (kind, wanted) in [("application/json", "unknown"), ("text/plain", "delivered")] {
        let url = raw("http", move |mut stream| async move {
            read_request(&mut stream).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 500\r\n\r\n{{\"outc"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        })
        .await;
        let outcomes = sink(&url).deliver(batch(2)).await;
        assert_eq!(words(&outcomes), [wanted, wanted], "{kind}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_unknown() {
    let url = raw("http", |mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"220 smtp.example.com ESMTP\r\n").await;
    })
    .await;
    expect(&url, "unknown", "after it was on its way").await;
}

#[tokio::test]
async fn connections_are_reused() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let url = raw("http", move |mut stream| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            for _ in 0..3 {
                read_request(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    let sink = sink(&url);
    for _ in 0..3 {
        assert_eq!(sink.deliver(batch(1)).await, [delivered()]);
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
}
