//! `nightgate send`, against a gateway that runs and against one that answers by script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::cli_home::Home;

fn message(id: &str, purpose: &str) -> String {
    json!({
        "id": id, "recipient": "010-1234-5678", "channel": "sms", "purpose": purpose,
        "body": "hello",
    })
    .to_string()
}

#[test]
fn a_file_is_sent_and_each_line_has_its_answer() {
    let home = Home::new();
    let served = home.serve();
    let text = format!(
        "{}\n\nno json\n{}\n{}\n",
        message("a", "informational"),
        message("b", "advertising"),
        message("a", "informational"),
    );
    let file = home.write("messages.ndjson", &text);
    let args = ["send", file, "--url", &served.url, "--chunk", "2"];
    let ran = home.run(&args);
    assert_eq!(ran.code, 3, "{ran:?}");
    let want = "1 accepted · 0 held · 1 refused · 1 duplicate · 1 invalid · 0 failed";
    assert!(ran.out.contains(want), "{ran:?}");
    assert!(
        ran.err.contains("line 3: ") && ran.err.contains("line 4 (b): "),
        "{ran:?}"
    );
    assert!(ran.err.contains("kr.consent"), "{ran:?}");
    assert!(!home.path("messages.ndjson.nightgate-sent").exists());
    let again = home.run(&[&args[..], &["--json"]].concat()).lines();
    let lines: Vec<_> = again
        .iter()
        .filter_map(|line| line["line"].as_u64())
        .collect();
    assert_eq!(lines, [1, 3, 4, 5]);
    assert_eq!(again[4]["summary"]["duplicate"], 2);
    let piped = home.pipe(
        &message("c", "informational"),
        &["send", "-", "--url", &served.url],
    );
    assert_eq!(piped.code, 0, "{piped:?}");
}

#[test]
fn without_a_gateway_it_says_how_to_start_one() {
    let home = Home::new();
    let file = home.write("messages.ndjson", &message("a", "informational"));
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ran = home.run(&["send", file, "--url", &format!("http://{free}")]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains("no gateway answers at http://127.0.0.1:"),
        "{ran:?}"
    );
    assert!(ran.err.contains("nightgate serve"), "{ran:?}");
}

/// One answer of a scripted gateway.
enum Say {
    /// So many lines are accepted; then the summary comes, or the answers break off.
    Accept(usize, bool),
    /// A status with this line among the headers.
    Status(u16, &'static str),
}

/// A request as it came.
struct Asked {
    head: String,
    ids: Vec<String>,
}

/// A gateway that answers one request after the other by `script`, then stops.
fn scripted(script: Vec<Say>) -> (String, JoinHandle<Vec<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let answer = |say: Say| {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = request(&stream);
            respond(&mut stream, &say);
            asked
        };
        script.into_iter().map(answer).collect()
    });
    (url, answering)
}

fn request(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1).unwrap();
    let length = length.split('\r').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].clone();
    let ids = String::from_utf8(body).unwrap();
    let ids = ids
        .lines()
        .map(|line| id(line).as_str().unwrap().to_owned())
        .collect();
    Asked { head, ids }
}

fn respond(stream: &mut TcpStream, say: &Say) {
    let text = match say {
        Say::Accept(count, whole) => {
            let line = |line| json!({ "line": line, "status": "accepted" }).to_string() + "\n";
            let mut body: String = (1..=*count).map(line).collect();
            if *whole {
                body += "{\"summary\":{\"complete\":true}}\n";
            }
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}")
        }
        Say::Status(status, header) => {
            let body = r#"{"title":"not now","detail":"why"}"#;
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\
                 {header}\r\n\r\n{body}"
            )
        }
    };
    stream.write_all(text.as_bytes()).unwrap();
}

fn four(home: &Home) -> &'static str {
    let lines: Vec<_> = (1..=4)
        .map(|id| message(&id.to_string(), "informational"))
        .collect();
    home.write("messages.ndjson", &lines.join("\n"))
}

#[test]
fn the_same_command_goes_on_where_it_was_acknowledged() {
    let home = Home::new();
    let file = four(&home);
    let refusal = Say::Status(401, "X-A: b");
    let (url, answering) = scripted(vec![Say::Accept(2, true), refusal, Say::Accept(2, true)]);
    let args = ["send", file, "--url", &url, "--chunk", "2"];
    let first = home.run(&args);
    assert_eq!(first.code, 1, "{first:?}");
    assert!(first.err.contains("does not take this token"), "{first:?}");
    let state = home.path("messages.ndjson.nightgate-sent");
    assert!(state.exists());
    let second = home.run(&args);
    assert_eq!(second.code, 0, "{second:?}");
    assert!(second.out.contains("going on behind line 2"), "{second:?}");
    assert!(second.out.contains("4 accepted"), "{second:?}");
    assert!(!state.exists());
    let ids: Vec<_> = answering
        .join()
        .unwrap()
        .into_iter()
        .map(|asked| asked.ids)
        .collect();
    assert_eq!(ids, [["1", "2"], ["3", "4"], ["3", "4"]]);
}

#[test]
fn a_file_that_changed_where_it_was_sent_is_noticed_and_restart_sends_it_anew() {
    let home = Home::new();
    let file = four(&home);
    let refusal = Say::Status(401, "X-A: b");
    let (url, answering) = scripted(vec![Say::Accept(2, true), refusal, Say::Accept(4, true)]);
    assert_eq!(
        home.run(&["send", file, "--url", &url, "--chunk", "2"])
            .code,
        1
    );
    let text = std::fs::read_to_string(home.path(file)).unwrap();
    home.write("messages.ndjson", &text.replacen("hello", "HELLO", 1));
    let changed = home.run(&["send", file, "--url", &url]);
    assert_eq!(changed.code, 1, "{changed:?}");
    assert!(changed.err.contains("has changed since"), "{changed:?}");
    let anew = home.run(&["send", file, "--url", &url, "--restart"]);
    assert_eq!(anew.code, 0, "{anew:?}");
    assert_eq!(answering.join().unwrap()[2].ids, ["1", "2", "3", "4"]);
}

#[test]
fn a_busy_gateway_is_asked_again_and_only_for_what_it_left_unanswered() {
    let home = Home::new();
    let file = four(&home);
    let busy = Say::Status(503, "Retry-After: 0");
    let (url, answering) = scripted(vec![busy, Say::Accept(3, false), Say::Accept(1, true)]);
    let ran = home.run(&["send", file, "--url", &url]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("4 accepted"), "{ran:?}");
    let ids: Vec<_> = answering
        .join()
        .unwrap()
        .into_iter()
        .map(|asked| asked.ids)
        .collect();
    assert_eq!(
        ids,
        [
            vec!["1", "2", "3", "4"],
            vec!["1", "2", "3", "4"],
            vec!["4"]
        ]
    );
}

#[test]
fn a_gateway_that_stays_busy_is_given_up_after_a_bounded_number_of_tries() {
    let home = Home::new();
    let file = four(&home);
    let busy = || Say::Status(503, "Retry-After: 0");
    let (url, answering) = scripted((0..8).map(|_| busy()).collect());
    let ran = home.run(&["send", file, "--url", &url, "--json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.json()["summary"]["failed"], 4);
    assert!(ran.err.contains("gave up after 8 tries"), "{ran:?}");
    assert_eq!(answering.join().unwrap().len(), 8);
}

#[test]
fn the_token_comes_from_a_file_or_the_environment_and_is_never_shown() {
    let home = Home::new();
    let file = four(&home);
    home.write("token", "from-a-file\n");
    let refusal = || Say::Status(403, "X-A: b");
    let (url, answering) = scripted(vec![refusal(), refusal()]);
    let given = home.run(&["send", file, "--url", &url, "--token-file", "token"]);
    let env = [(
        "NIGHTGATE_HTTP__PRODUCER_TOKEN",
        "from-the-environment-0123456789-abcdef",
    )];
    let found = home.run_with(&env, &["send", file, "--url", &url]);
    let asked = answering.join().unwrap();
    for (ran, asked, token) in [
        (given, &asked[0], "from-a-file"),
        (found, &asked[1], env[0].1),
    ] {
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            asked.head.contains(&format!("Bearer {token}\r\n")),
            "{}",
            asked.head
        );
        assert!(
            !ran.err.contains(token) && !ran.out.contains(token),
            "{ran:?}"
        );
    }
    let inside = home.run(&["send", file, "--url", "http://me:secret@127.0.0.1:1"]);
    assert_eq!(inside.code, 2, "{inside:?}");
    assert!(!inside.err.contains("secret@"), "{inside:?}");
}
