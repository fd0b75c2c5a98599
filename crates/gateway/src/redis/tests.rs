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

/// An answer of a server as the driver reads it.
fn said(words: &str) -> Fault {
    let value = ::redis::parse_redis_value(format!("-{words}\r\n").as_bytes()).unwrap();
    Fault::from(&value.extract_error().unwrap_err())
}

#[test]
fn what_servers_say_of_a_failover_is_for_now_and_was_not_carried_out() {
    let rows = [
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: 1f, on @user_script:1.",
        "LOADING Redis is loading the dataset in memory",
        "LOADING Valkey is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "CLUSTERDOWN Hash slot not served",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "MOVED 3999 127.0.0.1:6381",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "NOSCRIPT No matching script. Please use EVAL.",
        "ERR max number of clients reached",
    ];
    for words in rows {
        let fault = said(words);
        assert_eq!(
            (fault.kind, fault.ran),
            (Kind::Unavailable, Ran::No),
            "{words}"
        );
    }
    let cut = said("UNBLOCKED force unblock from blocking operation, instance state changed");
    assert_eq!((cut.kind, cut.ran), (Kind::Unavailable, Ran::Maybe));
    for words in [
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair",
    ] {
        let fault = said(words);
        assert_eq!(fault.kind, Kind::Invalid);
        let told = fault.error("redis", "connect").to_string();
        assert!(
            told.contains("redis.url") && told.contains("redis.sentinel"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_master_that_became_a_replica_says_unavailable_also_to_who_waits_for_replicas() {
    let [server, other] = [Server::start(&[]), Server::start(&[])];
    other.replica_of(&server);
    let mut options = options(&server);
    options.replicas.count = 1;
    let redis = Redis::open(&options).await.unwrap();
    let write = || [Call::on("SET", "ng:a").arg(1)];
    redis.written(&write()).await.unwrap();
    other.ask(&["REPLICAOF", "NO", "ONE"]);
    server.replica_of(&other);
    let fault = redis
        .written(&write())
        .await
        .unwrap()
        .remove(0)
        .unwrap_err();
    assert_eq!((fault.kind, fault.ran), (Kind::Unavailable, Ran::No));
    assert_eq!(fault.code(), "READONLY");
    let error = redis.check(Durability::Relaxed).await.unwrap_err();
    assert!(
        error.to_string().contains("give the address of the master"),
        "{error}"
    );
    other.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    other.replica_of(&server);
    redis.written(&write()).await.unwrap();
}

#[tokio::test]
async fn a_master_without_the_replicas_that_it_must_have_takes_nothing_until_it_has_them() {
    let [server, other] = [Server::start(&[]), Server::start(&[])];
    let redis = Redis::open(&options(&server)).await.unwrap();
    let write = || Call::on("SET", "ng:a").arg(1);
    redis.call(&write()).await.unwrap();
    assert!(
        redis
            .check(Durability::Strict)
            .await
            .unwrap()
            .warnings
            .is_empty()
    );
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let fault = redis.call(&write()).await.unwrap_err();
    assert_eq!((fault.kind, fault.ran), (Kind::Unavailable, Ran::No));
    assert_eq!(fault.code(), "NOREPLICAS");
    other.replica_of(&server);
    redis.call(&write()).await.unwrap();
    assert!(
        redis
            .check(Durability::Strict)
            .await
            .unwrap()
            .warnings
            .is_empty()
    );
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    let warnings = redis.check(Durability::Strict).await.unwrap().warnings;
    assert!(
        warnings[0].contains("`min-replicas-to-write` to 1"),
        "{warnings:?}"
    );
}
