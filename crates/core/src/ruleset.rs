//! Rules as data.

use std::sync::Arc;

use crate::message::{Class, Message};
use crate::zone::Place;

/// Every loaded rule, compiled.
#[derive(Debug)]
pub struct Ruleset {}

/// One rule pack as it was read.
#[derive(Clone, Debug)]
pub struct PackSource {
    /// File name, for faults.
    pub name: String,
    /// TOML text.
    pub text: String,
}

/// One fault in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFault {
    /// File name.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Ruleset {
    /// Compiles packs; every fault of every pack at once.
    ///
    /// # Errors
    /// All faults.
    pub fn load(packs: &[PackSource]) -> Result<Self, Vec<PackFault>> {
        let _ = packs;
        unimplemented!()
    }

    /// Content-hash version.
    #[must_use]
    pub fn version(&self) -> &Arc<str> {
        unimplemented!()
    }

    /// The class of a message.
    #[must_use]
    pub fn class(&self, message: &Message, place: &Place) -> Class {
        let _ = (message, place);
        unimplemented!()
    }
}
