//! What a simulated disk holds, twice over: as programs see it and as a power loss would leave it.

use std::collections::BTreeMap;

use super::Faults;

/// Disks write sectors whole.
const SECTOR: usize = 512;

/// A file occupies the blocks of this size that are not all zeros.
const BLOCK: usize = 4096;

/// A change of one file.
pub(super) enum FileOp {
    Write { at: usize, data: Vec<u8> },
    SetLen(usize),
    Punch { at: usize, len: usize },
}

/// A change of names.
pub(super) enum NameOp {
    Make(String, usize),
    Rename(String, String),
    Remove(String),
}

type Names = BTreeMap<String, usize>;

/// The bytes of a file.
#[derive(Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    volatile: Vec<FileOp>,
}

/// Everything a simulated disk is.
pub(super) struct World {
    pub(super) names: Names,
    pub(super) faults: Faults,
    pub(super) syncs: u64,
    pub(super) failed_syncs: u64,
    pub(super) writes: u64,
    durable_names: Names,
    volatile: Vec<NameOp>,
    files: Vec<Bytes>,
    rng: fastrand::Rng,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: Names::new(),
            faults: Faults::default(),
            syncs: 0,
            failed_syncs: 0,
            writes: 0,
            durable_names: Names::new(),
            volatile: Vec::new(),
            files: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn make(&mut self, name: &str) -> usize {
        let id = self.files.len();
        self.files.push(Bytes::default());
        self.name_op(NameOp::Make(name.to_owned(), id));
        id
    }

    pub(super) fn name_op(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.volatile.push(op);
    }

    pub(super) fn settle_names(&mut self) {
        for op in self.volatile.drain(..) {
            op.apply(&mut self.durable_names);
        }
    }

    /// What a failed sync of names leaves: any of the changes, for good.
    pub(super) fn lose_names(&mut self) {
        for op in self.volatile.drain(..) {
            if self.rng.bool() {
                op.apply(&mut self.durable_names);
            }
        }
    }

    pub(super) fn now(&self, id: usize) -> &[u8] {
        self.files
            .get(id)
            .map(|file| file.now.as_slice())
            .unwrap_or_default()
    }

    pub(super) fn file_op(&mut self, id: usize, op: FileOp) {
        if let Some(file) = self.files.get_mut(id) {
            op.apply(&mut file.now);
            file.volatile.push(op);
        }
    }

    pub(super) fn settle_file(&mut self, id: usize) {
        if let Some(file) = self.files.get_mut(id) {
            for op in file.volatile.drain(..) {
                op.apply(&mut file.durable);
            }
        }
    }

    /// What a failed sync leaves: the kernel takes the pages for clean, whatever became of them.
    pub(super) fn lose_file(&mut self, id: usize) {
        if let Some(file) = self.files.get_mut(id) {
            for op in file.volatile.drain(..) {
                op.apply_some(&mut file.durable, &mut self.rng);
            }
        }
    }

    pub(super) fn occupied(&self, id: usize) -> u64 {
        let used = |block: &&[u8]| block.iter().any(|byte| *byte != 0);
        (self.now(id).chunks(BLOCK).filter(used).count() * BLOCK) as u64
    }

    pub(super) fn flip(&mut self, name: &str, offset: usize, mask: u8) -> bool {
        let Some(file) = self.names.get(name).and_then(|id| self.files.get_mut(*id)) else {
            return false;
        };
        if let Some(byte) = file.durable.get_mut(offset) {
            *byte ^= mask;
        }
        match file.now.get_mut(offset) {
            Some(byte) => *byte ^= mask,
            None => return false,
        }
        true
    }

    pub(super) fn after_crash(&self, rng: &mut fastrand::Rng) -> Self {
        let mut after = Self::new(rng.u64(..));
        for file in &self.files {
            let mut left = file.durable.clone();
            for op in &file.volatile {
                op.apply_some(&mut left, rng);
            }
            after.files.push(Bytes {
                now: left.clone(),
                durable: left,
                volatile: Vec::new(),
            });
        }
        after.durable_names.clone_from(&self.durable_names);
        for op in &self.volatile {
            if rng.bool() {
                op.apply(&mut after.durable_names);
            }
        }
        after.names.clone_from(&after.durable_names);
        after
    }
}

impl NameOp {
    /// Does nothing where an earlier change, which this one stands on, was dropped.
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Make(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl FileOp {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => {
                write(bytes, *at, data);
            }
            Self::SetLen(len) => bytes.resize(*len, 0),
            Self::Punch { at, len } => {
                let end = at.saturating_add(*len).min(bytes.len());
                if let Some(range) = bytes.get_mut(*at..end) {
                    range.fill(0);
                }
            }
        }
    }

    /// All of it, none of it, or some sectors of it.
    fn apply_some(&self, bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
        match (self, rng.u8(..3)) {
            (_, 0) => {}
            (Self::Write { at, data }, 1) => tear(bytes, *at, data, rng),
            (_, _) => self.apply(bytes),
        }
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(data);
}

fn tear(bytes: &mut Vec<u8>, at: usize, data: &[u8], rng: &mut fastrand::Rng) {
    let end = at + data.len();
    // The length may be on the disk before the bytes are.
    if rng.bool() && bytes.len() < end {
        bytes.resize(end, 0);
    }
    let mut from = at;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if rng.bool() {
            write(bytes, from, &data[from - at..to - at]);
        }
        from = to;
    }
}
