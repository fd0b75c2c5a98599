//! The server: bounds on connections and heads, and an orderly stop.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::entry::URI_MAX_BYTES;
use super::limits::Limits;

/// How long to wait after the system refused to accept a connection (out of file handles): trying
/// at once would spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Least size of hyper's buffer; it holds a head, and a piece of a body.
const BUFFER_MIN_BYTES: usize = 64 * 1024;

/// Serves until `stop` shows true (or its sender is gone), then finishes what is under way within
/// the grace period. HTTP/1.1; whoever wants TLS or HTTP/2 puts a proxy in front.
///
/// # Errors
/// Only if the listener has no address. A failing connection costs itself.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "listening");
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stopped(&mut stop) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                let _ = timeout(ACCEPT_AGAIN, stopped(&mut stop)).await;
                continue;
            }
        };
        let (router, limits, stop) = (router.clone(), limits.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, router, &limits, stop).await;
            drop(place);
        });
    }
    drop(listener);
    let finished = timeout(limits.shutdown_grace, async {
        while connections.join_next().await.is_some() {}
    });
    if finished.await.is_err() {
        let cut = connections.len();
        tracing::warn!(cut, "connections were cut at the end of the grace period");
        connections.shutdown().await;
    }
    Ok(())
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can ask us to stop any more: the process is going down.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small: waiting to fill a packet only makes them late.
    let _ = stream.set_nodelay(true);
    let pulse = Arc::new(Pulse::default());
    let stream = Watched {
        stream,
        pulse: Arc::clone(&pulse),
    };
    // Above our own bounds, so that most of what is too large gets a proper problem.
    let head_max = 2 * (limits.header_max_bytes + URI_MAX_BYTES);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_timeout)
        .max_header_size(head_max)
        .max_buf_size(BUFFER_MIN_BYTES.max(head_max))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let mut stopping = false;
    let mut last = 0;
    loop {
        tokio::select! {
            ended = timeout(limits.bulk_idle_timeout, connection.as_mut()) => match ended {
                Ok(_) => return,
                Err(_) if pulse.is_stuck(&mut last) => {
                    tracing::debug!("a client stopped reading; its connection was cut");
                    return;
                }
                Err(_) => {}
            },
            () = stopped(&mut stop), if !stopping => {
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
        }
    }
}

/// Whether bytes move on a connection.
#[derive(Default)]
struct Pulse {
    moves: AtomicU64,
    /// Bytes are ready to go and the client takes none.
    blocked: AtomicBool,
}

impl Pulse {
    fn note(&self, moved: bool) {
        if moved {
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether nothing has moved since the last look although there is something to write.
    fn is_stuck(&self, last: &mut u64) -> bool {
        let moves = self.moves.load(Ordering::Relaxed);
        let still = std::mem::replace(last, moves) == moves;
        still && self.blocked.load(Ordering::Relaxed)
    }
}

/// A stream that tells whether bytes move: hyper bounds the reading of heads, nothing bounds a
/// client that never reads its answer.
struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        self.pulse.note(into.filled().len() > before);
        polled
    }
}

impl Watched {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse
            .blocked
            .store(polled.is_pending(), Ordering::Relaxed);
        self.pulse.note(polled.is_ready());
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
