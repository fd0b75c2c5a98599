//! The ground the shelf store stands on: files, frames, group commit and hash runs. Knows nothing
//! of messages.
//!
//! [`disk`] is the seam that tests crash; [`head`] begins every file; [`frame`] is what a log file
//! is made of and how it is read back; [`journal`] appends frames, many callers to one sync;
//! [`hash`] is the keyed hash of an id and [`run`] an immutable sorted file of hash to place.
//!
//! All numbers in files are little-endian. Every checksum is CRC-32C and mixes in the file's own
//! random [`Salt`], so that bytes of one file are never taken for bytes of another.

pub mod disk;
pub mod frame;
pub mod hash;
pub mod head;
pub mod journal;
pub mod run;

pub use disk::{Disk, DiskFile, RealDisk, SimDisk, Space, read_exact_at, write_all_at};
pub use hash::HashKey;
pub use head::{Head, Salt};
pub use journal::{Appended, Journal, Stopped, Ticket};
pub use run::{Entry, FilterBudget, FilterHome, Run};
