//! What is sent, and what each error means, against a server on loopback that speaks as SQS does.

use std::sync::{Arc, Mutex};

use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value as Json, json};

use super::*;
use crate::aws::queues::{Attribute, FaultKind as K};

/// What a server answers: status, the header `x-amzn-query-error`, body. `None`: it hangs up.
type Script = Option<(u16, String, String)>;

#[derive(Clone)]
struct Server {
    script: Script,
    got: Arc<Mutex<Vec<(String, Json)>>>,
}

impl Server {
    /// A server that answers everything with `script`, and queues that talk to it.
    async fn serve(script: Script) -> (Self, SdkQueues) {
        let server = Self {
            script,
            got: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (server, queues(&url))
    }

    /// Operation and body of every request.
    fn requests(&self) -> Vec<(String, Json)> {
        self.got.lock().unwrap().clone()
    }
}

async fn take(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    let body = serde_json::from_slice(&body).unwrap();
    server.got.lock().unwrap().push((target, body));
    match server.script {
        Some((status, code, body)) => {
            let answer = Response::builder().status(status);
            let answer = answer.header("content-type", "application/x-amz-json-1.0");
            let answer = answer.header("x-amzn-query-error", code);
            answer.body(Body::from(body)).unwrap()
        }
        // A body that fails before its first byte: the connection is cut.
        None => {
            let cut = std::io::Error::other("cut");
            let body = futures_util::stream::iter([Err::<Bytes, _>(cut)]);
            Response::builder()
                .header("content-length", "100")
                .body(Body::from_stream(body))
                .unwrap()
        }
    }
}

fn client(url: &str) -> Config {
    let limit = Duration::from_secs(10);
    let limits = TimeoutConfig::builder().operation_timeout(limit).build();
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("ap-northeast-2"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
        .timeout_config(limits)
        .endpoint_url(url)
        .build()
}

fn queues(url: &str) -> SdkQueues {
    SdkQueues::new(Client::from_conf(client(url)))
}

fn queue() -> Queue {
    Queue::new("https://sqs.ap-northeast-2.amazonaws.com/123456789012/send")
}

fn message(body: &str) -> Outgoing {
    Outgoing {
        body: body.to_owned(),
        ..Outgoing::default()
    }
}

fn kinds<T>(answers: &[Answer<T>]) -> Vec<Option<K>> {
    let kind = |answer: &Answer<T>| answer.as_ref().err().map(|fault| fault.kind);
    answers.iter().map(kind).collect()
}

/// An error as SQS writes it in the JSON protocol.
fn error(status: u16, code: &str, name: &str) -> Script {
    let body = json!({ "__type": format!("com.amazonaws.sqs#{name}"), "message": "said SQS" });
    let code = match code {
        "" => String::new(),
        code => format!("{code};Sender"),
    };
    Some((status, code, body.to_string()))
}

/// Status, the legacy code, the modelled name, what it means for a send.
const ERRORS: &[(u16, &str, &str, K)] = &[
    (400, "RequestThrottled", "RequestThrottled", K::Throttled),
    (400, "", "RequestThrottled", K::Throttled),
    (
        400,
        "ThrottlingException",
        "ThrottlingException",
        K::Throttled,
    ),
    (400, "KMS.ThrottlingException", "KmsThrottled", K::Throttled),
    (429, "", "Other", K::Throttled),
    (
        400,
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        K::Denied,
    ),
    (400, "", "QueueDoesNotExist", K::Denied),
    (
        400,
        "KMS.AccessDeniedException",
        "KmsAccessDenied",
        K::Denied,
    ),
    (403, "AccessDenied", "AccessDeniedException", K::Denied),
    (
        403,
        "InvalidClientTokenId",
        "InvalidClientTokenId",
        K::Denied,
    ),
    (
        400,
        "SignatureDoesNotMatch",
        "SignatureDoesNotMatch",
        K::Denied,
    ),
    (403, "InvalidSecurity", "InvalidSecurity", K::Denied),
    (
        400,
        "InvalidParameterValue",
        "InvalidParameterValue",
        K::Rejected,
    ),
    (
        400,
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "BatchRequestTooLong",
        K::Rejected,
    ),
    (
        503,
        "ServiceUnavailable",
        "ServiceUnavailable",
        K::Unavailable,
    ),
    (500, "InternalFailure", "InternalFailure", K::Unknown),
];

#[tokio::test]
async fn each_error_of_a_send_says_what_can_be_done_about_it() {
    let odd = |status, body: &str| Some((status, String::new(), body.to_owned()));
    let mut cases = vec![
        (odd(502, "<html>Bad Gateway</html>"), K::Unknown),
        (odd(503, "<html>no server</html>"), K::Unknown),
        (odd(200, "{\"Successful\": [{\"Id\""), K::Unknown),
        (None, K::Unknown),
    ];
    let known = ERRORS.iter();
    cases.extend(known.map(|(status, code, name, kind)| (error(*status, code, name), *kind)));
    for (script, right) in cases {
        let (server, queues) = Server::serve(script.clone()).await;
        let answers = queues
            .send(&queue(), vec![message("a"), message("b")])
            .await;
        assert_eq!(kinds(&answers), [Some(right); 2], "{script:?}: {answers:?}");
        let requests = server.requests().len();
        assert_eq!(requests, 1, "a send is never made again: {script:?}");
    }
}

#[tokio::test]
async fn a_request_that_never_left_is_not_unknown() {
    // A port that was free a moment ago, and nobody listens on.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let answers = queues(&url).send(&queue(), vec![message("a")]).await;
    assert_eq!(kinds(&answers), [Some(K::Unavailable)], "{answers:?}");

    let nobody = client(&url).to_builder();
    let mut nobody = nobody;
    nobody.set_credentials_provider(None);
    let queues = SdkQueues::new(Client::from_conf(nobody.build()));
    let answers = queues.send(&queue(), vec![message("a")]).await;
    let kinds = kinds(&answers);
    assert!(
        matches!(kinds[0], Some(K::Unavailable | K::Denied)),
        "without credentials nothing is sent: {answers:?}"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_unknown_and_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = TimeoutConfig::builder().operation_timeout(Duration::from_millis(200));
    let impatient = client(&url).to_builder().timeout_config(limits.build());
    let queues = SdkQueues::new(Client::from_conf(impatient.build()));
    // The kernel takes connection and request; nobody ever answers.
    let answers = queues.send(&queue(), vec![message("a")]).await;
    assert_eq!(kinds(&answers), [Some(K::Unknown)], "{answers:?}");
    drop(listener);
}

#[tokio::test]
async fn what_does_no_harm_twice_is_tried_again_and_a_server_at_fault_is_unavailable() {
    let (server, queues) = Server::serve(error(500, "InternalFailure", "X")).await;
    let answers = queues.delete(&queue(), &["handle".to_owned()]).await;
    assert_eq!(kinds(&answers), [Some(K::Unavailable)]);
    assert_eq!(server.requests().len(), 3, "tried three times");
    let asked = Ask {
        max: 10,
        hide: Duration::from_secs(60),
        wait: Duration::ZERO,
    };
    assert_eq!(
        queues.receive(&queue(), &asked).await.unwrap_err().kind,
        K::Unavailable
    );
}

#[tokio::test]
async fn each_entry_has_its_own_answer_and_one_left_out_is_unknown() {
    let failed = |id: &str, code: &str, sender: bool| {
        let personal = "Value 010-1234-5678 is invalid";
        json!({"Id": id, "Code": code, "SenderFault": sender, "Message": personal})
    };
    let answer = json!({
        "Successful": [
            {"Id": "3", "MessageId": "m-3", "MD5OfMessageBody": "x"},
            {"Id": "0", "MessageId": "m-0", "MD5OfMessageBody": "x"},
            {"Id": "7", "MessageId": "m-7", "MD5OfMessageBody": "x"},
            {"Id": "99", "MessageId": "m-99", "MD5OfMessageBody": "x"},
        ],
        "Failed": [
            failed("1", "InvalidMessageContents", true),
            failed("2", "InternalError", false),
            failed("4", "RequestThrottled", true),
            failed("5", "AWS.SimpleQueueService.QueueDoesNotExist", true),
            failed("7", "InternalError", false),
        ],
    });
    let (_, queues) = Server::serve(Some((200, String::new(), answer.to_string()))).await;
    let answers = queues.send(&queue(), vec![message("a"); 8]).await;
    assert_eq!(answers[0], Ok("m-0".to_owned()));
    assert_eq!(answers[3], Ok("m-3".to_owned()));
    let right = [
        None,
        Some(K::Rejected),
        Some(K::Unavailable),
        None,
        Some(K::Throttled),
        Some(K::Denied),
        Some(K::Unknown),
        Some(K::Unknown),
    ];
    assert_eq!(kinds(&answers), right, "6 is left out, 7 is named twice");
    let rejected = answers[1].as_ref().unwrap_err();
    assert_eq!(
        rejected.why, "InvalidMessageContents",
        "a rejection quotes nothing"
    );
}

#[tokio::test]
async fn a_message_is_sent_with_everything_it_has() {
    let (server, queues) = Server::serve(Some((200, String::new(), "{}".to_owned()))).await;
    let whole = Outgoing {
        body: "안녕 👋\n".to_owned(),
        attributes: vec![
            Attribute::text("template", "T-7"),
            Attribute {
                name: "logo".to_owned(),
                kind: "Binary.png".to_owned(),
                value: Value::Bytes(vec![0, 255]),
            },
        ],
        group: Some("g".to_owned()),
        deduplication: Some("d".to_owned()),
        trace: Some("Root=1-2-3".to_owned()),
        delay: Duration::from_secs(9),
    };
    queues.send(&queue(), vec![whole, message("plain")]).await;
    let (target, body) = server.requests().remove(0);
    assert_eq!(target, "AmazonSQS.SendMessageBatch");
    let right = json!({"QueueUrl": queue().url(), "Entries": [
        {"Id": "0", "MessageBody": "안녕 👋\n", "DelaySeconds": 9,
         "MessageGroupId": "g", "MessageDeduplicationId": "d",
         "MessageAttributes": {
            "template": {"DataType": "String", "StringValue": "T-7"},
            "logo": {"DataType": "Binary.png", "BinaryValue": "AP8="}},
         "MessageSystemAttributes": {
            "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}}},
        {"Id": "1", "MessageBody": "plain"},
    ]});
    assert_eq!(body, right);
}

#[tokio::test]
async fn a_message_is_received_with_everything_it_has() {
    let answer = json!({"Messages": [{
        "MessageId": "id", "ReceiptHandle": "handle", "Body": "안녕 👋\n",
        "Attributes": {
            "SentTimestamp": "1795340000123", "ApproximateFirstReceiveTimestamp": "1795340001000",
            "ApproximateReceiveCount": "3", "MessageGroupId": "g",
            "MessageDeduplicationId": "d", "AWSTraceHeader": "Root=1-2-3", "SenderId": "x"},
        "MessageAttributes": {
            "template": {"DataType": "String", "StringValue": "T-7"},
            "logo": {"DataType": "Binary.png", "BinaryValue": "AP8="}},
    }]});
    let (server, queues) = Server::serve(Some((200, String::new(), answer.to_string()))).await;
    let ask = Ask {
        max: 7,
        hide: Duration::from_secs(90),
        wait: Duration::from_secs(20),
    };
    let mut got = queues.receive(&queue(), &ask).await.unwrap();
    let right = Incoming {
        id: "id".to_owned(),
        handle: "handle".to_owned(),
        body: "안녕 👋\n".to_owned(),
        attributes: vec![
            Attribute {
                name: "logo".to_owned(),
                kind: "Binary.png".to_owned(),
                value: Value::Bytes(vec![0, 255]),
            },
            Attribute::text("template", "T-7"),
        ],
        group: Some("g".to_owned()),
        deduplication: Some("d".to_owned()),
        trace: Some("Root=1-2-3".to_owned()),
        sent_at: jiff::Timestamp::from_millisecond(1_795_340_000_123).unwrap(),
        first_received_at: jiff::Timestamp::from_millisecond(1_795_340_001_000).unwrap(),
        receives: 3,
    };
    assert!(got.len() == 1 && got.remove(0) == right);
    let (_, body) = server.requests().remove(0);
    let right = json!({"QueueUrl": queue().url(), "MaxNumberOfMessages": 7,
        "VisibilityTimeout": 90, "WaitTimeSeconds": 20,
        "MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"]});
    assert_eq!(body, right);
}

#[tokio::test]
async fn a_long_poll_may_take_longer_than_other_requests_by_what_it_waits() {
    let queues = queues("http://127.0.0.1:9");
    let longer = queues.longer(Duration::from_secs(20));
    assert_eq!(longer.operation_timeout(), Some(Duration::from_secs(30)));
    assert_eq!(longer.operation_attempt_timeout(), None);
}

#[tokio::test]
async fn what_a_queue_tells_of_itself_is_read() {
    let answer = json!({"Attributes": {
        "ApproximateNumberOfMessages": "12", "ApproximateNumberOfMessagesNotVisible": "3",
        "ApproximateNumberOfMessagesDelayed": "1", "MessageRetentionPeriod": "1209600",
        "VisibilityTimeout": "300", "MaximumMessageSize": "1048576",
        "RedrivePolicy": "{\"deadLetterTargetArn\":\"arn\",\"maxReceiveCount\":\"5\"}"}});
    let (_, queues) = Server::serve(Some((200, String::new(), answer.to_string()))).await;
    let right = Look {
        visible: 12,
        in_flight: 3,
        delayed: 1,
        retention: Duration::from_secs(1_209_600),
        hide: Duration::from_secs(300),
        receives_max: Some(5),
        bytes_max: 1_048_576,
    };
    assert_eq!(queues.look(&queue()).await, Ok(right));
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_not_found_and_that_is_no_fault() {
    let none = "AWS.SimpleQueueService.NonExistentQueue";
    let (_, queues) = Server::serve(error(400, none, "QueueDoesNotExist")).await;
    assert_eq!(queues.find("gone").await, Ok(None));
    let (_, queues) = Server::serve(error(403, "AccessDenied", "AccessDenied")).await;
    assert_eq!(queues.find("secret").await.unwrap_err().kind, K::Denied);
}
