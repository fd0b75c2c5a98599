//! Keys and variables that the pages for people mention exist.

use std::collections::BTreeSet;

use nightgate::config::{Config, ConfigFile, DEFAULT_TOML, Sources};

use super::assert_none;
use super::files::{self, File};

/// How a fault of an unknown key begins.
const UNKNOWN: &str = "is unknown";
/// Ends of words that look like keys and are files: `data.db`.
const FILE_ENDS: &[&str] = &[
    "rs", "toml", "md", "db", "json", "csv", "py", "sh", "txt", "log",
];

/// The sections of a configuration.
fn sections() -> BTreeSet<String> {
    DEFAULT_TOML
        .parse::<toml::Table>()
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

/// Unknown keys among variables, flags and a file.
fn unknown(sources: &Sources) -> Vec<String> {
    let faults = Config::load(sources)
        .err()
        .map(|faults| faults.0)
        .unwrap_or_default();
    let unknown = faults
        .into_iter()
        .filter(|fault| fault.rule.starts_with(UNKNOWN));
    unknown
        .map(|fault| format!("`{}` {}", fault.key, fault.rule))
        .collect()
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every `NIGHTGATE_...` in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("NIGHTGATE_").map(|(at, _)| &text[at..]);
    let whole = starts.map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or(rest));
    whole.map(str::to_owned).collect()
}

/// Every `section.key` between backticks.
fn keys(text: &str) -> BTreeSet<String> {
    let sections = sections();
    let spans = text.split('`').skip(1).step_by(2);
    let key = |span: &&str| {
        let steps: Vec<&str> = span.split('.').collect();
        steps.len() > 1
            && sections.contains(steps[0])
            && steps
                .iter()
                .all(|step| !step.is_empty() && step.chars().all(is_name))
            && !FILE_ENDS.contains(&steps[steps.len() - 1])
    };
    // `lane.NAME.rate` stands for any lane's.
    spans
        .filter(key)
        .map(|span| span.replace(".NAME", ".main"))
        .collect()
}

/// Fenced TOML that is a piece of a configuration: every section in it is one of ours.
fn blocks(text: &str) -> Vec<String> {
    let sections = sections();
    let fenced = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let ours = |block: &&str| {
        let table = block.parse::<toml::Table>().unwrap_or_default();
        table.keys().any(|name| sections.contains(name))
    };
    fenced.filter(ours).map(str::to_owned).collect()
}

/// What a page mentions that is not there. `elsewhere`: the text of everything but pages, in which
/// variables that are no keys must stand.
fn faults(page: &File, elsewhere: &str) -> Vec<String> {
    let (with_key, without): (Vec<_>, Vec<_>) = variables(&page.text)
        .into_iter()
        .partition(|name| name.contains("__"));
    let mut found: Vec<String> = without
        .into_iter()
        .filter(|name| name != "NIGHTGATE_" && !elsewhere.contains(name.as_str()))
        .map(|name| format!("`{name}` is read nowhere"))
        .collect();
    found.extend(unknown(&Sources {
        file: ConfigFile::None,
        env: with_key
            .into_iter()
            .map(|name| (name, String::new()))
            .collect(),
        flags: keys(&page.text)
            .into_iter()
            .map(|key| format!("{key}="))
            .collect(),
    }));
    for block in blocks(&page.text) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, block).unwrap();
        let file = ConfigFile::Named(file.path().to_owned());
        found.extend(unknown(&Sources {
            file,
            ..Sources::default()
        }));
    }
    found
        .into_iter()
        .map(|fault| format!("{}: {fault}", page.path))
        .collect()
}

#[test]
fn keys_that_pages_mention_exist() {
    let (pages, others): (Vec<_>, Vec<_>) = files::all()
        .into_iter()
        .partition(|file| file.path.ends_with(".md"));
    let code = others
        .iter()
        .filter(|file| !file.path.ends_with("tidy/mentions.rs"));
    let elsewhere: String = code.map(|file| file.text.as_str()).collect();
    assert_none(
        &pages
            .iter()
            .flat_map(|page| faults(page, &elsewhere))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_key_that_is_not_there_is_found() {
    let text = "Set `http.listen`, `http.listn` or `lane.NAME.rat`; see `hold.rs`, `jiff.Zoned`. \
                NIGHTGATE_HTTP__LISTEN is fine, NIGHTGATE_LOG__LEVL is not, nor is NIGHTGATE_GONE; \
                NIGHTGATE_HERE is.\n\
                ```toml\n[release]\ntick_maxx = 5\n```\n\
                ```toml\n[[rule]]\nid = \"kr.night\"\n```\n";
    let page = File {
        path: "README.md".to_owned(),
        text: text.to_owned(),
    };
    let right = [
        "README.md: `NIGHTGATE_GONE` is read nowhere",
        "README.md: `log.levl` is unknown; did you mean `log.level`?",
        "README.md: `http.listn` is unknown; did you mean `http.listen`?",
        "README.md: `lane.main.rat` is unknown; did you mean `lane.main.rate`?",
        "README.md: `release.tick_maxx` is unknown; did you mean `release.tick_max`?",
    ];
    assert_eq!(faults(&page, "NIGHTGATE_HERE"), right);
}
