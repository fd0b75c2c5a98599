//! Writes inputs to begin with into `corpus/`, one folder a target, from the golden files:
//! `cargo run --example seeds`, in `fuzz/`.

use std::fs;
use std::io;
use std::path::Path;

use nightgate_log::frame::scan;
use nightgate_log::head::{HEAD_LEN, Head};
use nightgate_log::{Disk, SimDisk, write_all_at};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/gateway/tests/golden"
);
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
/// Where the contents of a whole file begin.
const CONTENTS_AT: usize = HEAD_LEN as usize + 24;
/// Most bytes of a whole file or a section before compression.
const PLAIN_MAX: usize = 16 * 1024 * 1024;

fn main() -> io::Result<()> {
    for entry in fs::read_dir(Path::new(GOLDEN).join("store-1"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = fs::read(&path)?;
        let target = match &name[..3] {
            "log" => "frame",
            "ids" => "run",
            _ => "manifest",
        };
        keep(target, &name, &[&[0], &*bytes])?;
        keep("head", &name, &[&[0], &bytes[..HEAD_LEN as usize]])?;
        match target {
            "frame" => metas(&name, &bytes)?,
            "manifest" => {
                let plain = zstd::bulk::decompress(&bytes[CONTENTS_AT..], PLAIN_MAX)?;
                keep(
                    target,
                    &format!("{name}-plain"),
                    &[&[1], &bytes[..CONTENTS_AT], &plain],
                )?;
            }
            _ => {}
        }
    }
    block("block-1-raw", 4)?;
    block("block-1-zstd", 60)
}

fn keep(target: &str, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let folder = Path::new(CORPUS).join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), parts.concat())
}

/// The metas of a log's frames.
fn metas(name: &str, bytes: &[u8]) -> io::Result<()> {
    let disk = SimDisk::new();
    let file = disk.open(name, true)?;
    write_all_at(&*file, bytes, 0)?;
    let salt = Head::read(&*file, bytes[4], 1)?.salt;
    let mut visit = |found: nightgate_log::frame::Found<'_>| {
        keep("op", &format!("{name}-{}", found.lsn), &[found.meta])
    };
    scan(&*file, &salt, HEAD_LEN, 0, true, &mut visit).map(drop)
}

/// A block as it is, and with its sections uncompressed.
fn block(name: &str, count: u16) -> io::Result<()> {
    let bytes = fs::read(Path::new(GOLDEN).join(format!("{name}.bin")))?;
    let (length, sections) = bytes.split_at(4);
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    let (head, body) = sections.split_at(length as usize);
    let count = count.to_le_bytes();
    keep("block", name, &[&count, &bytes])?;
    let (head, body) = (plain(head)?, plain(body)?);
    let length = (head.len() as u32).to_le_bytes();
    keep(
        "block",
        &format!("{name}-plain"),
        &[&count, &length, &head, &body],
    )
}

/// A section with its columns as they are: format, codec 0, length, columns.
fn plain(section: &[u8]) -> io::Result<Vec<u8>> {
    let columns = match section[1] {
        0 => section[6..].to_vec(),
        _ => zstd::bulk::decompress(&section[6..], PLAIN_MAX)?,
    };
    let length = (columns.len() as u32).to_le_bytes();
    Ok([&[section[0], 0], &length[..], &columns].concat())
}
