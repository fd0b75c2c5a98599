//! A network that fails as it is told, between the SDK and an emulator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nightgate::clock::{Clock, SystemClock};
use serde_json::{Value as Json, json};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is carried out, and its answer comes so much later.
    Late(Duration),
    /// It is carried out, and the connection is cut before the answer.
    Lost,
    /// It is not carried out: the status, the code and its name in the model.
    Error(u16, &'static str, &'static str),
    /// These entries are not carried out, and the answer says so: code, whether it is our fault.
    Failed(&'static [usize], &'static str, bool),
    /// Each received message comes twice.
    Twice,
    /// Nothing is received, as from servers that have nothing.
    Nothing,
}

/// A proxy that runs.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    to: String,
    http: reqwest::Client,
    script: Mutex<BTreeMap<&'static str, VecDeque<Fault>>>,
    /// Operations in the order they came, and whether they were carried out.
    seen: Mutex<Vec<(String, bool)>>,
    connections: AtomicUsize,
}

impl Proxy {
    /// A proxy to the emulator at `to`.
    pub(crate) async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            to: to.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            script: Mutex::default(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { url, state }
    }

    /// The next requests of `operation` meet these faults; later ones none.
    pub(crate) fn script(&self, operation: &'static str, faults: &[Fault]) {
        let mut script = self.state.script.lock().unwrap();
        script
            .entry(operation)
            .or_default()
            .extend(faults.iter().cloned());
    }

    /// No request meets a fault any more.
    pub(crate) fn forget(&self) {
        self.state.script.lock().unwrap().clear();
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many requests of `operation` came, and how many of them were carried out.
    pub(crate) fn count(&self, operation: &str) -> (usize, usize) {
        let seen = self.state.seen.lock().unwrap();
        let of = seen.iter().filter(|(one, _)| one == operation);
        (of.clone().count(), of.filter(|(_, done)| *done).count())
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| answer(Arc::clone(&state), request));
    let connection = hyper::server::conn::http1::Builder::new();
    // A connection that is cut ends with an error: that is what it is for.
    let _ = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Answer = Result<Response<Full<Bytes>>, std::io::Error>;

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let target = head.headers["x-amz-target"].to_str().unwrap();
    let operation = target.rsplit('.').next().unwrap().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let fault = {
        let mut script = state.script.lock().unwrap();
        script.get_mut(&*operation).and_then(VecDeque::pop_front)
    };
    let carried_out = !matches!(fault, Some(Fault::Error(..) | Fault::Nothing));
    state.seen.lock().unwrap().push((operation, carried_out));
    match fault {
        Some(Fault::Error(status, code, name)) => Ok(error(status, code, name)),
        Some(Fault::Nothing) => Ok(json_answer(200, &json!({}))),
        Some(Fault::Failed(which, code, ours)) => {
            let (body, failed) = without(&body, which, code, ours);
            let (status, answer) = pass(&state, &head.headers, body).await.unwrap();
            Ok(json_answer(status, &with_failed(&answer, failed)))
        }
        fault => {
            let (status, answer) = pass(&state, &head.headers, body).await.unwrap();
            let mut read: Json = serde_json::from_slice(&answer).unwrap_or_default();
            match fault {
                Some(Fault::Lost) => return Err(std::io::Error::other("cut")),
                Some(Fault::Late(by)) => {
                    let clock = SystemClock::default();
                    let until = clock.now() + by;
                    while clock.now() < until {
                        clock.sleep_until(until).await;
                    }
                }
                Some(Fault::Twice) => {
                    if let Some(messages) = read["Messages"].as_array_mut() {
                        messages.extend_from_within(..);
                    }
                }
                _ => {}
            }
            Ok(json_answer(status, &read))
        }
    }
}

/// The emulator's answer.
async fn pass(
    state: &State,
    headers: &hyper::HeaderMap,
    body: Bytes,
) -> Result<(u16, Bytes), reqwest::Error> {
    let mut request = state.http.post(&state.to).body(body);
    for name in [
        "content-type",
        "x-amz-target",
        "x-amz-date",
        "authorization",
    ] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.bytes().await?))
}

fn json_answer(status: u16, body: &Json) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0")
        .body(Full::new(body.to_string().into()))
        .unwrap_or_else(|_: hyper::http::Error| Response::default())
}

fn error(status: u16, code: &str, name: &str) -> Response<Full<Bytes>> {
    let body = json!({"__type": format!("com.amazonaws.sqs#{name}"), "message": "of the proxy"});
    let mut answer = json_answer(status, &body);
    let header = format!("{code};Sender").parse();
    let header = header.unwrap_or_else(|_| hyper::header::HeaderValue::from_static(""));
    answer.headers_mut().insert("x-amzn-query-error", header);
    answer
}

/// The request without the entries at these places, and what is said of them.
fn without(body: &[u8], which: &[usize], code: &str, ours: bool) -> (Bytes, Vec<Json>) {
    let mut request: Json = serde_json::from_slice(body).unwrap_or_default();
    let mut failed = Vec::new();
    if let Some(entries) = request["Entries"].as_array_mut() {
        let mut place = 0;
        entries.retain(|entry| {
            let fails = which.contains(&place);
            if fails {
                failed.push(json!({"Id": entry["Id"], "Code": code, "SenderFault": ours}));
            }
            place += 1;
            !fails
        });
    }
    (request.to_string().into(), failed)
}

fn with_failed(answer: &[u8], failed: Vec<Json>) -> Json {
    let mut answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    answer["Failed"] = Json::Array(failed);
    answer
}
