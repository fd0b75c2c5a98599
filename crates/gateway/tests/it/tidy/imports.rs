//! Imports go one way. The table is DESIGN's; a module without a row must be given one.

use std::collections::BTreeSet;

use super::assert_none;
use super::files::{self, File};

/// What everybody above the base may know.
const BASE: &[&str] = &[
    "error", "secret", "clock", "backoff", "metrics", "lane", "config", "sqlite", "aws", "mongodb",
    "redis",
];
/// The ports. They know the base and never each other.
const PORTS: &[&str] = &["hold", "consent", "sink", "receipt", "alert"];
/// Rows beside the ports': a module, and what it may know of the crate.
const TABLE: &[(&str, &[&[&str]])] = &[
    ("error", &[]),
    ("secret", &[]),
    ("clock", &[]),
    ("backoff", &[]),
    ("lane", &[]),
    ("metrics", &[&["lane"]]),
    ("config", &[&["error", "secret", "lane"]]),
    ("sqlite", &[&["error"]]),
    ("aws", &[&["error", "secret", "clock"]]),
    ("mongodb", &[&["error", "secret", "clock"]]),
    ("redis", &[&["error", "secret", "clock"]]),
    ("decider", &[BASE, PORTS]),
    ("gate", &[BASE, PORTS, &["decider"]]),
    ("recall", &[BASE, PORTS]),
    ("release", &[BASE, PORTS, &["decider"]]),
    ("ingest", &[BASE, PORTS, &["gate"]]),
    (
        "http",
        &[
            BASE,
            PORTS,
            &["decider", "gate", "recall", "release", "ingest"],
        ],
    ),
];
/// Those who build objects: they know everything, and alone name concrete backends.
const BUILDERS: &[&str] = &["cli", "lambda"];
/// Files of a port that are no backend: part of the port itself.
const PORT_PARTS: &[&str] = &[
    "alert::desk",
    "alert::text",
    "consent::import",
    "hold::due",
    "hold::moving",
    "hold::room",
    "receipt::columns",
    "receipt::export",
];
const SOURCE: &str = "crates/gateway/src/";

/// The module a file belongs to and the file's place below it: `hold`, `sqlite/read.rs`.
fn module(path: &str) -> Option<(&str, &str)> {
    let below = path.strip_prefix(SOURCE)?;
    Some(
        below
            .split_once('/')
            .unwrap_or((below.strip_suffix(".rs")?, "")),
    )
}

/// Backends by path, `hold::sqlite`: each file or folder of a port, but for the port's own parts.
fn backends(paths: &[&str]) -> BTreeSet<String> {
    let backend = |path: &&str| {
        let (port, below) = module(path).filter(|(port, _)| PORTS.contains(port))?;
        let name = below.split('/').next()?.trim_end_matches(".rs");
        let path = format!("{port}::{name}");
        let part = ["", "mod", "tests"].contains(&name) || PORT_PARTS.contains(&path.as_str());
        (!part).then_some(path)
    };
    paths.iter().filter_map(backend).collect()
}

/// The code of a file: no comments, and no modules of tests, which may build what they like.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_module = |next: &&str| next.contains("mod ") && next.ends_with('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(opens_module) {
            let _ = lines.by_ref().find(|line| *line == "}");
        } else if !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Paths that begin with `root` in a piece of code, two steps deep, groups opened:
/// `crate::{a, b::{C, d}}` names `a`, `b::C` and `b::d`.
fn named(code: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            tree(&code[at + root.len()..], "", &mut found);
        }
    }
    found
}

/// Reads one tree of a `use` after its `::`; says how many bytes it took.
fn tree(text: &str, prefix: &str, found: &mut BTreeSet<String>) -> usize {
    let start = text.len() - text.trim_start().len();
    let rest = &text[start..];
    if rest.starts_with('{') {
        let mut at = 1;
        while !rest[at..].trim_start().starts_with('}') && at < rest.len() {
            at += tree(&rest[at..], prefix, found).max(1);
            at += rest[at..].len() - rest[at..].trim_start_matches([',', ' ', '\n']).len();
        }
        return start + at + rest[at..].find('}').map_or(0, |close| close + 1);
    }
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*');
    let end = word.unwrap_or(rest.len());
    let path = if prefix.is_empty() {
        rest[..end].to_owned()
    } else {
        format!("{prefix}::{}", &rest[..end])
    };
    match rest[end..].strip_prefix("::") {
        Some(deeper) => start + end + 2 + tree(deeper, &path, found),
        None => {
            let alias = rest[end..].find([',', '}', ';', '\n']).unwrap_or(0);
            found.insert(path);
            start + end + alias
        }
    }
}

fn row(name: &str) -> Option<Vec<&'static str>> {
    if PORTS.contains(&name) {
        return Some(BASE.to_vec());
    }
    let row = TABLE.iter().find(|(module, _)| *module == name)?;
    Some(row.1.concat())
}

/// What `file` imports against the table, as sentences.
fn faults(file: &File, backends: &BTreeSet<String>) -> BTreeSet<String> {
    let Some((own, below)) = module(&file.path) else {
        return BTreeSet::new();
    };
    let test = below.ends_with("tests.rs") || below.split('/').any(|step| step == "tests");
    if own == "lib" || test || BUILDERS.contains(&own) {
        return BTreeSet::new();
    }
    let code = code(&file.text);
    let path = &file.path;
    if own == "main" {
        let strangers = named(&code, "nightgate::").into_iter();
        let strangers = strangers.filter(|name| name != "cli" && !name.starts_with("cli::"));
        return strangers
            .map(|name| format!("{path}: `main` may not import `{name}`"))
            .collect();
    }
    let Some(row) = row(own) else {
        return BTreeSet::from([format!(
            "{path}: `{own}` has no row in the import table; give it one"
        )]);
    };
    let mut faults = BTreeSet::new();
    for name in named(&code, "crate::") {
        let mut steps = name.split("::");
        let (first, second) = (
            steps.next().unwrap_or_default(),
            steps.next().unwrap_or_default(),
        );
        if first == own || !first.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        let pair = format!("{first}::{second}");
        if !row.contains(&first) {
            faults.insert(format!("{path}: `{own}` may not import `{first}`"));
        } else if backends.contains(&pair) {
            faults.insert(format!(
                "{path}: `{own}` may not name `{pair}`; only cli builds backends"
            ));
        }
    }
    faults
}

#[test]
fn imports_go_one_way() {
    let files = files::rust();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let backends = backends(&paths);
    assert!(backends.contains("hold::sqlite"), "{backends:?}");
    assert_none(
        &files
            .iter()
            .flat_map(|file| faults(file, &backends))
            .collect::<Vec<_>>(),
    );
}

mod teeth {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        let paths = [
            "crates/gateway/src/hold/mod.rs",
            "crates/gateway/src/hold/sqlite.rs",
            "crates/gateway/src/sink/webhook/mod.rs",
            "crates/gateway/src/alert/desk.rs",
        ];
        let file = File {
            path: format!("{SOURCE}{path}"),
            text: text.to_owned(),
        };
        let strip = |fault: String| fault.split_once(": ").unwrap().1.to_owned();
        faults(&file, &backends(&paths))
            .into_iter()
            .map(strip)
            .collect()
    }

    #[test]
    fn the_base_knows_nobody_above_it() {
        let right = ["`clock` may not import `release`"];
        assert_eq!(check("clock.rs", "use crate::release::Releaser;\n"), right);
        assert_eq!(
            check("clock.rs", "fn f(x: crate::release::Tick) {}\n"),
            right
        );
        assert!(check("clock.rs", "use crate::clock::Clock;\n").is_empty());
        assert!(check("clock.rs", "// crate::release does this\n").is_empty());
    }

    #[test]
    fn ports_never_know_each_other_not_even_in_a_group() {
        let text =
            "use crate::{\n    error::{Error, Kind},\n    hold::Lane,\n    lane::Lane as L,\n};\n";
        assert_eq!(
            check("receipt/mod.rs", text),
            ["`receipt` may not import `hold`"]
        );
        assert_eq!(check("hold/sqlite.rs", text), Vec::<String>::new());
    }

    #[test]
    fn backends_are_named_by_builders_alone() {
        let text = "use crate::hold::{HoldStore, sqlite::SqliteHold};\nuse crate::sink::webhook;\n\
                    use crate::alert::desk::Desk;\n";
        let right = [
            "`gate` may not name `hold::sqlite`; only cli builds backends",
            "`gate` may not name `sink::webhook`; only cli builds backends",
        ];
        assert_eq!(check("gate.rs", text), right);
        assert!(check("cli/serve.rs", text).is_empty());
        assert!(check("hold/open.rs", "use crate::hold::sqlite::SqliteHold;\n").is_empty());
    }

    #[test]
    fn tests_inside_a_file_may_build_what_they_like_and_code_after_them_may_not() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::cli::X;\n}\n";
        assert!(check("gate.rs", text).is_empty());
        let after = format!("{text}use crate::cli::X;\n");
        assert_eq!(check("gate.rs", &after), ["`gate` may not import `cli`"]);
    }

    #[test]
    fn folders_of_tests_may_build_what_they_like_wherever_they_stand() {
        let text = "use crate::hold::sqlite::SqliteHold;\nuse crate::cli::X;\n";
        assert!(check("gate/tests/world.rs", text).is_empty());
        assert!(check("ingest/sqs/tests/world.rs", text).is_empty());
        assert_eq!(check("gate/contests/world.rs", text).len(), 2);
    }

    #[test]
    fn a_new_module_must_be_given_a_row_and_main_knows_cli_alone() {
        let right = ["`surprise` has no row in the import table; give it one"];
        assert_eq!(check("surprise.rs", ""), right);
        let main =
            "fn main() -> ExitCode {\n    nightgate::cli::run()\n}\nuse nightgate::gate::Gate;\n";
        assert_eq!(
            check("main.rs", main),
            ["`main` may not import `gate::Gate`"]
        );
    }

    #[test]
    fn groups_within_groups_are_opened() {
        let names = named("use crate::{a, b::{C, d::E}, f as g, h::*};", "crate::");
        let right = ["a", "b::C", "b::d::E", "f", "h::*"].map(str::to_owned);
        assert_eq!(names, BTreeSet::from(right));
    }
}
