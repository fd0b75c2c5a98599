//! A folder that is only looked at: nothing in it is made, changed or locked for writing.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightgate_log::disk::real::LOCK;
use nightgate_log::disk::{Disk, DiskFile, Space};

/// `st_blocks` counts in these.
const STAT_BLOCK: u64 = 512;

/// A folder to look at. While this lives nobody else comes to own it.
pub(super) struct Look {
    folder: PathBuf,
    _lock: Option<File>,
}

impl Look {
    /// `None`: another process owns it, and changes it.
    pub(super) fn at(folder: &Path) -> io::Result<Option<Self>> {
        let lock = match File::open(folder.join(LOCK)) {
            Ok(lock) => match lock.try_lock_shared() {
                Ok(()) => Some(lock),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(cause)) => return Err(cause),
            },
            // A backup: nobody ever owned it.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(cause),
        };
        let folder = folder.to_owned();
        let look = Self {
            folder,
            _lock: lock,
        };
        look.names()?;
        Ok(Some(look))
    }
}

fn denied() -> io::Error {
    let what = "the folder is only looked at";
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

impl Disk for Look {
    fn open(&self, name: &str, make: bool) -> io::Result<Arc<dyn DiskFile>> {
        if make {
            return Err(denied());
        }
        let file = File::open(self.folder.join(name))?;
        let name = name.to_owned();
        Ok(Arc::new(Seen { name, file }))
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

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(denied())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(denied())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Err(denied())
    }
}

struct Seen {
    name: String,
    file: File,
}

impl DiskFile for Seen {
    fn name(&self) -> &str {
        &self.name
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(denied())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(denied())
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        Err(denied())
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        Err(denied())
    }

    fn occupied(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * STAT_BLOCK)
    }
}

/// The beginning of a file that grows meanwhile.
pub(super) struct Begin {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) len: u64,
}

impl DiskFile for Begin {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(denied())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let room = into.len().min(left);
        self.file.read_at(&mut into[..room], at)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len.min(self.file.len()?))
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(denied())
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        Err(denied())
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        Err(denied())
    }

    fn occupied(&self) -> io::Result<u64> {
        self.file.occupied()
    }
}
