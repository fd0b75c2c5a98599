//! `nightgate demo`: the first thing that a newcomer runs.

use serde_json::Value;

use crate::cli_home::Home;

/// The figure called `name`.
#[track_caller]
fn figure(sums: &Value, name: &str) -> u64 {
    sums[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} of {sums}"))
}

#[test]
fn the_demo_lives_through_its_night_and_leaves_stores_that_add_up() {
    let home = Home::new();
    let ran = home.run(&["demo", "--json", "--keep", "night"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines = ran.lines();
    let (sums, told) = lines.split_last().unwrap();
    let said: Vec<&str> = told
        .iter()
        .filter_map(|line| line["said"].as_str())
        .collect();
    assert!(said.len() > 8 && said.len() == told.len(), "{told:?}");

    let of = |name| figure(sums, name);
    let ends = ["delivered", "refused", "expired", "recalled", "held"].map(of);
    assert_eq!(of("accepted"), ends.iter().sum::<u64>(), "{sums}");
    assert!(
        of("delivered") > 1000 && of("recalled") > 0 && of("refused") > 0,
        "{sums}"
    );
    assert!(
        of("buried") > 0,
        "the crash left outcomes that nobody knows: {sums}"
    );
    for never in ["advertising_twice", "night_offences"] {
        assert_eq!(of(never), 0, "{sums}");
    }

    let kept = ["--json", "--set", "data.dir=night"];
    let verified = home.run(&[&["hold", "verify"], &kept[..]].concat()).json();
    assert_eq!(verified["sound"], true, "{verified}");
    assert_eq!(
        figure(&verified, "held") + figure(&verified, "buried"),
        of("held"),
        "what the demo says is held is what its store holds"
    );
    let shelves = home.run(&[&["hold", "ls"], &kept[..]].concat()).json();
    let shelves = shelves["shelves"].as_array().unwrap();
    let buried: u64 = shelves.iter().map(|shelf| figure(shelf, "buried")).sum();
    assert_eq!(buried, of("buried"), "{shelves:?}");
}

#[test]
fn the_demo_tells_the_same_night_in_korean_unless_asked_for_english() {
    let home = Home::new();
    let korean = home.run(&["demo"]);
    assert_eq!(korean.code, 0, "{korean:?}");
    assert!(korean.out.contains("광고"), "{}", korean.out);
    let english = home.run(&["demo", "--language", "en"]);
    assert_eq!(english.code, 0, "{english:?}");
    let digits = |text: &str| -> Vec<String> {
        let table = text
            .lines()
            .rev()
            .take_while(|line| !line.starts_with("08:20"));
        let number = |line: &str| {
            line.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let numbers = table.map(number).filter(|word| word.parse::<u64>().is_ok());
        numbers.collect()
    };
    assert!(digits(&english.out).len() > 8, "{}", english.out);
    assert_eq!(digits(&korean.out), digits(&english.out));
}

#[test]
fn the_demo_keeps_nothing_in_a_folder_that_is_in_use() {
    let home = Home::new();
    home.write("notes.txt", "mine");
    let ran = home.run(&["demo", "--keep", "."]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("is not empty"), "{}", ran.err);
}
