//! The storage seam: the few calls everything above makes of a disk, so that tests can crash it.

use std::io;
use std::sync::Arc;

pub mod real;
pub mod sim;

pub use real::RealDisk;
pub use sim::SimDisk;

/// Zeros are written in pieces of this size where a hole cannot be punched.
const ZEROS: usize = 64 * 1024;

/// Free and total bytes of the file system a disk lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes an unprivileged process may still write.
    pub free: u64,
    /// Bytes of the whole file system.
    pub total: u64,
}

/// One folder of files. A name is a plain file name, or `folder/name` with one folder.
///
/// Making, renaming and removing are durable only after [`Disk::sync_names`].
pub trait Disk: Send + Sync {
    /// Opens `name` for reading and writing; `make` creates it when it is not there.
    ///
    /// `NotFound` without `make`; `InvalidInput` for a name that leaves the folder.
    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// The plain files of the folder, sorted; neither folders nor the lock file.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Renames, replacing `to` when it is there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Files already open live on until they are dropped.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every change of names durable.
    fn sync_names(&self) -> io::Result<()>;

    /// What room there is.
    fn space(&self) -> io::Result<Space>;
}

/// One open file. All calls take `&self` and say where, so that threads may share it.
pub trait DiskFile: Send + Sync {
    /// The name it was opened by, for errors.
    fn name(&self) -> &str;

    /// Writes at `at` and says how many bytes went: may be fewer than given.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Reads at `at` and says how many bytes came: 0 only at the end of the file.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Makes the bytes and the length durable (fdatasync).
    ///
    /// After an error nobody knows what is on the disk, and asking again may answer Ok for bytes
    /// that are gone: stop using the file for writing.
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is not a byte in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends to `len`; what is added reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Sets blocks aside so that the file is at least `len` long; what is added reads as zeros.
    /// Does nothing where the file system cannot.
    fn reserve(&self, len: u64) -> io::Result<()>;

    /// Gives the blocks of a range back; it reads as zeros afterwards, part pages too, and the
    /// length stays. Writes zeros where the file system cannot.
    fn punch(&self, at: u64, len: u64) -> io::Result<()>;

    /// Bytes of disk the file occupies.
    fn occupied(&self) -> io::Result<u64>;
}

/// Writes all of `bytes` at `at`, however short the single writes are.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at) {
            Ok(0) => {
                let said = format!("{}: wrote nothing at byte {at}", file.name());
                return Err(io::Error::new(io::ErrorKind::WriteZero, said));
            }
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                at += count as u64;
            }
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Fills `into` from `at`; `UnexpectedEof` when the file ends before.
pub fn read_exact_at(file: &dyn DiskFile, into: &mut [u8], at: u64) -> io::Result<()> {
    let wanted = into.len();
    if read_full_at(file, into, at)? == wanted {
        return Ok(());
    }
    let said = format!("{}: ends before byte {}", file.name(), at + wanted as u64);
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, said))
}

/// Fills as much of `into` as the file has from `at`, and says how much.
pub fn read_full_at(file: &dyn DiskFile, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(done)
}

/// What [`DiskFile::punch`] does where no hole can be punched.
fn write_zeros(file: &dyn DiskFile, at: u64, len: u64) -> io::Result<()> {
    let end = at.saturating_add(len).min(file.len()?);
    let zeros = vec![0; ZEROS];
    let mut at = at;
    while at < end {
        let piece = (end - at).min(ZEROS as u64);
        write_all_at(file, zeros.get(..piece as usize).unwrap_or_default(), at)?;
        at += piece;
    }
    Ok(())
}

/// An `InvalidInput` error unless `name` is a file name or `folder/name`.
fn check_name(name: &str) -> io::Result<()> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\0');
    if name.split('/').count() <= 2 && name.split('/').all(plain) {
        return Ok(());
    }
    let said = format!("{name:?} is no file name: give a plain name, or folder/name");
    Err(io::Error::new(io::ErrorKind::InvalidInput, said))
}
