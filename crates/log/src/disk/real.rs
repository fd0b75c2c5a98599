//! A folder of the file system: private to its owner, and to one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::{Disk, DiskFile, Space, check_name, write_zeros};

/// The file whose lock says that a process owns the folder.
pub const LOCK: &str = "LOCK";

/// Folders are for their owner alone.
const FOLDER_MODE: u32 = 0o700;

/// Files are for their owner alone.
const FILE_MODE: u32 = 0o600;

/// `st_blocks` counts in these, whatever the file system's own block is.
const STAT_BLOCK: u64 = 512;

/// A folder, locked for as long as this lives.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    _lock: File,
}

impl RealDisk {
    /// Makes the folder when needed and locks it.
    ///
    /// `ResourceBusy`: another process holds it (its id stands in the error).
    pub fn open(folder: impl AsRef<Path>) -> io::Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        make_folder(&folder)?;
        let lock = take_lock(&folder.join(LOCK))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// The folder it was opened on.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.folder.join(name))
    }

    /// Folders that hold files of this disk: itself, and those that `folder/name` made.
    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut all = vec![self.folder.clone()];
        for entry in self.folder.read_dir()? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                all.push(entry.path());
            }
        }
        Ok(all)
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name)?;
        if make {
            make_parent(&path)?;
        }
        let file = options(make)
            .open(&path)
            .map_err(|e| told(name, "open", &e))?;
        Ok(Arc::new(RealFile {
            name: name.to_owned(),
            file,
        }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.folder.read_dir()? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && name != LOCK
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let target = self.path(to)?;
        make_parent(&target)?;
        std::fs::rename(self.path(from)?, target).map_err(|e| told(from, "rename", &e))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name)?).map_err(|e| told(name, "remove", &e))
    }

    fn sync_names(&self) -> io::Result<()> {
        for folder in self.folders()? {
            let opened = File::open(&folder)?;
            opened
                .sync_all()
                .map_err(|e| told(&folder.to_string_lossy(), "sync", &e))?;
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

struct RealFile {
    name: String,
    file: File,
}

impl DiskFile for RealFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.file
            .write_at(bytes, at)
            .map_err(|e| told(&self.name, "write", &e))
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file
            .read_at(into, at)
            .map_err(|e| told(&self.name, "read", &e))
    }

    fn sync(&self) -> io::Result<()> {
        self.file
            .sync_data()
            .map_err(|e| told(&self.name, "sync", &e))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file
            .set_len(len)
            .map_err(|e| told(&self.name, "set the length of", &e))
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let now = self.len()?;
        if len <= now {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), now, len - now) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
            Err(errno) => Err(told(&self.name, "reserve room for", &errno.into())),
        }
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match punch_hole(&self.file, at, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(self, at, len),
            Err(errno) => Err(told(&self.name, "punch", &errno.into())),
        }
    }

    fn occupied(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * STAT_BLOCK)
    }
}

#[cfg(target_os = "linux")]
fn punch_hole(file: &File, at: u64, len: u64) -> Result<(), Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, flags, at, len)
}

#[cfg(not(target_os = "linux"))]
fn punch_hole(_: &File, _: u64, _: u64) -> Result<(), Errno> {
    Err(Errno::OPNOTSUPP)
}

fn options(make: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(make).mode(FILE_MODE);
    options
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder);
    made.map_err(|e| told(&folder.to_string_lossy(), "make", &e))
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), make_folder)
}

fn take_lock(path: &Path) -> io::Result<File> {
    let shown = path.to_string_lossy();
    let mut file = options(true)
        .open(path)
        .map_err(|e| told(&shown, "open", &e))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // Only for the text: whoever holds the lock may be writing this very moment.
            let _ = (&mut file).take(32).read_to_string(&mut owner);
            let said = format!("{shown} is held by another process ({})", owner.trim());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, said));
        }
        Err(errno) => return Err(told(&shown, "lock", &errno.into())),
    }
    file.set_len(0)?;
    writeln!(file, "pid {}", std::process::id())?;
    Ok(file)
}

/// The same kind of error, with the file and the call named.
fn told(name: &str, verb: &str, fault: &io::Error) -> io::Error {
    io::Error::new(fault.kind(), format!("failed to {verb} {name}: {fault}"))
}
