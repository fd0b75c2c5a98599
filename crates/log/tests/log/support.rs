//! A file whose syncs wait at a gate, and the few steps most tests begin with.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use nightgate_log::frame::{self, ScanEnd};
use nightgate_log::head::{HEAD_LEN, Head, Salt};
use nightgate_log::journal::{Options, Tail};
use nightgate_log::{Disk, DiskFile, Journal, SimDisk};

pub(crate) const KIND: u8 = 1;

/// The salt of file `no`.
pub(crate) fn salt(no: u32) -> Salt {
    let mut bytes = [0x5a; 16];
    bytes[..4].copy_from_slice(&no.to_le_bytes());
    Salt(bytes)
}

pub(crate) fn name(no: u32) -> String {
    format!("log-{no:08}")
}

/// Makes log file `no` with its head, all of it durable.
pub(crate) fn make_log(disk: &SimDisk, no: u32) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&name(no), true)?;
    let head = Head {
        kind: KIND,
        version: 1,
        salt: salt(no),
    };
    head.write(file.as_ref())?;
    file.sync()?;
    disk.sync_names()?;
    Ok(file)
}

pub(crate) fn journal_at(no: u32, file: Arc<dyn DiskFile>, at: u64, next_lsn: u64) -> Journal {
    let tail = Tail {
        no,
        file,
        salt: salt(no),
        at,
        next_lsn,
    };
    Journal::start(Options::default(), tail)
}

/// Bytes that follow from an lsn alone, of a length that does too: 0 to about 3,000.
pub(crate) fn data_of(lsn: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(lsn);
    let most = if rng.bool() { 60 } else { 3_000 };
    let len = rng.usize(..most);
    (0..len).map(|_| rng.u8(..)).collect()
}

pub(crate) fn meta_of(lsn: u64) -> Vec<u8> {
    format!("meta of {lsn}").into_bytes()
}

/// What a scan of a log file visits, checked against [`data_of`] and [`meta_of`].
pub(crate) fn scan_log(disk: &SimDisk, no: u32, first_lsn: u64) -> (Vec<u64>, ScanEnd) {
    let file = disk.open(&name(no), false).unwrap();
    let head = Head::read(file.as_ref(), KIND, 1).unwrap();
    let mut lsns = Vec::new();
    let end = frame::scan(
        file.as_ref(),
        &head.salt,
        HEAD_LEN,
        first_lsn,
        true,
        &mut |found| {
            assert_eq!(found.meta, meta_of(found.lsn));
            let mut data = vec![0; found.data_len as usize];
            nightgate_log::read_exact_at(file.as_ref(), &mut data, found.data_at).unwrap();
            assert_eq!(data, data_of(found.lsn), "the data of frame {}", found.lsn);
            lsns.push(found.lsn);
            Ok(())
        },
    );
    (lsns, end.unwrap())
}

/// A file whose every sync waits until it is let through.
pub(crate) struct Gated {
    inner: Arc<dyn DiskFile>,
    gate: Mutex<Gate>,
    bell: Condvar,
}

#[derive(Default)]
struct Gate {
    open: bool,
    let_through: u64,
    waiting: u64,
}

impl Gated {
    pub(crate) fn new(inner: Arc<dyn DiskFile>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            gate: Mutex::default(),
            bell: Condvar::new(),
        })
    }

    /// Returns once a sync stands at the gate, or the gate is open.
    pub(crate) fn wait_for_sync(&self) {
        let gate = self.gate.lock().unwrap();
        let nobody = |gate: &mut Gate| gate.waiting == 0 && !gate.open;
        drop(self.bell.wait_while(gate, nobody).unwrap());
    }

    /// Lets one sync through the closed gate; returns once it went.
    pub(crate) fn let_one_through(&self) {
        let mut gate = self.gate.lock().unwrap();
        gate.let_through += 1;
        self.bell.notify_all();
        let standing = |gate: &mut Gate| gate.let_through > 0 && !gate.open;
        drop(self.bell.wait_while(gate, standing).unwrap());
    }

    /// Lets every sync through from now on.
    pub(crate) fn open(&self) {
        self.gate.lock().unwrap().open = true;
        self.bell.notify_all();
    }
}

impl DiskFile for Gated {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.inner.write_at(bytes, at)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(into, at)
    }

    fn sync(&self) -> io::Result<()> {
        let mut gate = self.gate.lock().unwrap();
        gate.waiting += 1;
        self.bell.notify_all();
        let closed = |gate: &mut Gate| !gate.open && gate.let_through == 0;
        gate = self.bell.wait_while(gate, closed).unwrap();
        gate.waiting -= 1;
        gate.let_through = gate.let_through.saturating_sub(1);
        self.bell.notify_all();
        drop(gate);
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.inner.reserve(len)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.inner.punch(at, len)
    }

    fn occupied(&self) -> io::Result<u64> {
        self.inner.occupied()
    }
}
