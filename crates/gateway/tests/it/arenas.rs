//! How much memory glibc may keep to itself.

use crate::gateway::Home;

/// What the environment of a process says of arenas.
fn arenas(pid: u32) -> Vec<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let all = environment.split(|byte| *byte == 0);
    let all = all.map(|one| String::from_utf8_lossy(one).into_owned());
    all.filter(|one| one.starts_with("MALLOC_ARENA_MAX="))
        .collect()
}

#[cfg(target_env = "gnu")]
#[tokio::test]
async fn a_gateway_begins_itself_anew_with_two_arenas_under_the_same_number() {
    let home = Home::new("");
    let gateway = home.serve().await;
    assert_eq!(arenas(gateway.pid()), ["MALLOC_ARENA_MAX=2"]);
    gateway.stop().await;
}
