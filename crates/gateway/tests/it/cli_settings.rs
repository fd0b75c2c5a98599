//! Commands about rules and settings, on the built binary.

use nightgate::receipt::sqlite::SqliteLog;
use nightgate::receipt::{Event, Receipt, ReceiptLog, Subject};

use crate::cli_home::Home;

#[test]
fn a_broken_pack_tells_every_fault_with_its_line() {
    let home = Home::new();
    let pack = home.write(
        "house.toml",
        "[pack]\nid = \"house\"\ntitel = \"House\"\njurisdiction = \"*\"\n",
    );
    let ran = home.run(&["rules", "check", pack]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("house.toml:3: "), "{ran:?}");
    let faults = home.run(&["rules", "check", pack, "--json"]);
    assert_eq!(faults.code, 2);
    assert_eq!(faults.json()["faults"].as_array().unwrap().len(), 2);
    let configured = home.run(&["rules", "check", "--json"]);
    assert_eq!(configured.json()["ok"], true);
    assert_eq!(home.run(&["rules", "check", "missing.toml"]).code, 2);
}

#[test]
fn the_rules_are_shown_with_what_they_stand_on_and_that_this_is_no_advice() {
    let home = Home::new();
    let ran = home.run(&["rules", "show"]);
    for part in [
        "kr.night",
        "08:00-21:00",
        "night consent",
        "Network Act",
        "30 s",
        "not legal",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    let other = home.run(&["rules", "show", "--jurisdiction", "FR"]);
    assert!(other.out.contains("no pack for FR is loaded"), "{other:?}");
    assert!(!other.out.contains("kr.night"), "{other:?}");
    let json = home.run(&["rules", "show", "--json"]).json();
    assert!(json["note"].as_str().unwrap().contains("not legal advice"));
}

#[test]
fn every_fault_of_a_configuration_is_told_at_once() {
    let home = Home::new();
    home.write(
        "nightgate.toml",
        "[hous]\nzone = \"Asia/Seoul\"\n[http]\nbatch_max = \"many\"\n",
    );
    let env = [("NIGHTGATE_CLOCK__FREEZE", "soon")];
    let ran = home.run_with(&env, &["config", "show", "--set", "house.zone=Mars/Base"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    for part in [
        "`hous`",
        "`http.batch_max`",
        "`clock.freeze`",
        "`house.zone`",
    ] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    let doctor = home.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert_eq!(doctor.json()["checks"][0]["name"], "configuration");
}

#[test]
fn secrets_are_never_printed() {
    let home = Home::new();
    let token = "correct-horse-battery-staple-0123456789";
    let env = [("NIGHTGATE_HTTP__PRODUCER_TOKEN", token)];
    for args in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["doctor", "--verbose"],
        &["doctor", "--verbose", "--json"],
    ] {
        let ran = home.run_with(&env, args);
        assert!(ran.out.contains("<hidden>"), "{ran:?}");
        assert!(
            !ran.out.contains(token) && !ran.err.contains(token),
            "{ran:?}"
        );
    }
}

#[test]
fn the_defaults_that_are_printed_are_a_configuration_that_loads() {
    let home = Home::new();
    let defaults = home.run(&["config"]);
    home.write("nightgate.toml", &defaults.out);
    let ran = home.run(&["config", "show"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("nightgate.toml:"), "{ran:?}");
}

#[test]
fn a_machine_that_is_fit_passes_the_doctor() {
    let home = Home::new();
    let ran = home.run(&["doctor", "--json", "--set", "http.listen=127.0.0.1:0"]);
    let json = ran.json();
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.len() > 8, "{ran:?}");
    // How full the disk of a test machine is says nothing about us.
    let ill = checks
        .iter()
        .find(|check| check["ok"] == false && check["name"] != "free space");
    assert_eq!(ill, None, "{ran:?}");
}

#[test]
fn the_doctor_knows_a_gateway_that_runs_from_a_stranger() {
    let home = Home::new();
    let check = |url: &str| {
        let listen = format!("http.listen={}", url.trim_start_matches("http://"));
        let ran = home.run(&["doctor", "--json", "--set", &listen]);
        let json = ran.json();
        let checks = json["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == "address");
        found.unwrap()["ok"].as_bool().unwrap()
    };
    let served = home.serve();
    assert!(check(&served.url));
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let answers = std::thread::spawn(move || drop(stranger.accept()));
    assert!(!check(&format!("http://{address}")));
    answers.join().unwrap();
}

#[tokio::test]
async fn a_clock_behind_its_receipts_fails_the_doctor() {
    let home = Home::new();
    home.run(&["doctor", "--set", "http.listen=127.0.0.1:0"]);
    let log = SqliteLog::open(&home.path("nightgate-data/receipts.db")).unwrap();
    let future = "2200-01-01T00:00:00Z".parse().unwrap();
    let receipt = Receipt::of(Event::Delivered, Subject::default(), future);
    log.append(vec![receipt]).await.unwrap();
    let ran = home.run(&["doctor", "--set", "http.listen=127.0.0.1:0"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out.contains("✗ clock") && ran.out.contains("behind a receipt"),
        "{ran:?}"
    );
}

#[test]
fn a_data_directory_that_others_may_enter_fails_the_doctor() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let dir = home.path("nightgate-data");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = home.run(&["doctor", "--set", "http.listen=127.0.0.1:0"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("chmod 700"), "{ran:?}");
}

#[test]
fn there_is_a_completion_script_for_each_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = home.run(&["completions", shell]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(
            ran.out.contains("nightgate") && ran.out.contains("receipts"),
            "{shell}"
        );
    }
    assert_eq!(home.run(&["completions", "tcsh"]).code, 2);
}

#[test]
fn every_command_has_help_with_examples() {
    let home = Home::new();
    for command in [
        &["send"][..],
        &["explain"],
        &["hold", "ls"],
        &["hold", "show"],
        &["hold", "recall"],
        &["hold", "kick"],
        &["consent", "import"],
        &["consent", "show"],
        &["consent", "grant"],
        &["consent", "withdraw"],
        &["lanes"],
        &["receipts"],
        &["rules", "check"],
        &["rules", "show"],
        &["doctor"],
        &["config"],
        &["completions"],
    ] {
        let ran = home.run(&[command, &["--help"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("Examples:"), "{command:?}: {}", ran.out);
    }
    assert_eq!(home.run(&["hodl"]).code, 2);
}
