//! Calls: plain commands and scripts. A script is sent by its hash and loaded where it is missing.

use std::sync::Arc;

use ::redis::cluster_routing::Slot;
use ::redis::{Cmd, ToRedisArgs};

/// A Lua script and its hash.
#[derive(Clone, Debug)]
pub struct Script {
    inner: Arc<::redis::Script>,
    text: Arc<str>,
}

impl Script {
    /// The script of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            inner: Arc::new(::redis::Script::new(text)),
            text: text.into(),
        }
    }

    /// A call of it with one key, by which it is routed; arguments are added to the answer. A
    /// script that touches more keys makes them from this one, with its hash tag.
    #[must_use]
    pub fn call(&self, key: &str) -> Call {
        let mut cmd = Cmd::new();
        cmd.arg("EVALSHA")
            .arg(self.inner.get_hash())
            .arg(1)
            .arg(key);
        Call {
            cmd,
            script: Some(self.clone()),
            slot: Slot::for_key(key),
        }
    }
}

/// One call of a server.
#[derive(Clone, Debug)]
pub struct Call {
    cmd: Cmd,
    script: Option<Script>,
    slot: Slot,
}

impl Call {
    /// The command `name` on `key`; arguments are added to the answer.
    #[must_use]
    pub fn on(name: &str, key: &str) -> Self {
        let mut cmd = Cmd::new();
        cmd.arg(name).arg(key);
        Self {
            cmd,
            script: None,
            slot: Slot::for_key(key),
        }
    }

    /// The command `name` without a key, asked of whoever has the slot of `key`.
    #[must_use]
    pub fn about(key: &str, name: &str) -> Self {
        let mut cmd = Cmd::new();
        cmd.arg(name);
        Self {
            cmd,
            script: None,
            slot: Slot::for_key(key),
        }
    }

    /// The same with one argument more.
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// Adds one argument more.
    pub fn push(&mut self, arg: impl ToRedisArgs) {
        self.cmd.arg(arg);
    }

    /// As the driver sends it.
    #[must_use]
    pub fn cmd(&self) -> &Cmd {
        &self.cmd
    }

    /// The slot of its key.
    pub(super) fn route(&self) -> Slot {
        self.slot
    }

    /// The command that loads its script.
    pub(super) fn load(&self) -> Option<Cmd> {
        let script = self.script.as_ref()?;
        let mut cmd = Cmd::new();
        cmd.arg("SCRIPT").arg("LOAD").arg(&*script.text);
        Some(cmd)
    }
}
