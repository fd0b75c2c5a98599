//! A disk in memory that loses power: for tests.
//!
//! Every change is volatile until the sync that covers it: bytes and lengths until
//! [`DiskFile::sync`], names until [`Disk::sync_names`]. [`SimDisk::crash`] gives the disk as a
//! power loss may leave it: every volatile change is kept, dropped or torn at sectors, each for
//! itself. What was synced is never touched. All of it follows from the seeds given.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, Space, check_name};

mod world;

use world::{FileOp, NameOp, World};

/// What [`Disk::space`] says of a disk that has no limit set.
const ROOMY: u64 = 1 << 40;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

/// What shall go wrong.
#[derive(Default)]
struct Faults {
    power_off_at: Option<u64>,
    power_off: bool,
    failing_syncs: BTreeSet<u64>,
    longest_write: Option<usize>,
    space_left: Option<u64>,
    bad_reads: Vec<(String, Range<u64>)>,
}

/// The error of every call once the power is off.
#[derive(Debug)]
struct PowerOff;

impl fmt::Display for PowerOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the power is off")
    }
}

impl std::error::Error for PowerOff {}

/// Whether an error came from [`SimDisk::crash_at_sync`].
pub fn is_power_off(fault: &io::Error) -> bool {
    fault.get_ref().is_some_and(|inner| inner.is::<PowerOff>())
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// An empty disk; the seed says what a sync that fails leaves behind.
    pub fn seeded(seed: u64) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(seed))),
        }
    }

    /// The disk after power loss: what was synced, and of the rest whatever `rng` leaves. This one
    /// stays as it is, and the faults set on it stay with it.
    #[must_use]
    pub fn crash(&self, rng: &mut fastrand::Rng) -> Self {
        Self {
            world: Arc::new(Mutex::new(self.locked().after_crash(rng))),
        }
    }

    /// How many syncs (of files and of names) have been asked for.
    pub fn syncs(&self) -> u64 {
        self.locked().syncs
    }

    /// How many syncs have failed.
    pub fn failed_syncs(&self) -> u64 {
        self.locked().failed_syncs
    }

    /// How many calls have written bytes.
    pub fn writes(&self) -> u64 {
        self.locked().writes
    }

    /// From the `n`-th sync on (the first is 1), that one included, every call fails with an error
    /// that [`is_power_off`] knows.
    pub fn crash_at_sync(&self, n: u64) {
        self.locked().faults.power_off_at = Some(n);
    }

    /// The `n`-th sync (the first is 1) fails with EIO. Of what it should have made durable the
    /// disk has any part, and no later sync mends that, though reads go on showing it.
    pub fn fail_sync(&self, n: u64) {
        self.locked().faults.failing_syncs.insert(n);
    }

    /// No write takes more than `max` bytes; `None` ends that.
    pub fn short_writes(&self, max: Option<usize>) {
        self.locked().faults.longest_write = max;
    }

    /// The disk is full after so many more bytes written; `None` ends that.
    pub fn space_left(&self, bytes: Option<u64>) {
        self.locked().faults.space_left = bytes;
    }

    /// Reads that touch the range of the file fail with EIO.
    pub fn fail_read(&self, name: &str, range: Range<u64>) {
        self.locked()
            .faults
            .bad_reads
            .push((name.to_owned(), range));
    }

    /// Flips the bits of `mask` in one byte, as if the disk had rotted; says whether the file has
    /// that byte.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) -> bool {
        self.locked().flip(name, offset as usize, mask)
    }

    fn locked(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.locked();
        if world.faults.power_off {
            return Err(io::Error::new(io::ErrorKind::NotConnected, PowerOff));
        }
        Ok(world)
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut world = self.powered()?;
        let id = match world.names.get(name).copied() {
            Some(id) => id,
            None if make => world.make(name),
            None => return Err(missing(name)),
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            name: name.to_owned(),
            id,
        }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let world = self.powered()?;
        Ok(world
            .names
            .keys()
            .filter(|name| !name.contains('/'))
            .cloned()
            .collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut world = self.powered()?;
        if !world.names.contains_key(from) {
            return Err(missing(from));
        }
        world.name_op(NameOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.powered()?;
        if !world.names.contains_key(name) {
            return Err(missing(name));
        }
        world.name_op(NameOp::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.powered()?;
        match begin_sync(&mut world)? {
            Sync::Good => world.settle_names(),
            Sync::Bad => {
                world.lose_names();
                return Err(io::Error::other("failed to sync the names: EIO"));
            }
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let free = self.powered()?.faults.space_left.unwrap_or(ROOMY);
        Ok(Space { free, total: ROOMY })
    }
}

struct SimFile {
    disk: SimDisk,
    name: String,
    id: usize,
}

impl DiskFile for SimFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut world = self.disk.powered()?;
        let mut count = bytes
            .len()
            .min(world.faults.longest_write.unwrap_or(usize::MAX));
        if let Some(left) = &mut world.faults.space_left {
            if *left == 0 && count > 0 {
                return Err(full(&self.name));
            }
            count = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= count as u64;
        }
        world.writes += 1;
        let data = bytes.get(..count).unwrap_or(bytes).to_vec();
        world.file_op(
            self.id,
            FileOp::Write {
                at: at as usize,
                data,
            },
        );
        Ok(count)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let world = self.disk.powered()?;
        let rest = world.now(self.id).get(at as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        let end = at + count as u64;
        let touched = |(name, range): &(String, Range<u64>)| {
            *name == self.name && range.start < end && at < range.end
        };
        if world.faults.bad_reads.iter().any(touched) {
            let said = format!("failed to read {} at {at}: EIO", self.name);
            return Err(io::Error::other(said));
        }
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.powered()?;
        match begin_sync(&mut world)? {
            Sync::Good => world.settle_file(self.id),
            Sync::Bad => {
                world.lose_file(self.id);
                let said = format!("failed to sync {}: EIO", self.name);
                return Err(io::Error::other(said));
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.powered()?.now(self.id).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk
            .powered()?
            .file_op(self.id, FileOp::SetLen(len as usize));
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut world = self.disk.powered()?;
        let more = len.saturating_sub(world.now(self.id).len() as u64);
        if world.faults.space_left.is_some_and(|left| left < more) {
            return Err(full(&self.name));
        }
        if more > 0 {
            world.file_op(self.id, FileOp::SetLen(len as usize));
        }
        Ok(())
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        let (at, len) = (at as usize, len as usize);
        self.disk
            .powered()?
            .file_op(self.id, FileOp::Punch { at, len });
        Ok(())
    }

    fn occupied(&self) -> io::Result<u64> {
        Ok(self.disk.powered()?.occupied(self.id))
    }
}

enum Sync {
    Good,
    Bad,
}

/// Counts a sync and says how it goes.
fn begin_sync(world: &mut World) -> io::Result<Sync> {
    world.syncs += 1;
    if world.faults.power_off_at.is_some_and(|n| world.syncs >= n) {
        world.faults.power_off = true;
        return Err(io::Error::new(io::ErrorKind::NotConnected, PowerOff));
    }
    if world.faults.failing_syncs.contains(&world.syncs) {
        world.failed_syncs += 1;
        return Ok(Sync::Bad);
    }
    Ok(Sync::Good)
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

fn full(name: &str) -> io::Error {
    let said = format!("failed to write {name}: no space left on the disk");
    io::Error::new(io::ErrorKind::StorageFull, said)
}
