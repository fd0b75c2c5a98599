//! Sizes: a file is one idea, a function fits a screen.

use super::{assert_none, files};

const FILE_MAX_LINES: usize = 600;
const FUNCTION_MAX_LINES: usize = 70;
const COLUMNS_MAX: usize = 100;
/// What may stand before `fn`.
const QUALIFIERS: &[&str] = &[
    "pub",
    "pub(crate)",
    "pub(super)",
    "async",
    "const",
    "default",
];

fn long_file(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > FILE_MAX_LINES)
        .then(|| format!("{path} has {lines} lines; {FILE_MAX_LINES} at most: split the idea"))
}

/// A wide character counts as one column.
fn wide_lines(path: &str, text: &str) -> Vec<String> {
    let columns = text.lines().map(|line| line.chars().count()).enumerate();
    let wide = columns.filter(|(_, columns)| *columns > COLUMNS_MAX);
    wide.map(|(index, columns)| {
        format!(
            "{path}:{} has {columns} columns; {COLUMNS_MAX} at most",
            index + 1
        )
    })
    .collect()
}

/// The name of the function that a line declares.
fn declared(line: &str) -> Option<&str> {
    let (before, after) = line.trim().split_once("fn ")?;
    if !before
        .split_whitespace()
        .all(|word| QUALIFIERS.contains(&word))
    {
        return None;
    }
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (end > 0).then(|| &after[..end])
}

/// Lines of the body that follows a declaration, by rustfmt's layout: the body opens at the end of
/// a line and closes at the indent of the declaration.
fn body_lines(from: &[&str]) -> usize {
    let indent = from[0].len() - from[0].trim_start().len();
    let close = format!("{}}}", " ".repeat(indent));
    let Some(open) = from.iter().position(|line| line.ends_with(['{', ';', '}'])) else {
        return 0;
    };
    if !from[open].ends_with('{') {
        return 0;
    }
    from[open + 1..]
        .iter()
        .position(|line| *line == close)
        .unwrap_or(0)
}

fn long_functions(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let declarations = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| Some((at, declared(line)?)));
    declarations
        .map(|(at, name)| (at, name, body_lines(&lines[at..])))
        .filter(|(.., body)| *body > FUNCTION_MAX_LINES)
        .map(|(at, name, body)| {
            format!(
                "{path}:{} `{name}` has {body} lines; {FUNCTION_MAX_LINES} at most",
                at + 1
            )
        })
        .collect()
}

/// Attributes that silence a lint without saying whether it still speaks.
fn allowances(path: &str, text: &str) -> Vec<String> {
    let attribute = |line: &str| line.starts_with("#[") || line.starts_with("#![");
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| attribute(line) && line.contains("allow("))
        .map(|(index, _)| {
            format!(
                "{path}:{} allows a lint; expect it, with a reason",
                index + 1
            )
        })
        .collect()
}

#[test]
fn no_file_is_longer_than_an_idea() {
    let files = files::rust();
    let faults = files
        .iter()
        .filter_map(|file| long_file(&file.path, &file.text));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn no_line_is_wider_than_the_page() {
    let files = files::rust();
    let faults = files
        .iter()
        .flat_map(|file| wide_lines(&file.path, &file.text));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let files = files::rust();
    let faults = files
        .iter()
        .flat_map(|file| long_functions(&file.path, &file.text));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn no_lint_is_allowed_away() {
    let files = files::rust();
    let faults = files
        .iter()
        .flat_map(|file| allowances(&file.path, &file.text));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn a_file_or_line_over_its_size_is_found() {
    assert!(long_file("a.rs", &"x\n".repeat(600)).is_none());
    let fault = long_file("a.rs", &"x\n".repeat(601)).unwrap();
    assert_eq!(fault, "a.rs has 601 lines; 600 at most: split the idea");
    let text = format!("{}\n{}\n", "밤".repeat(100), "x".repeat(101));
    assert_eq!(
        wide_lines("a.rs", &text),
        ["a.rs:2 has 101 columns; 100 at most"]
    );
}

#[test]
fn a_function_over_its_size_is_found_wherever_it_stands() {
    let function = |lines: usize| {
        let body = "        x();\n".repeat(lines);
        format!(
            "impl X {{\n    pub(crate) async fn long(\n        a: u8,\n    ) {{\n{body}    }}\n}}\n"
        )
    };
    assert!(long_functions("a.rs", &function(70)).is_empty());
    let text = format!(
        "trait T {{\n    fn short(&self);\n}}\n\nfn one() {{}}\n\n{}",
        function(71)
    );
    assert_eq!(
        long_functions("a.rs", &text),
        ["a.rs:8 `long` has 71 lines; 70 at most"]
    );
    assert_eq!(declared("    let f: fn (u8) = x;"), None);
}

#[test]
fn an_allowed_lint_is_found() {
    let text = "#[expect(dead_code)]\n    #[allow(dead_code)]\n#![cfg_attr(test, allow(x))]\n";
    let faults = allowances("a.rs", text);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(faults[0], "a.rs:2 allows a lint; expect it, with a reason");
}
