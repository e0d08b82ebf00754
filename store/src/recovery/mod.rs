//! Recovery: from the log on the medium to segments, keyspaces and indexes in DRAM.
//!
//! Two steps for each segment, each in parallel: first look at everything (`scan.rs`), then act.
//! So if a segment is damaged, nothing was changed.
//!
//! 1. A segment that was not sealed is sealed behind its last valid frame. Nothing is ever appended
//!    behind a tear.
//! 2. What is accepted of such a segment is persisted again first: a process that was killed leaves
//!    lines in the caches that a power failure may still drop, and what this life shows must not
//!    be lost to the next.
//! 3. The highest sequence number per key wins. Equal numbers are copies that reclaim made.
//! 4. A slot that was being opened is given back.
//! 5. Read-only, nothing is written: the same is found, and only in DRAM.

mod replay;
mod scan;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use daxite_core::{Appender, Extent, HUGE, LINE, LogicalRange, Pool, PoolInfo, Severity, Volume};

use crate::SeqNo;
use crate::catalog::KeyspaceCore;
use crate::checkup::LogFinding;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::segment::{Birth, PoolSeed, Segment, SegmentNo, damaged};
use crate::stats::RecoveryReport;
use crate::writer::persist_seal;
use scan::{Finding, Found};
use xxhash_rust::xxh3::xxh3_64;

/// What a log held.
pub(crate) struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    /// The index of the catalog's own keyspace.
    pub names: Index,
    pub keyspaces: Vec<KeyspaceCore>,
    /// Above the number of every keyspace seen.
    pub next_id: u32,
    /// At or after every moment seen.
    pub clock: Birth,
    /// At or above every sequence number seen.
    pub seqno: SeqNo,
    pub report: RecoveryReport,
}

/// A slot, mapped and examined.
struct Slot {
    no: SegmentNo,
    appender: Appender,
    extent: Arc<Extent>,
    finding: Finding,
}

impl Slot {
    fn holds_a_segment(&self) -> bool {
        matches!(self.finding, Finding::Segment(_))
    }
}

/// Recovers the log on `volume`.
///
/// # Errors
/// [`Error::Corruption`](crate::Error::Corruption) if there are bytes that no crash leaves behind;
/// [`Error::Io`](crate::Error::Io).
pub(crate) fn recover(pool: &Pool, volume: &Volume, seed: PoolSeed) -> Result<Recovered> {
    let started = Instant::now();
    let numbers = slots(volume)?;
    let slots = in_parallel(numbers.iter().copied().collect(), |no| look(volume, seed, no))?;
    let mut seen = Seen::new(&pool.info());
    for slot in slots.iter().flatten() {
        if let Finding::Segment(found) = &slot.finding {
            let seen = seen.take_in(found, &slot.extent);
            seen.map_err(|detail| damaged(slot.no, &slot.extent, 0, detail.to_string()))?;
        }
    }
    seen.require_what_was_closed(&pool.info())?;
    let Seen { mut report, clock, seqno, .. } = seen;
    // All segments found count as sealed now, which is after all their births.
    let clock = Birth(clock.0 + 1);
    let writable = !pool.is_read_only();
    let kept: Vec<Slot> = slots.into_iter().flatten().filter(Slot::holds_a_segment).collect();
    report.discarded = (numbers.len() - kept.len()) as u64;
    if writable {
        let kept: HashSet<SegmentNo> = kept.iter().map(|slot| slot.no).collect();
        for no in numbers.iter().filter(|no| !kept.contains(no)) {
            volume.punch(no.slot())?;
        }
    }
    let segments = in_parallel(kept, |slot| adopt(pool, seed, slot, clock))?;
    let replayed = replay::replay(&segments)?;
    report.live = replayed.live;
    report.duration = started.elapsed();
    Ok(Recovered {
        names: replayed.names,
        keyspaces: replayed.keyspaces,
        next_id: replayed.next_id,
        seqno,
        segments,
        clock,
        report,
    })
}

/// What is wrong with each segment of the log on `volume` by itself: its first damage, or that its
/// header is lost and the copy stands in. Nothing is written.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io).
pub(crate) fn flaws(pool: &Pool, volume: &Volume) -> Result<Vec<LogFinding>> {
    let seed = PoolSeed::new(&pool.info().uuid);
    let numbers = slots(volume)?.into_iter().collect();
    let flaws = in_parallel(numbers, |no| match look(volume, seed, no) {
        Ok(Some(Slot { finding: Finding::Segment(found), extent, .. })) if found.from_copy => {
            let detail = "the header does not verify; its copy stands in".to_string();
            let flaw = damaged(no, &extent, 0, detail);
            LogFinding::of(Severity::Warning, flaw).map(Some)
        }
        Ok(_) => Ok(None),
        Err(error) => LogFinding::of(Severity::Damage, error).map(Some),
    })?;
    Ok(flaws.into_iter().flatten().collect())
}

/// What a log is known by at a clean close: the births of its segments, in order. Never 0.
pub(crate) fn log_digest(births: impl IntoIterator<Item = Birth>) -> u64 {
    let births: Vec<u64> = births.into_iter().map(|birth| birth.0).collect();
    xxh3_64(bytemuck::cast_slice(&births)).max(1)
}

/// The numbers of all slots with an extent, in order.
fn slots(volume: &Volume) -> Result<BTreeSet<SegmentNo>> {
    let extents = volume.extents(LogicalRange::new(0, volume.len_bytes()))?;
    Ok(extents.iter().map(|extent| SegmentNo((extent.logical.start / HUGE) as u32)).collect())
}

/// Maps slot `no` and examines what is there. `None` if the head of the slot is a hole.
fn look(volume: &Volume, seed: PoolSeed, no: SegmentNo) -> Result<Option<Slot>> {
    let Some((appender, extent)) = volume.map_existing(no.slot())? else { return Ok(None) };
    let finding = scan::examine(appender.bytes(), seed, no)
        .map_err(|damage| damaged(no, &extent, damage.offset, damage.detail.to_string()))?;
    Ok(Some(Slot { no, appender, extent, finding }))
}

/// What all segments together amount to.
struct Seen {
    report: RecoveryReport,
    /// How often the pool was opened for writing.
    opens: u64,
    /// The latest moment.
    clock: Birth,
    /// The highest sequence number.
    seqno: SeqNo,
    births: BTreeSet<Birth>,
}

impl Seen {
    fn new(info: &PoolInfo) -> Self {
        let report = RecoveryReport { was_clean: info.was_clean, ..RecoveryReport::default() };
        Self {
            report,
            opens: info.opens,
            clock: Birth(info.opens << 32),
            seqno: SeqNo::default(),
            births: BTreeSet::new(),
        }
    }

    /// # Errors
    /// What is wrong with a segment that cannot be.
    fn take_in(&mut self, found: &Found, extent: &Extent) -> Result<(), &'static str> {
        // The counter of the lower half never runs full.
        if found.birth.0 >> 32 > self.opens || found.birth.0 as u32 == u32::MAX {
            return Err("the segment was born in the future");
        }
        if !self.births.insert(found.birth) {
            return Err("another segment was born at the same moment");
        }
        self.clock = self.clock.max(found.birth);
        self.seqno = self.seqno.max(found.last_seqno);
        self.report.segments += 1;
        self.report.sealed += u64::from(found.sealed);
        self.report.headers_from_copy += u64::from(found.from_copy);
        self.report.torn_tails += u64::from(found.torn_bytes.is_some());
        self.report.dropped_bytes += found.torn_bytes.unwrap_or(0);
        self.report.frames += found.frames;
        self.report.records += found.records;
        self.report.bytes += extent.len_bytes();
        Ok(())
    }
}

impl Seen {
    /// An error if the database was closed in good order and this is not the log that it left: then
    /// a page is back that was written earlier, though all of its checksums are right.
    fn require_what_was_closed(&self, info: &PoolInfo) -> Result<()> {
        let is_as_closed = self.report.sealed == self.report.segments
            && log_digest(self.births.iter().copied()) == info.owner_digest;
        if info.owner_digest == 0 || is_as_closed {
            return Ok(());
        }
        let detail = match self.report.segments - self.report.sealed {
            0 => "a segment is missing, or an older one is in its place".to_string(),
            open => format!("{open} segments are not sealed, though the database was closed"),
        };
        Err(Error::Corruption { what: "the log".to_string(), offset: 0, detail })
    }
}

/// Makes a sealed segment of what was found.
fn adopt(pool: &Pool, seed: PoolSeed, slot: Slot, now: Birth) -> Result<Arc<Segment>> {
    let Slot { no, mut appender, extent, finding } = slot;
    let Finding::Segment(found) = finding else { unreachable!("{no} was not discarded") };
    let mut seal = appender.split_end(LINE)?;
    appender.adopt(found.frames_end)?;
    if !pool.is_read_only() && !found.sealed {
        persist_seal(pool, seed, no, &mut seal, found.seal())?;
    }
    let frames = seed.frames(no, found.birth);
    let segment = Segment::new(no, found.birth, frames, found.is_moved, extent);
    segment.seal(now);
    segment.raise_covers(now);
    Ok(Arc::new(segment))
}

/// Applies `act` to all items, on all cores. Answers in the order of the items.
///
/// # Errors
/// The first in the order of the items.
fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    act: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(cores).max(1);
    let mut items = items.into_iter();
    let shares: Vec<Vec<T>> = std::iter::from_fn(|| {
        let share: Vec<T> = items.by_ref().take(share).collect();
        (!share.is_empty()).then_some(share)
    })
    .collect();
    let act = &act;
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(move || share.into_iter().map(act).collect::<Result<Vec<R>>>())
            })
            .collect();
        let mut answers = Vec::new();
        for thread in threads {
            answers.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(answers)
    })
}
