//! Reads a store's files from end to end, changes nothing, and says what is wrong.
//!
//! Beside a process that owns the store, that process does it: it stops its upkeep meanwhile, so
//! that no file is removed or given back under the reader, and looks at the log up to one frame.

mod blocks;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use nightgate_log::disk::Disk;
use nightgate_log::run::{FilterHome, Run};
use serde::de::DeserializeOwned;

use self::logs::Told;
use super::fault::{Outcome, disk, error};
use super::files::{
    self, Checkpoint, KIND_MANIFEST, KIND_STATE, MANIFEST, Manifest, RunLine, index_name, log_name,
    run_name,
};
use super::look::Look;
use super::recover;
use super::state::State;
use crate::error::Kind;
use crate::hold::care::{Finding, Ill, Report};

/// What a backup says of itself, in its folder.
pub(super) const NOTE: &str = "BACKUP";
/// What a store's files begin with, but for those in quarantine.
pub(super) const OURS: [&str; 5] = ["log-", "idx-", "ids-", "state-", MANIFEST];

/// Where a log that is still written is cut: its number, and the byte behind a whole frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) log: u32,
    pub(super) at: u64,
}

/// Checks the store in `folder`; `None` while another process owns it. `seen` is told how many of
/// how many bytes were read.
///
/// # Errors
/// `Unavailable` when the folder cannot be read, `Invalid` when there is no store in it.
pub fn verify_folder(
    folder: &Path,
    seen: &mut dyn FnMut(u64, u64),
) -> crate::error::Result<Option<Report>> {
    let op = format!("look into {}", folder.display());
    match Look::at(folder).map_err(disk(&op))? {
        Some(look) => verify(&look, None, seen).map(Some),
        None => Ok(None),
    }
}

/// Checks the store on any disk that nobody changes meanwhile.
///
/// # Errors
/// As [`verify_folder`].
pub fn verify_on(on: &dyn Disk) -> crate::error::Result<Report> {
    verify(on, None, &mut |_, _| {})
}

/// Checks the store on `on`, which nobody changes meanwhile but behind `cut`.
pub(super) fn verify(
    on: &dyn Disk,
    cut: Option<Cut>,
    seen: &mut dyn FnMut(u64, u64),
) -> Outcome<Report> {
    let names = on.names().map_err(disk("list the store's files"))?;
    let is_ours = |name: &String| OURS.iter().any(|prefix| name.starts_with(prefix));
    if !names.iter().any(is_ours) {
        let op = "find a store's files there: name the folder that has its MANIFEST";
        return Err(error(Kind::Invalid, op));
    }
    let mut check = Check {
        on,
        cut,
        report: Report::default(),
        done: 0,
        total: 0,
        seen,
    };
    for name in names.iter().filter(|name| is_ours(name)) {
        check.report.files += 1;
        check.total += on
            .open(name, false)
            .and_then(|file| file.len())
            .unwrap_or(0);
    }
    check.report.bytes = check.total;
    check.all(&names)?;
    Ok(check.report)
}

/// A check under way.
pub(super) struct Check<'a> {
    on: &'a dyn Disk,
    cut: Option<Cut>,
    report: Report,
    done: u64,
    total: u64,
    seen: &'a mut dyn FnMut(u64, u64),
}

impl Check<'_> {
    fn note(&mut self, ill: Ill, file: &str, bytes: Option<(u64, u64)>, messages: u64) {
        self.say(ill, file, bytes, messages, None);
    }

    fn say(
        &mut self,
        ill: Ill,
        file: &str,
        bytes: Option<(u64, u64)>,
        messages: u64,
        detail: Option<String>,
    ) {
        let file = file.to_owned();
        self.report.note(Finding {
            ill,
            file,
            bytes,
            messages,
            detail,
        });
    }

    fn read(&mut self, bytes: u64) {
        self.done = (self.done + bytes).min(self.total);
        (self.seen)(self.done, self.total);
    }

    fn read_file(&mut self, name: &str) {
        let len = self.on.open(name, false).and_then(|file| file.len());
        self.read(len.unwrap_or(0));
    }

    fn all(&mut self, names: &[String]) -> Outcome<()> {
        let Some(manifest) = self.twice::<Manifest>(files::manifest_names(), KIND_MANIFEST) else {
            return self.logs_alone(names);
        };
        let checkpoint = match manifest.state {
            Some(no) => self.twice::<Checkpoint>(files::state_names(no), KIND_STATE),
            None => Some(Checkpoint::default()),
        };
        let is_known = checkpoint.is_some();
        let checkpoint = checkpoint.unwrap_or_default();
        let known_lsn = checkpoint.lsn;
        let mut state = recover::restore(checkpoint, &manifest);
        let mut told: BTreeMap<u32, Told> = BTreeMap::new();
        for sealed in &manifest.sealed {
            told.insert(sealed.no, self.sealed(sealed)?);
        }
        for line in &manifest.runs {
            self.run(line);
        }
        let open = self.open_logs(names, &manifest, known_lsn, &mut state)?;
        told.extend(open);
        if is_known {
            self.blocks(&manifest, &state, &told);
            self.count(&manifest, &state);
        }
        self.strangers(names, &manifest);
        (self.seen)(self.total, self.total);
        Ok(())
    }

    /// Both copies of a file without which nothing can be told.
    fn twice<T: DeserializeOwned + PartialEq>(
        &mut self,
        names: [String; 2],
        kind: u8,
    ) -> Option<T> {
        let copies = names
            .each_ref()
            .map(|name| files::read_whole::<T>(self.on, name, kind));
        for name in &names {
            self.read_file(name);
        }
        match copies {
            [Ok(first), Ok(second)] => {
                if first != second {
                    self.note(Ill::CopiesDiffer, &names[1], None, 0);
                }
                Some(first)
            }
            [Ok(good), Err(cause)] => {
                self.say(
                    told(&cause, Ill::CopyDamaged),
                    &names[1],
                    None,
                    0,
                    say(&cause),
                );
                Some(good)
            }
            [Err(cause), Ok(good)] => {
                self.say(
                    told(&cause, Ill::CopyDamaged),
                    &names[0],
                    None,
                    0,
                    say(&cause),
                );
                Some(good)
            }
            [Err(cause), Err(_)] => {
                self.say(
                    told(&cause, Ill::BothDamaged),
                    &names[0],
                    None,
                    0,
                    say(&cause),
                );
                None
            }
        }
    }

    /// A run of ids: every page, in order, as many as it says.
    fn run(&mut self, line: &RunLine) {
        let name = run_name(line.no);
        let read = || -> io::Result<()> {
            let mut run = Run::open(self.on, &name, FilterHome::OnDisk)?;
            run.set_filter_home(FilterHome::InMemory)?;
            let (mut last, mut count) = (None, 0);
            for entry in run.entries() {
                let entry = entry?;
                if last.is_some_and(|last| last >= entry) {
                    return Err(bad("its ids are out of order"));
                }
                (last, count) = (Some(entry), count + 1);
            }
            match count == run.summary().count {
                true => Ok(()),
                false => Err(bad("ids are missing from it")),
            }
        };
        if let Err(cause) = read() {
            self.say(told(&cause, Ill::Run), &name, None, 0, say(&cause));
        }
        self.read_file(&name);
    }

    /// Files that the manifest does not name.
    fn strangers(&mut self, names: &[String], manifest: &Manifest) {
        let mut wanted: BTreeSet<String> = files::manifest_names().into();
        for sealed in &manifest.sealed {
            wanted.extend([log_name(sealed.no), index_name(sealed.no)]);
        }
        wanted.extend(manifest.runs.iter().map(|run| run_name(run.no)));
        wanted.extend(manifest.state.into_iter().flat_map(files::state_names));
        for name in names {
            let is_open_log = logs::number(name).is_some_and(|no| no >= manifest.open_from);
            if wanted.contains(name) || is_open_log || name == NOTE {
                continue;
            }
            let ill = match name {
                _ if OURS.iter().any(|prefix| name.starts_with(prefix)) => Ill::Stray,
                _ if name.starts_with("quarantine") => Ill::Quarantine,
                _ => Ill::Foreign,
            };
            self.note(ill, name, None, 0);
        }
    }

    fn count(&mut self, manifest: &Manifest, state: &State) {
        for shelf in state.shelves.all().values() {
            match shelf.label.buried {
                true => self.report.buried += shelf.held,
                false => self.report.held += shelf.held,
            }
            self.report.leased += shelf.leased;
            self.report.aside += shelf.damaged;
        }
        if self.report.aside > 0 {
            let name = manifest
                .state
                .map_or(MANIFEST.to_owned(), files::state_name);
            let aside = self.report.aside;
            self.note(Ill::Aside, &name, None, aside);
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// `ill`, unless the file is one of a newer program.
fn told(cause: &io::Error, ill: Ill) -> Ill {
    match cause.kind() {
        io::ErrorKind::Unsupported => Ill::NewerVersion,
        _ => ill,
    }
}

fn say(cause: &io::Error) -> Option<String> {
    Some(cause.to_string())
}
