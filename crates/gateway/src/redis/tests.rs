//! The connection against real servers.

use ::redis::Value;

use super::server::{Cluster, Server};
use super::*;
use crate::error::Kind;

fn options(server: &Server) -> RedisOptions {
    RedisOptions::single(Secret::new(server.url()))
}

fn bytes(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_script_loads_itself_and_again_after_the_server_forgot_it() {
    let server = Server::start(&[]);
    let redis = Redis::open(&options(&server)).await.unwrap();
    let script = Script::new("redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]");
    let call = script.call("ng:{0}:x").arg("one");
    assert_eq!(redis.call(&call).await.unwrap(), bytes("one"));
    server.ask(&["SCRIPT", "FLUSH"]);
    let calls = [
        Call::on("GET", "ng:{0}:x"),
        call,
        Call::on("TYPE", "ng:{0}:x"),
    ];
    let answers: Vec<Value> = redis
        .pipeline(&calls)
        .await
        .unwrap()
        .into_iter()
        .map(|answer| answer.unwrap())
        .collect();
    assert_eq!(
        answers,
        [
            bytes("one"),
            bytes("one"),
            Value::SimpleString("string".into())
        ]
    );
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_without_a_word() {
    let mut server = Server::start(&[]);
    let redis = Redis::open(&options(&server)).await.unwrap();
    redis.call(&Call::on("SET", "ng:a").arg(1)).await.unwrap();
    server.kill();
    let lost = redis.call(&Call::on("GET", "ng:a")).await.unwrap_err();
    assert_eq!(lost.kind, Kind::Unavailable);
    let refused = redis.call(&Call::on("GET", "ng:a")).await.unwrap_err();
    assert_eq!((refused.kind, refused.ran), (Kind::Unavailable, Ran::No));
    server.restart();
    assert_eq!(
        redis.call(&Call::on("GET", "ng:a")).await.unwrap(),
        bytes("1")
    );
}

#[tokio::test]
async fn neither_errors_nor_debug_hold_the_password() {
    let url = Secret::new("redis://user:hunter2@127.0.0.1:1/0");
    let options = RedisOptions::single(url);
    let error = Redis::open(&options).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!format!("{error} {error:?} {options:?}").contains("hunter2"));
    for url in [
        "redis://user:hunter2@",
        "http://user:hunter2@host",
        "redis://u:hunter2@a,b",
    ] {
        let options = RedisOptions::single(Secret::new(url));
        let error = Redis::open(&options).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_server_that_may_lose_messages_is_refused_with_what_to_change() {
    let rows = [
        (
            ["--maxmemory-policy", "allkeys-lru"],
            "set it to `noeviction`",
        ),
        (["--appendonly", "no"], "set it to `yes`"),
        (["--appendfsync", "no"], "set it to `always`"),
    ];
    for (settings, words) in rows {
        let server = Server::start(&settings);
        let redis = Redis::open(&options(&server)).await.unwrap();
        let error = redis.check(Durability::Strict).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.to_string().contains(words), "{error}");
        let checked = redis.check(Durability::Relaxed).await.unwrap();
        assert!(
            checked
                .warnings
                .iter()
                .any(|warning| warning.contains(words)),
            "{checked:?}"
        );
    }
    let server = Server::start(&[]);
    let redis = Redis::open(&options(&server)).await.unwrap();
    let checked = redis.check(Durability::Strict).await.unwrap();
    assert!(
        checked.fsync_always && checked.warnings.is_empty(),
        "{checked:?}"
    );
    assert!(checked.version.starts_with("redis ") || checked.version.starts_with("valkey "));
}

#[tokio::test]
async fn where_config_is_forbidden_what_cannot_be_known_is_said() {
    let server = Server::start(&["--rename-command", "CONFIG", "", "--appendfsync", "always"]);
    let redis = Redis::open(&options(&server)).await.unwrap();
    let checked = redis.check(Durability::Strict).await.unwrap();
    assert!(!checked.fsync_always, "nobody knows");
    assert_eq!(checked.warnings, ["`appendfsync` is unknown"]);
}

#[tokio::test]
async fn too_few_replicas_are_an_error_that_says_the_master_has_it() {
    let server = Server::start(&[]);
    let mut options = options(&server);
    options.replicas.count = 1;
    options.timeout = Duration::from_millis(400);
    let redis = Redis::open(&options).await.unwrap();
    let fault = redis
        .written(&[Call::on("SET", "ng:a").arg(1)])
        .await
        .unwrap_err();
    assert_eq!((fault.kind, fault.ran), (Kind::Unavailable, Ran::Maybe));
    assert_eq!(
        redis.call(&Call::on("GET", "ng:a")).await.unwrap(),
        bytes("1")
    );
}

#[tokio::test]
async fn a_full_server_says_that_nothing_was_carried_out() {
    let server = Server::start(&["--maxmemory", "1mb"]);
    let redis = Redis::open(&options(&server)).await.unwrap();
    let fault = redis
        .call(&Call::on("SET", "ng:a").arg(vec![7_u8; 2 << 20]))
        .await;
    let fault = fault
        .err()
        .unwrap_or_else(|| panic!("a full server took it"));
    assert!(fault.full());
    assert_eq!((fault.kind, fault.ran), (Kind::Unavailable, Ran::No));
}

#[tokio::test]
async fn a_cluster_is_asked_by_slot_and_checked_on_every_master() {
    let cluster = Cluster::start();
    let mut options = RedisOptions::single(Secret::new(cluster.url()));
    options.mode = Mode::Cluster;
    let redis = Redis::open(&options).await.unwrap();
    let script = Script::new("redis.call('INCR', KEYS[1] .. ':n') return redis.call('TIME')[1]");
    for tag in 0..16 {
        redis
            .call(&script.call(&format!("ng:{{{tag}}}")))
            .await
            .unwrap();
        let count = redis
            .call(&Call::on("GET", &format!("ng:{{{tag}}}:n")))
            .await;
        assert_eq!(count.unwrap(), bytes("1"));
    }
    let checked = redis.check(Durability::Strict).await.unwrap();
    assert_eq!((checked.masters, checked.fsync_always), (3, true));
    redis.time().await.unwrap();
    cluster.nodes[2].ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    let error = redis.check(Durability::Strict).await.unwrap_err();
    assert!(error.to_string().contains("noeviction"), "{error}");
}
