//! The thread: one write and one sync for each file in a group.

use std::io;

use super::pending::Part;
use super::shared::Shared;
use crate::disk::write_all_at;

/// Poisons the journal when the thread ends in a panic, so that nobody waits for ever.
struct Watchman<'a>(&'a Shared);

impl Drop for Watchman<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .poison(&io::Error::other("the journal's thread panicked"));
        }
    }
}

/// How far a file is reserved.
#[derive(Default)]
struct Reserved {
    no: Option<u32>,
    to: u64,
}

/// Writes groups until the journal closes or something fails.
pub(super) fn run(shared: &Shared) {
    let _watchman = Watchman(shared);
    let mut reserved = Reserved::default();
    while let Some(group) = shared.next_group() {
        for part in group.iter() {
            if let Err(fault) = write(part, shared.options.reserve, &mut reserved) {
                shared.poison(&fault);
                return;
            }
        }
        shared.land(group);
    }
}

fn write(part: &Part, ahead: u64, reserved: &mut Reserved) -> io::Result<()> {
    if ahead > 0 {
        reserve(part, ahead, reserved);
    }
    write_all_at(part.file.as_ref(), &part.bytes, part.at)?;
    part.file.sync()
}

/// Room set aside makes the sync cheaper; without it the write is as good, so errors do not count.
fn reserve(part: &Part, ahead: u64, reserved: &mut Reserved) {
    let end = part.at + part.bytes.len() as u64;
    if reserved.no != Some(part.no) {
        *reserved = Reserved {
            no: Some(part.no),
            to: part.file.len().unwrap_or(end),
        };
    }
    if end > reserved.to {
        reserved.to = end + ahead;
        let _ = part.file.reserve(reserved.to);
    }
}
