//! Upkeep beside the road: seals logs, merges runs, gives space back, lets go of what is over.

use std::sync::Arc;
use std::time::Duration;

use nightgate_log::run::{Entry, FilterBudget, FilterHome, Run};

use super::fault::{Outcome, disk, stopped};
use super::files::{self, Checkpoint, RunLine, Sealed, index_name, log_name, run_name};
use super::mend::mend;
use super::recover::{FILTERS_MAX, remake_run};
use super::segment::Block;
use super::store::{Core, Inner};
use crate::error::Kind;

/// How often it looks around unasked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Runs of like size that become one.
const MERGE: usize = 8;
/// Ids in one run at most: merging more would only move bytes.
const RUN_MAX: u64 = 8_000_000;
/// A log is sealed before it is full once it has so many bytes and half of it has ended, so that
/// bodies of delivered messages do not linger.
const SEAL_EARLY: u64 = 1024 * 1024;

/// Works until the store is let go of.
pub(super) fn keep(inner: &Arc<Inner>) {
    loop {
        let next = {
            let mut core = inner.core();
            if core.stopping || inner.journal.fault().is_some() {
                return;
            }
            if core.to_seal.is_empty() && !core.untidy {
                let waited = inner.wake.wait_timeout(core, LOOK_EVERY);
                core = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            if core.stopping {
                return;
            }
            core.untidy = false;
            core.to_seal.first().copied()
        };
        let turn = inner.turn();
        let done = match next {
            Some(no) => inner.seal(no),
            None => inner.tidy(),
        };
        drop(turn);
        if let Err(fault) = done {
            tracing::error!(%fault, "upkeep of the hold failed; it will be tried again");
            let core = inner.core();
            let _ = inner.wake.wait_timeout(core, LOOK_EVERY);
        }
    }
}

impl Inner {
    /// Writes a segment's side files and takes it off the logs that opening must replay.
    pub(super) fn seal(&self, no: u32) -> Outcome<()> {
        let (index, fresh, base, end) = {
            let core = self.core();
            let Some(segment) = core.state.segment(no) else {
                return Ok(());
            };
            let index = segment.open_index.clone().unwrap_or_default();
            (index, core.ids.fresh(no), segment.base, segment.end)
        };
        let ticket = self.journal.last_ticket();
        self.journal
            .durable_blocking(ticket)
            .map_err(stopped("seal a segment"))?;
        files::write_index(&*self.disk, no, &index)?;
        let run_no = self.core().manifest.next_no;
        let mut run = None;
        if let Some(fresh) = fresh {
            let sorted = fresh.sorted();
            let count = sorted.len() as u64;
            let entries = sorted
                .into_iter()
                .map(|(hash, place)| Entry { hash, place });
            let name = run_name(run_no);
            Run::write(&*self.disk, &name, base, entries, count).map_err(disk("write a run"))?;
            self.disk.sync_names().map_err(disk("write a run"))?;
            let home = FilterHome::InMemory;
            let opened = Run::open(&*self.disk, &name, home).map_err(disk("open a run"))?;
            run = Some((Arc::new(opened), count));
        }
        {
            let mut core = self.core();
            if let Some(segment) = core.state.segment_mut(no) {
                segment.open_index = None;
            }
            if let Some((run, count)) = run {
                let mut runs = core.ids.runs().to_vec();
                runs.push(run);
                core.ids.set_runs(runs);
                let (first_segment, last_segment, no) = (no, no, run_no);
                core.manifest.runs.push(RunLine {
                    no,
                    first_segment,
                    last_segment,
                    count,
                });
                core.manifest.next_no += 1;
            }
            core.ids.seal(no);
            core.seals += 1;
            core.manifest.sealed.push(Sealed { no, base, end });
            core.to_seal.retain(|&other| other != no);
            core.manifest.open_from = no + 1;
        }
        self.check_point()?;
        self.merge()?;
        self.fit_filters()
    }

    /// Writes down the state, so that older ops need no replay.
    pub(super) fn check_point(&self) -> Outcome<()> {
        let (checkpoint, mut manifest, open_lsn) = {
            let core = self.core();
            let first_open = core.state.segment(core.manifest.open_from);
            let open_lsn = first_open.map(|segment| segment.first_lsn);
            (checkpoint_of(&core), core.manifest.clone(), open_lsn)
        };
        let ticket = self.journal.last_ticket();
        self.journal
            .durable_blocking(ticket)
            .map_err(stopped("write a checkpoint"))?;
        let no = manifest.next_no;
        files::write_state(&*self.disk, no, &checkpoint)?;
        let old = manifest.state.replace(no);
        manifest.next_no += 1;
        manifest.open_lsn = open_lsn.unwrap_or(manifest.open_lsn);
        files::write_manifest(&*self.disk, &manifest)?;
        {
            let mut core = self.core();
            core.named = manifest.open_from;
            core.manifest = manifest;
        }
        if let Some(old) = old {
            for name in files::state_names(old) {
                self.remove(&name);
            }
        }
        Ok(())
    }

    /// Removes a file that nothing names any more. If that fails, opening will.
    fn remove(&self, name: &str) {
        if let Err(cause) = self.disk.remove(name) {
            tracing::warn!(name, %cause, "could not remove a file of the hold");
        }
    }

    /// Makes one run of many small ones that stand in a row.
    fn merge(&self) -> Outcome<()> {
        loop {
            let (lines, runs) = {
                let core = self.core();
                (core.manifest.runs.clone(), core.ids.runs())
            };
            let Some(at) = mergeable(&lines) else {
                return Ok(());
            };
            let (old, sources) = (&lines[at..at + MERGE], &runs[at..at + MERGE]);
            let no = self.core().manifest.next_no;
            let name = run_name(no);
            let inputs: Vec<&Run> = sources.iter().map(|run| &**run).collect();
            let summary = Run::merge(&*self.disk, &inputs, &name).map_err(disk("merge runs"))?;
            self.disk.sync_names().map_err(disk("merge runs"))?;
            let home = FilterHome::InMemory;
            let merged = Run::open(&*self.disk, &name, home).map_err(disk("open a run"))?;
            let line = RunLine {
                no,
                first_segment: old[0].first_segment,
                last_segment: old[MERGE - 1].last_segment,
                count: summary.count,
            };
            let manifest = {
                let mut core = self.core();
                let mut now = core.ids.runs().to_vec();
                now.splice(at..at + MERGE, [Arc::new(merged)]);
                core.ids.set_runs(now);
                core.seals += 1;
                core.manifest.runs.splice(at..at + MERGE, [line]);
                core.manifest.next_no += 1;
                core.manifest.clone()
            };
            files::write_manifest(&*self.disk, &manifest)?;
            for line in old {
                self.remove(&run_name(line.no));
            }
        }
    }

    /// Lets the oldest filters go to disk once there are too many for memory.
    fn fit_filters(&self) -> Outcome<()> {
        let (lines, runs) = {
            let core = self.core();
            (core.manifest.runs.clone(), core.ids.runs())
        };
        let newest_first: Vec<u64> = runs.iter().rev().map(|run| run.filter_bytes()).collect();
        let budget = FilterBudget {
            bytes: FILTERS_MAX as u64,
        };
        let mut homes = budget.homes(&newest_first);
        homes.reverse();
        let mut fitted = runs.to_vec();
        for ((run, line), home) in fitted.iter_mut().zip(&lines).zip(homes) {
            if run.filter_home() != home {
                let name = run_name(line.no);
                let opened = Run::open(&*self.disk, &name, home).map_err(disk("open a run"))?;
                *run = Arc::new(opened);
            }
        }
        self.core().ids.set_runs(fitted);
        Ok(())
    }

    /// Gives back the space of what ended, and lets go of segments in which nothing matters.
    pub(super) fn tidy(&self) -> Outcome<()> {
        self.mend_all()?;
        self.seal_early()?;
        let touched: Vec<u32> = {
            let mut core = self.core();
            // Opening reads the others from end to end, so nothing may be missing there.
            let named = core.named;
            let later = core.state.touched.split_off(&named);
            std::mem::replace(&mut core.state.touched, later)
                .into_iter()
                .collect()
        };
        for &no in &touched {
            self.punch(no)?;
        }
        self.let_go()
    }

    /// Mends what look-ups met: runs whose pages are damaged, and messages that no index has.
    fn mend_all(&self) -> Outcome<()> {
        if self.core().ids.take_damage() {
            self.remake_runs()?;
        }
        if self.reader.take_gaps() {
            mend(&*self.disk, &mut self.core().state)?;
            self.check_point()?;
        }
        Ok(())
    }

    /// Writes every run anew that cannot be read from end to end.
    fn remake_runs(&self) -> Outcome<()> {
        let lines = self.core().manifest.runs.clone();
        for line in lines {
            let home = FilterHome::InMemory;
            let run = Run::open(&*self.disk, &run_name(line.no), home);
            let fault = match &run {
                Ok(run) => run.entries().find_map(Result::err),
                Err(_) => run.err(),
            };
            let Some(cause) = fault else { continue };
            let name = run_name(line.no);
            tracing::error!(name, %cause, "a run of ids is damaged: made anew from the log");
            let (no, manifest) = {
                let core = self.core();
                (core.manifest.next_no, core.manifest.clone())
            };
            let count = remake_run(&*self.disk, &manifest, &line, &run_name(no))?;
            let run = Run::open(&*self.disk, &run_name(no), home).map_err(disk("open a run"))?;
            let manifest = {
                let mut core = self.core();
                let at = core.manifest.runs.iter().position(|one| one.no == line.no);
                let Some(at) = at else { continue };
                let mut runs = core.ids.runs().to_vec();
                runs[at] = Arc::new(run);
                core.ids.set_runs(runs);
                core.seals += 1;
                core.manifest.runs[at] = RunLine { no, count, ..line };
                core.manifest.next_no += 1;
                core.manifest.clone()
            };
            files::write_manifest(&*self.disk, &manifest)?;
            self.remove(&name);
        }
        Ok(())
    }

    /// Seals the log that is written, if most of it has ended already.
    fn seal_early(&self) -> Outcome<()> {
        let mut core = self.core();
        let log = core.log;
        let ripe = core.state.segment(log).is_some_and(|segment| {
            let all = segment.end - segment.base;
            segment.ledger.bytes >= SEAL_EARLY && segment.ledger.open * 2 <= all
        });
        if ripe { self.roll(&mut core) } else { Ok(()) }
    }

    /// Gives back the bodies of a sealed segment's blocks that have ended to the last message.
    fn punch(&self, no: u32) -> Outcome<()> {
        let ticket = self.journal.last_ticket();
        let ended: Vec<(u32, Block)> = {
            let core = self.core();
            let Some(segment) = core.state.segment(no).filter(|segment| segment.is_sealed()) else {
                return Ok(());
            };
            // Opening takes every segment for touched: most need no look at their blocks.
            if segment.ledger.open == segment.end - segment.base {
                return Ok(());
            }
            self.reader.ask(segment, |index| {
                let all = (0_u32..).zip(index.blocks().iter().copied());
                all.filter(|(at, block)| {
                    !segment.ledger.punched.contains(u64::from(*at)) && has_ended(&core, block)
                })
                .collect()
            })?
        };
        if ended.is_empty() {
            return Ok(());
        }
        // Only what has ended for good may go: the ends must be on disk first.
        self.journal
            .durable_blocking(ticket)
            .map_err(stopped("give space back"))?;
        let file = match self.reader.file(no) {
            Ok(file) => file,
            // The log itself is gone, and its space with it.
            Err(error) if error.kind == Kind::Corrupt => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (_, block) in &ended {
            let end = block.body_at + u64::from(block.line.body_len);
            match ranges.last_mut() {
                Some(last) if last.1 == block.body_at => last.1 = end,
                _ => ranges.push((block.body_at, end)),
            }
        }
        for (from, to) in ranges {
            file.punch(from, to - from)
                .map_err(disk("give space back"))?;
        }
        let mut core = self.core();
        if let Some(segment) = core.state.segment_mut(no) {
            for (at, block) in ended {
                segment
                    .ledger
                    .punched
                    .insert(u64::from(at), u64::from(at) + 1);
                let body = u64::from(block.line.body_len);
                segment.ledger.bytes = segment.ledger.bytes.saturating_sub(body);
            }
        }
        core.room.look_again();
        drop(core);
        self.reader.forget_bodies();
        Ok(())
    }

    /// Lets go of sealed segments in which nothing matters any more, and of their ids.
    fn let_go(&self) -> Outcome<()> {
        let (spent, runs) = {
            let mut core = self.core();
            let over = core
                .state
                .segments
                .iter()
                .filter(|one| one.is_sealed() && one.is_spent());
            let spent: Vec<u32> = over.map(|segment| segment.no).collect();
            if spent.is_empty() {
                return Ok(());
            }
            for &no in &spent {
                core.state.drop_segment(no);
                core.manifest.sealed.retain(|sealed| sealed.no != no);
            }
            let live: Vec<u32> = core
                .manifest
                .sealed
                .iter()
                .map(|sealed| sealed.no)
                .collect();
            let covers = |line: &RunLine| {
                live.iter()
                    .any(|no| (line.first_segment..=line.last_segment).contains(no))
            };
            let keep: Vec<bool> = core.manifest.runs.iter().map(covers).collect();
            let mut kept = keep.iter();
            let mut runs = core.ids.runs().to_vec();
            runs.retain(|_| kept.next().copied().unwrap_or(true));
            core.ids.set_runs(runs);
            let gone = core
                .manifest
                .runs
                .iter()
                .zip(&keep)
                .filter(|(_, keep)| !**keep);
            let gone: Vec<u32> = gone.map(|(line, _)| line.no).collect();
            core.manifest.runs.retain(|line| !gone.contains(&line.no));
            core.seals += 1;
            core.room.look_again();
            (spent, gone)
        };
        self.check_point()?;
        for no in spent {
            self.reader.forget(no);
            self.remove(&log_name(no));
            self.remove(&index_name(no));
        }
        for no in runs {
            self.remove(&run_name(no));
        }
        Ok(())
    }
}

/// Whether every message of a block has ended.
fn has_ended(core: &Core, block: &Block) -> bool {
    let Some(segment) = core.state.segment_of(block.first) else {
        return false;
    };
    if segment.ledger.marks.cover(block.first, block.end()) {
        return true;
    }
    let Some(shelf) = core.state.shelves.get(block.line.shelf) else {
        return false;
    };
    shelf
        .gone(block.first)
        .is_some_and(|gone| block.end() <= gone.upto)
        && core
            .state
            .loans
            .iter()
            .all(|(_, loan)| loan.within(block.first, block.end()).is_empty())
}

/// Where `MERGE` runs of like size stand in a row.
fn mergeable(lines: &[RunLine]) -> Option<usize> {
    let class = |line: &RunLine| line.count.max(1).ilog(MERGE as u64);
    lines.windows(MERGE).position(|some| {
        let total: u64 = some.iter().map(|line| line.count).sum();
        total <= RUN_MAX && some.iter().all(|line| class(line) == class(&some[0]))
    })
}

fn checkpoint_of(core: &Core) -> Checkpoint {
    let ledger = |segment: &super::segment::Segment| {
        (
            segment.no,
            segment.base,
            segment.end,
            segment.ledger.clone(),
        )
    };
    Checkpoint {
        lsn: core.lsn,
        next_place: core.state.next_place,
        last_shelf: core.state.shelves.last(),
        shelves: core.state.shelves.all().clone(),
        loans: core.state.loans.clone(),
        ledgers: core.state.segments.iter().map(ledger).collect(),
        pauses: core.state.pauses.clone().into_iter().collect(),
        damaged: core.state.damaged.clone(),
    }
}
