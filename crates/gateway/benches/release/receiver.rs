//! A receiver of webhooks on loopback: parses each batch, counts its messages, says 200.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};

/// What a receiver got.
pub(crate) struct Receiver {
    pub(crate) url: String,
    count: Arc<AtomicU64>,
}

#[derive(Deserialize)]
struct Batch {
    messages: Counted,
}

/// The length of a list; what is in it is read and forgotten.
struct Counted(u64);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Counter;
        impl<'de> Visitor<'de> for Counter {
            type Value = Counted;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Counted, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Counted(count))
            }
        }
        from.deserialize_seq(Counter)
    }
}

impl Receiver {
    pub(crate) async fn serve() -> crate::Outcome<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let count = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let count = Arc::clone(&counting);
                let service = service_fn(move |request| take(request, Arc::clone(&count)));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Ok(Self { url, count })
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

async fn take(
    request: Request<Incoming>,
    count: Arc<AtomicU64>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let status = match request.into_body().collect().await {
        Ok(body) => match serde_json::from_slice::<Batch>(&body.to_bytes()) {
            Ok(batch) => {
                count.fetch_add(batch.messages.0, Ordering::SeqCst);
                200
            }
            Err(_) => 400,
        },
        Err(_) => 500,
    };
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    Ok(answer)
}
