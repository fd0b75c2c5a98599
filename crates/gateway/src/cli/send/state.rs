//! Where a file of messages was acknowledged to: a small file beside it, so that the same command
//! goes on there.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::feed::Feed;
use super::tally::Tally;
use crate::cli::Failure;

/// What stands behind the name of the input.
const SUFFIX: &str = ".nightgate-sent";

/// How far a file was acknowledged, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The gateway.
    pub(super) url: String,
    /// Bytes acknowledged.
    pub(super) offset: u64,
    /// Lines acknowledged.
    pub(super) lines: u64,
    /// Hash of these bytes: an edit in them is noticed, one behind them is welcome.
    pub(super) hash: String,
    /// What became of the lines.
    pub(super) tally: Tally,
}

/// The state file of `input`.
pub(super) fn path_of(input: &Path) -> PathBuf {
    let mut path = input.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

impl State {
    /// The state beside `input`, if there is one.
    pub(super) fn read(input: &Path) -> Result<Option<Self>, Failure> {
        let path = path_of(input);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(restart(&path, &format!("cannot be read: {error}"))),
        };
        match serde_json::from_slice(&text) {
            Ok(state) => Ok(Some(state)),
            Err(_) => Err(restart(&path, "is none of ours, or broken")),
        }
    }

    /// Brings `feed` to where this state ends.
    pub(super) fn resume(&self, input: &Path, url: &str, feed: &mut Feed) -> Result<(), Failure> {
        let shown = input.display();
        if self.url != url {
            let why = format!("says that {shown} was being sent to {}", self.url);
            return Err(restart(&path_of(input), &why));
        }
        let reached = feed.skip(self.offset, self.lines)?;
        if !reached || feed.hash() != self.hash {
            let why = format!("says how far {shown} was sent, but the file has changed since");
            return Err(restart(&path_of(input), &why));
        }
        Ok(())
    }

    /// Replaces the state beside `input`, whole or not at all.
    pub(super) fn write(&self, input: &Path) -> Result<(), Failure> {
        let path = path_of(input);
        let cannot = |error: std::io::Error| {
            let path = path.display();
            Failure::failed(format!(
                "{path} cannot be written: {error}; --no-resume does without"
            ))
        };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut file =
            tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new("."))).map_err(cannot)?;
        let text = serde_json::to_vec(self).map_err(|error| cannot(error.into()))?;
        file.write_all(&text).map_err(cannot)?;
        file.persist(&path).map_err(|error| cannot(error.error))?;
        Ok(())
    }

    /// Removes the state beside `input`, if there is one.
    pub(super) fn remove(input: &Path) -> Result<(), Failure> {
        match std::fs::remove_file(path_of(input)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn restart(path: &Path, why: &str) -> Failure {
    let path = path.display();
    Failure::failed(format!(
        "{path} {why}; --restart sends the file from its beginning (the ids make that harmless)"
    ))
}
