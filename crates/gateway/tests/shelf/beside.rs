//! The shelf store beside the SQLite store: the same calls, the same crashes, the same answers.

use std::path::Path;
use std::sync::Arc;

use nightgate::hold::HoldStore;
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::sqlite::{Options, SqliteHold};
use nightgate_log::disk::SimDisk;

use crate::support::*;
use crate::twins::Twins;
use crate::world::{HORIZON, at};

const SEEDS: u64 = 3;
const STEPS: usize = 240;
/// Calls between two crashes.
const LIFE: usize = 24;

async fn sqlite(dir: &Path) -> Arc<dyn HoldStore> {
    let options = Options {
        horizon: HORIZON,
        ..Options::default()
    };
    Arc::new(SqliteHold::open(dir, options).await.unwrap())
}

#[tokio::test]
async fn after_every_crash_both_stores_on_disk_answer_alike() {
    for seed in seeds(SEEDS) {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let mut disk = SimDisk::seeded(seed);
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut twins = Twins::new(sqlite(dir.path()).await, Arc::new(open(&disk)), seed, at(0));
        for step in 0..STEPS {
            twins.step().await;
            twins.compare(step % 8 == 0).await;
            if step % LIFE == LIFE - 1 {
                // Neither is told beforehand; of the disk, only what was synced is left for sure.
                disk = disk.crash(&mut chance);
                twins.plain = Arc::new(MemoryHold::new(HORIZON));
                twins.plain = sqlite(dir.path()).await;
                twins.other = Arc::new(open(&disk));
                twins.compare(true).await;
            }
        }
        assert!(!files(&disk, "idx-").is_empty(), "no log was ever sealed");
    }
}
