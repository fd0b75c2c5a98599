//! The scripts. Each is what they share and its own text; the server knows it by its hash, so a new
//! version of the program has new scripts beside the old ones.

use crate::redis::Script;

/// With this first line a script is refused where memory is full, before it did anything.
const STORES: &str = "#!lua\n";
/// These give memory back, or need little, and must go on where it is full.
const GOES_ON: &str = "#!lua flags=allow-oom\n";
/// These only read.
const READS: &str = "#!lua flags=no-writes\n";

const LIB: &str = include_str!("lua/lib.lua");
const IDS: &str = include_str!("lua/ids.lua");
const BACK: &str = include_str!("lua/back.lua");
const WRITE: &str = include_str!("lua/write.lua");

/// Sets a field that is not there. Also where memory is full: a gateway must start there to drain
/// it, and a person's stop be heard.
const SET_NEW: &str = "return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])";

/// Every script.
pub(super) struct Scripts {
    pub(super) put: Script,
    pub(super) lease: Script,
    pub(super) settle: Script,
    pub(super) peek: Script,
    pub(super) next: Script,
    pub(super) shelves: Script,
    pub(super) records: Script,
    pub(super) look: Script,
    pub(super) recall: Script,
    pub(super) recall_id: Script,
    pub(super) redate: Script,
    pub(super) sweep: Script,
    pub(super) since: Script,
    pub(super) scan: Script,
    pub(super) packs: Script,
    pub(super) alive: Script,
    pub(super) search: Script,
    pub(super) set_new: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let of = |parts: &[&str]| Script::new(&parts.concat());
        Self {
            put: of(&[STORES, LIB, IDS, WRITE, include_str!("lua/put.lua")]),
            lease: of(&[GOES_ON, LIB, include_str!("lua/lease.lua")]),
            settle: of(&[GOES_ON, LIB, IDS, WRITE, include_str!("lua/settle.lua")]),
            peek: of(&[GOES_ON, LIB, include_str!("lua/peek.lua")]),
            next: of(&[READS, LIB, include_str!("lua/next.lua")]),
            shelves: of(&[READS, LIB, include_str!("lua/shelves.lua")]),
            records: of(&[READS, LIB, include_str!("lua/records.lua")]),
            look: of(&[READS, LIB, IDS, include_str!("lua/look.lua")]),
            recall: of(&[GOES_ON, LIB, BACK, include_str!("lua/recall.lua")]),
            recall_id: of(&[GOES_ON, LIB, IDS, BACK, include_str!("lua/recall_id.lua")]),
            redate: of(&[GOES_ON, LIB, include_str!("lua/redate.lua")]),
            sweep: of(&[GOES_ON, LIB, include_str!("lua/sweep.lua")]),
            since: of(&[READS, LIB, IDS, include_str!("lua/since.lua")]),
            scan: of(&[READS, LIB, include_str!("lua/scan.lua")]),
            packs: of(&[READS, LIB, IDS, include_str!("lua/packs.lua")]),
            search: of(&[READS, LIB, IDS, include_str!("lua/search.lua")]),
            alive: of(&[READS, LIB, IDS, include_str!("lua/alive.lua")]),
            set_new: of(&[GOES_ON, SET_NEW]),
        }
    }
}
