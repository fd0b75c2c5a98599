//! What Lambda is to a function: it hands out calls, one after the other, and takes the answers.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use nightgate::clock::{Clock, SystemClock};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

const BINARY: &str = env!("CARGO_BIN_EXE_nightgate");
/// Longest wait for an answer. Generous: it bounds only tests that fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a function answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Response(Value),
    Error(Value),
    /// It could not even start.
    Init(Value),
}

struct Call {
    id: String,
    deadline_ms: i64,
    event: Value,
}

struct Shared {
    calls: Mutex<mpsc::UnboundedReceiver<Call>>,
    answers: mpsc::UnboundedSender<(String, Answer)>,
}

/// One instance of the function, and its runtime. Dropped, the instance is killed.
pub(crate) struct Function {
    dir: tempfile::TempDir,
    calls: mpsc::UnboundedSender<Call>,
    answers: mpsc::UnboundedReceiver<(String, Answer)>,
    pub(crate) child: Child,
    count: u64,
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let Some(call) = shared.calls.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let headers = [
        ("Lambda-Runtime-Aws-Request-Id", call.id),
        ("Lambda-Runtime-Deadline-Ms", call.deadline_ms.to_string()),
        (
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:x:1:function:nightgate".to_owned(),
        ),
        ("Lambda-Runtime-Trace-Id", "Root=1".to_owned()),
    ];
    (headers, Json(call.event)).into_response()
}

/// The answer of a function carries no media type.
async fn response(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: String,
) -> StatusCode {
    let answer = Answer::Response(serde_json::from_str(&body).unwrap());
    let _ = shared.answers.send((id, answer));
    StatusCode::ACCEPTED
}

async fn error(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: String,
) -> StatusCode {
    let answer = Answer::Error(serde_json::from_str(&body).unwrap());
    let _ = shared.answers.send((id, answer));
    StatusCode::ACCEPTED
}

async fn init_error(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(answer): Json<Value>,
) -> StatusCode {
    let kind = headers["Lambda-Runtime-Function-Error-Type"]
        .to_str()
        .unwrap();
    assert_eq!(answer["errorType"], kind);
    let _ = shared.answers.send((String::new(), Answer::Init(answer)));
    StatusCode::ACCEPTED
}

impl Function {
    /// Starts an instance with `config` (TOML) beside the binary. `DIR` in it is a folder of its
    /// own.
    pub(crate) async fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config.replace("DIR", &dir.path().display().to_string());
        fs::write(dir.path().join("nightgate.toml"), config).unwrap();
        let (calls, to_hand_out) = mpsc::unbounded_channel();
        let (to_keep, answers) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            calls: Mutex::new(to_hand_out),
            answers: to_keep,
        });
        let base = "/2018-06-01/runtime";
        let app = Router::new()
            .route(&format!("{base}/invocation/next"), get(next))
            .route(
                &format!("{base}/invocation/{{id}}/response"),
                post(response),
            )
            .route(&format!("{base}/invocation/{{id}}/error"), post(error))
            .route(&format!("{base}/init/error"), post(init_error))
            .with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Without it each answer waits for the function's delayed acknowledgement.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let log = File::create(dir.path().join("stderr")).unwrap();
        let mut command = Command::new(BINARY);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["NIGHTGATE_", "AWS_"]
                .iter()
                .any(|ours| name.starts_with(ours))
            {
                command.env_remove(&*name);
            }
        }
        let child = command
            .current_dir("/")
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "nightgate")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("LAMBDA_TASK_ROOT", dir.path())
            .env("NIGHTGATE_ALERTS__LANGUAGE", "en")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            dir,
            calls,
            answers,
            child,
            count: 0,
        }
    }

    /// Calls it with a deadline so many seconds ahead.
    pub(crate) async fn call(&mut self, event: Value, seconds: i64) -> Answer {
        self.count += 1;
        let id = format!("call-{}", self.count);
        let now = SystemClock::default().now().as_millisecond();
        let call = Call {
            id: id.clone(),
            deadline_ms: now + seconds * 1000,
            event,
        };
        self.calls.send(call).unwrap();
        let (of, answer) = self.answer().await;
        assert_eq!(of, id, "{answer:?}");
        answer
    }

    /// The same; the answer must be no error.
    pub(crate) async fn ask(&mut self, event: Value, seconds: i64) -> Value {
        match self.call(event, seconds).await {
            Answer::Response(answer) => answer,
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    /// The next answer, and of which call.
    pub(crate) async fn answer(&mut self) -> (String, Answer) {
        match tokio::time::timeout(PATIENCE, self.answers.recv()).await {
            Ok(Some(answer)) => answer,
            _ => panic!("no answer came\n{}", self.log()),
        }
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    /// The ids of what its sink took.
    pub(crate) fn sent(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("sent")).unwrap_or_default();
        let line = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        let ids = text
            .lines()
            .map(|text| line(text)["id"].as_str().map(str::to_owned));
        ids.map(Option::unwrap).collect()
    }
}
