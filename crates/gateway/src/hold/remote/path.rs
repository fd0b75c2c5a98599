//! Socket paths of any length: the kernel takes some hundred bytes, data directories lie deeper.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Longest path that every Unix takes for a socket, in bytes (`sun_path` is 104 or 108 with its
/// zero).
const PATH_MAX_BYTES: usize = 103;

/// A path that fits: the socket's own, or one through its open directory.
pub(super) struct Fitting {
    pub(super) path: PathBuf,
    /// Open for as long as the path is used.
    _dir: Option<File>,
}

impl Fitting {
    /// # Errors
    /// When the directory cannot be opened, or the path names no file in one.
    pub(super) fn of(socket: &Path) -> Result<Self> {
        if socket.as_os_str().len() <= PATH_MAX_BYTES {
            return Ok(Self {
                path: socket.to_owned(),
                _dir: None,
            });
        }
        let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(Error::from(ErrorKind::InvalidInput));
        };
        let dir = File::open(dir)?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
        Ok(Self {
            path: path.join(name),
            _dir: Some(dir),
        })
    }
}
