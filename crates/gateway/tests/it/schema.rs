//! Schemathesis asks the served interface everything its own description promises.

use std::path::PathBuf;
use std::process::Command;

use crate::gateway::Home;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";
const EXAMPLES_MAX: &str = "30";
const SEED: &str = "8";

fn schemathesis() -> PathBuf {
    let venv = std::env::temp_dir().join("nightgate-venv/bin/schemathesis");
    assert!(
        venv.exists(),
        "schemathesis is needed at {}: python3 -m venv, pip install schemathesis \
         (scripts/test.sh does)",
        venv.display()
    );
    venv
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_the_description_says() {
    let home = Home::new("[lane.main.log]\npath = \"out\"\n");
    let gateway = home.serve().await;
    let url = format!("http://{}/openapi.json", gateway.address);
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts");
    let mut command = Command::new(schemathesis());
    command
        .args([
            "run",
            &url,
            "--checks",
            CHECKS,
            "--max-examples",
            EXAMPLES_MAX,
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--seed", SEED])
        .args([
            "--warnings",
            "off",
            "--no-color",
            "--no-shrink",
            "--workers",
            "1",
        ])
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONPATH", scripts)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .current_dir(home.path(""));
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let run = run.await.unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}\n{}", home.log());
    assert!(!home.log().contains("panicked"), "{}", home.log());
}
