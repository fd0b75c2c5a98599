//! The promises of the configuration.

use nightgate_core::{Channel, Purpose};

use super::*;

mod remote;

fn load(file: &str, env: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, Faults> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nightgate.toml");
    std::fs::write(&path, file).unwrap();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::load(&Sources {
        file: ConfigFile::Named(path),
        env: env.iter().map(own).collect(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
    })
}

fn config(file: &str) -> Config {
    load(file, &[], &[])
        .unwrap_or_else(|faults| panic!("{faults}"))
        .config
}

#[test]
fn the_default_file_parses_and_checks_clean() {
    assert!(DEFAULT_TOML.parse::<toml::Table>().is_ok());
    let loaded = Config::load(&Sources::default()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.config.lanes.len(), 1);
    assert_eq!(loaded.config.lanes[0].name, "main");
    assert_eq!(loaded.config.http.listen.port(), 8787);
    assert!(
        loaded
            .settings
            .iter()
            .all(|setting| setting.origin == Origin::Default)
    );
    let _ = config("");
}

#[test]
fn the_default_file_names_the_default_store() {
    assert_eq!(config("").hold.store, HoldKind::DEFAULT);
    for kind in HoldKind::ALL {
        let file = format!("[hold]\nstore = \"{}\"\n", kind.as_str());
        assert_eq!(config(&file).hold.store, kind);
    }
}

#[test]
fn the_limits_of_the_hold_are_bounds_or_none_and_the_shelf_stores_alone() {
    let hold = config("[hold]\nstore = \"shelf\"\n").hold;
    assert_eq!((hold.max_bytes, hold.shelf_max), (None, None));
    assert_eq!(hold.keep_free, crate::hold::open::KEEP_FREE_DEFAULT);
    let limits = "max_bytes = 1_000_000_000\nshelf_max = 5_000_000\nkeep_free = 0\n";
    let hold = config(&format!("[hold]\nstore = \"shelf\"\n{limits}")).hold;
    assert_eq!(hold.max_bytes, Some(1_000_000_000));
    assert_eq!((hold.shelf_max, hold.keep_free), (Some(5_000_000), 0));

    let elsewhere = format!("[hold]\nstore = \"sqlite\"\n{limits}");
    let faults = load(&elsewhere, &[], &[]).unwrap_err().0;
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["hold.max_bytes", "hold.shelf_max"]);
    assert!(
        faults[0].rule.contains("`hold.store` is \"sqlite\""),
        "{}",
        faults[0].rule
    );

    for small in [
        "max_bytes = 1000",
        "max_bytes = -1",
        "shelf_max = 10",
        "keep_free = -1",
    ] {
        let file = format!("[hold]\nstore = \"shelf\"\n{small}\n");
        let faults = load(&file, &[], &[]).unwrap_err().0;
        assert_eq!(faults.len(), 1, "{small}");
        assert!(
            faults[0].rule.starts_with("must be 0 "),
            "{}",
            faults[0].rule
        );
    }
}

#[test]
fn every_default_key_is_documented_by_a_comment_of_one_or_two_lines() {
    let mut comment = 0;
    let mut keys = 0;
    // An example of a source stands in the file, and none is configured.
    let mut example = false;
    for (number, line) in DEFAULT_TOML.lines().enumerate() {
        if line.starts_with('[') {
            example = line.starts_with("[source.");
        }
        if line.starts_with('#') {
            comment += 1;
        } else if line.contains(" = ") {
            keys += usize::from(!example);
            assert!((1..=2).contains(&comment), "line {}: {line}", number + 1);
            comment = 0;
        } else {
            comment = 0;
        }
    }
    let loaded = Config::load(&Sources::default()).unwrap();
    assert_eq!(keys, loaded.settings.len(), "one key a line");
}

/// Ten faults of ten kinds, and each is told with the line it stands on.
#[test]
fn a_file_with_ten_faults_reports_ten_with_their_lines() {
    let file = r#"[http]
listen = "localhost"
body_max_byts = 1
batch_max = 0
request_timeout = "soon"
connections_max = "many"
[hodl]
store = "memory"
[lane.kakao]
sink = "webhook"
channels = ["carrier pigeon"]
backoff_min = "1h"
slow_start_from = 1.5
"#;
    let faults = load(file, &[], &[]).unwrap_err().0;
    let mut found: Vec<_> = faults
        .iter()
        .map(|fault| match &fault.origin {
            Origin::File { line, .. } => (*line, fault.key.as_str(), fault.rule.as_str()),
            other => panic!("{other}"),
        })
        .collect();
    found.sort_unstable();
    let expected = [
        (2, "http.listen", "must be an address and a port"),
        (
            3,
            "http.body_max_byts",
            "is unknown; did you mean `http.body_max_bytes`?",
        ),
        (4, "http.batch_max", "must be 1 to 100000, is 0"),
        (
            5,
            "http.request_timeout",
            "must be a duration in hours, minutes and seconds",
        ),
        (
            6,
            "http.connections_max",
            "must be a whole number, is a text",
        ),
        (7, "hodl", "is unknown; did you mean `hold`?"),
        (9, "lane.kakao.webhook.url", "must be set"),
        (11, "lane.kakao.channels", "must be one of sms, "),
        (
            12,
            "lane.kakao.backoff_min",
            "must be at most backoff_max (10m), is 1h",
        ),
        (
            13,
            "lane.kakao.slow_start_from",
            "must be above 0 and at most 1, is 1.5",
        ),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((line, key, rule), (line_right, key_right, rule_start)) in found.iter().zip(expected) {
        assert_eq!((*line, *key), (line_right, key_right));
        assert!(rule.starts_with(rule_start), "{key} {rule}");
    }
}

#[test]
fn broken_toml_is_told_with_its_line_and_does_not_hide_other_faults() {
    let text = load("[http]\nlisten = \n\n[hold]\nkeep_ids = \"1s\"\n", &[], &[]).unwrap_err();
    let lines: Vec<String> = text.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("nightgate.toml:2: "), "{text}");
    assert!(
        lines[1].contains("nightgate.toml:5: `hold.keep_ids` must be 1h to 2160h"),
        "{text}"
    );
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let file = "[lane.main]\nrate = 1\n[release]\ntick_max = 11\nsweep_every = \"11s\"\n";
    let env = [
        ("NIGHTGATE_LANE__MAIN__RATE", "2"),
        ("NIGHTGATE_RELEASE__TICK_MAX", "22"),
        ("NIGHTGATE_LANE__MAIN__CHANNELS", "sms, lms"),
    ];
    let loaded = load(file, &env, &["lane.main.rate=3", "lane.main.rate=4"]).unwrap();
    let lane = &loaded.config.lanes[0];
    assert_eq!(lane.rate, 4, "flag");
    assert_eq!(loaded.config.release.tick_max, 22, "environment");
    assert_eq!(loaded.config.release.sweep_every.as_secs(), 11, "file");
    assert_eq!(loaded.config.release.lease_ttl.as_secs(), 60, "default");
    assert_eq!(lane.channels.len(), 2);
    let origin = |key: &str| {
        let setting = loaded.settings.iter().find(|setting| setting.key == key);
        setting.unwrap().origin.to_string()
    };
    assert_eq!(origin("lane.main.rate"), "--set lane.main.rate");
    assert_eq!(origin("release.tick_max"), "NIGHTGATE_RELEASE__TICK_MAX");
    assert!(origin("release.sweep_every").ends_with("nightgate.toml:5"));
}

#[test]
fn faults_in_variables_and_flags_name_them() {
    let env = [
        ("NIGHTGATE_HTTP__LISTN", "127.0.0.1:1"),
        ("NIGHTGATE_HTTP_LISTEN", "127.0.0.1:1"),
        ("NIGHTGATE_RELEASE__TICK_MAX", "lots"),
        ("NIGHTGATE_PORT", "tcp://10.0.0.1:8787"),
        ("NIGHTGATE_TARGET_DIR", "/tmp"),
    ];
    let faults = load("", &env, &["house.zone=Mars/Base", "log.level", "log=x"]).unwrap_err();
    let text = faults.to_string();
    let expected = [
        "NIGHTGATE_HTTP__LISTN: `http.listn` is unknown; did you mean `http.listen`?",
        "NIGHTGATE_HTTP_LISTEN: `http.listen` is not set by this name; did you mean \
         NIGHTGATE_HTTP__LISTEN?",
        "NIGHTGATE_RELEASE__TICK_MAX: `release.tick_max` must be a whole number, is `lots`",
        "--set log.level: must be a key and a value: section.key=value",
        "--set log: `log` is a section; name a key in it",
        "--set house.zone: `house.zone` must be an IANA time zone such as Asia/Seoul, is \
         \"Mars/Base\"",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

const KEY: &str = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";

#[test]
fn secrets_never_show_in_debug_settings_or_faults() {
    let file = format!(
        "[http]\nproducer_token = \"hush-1\"\n[alerts]\nslack_url = \"https://hush-2.example\"\n\
         [lane.main]\nsink = \"webhook\"\n[lane.main.webhook]\nurl = \"https://example.com\"\n\
         secret = \"{KEY}\"\nheaders = {{ Authorization = \"hush-3\" }}\n"
    );
    let loaded = load(&file, &[], &[]).unwrap_or_else(|faults| panic!("{faults}"));
    let shown = format!("{loaded:#?}");
    assert!(!shown.contains("hush") && !shown.contains(KEY), "{shown}");
    assert!(
        shown.contains("<hidden>") && shown.contains("Authorization"),
        "{shown}"
    );
    let token = loaded.config.http.producer_token.unwrap();
    assert_eq!(token.expose(), "hush-1");

    let bad = "[http]\nproducer_token = \"hush 1\"\nreader_token = [\"hush\"]\n[alerts]\n\
               slack_url = \"ftp://hush\"\n[lane.main]\nsink = \"webhook\"\n[lane.main.webhook]\n\
               url = \"https://hush:hush@example.com\"\nsecret = \"hush\"\n\
               headers = { A = \"hu\\nsh\" }\n";
    let env = [(
        "NIGHTGATE_LANE__MAIN__WEBHOOK__HEADERS",
        "Authorization: hush",
    )];
    let faults = load(bad, &env, &[]).unwrap_err();
    assert_eq!(faults.0.len(), 7, "{faults}");
    assert!(!faults.to_string().contains("hush"), "{faults}");
    assert!(!format!("{faults:?}").contains("hush"), "{faults:?}");
}

#[test]
fn addresses_of_engines_are_secrets_since_passwords_stand_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sentinels");
    std::fs::write(&path, "hush-3\n").unwrap();
    let file = format!(
        "[redis]\nurl = \"redis://:hush-1@a,b\"\nmode = \"sentinel\"\n[redis.sentinel]\n\
         user = \"night\"\npassword_file = \"{}\"\n[mongodb]\nurl = \"mongodb://u:hush-2@c\"\n",
        path.display()
    );
    let loaded = load(&file, &[], &[]).unwrap_or_else(|faults| panic!("{faults}"));
    let shown = format!("{loaded:#?}");
    assert!(!shown.contains("hush"), "{shown}");
    let redis = loaded.config.redis;
    assert_eq!(redis.url.expose(), "redis://:hush-1@a,b");
    assert_eq!(redis.sentinel_user.as_deref(), Some("night"));
    assert_eq!(redis.sentinel_password.unwrap().expose(), "hush-3");

    let alone = "[redis.sentinel]\nuser = \"night\"\n";
    let faults = load(alone, &[], &[]).unwrap_err().to_string();
    assert!(faults.contains("needs redis.sentinel.password"), "{faults}");
}

#[test]
fn a_secret_may_be_a_file_whose_last_newline_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "hush-1\n").unwrap();
    let path = path.display();
    let by_file = format!("[http]\nproducer_token_file = \"{path}\"\n");
    let token = |file: &str, env: &[(&str, &str)]| {
        let loaded = load(file, env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
        loaded
            .config
            .http
            .producer_token
            .unwrap()
            .expose()
            .to_owned()
    };
    assert_eq!(token(&by_file, &[]), "hush-1");
    assert_eq!(
        token(&by_file, &[("NIGHTGATE_HTTP__PRODUCER_TOKEN", "hush-2")]),
        "hush-2"
    );
    let in_place = "[http]\nproducer_token = \"hush-3\"\n";
    let env = ("NIGHTGATE_HTTP__PRODUCER_TOKEN_FILE", &*path.to_string());
    assert_eq!(token(in_place, &[env]), "hush-1");

    let both = format!("{by_file}producer_token = \"hush-4\"\n");
    let faults = load(&both, &[], &[]).unwrap_err().to_string();
    assert!(
        faults.contains("`http.producer_token_file` are both given"),
        "{faults}"
    );
    let same = format!("{by_file}reader_token_file = \"{path}\"\n");
    let faults = load(&same, &[], &[]).unwrap_err().to_string();
    assert!(
        faults.contains(":3: `http.reader_token` is the same as"),
        "{faults}"
    );
    let gone = "[http]\nproducer_token_file = \"/nonexistent\"\n";
    let faults = load(gone, &[], &[]).unwrap_err().to_string();
    assert!(
        faults.contains(":2: `http.producer_token_file` names /nonexistent, which"),
        "{faults}"
    );
}

#[test]
fn a_listener_open_to_the_network_needs_a_token() {
    let open = "[http]\nlisten = \"0.0.0.0:8787\"\n";
    let faults = load(open, &[], &[]).unwrap_err().to_string();
    assert!(
        faults.contains("set http.producer_token, or listen on 127.0.0.1"),
        "{faults}"
    );
    config("[http]\nlisten = \"0.0.0.0:8787\"\noperator_token = \"x\"\n");
    config("[http]\nlisten = \"[::1]:0\"\n");
    let same = "[http]\nproducer_token = \"x\"\noperator_token = \"x\"\n";
    let faults = load(same, &[], &[]).unwrap_err().to_string();
    assert!(
        faults.contains("is the same as `http.producer_token`"),
        "{faults}"
    );
}

#[test]
fn main_is_there_only_until_another_lane_is() {
    let names = |file: &str| -> Vec<String> {
        config(file)
            .lanes
            .into_iter()
            .map(|lane| lane.name)
            .collect()
    };
    assert_eq!(names(""), ["main"]);
    assert_eq!(names("[lane.kakao]\n"), ["kakao"]);
    assert_eq!(
        names("[lane.main]\n[lane.kakao]\nchannels = [\"alimtalk\"]\n"),
        ["kakao", "main"]
    );
    let faults = load("[lane.\"Kakao talk\"]\n", &[], &[])
        .unwrap_err()
        .to_string();
    assert!(faults.contains("is no name for a lane"), "{faults}");
}

#[test]
fn a_message_has_one_lane_at_most_and_a_named_channel_goes_first() {
    let file = "[lane.kakao]\nchannels = [\"alimtalk\", \"sms\"]\npurposes = [\"informational\"]\n\
                [lane.rest]\npurposes = [\"informational\"]\n\
                [lane.ads]\nchannels = [\"sms\"]\npurposes = [\"advertising\"]\n";
    let config = config(file);
    assert_eq!(
        config.lane_of(Purpose::Informational, Channel::Sms),
        Some("kakao")
    );
    assert_eq!(
        config.lane_of(Purpose::Informational, Channel::Email),
        Some("rest")
    );
    assert_eq!(
        config.lane_of(Purpose::Advertising, Channel::Sms),
        Some("ads")
    );
    assert_eq!(config.lane_of(Purpose::Advertising, Channel::Email), None);

    let both = "[lane.a]\nchannels = [\"sms\", \"lms\"]\n[lane.b]\nchannels = [\"sms\"]\n";
    let faults = load(both, &[], &[]).unwrap_err();
    assert_eq!(faults.0.len(), 1, "{faults}");
    let text = faults.to_string();
    let rule =
        ":3: `lane.b` carries informational messages by sms and 1 more, and so does `lane.a`";
    assert!(text.contains(rule), "{text}");
    assert!(load("[lane.a]\n[lane.b]\n", &[], &[]).is_err());
}

const WEBHOOK: &str =
    "[lane.main]\nsink = \"webhook\"\n[lane.main.webhook]\nurl = \"https://example.com\"\n";

#[test]
fn a_hand_over_must_end_within_half_its_loan() {
    let file = |timeout: &str| {
        let webhook = format!("{WEBHOOK}connect_timeout = \"1s\"\ntimeout = \"{timeout}\"\n");
        format!("[release]\nlease_ttl = \"10s\"\n{webhook}")
    };
    let faults = load(&file("5s"), &[], &[]).unwrap_err().to_string();
    assert!(
        faults.ends_with(
            "`lane.main.webhook.timeout` must be less than half of release.lease_ttl (10s)"
        ),
        "{faults}"
    );
    config(&file("4s999ms"));
}

#[test]
fn clocks_of_several_gateways_may_differ_by_a_quarter_of_a_loan() {
    for engine in ["redis", "mongodb"] {
        let file = |store: &str, skew: &str| {
            format!(
                "[hold]\nstore = \"{store}\"\n[{engine}]\nskew_max = \"{skew}\"\n\
                 [release]\nlease_ttl = \"10s\"\n"
            )
        };
        let faults = load(&file(engine, "2501ms"), &[], &[]).unwrap_err();
        let rule = format!("`{engine}.skew_max` must be at most a quarter of release.lease_ttl");
        assert!(faults.to_string().contains(&rule), "{faults}");
        config(&file(engine, "2500ms"));
        config(&file("shelf", "2501ms"));
    }
}

#[test]
fn what_the_webhook_sink_would_refuse_is_told_before_anything_is_made() {
    let loan = "[release]\nlease_ttl = \"1h\"\n";
    let headers = |many: usize| {
        let one = |number| format!("X-{number} = \"x\"");
        let all: Vec<_> = (0..many).map(one).collect();
        format!("headers = {{ {} }}", all.join(", "))
    };
    let right = [
        "batch_max = 1000".to_owned(),
        "timeout = \"120s\"\nconnect_timeout = \"119s\"".to_owned(),
        headers(32),
        format!("secret = \"{KEY}\""),
    ];
    for line in right {
        config(&format!("{loan}{WEBHOOK}{line}\n"));
    }
    let wrong = [
        ("batch_max = 1001".to_owned(), "batch_max", "1 to 1000"),
        ("timeout = \"121s\"".to_owned(), "timeout", "1s to 2m"),
        (
            "timeout = \"3s\"\nconnect_timeout = \"3s\"".to_owned(),
            "connect_timeout",
            "less than `timeout`",
        ),
        (headers(33), "headers", "at most 32"),
        (
            "headers = { Webhook-Id = \"x\" }".to_owned(),
            "headers",
            "sets itself",
        ),
        (
            // 32 digits, and only 22 bytes.
            "secret = \"whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2Vjcw==\"".to_owned(),
            "secret",
            "openssl rand",
        ),
    ];
    for (line, key, rule) in wrong {
        let faults = load(&format!("{loan}{WEBHOOK}{line}\n"), &[], &[]).unwrap_err();
        let [fault] = &faults.0[..] else {
            panic!("{line}: {faults}");
        };
        assert_eq!(fault.key, format!("lane.main.webhook.{key}"));
        assert!(fault.rule.contains(rule), "{faults}");
    }
}

#[test]
fn plain_http_must_be_asked_for() {
    let file = "[lane.main]\nsink = \"webhook\"\n[lane.main.webhook]\nurl = \"http://a.example\"\n";
    let faults = load(file, &[], &[]).unwrap_err().to_string();
    assert!(
        faults.ends_with("or set allow_plain_http = true"),
        "{faults}"
    );
    config(&format!("{file}allow_plain_http = true\n"));
    config(
        "[lane.main]\nsink = \"webhook\"\n[lane.main.webhook]\nurl = \"http://127.0.0.1:9/x\"\n",
    );
    assert!(load("[alerts]\nslack_url = \"http://a.example/x\"\n", &[], &[]).is_err());
    config("[alerts]\nslack_url = \"http://127.0.0.1:9/x\"\n");
}

#[test]
fn consent_validity_is_the_packs_or_for_ever_or_years() {
    let validity = |text: &str| {
        load("", &[], &[&format!("consent.validity={text}")])
            .map(|loaded| loaded.config.consent.validity)
    };
    assert_eq!(validity("pack"), Ok(ConsentValidity::Pack));
    assert_eq!(validity("off"), Ok(ConsentValidity::Off));
    assert_eq!(validity("2y"), Ok(ConsentValidity::Years(2)));
    for bad in ["0y", "11y", "2", "y", ""] {
        assert!(validity(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_named_file_must_be_there_and_the_usual_one_need_not() {
    let gone = PathBuf::from("/nonexistent/nightgate.toml");
    let load = |file| {
        Config::load(&Sources {
            file,
            ..Sources::default()
        })
    };
    assert!(load(ConfigFile::IfThere(gone.clone())).is_ok());
    let faults = load(ConfigFile::Named(gone)).unwrap_err().to_string();
    assert!(
        faults.contains("/nonexistent/nightgate.toml:1: the file cannot be read"),
        "{faults}"
    );
}
