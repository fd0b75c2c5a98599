//! The files of the repository, tracked or not yet.

use std::fs;
use std::path::{Path, PathBuf};

use super::assert_none;

/// Folders that hold nothing of ours.
const PASSED_OVER: &[&str] = &[
    ".git",
    "target",
    "node_modules",
    "__pycache__",
    ".nightgate",
];
/// Larger files are data, in bytes.
const TEXT_MAX_BYTES: u64 = 1024 * 1024;
/// The only registry that a clone may need.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Settings that lead a package manager elsewhere.
const DETOURS: &[&str] = &[
    "replace-with",
    "index-url",
    "registry=",
    " registry = ",
    "[registries",
    "GOPROXY",
];

/// A text file of the repository.
pub(super) struct File {
    /// From the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// The root of the repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every text file below the root.
pub(super) fn all() -> Vec<File> {
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust file.
pub(super) fn rust() -> Vec<File> {
    let mut files = all();
    files.retain(|file| file.path.ends_with(".rs"));
    assert!(
        files.len() > 20,
        "the walk found only {} Rust files",
        files.len()
    );
    files
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && !PASSED_OVER.contains(&&*entry.file_name().to_string_lossy()) {
            walk(root, &path, found);
        } else if kind.is_file() && entry.metadata().unwrap().len() <= TEXT_MAX_BYTES {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let path = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            found.push(File { path, text });
        }
    }
}

/// Places that lead to any registry but the public one.
fn detours(path: &str, text: &str) -> Vec<String> {
    let lock = path.ends_with("Cargo.lock");
    let leads_away = |line: &str| match line.strip_prefix("source = ") {
        Some(source) if lock => source.trim_matches('"') != REGISTRY,
        _ => !lock && DETOURS.iter().any(|detour| line.contains(detour)),
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| leads_away(line));
    lines
        .map(|(index, _)| format!("{path}:{} leads to another registry", index + 1))
        .collect()
}

#[test]
fn a_clone_builds_from_the_public_registry_alone() {
    let own = |file: &File| file.path.ends_with("tidy/files.rs") || file.path.ends_with(".md");
    let files = all().into_iter().filter(|file| !own(file));
    assert_none(
        &files
            .flat_map(|file| detours(&file.path, &file.text))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_detour_is_found() {
    let lock = format!("source = \"{REGISTRY}\"\nsource = \"git+https://example.com/x\"\n");
    assert_eq!(
        detours("Cargo.lock", &lock),
        ["Cargo.lock:2 leads to another registry"]
    );
    let config = "[source.crates-io]\nreplace-with = \"mirror\"\n";
    assert_eq!(
        detours("x.toml", config),
        ["x.toml:2 leads to another registry"]
    );
    assert!(detours("x.rs", "source = elsewhere\n").is_empty());
}
