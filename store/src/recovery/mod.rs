//! Recovery: from the log on the medium to segments, keyspaces and indexes in DRAM.
//!
//! Three steps: look at every segment (`scan.rs`), replay all records (`replay.rs`), and only then
//! write: seal what was open, give back what is no segment. So if anything is damaged, no byte of
//! the pool was changed; its superblock says that it is open with the first of these writes.
//!
//! 1. A segment that was not sealed is sealed behind its last valid frame. Nothing is ever appended
//!    behind a tear.
//! 2. What is accepted of such a segment is persisted again first: a process that was killed leaves
//!    lines in the caches that a power failure may still drop, and what this life shows must not
//!    be lost to the next.
//! 3. The highest sequence number per key wins. Equal numbers are copies that reclaim made, and what is
//!    in other segments too may leave a segment that nothing needs (`surplus.rs`).
//! 4. A slot that was being opened is given back.
//! 5. If the database was closed in good order, every slot holds a sealed segment, and they are the
//!    ones that it had: anything else is a page that is back as it was at an earlier moment.
//! 6. Read-only, nothing is written: the same is found, and only in DRAM.

mod replay;
mod scan;
mod surplus;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use daxite_core::primitives::{Mutex, cores};
use daxite_core::{
    Appender, Extent, HUGE, LINE, LogicalRange, PAGE, Pool, PoolInfo, Severity, Volume,
};

use crate::SeqNo;
use crate::catalog::KeyspaceCore;
use crate::checkup::LogFinding;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::layout::Seal;
use crate::segment::{Birth, PoolSeed, Segment, SegmentNo, damaged};
use crate::stats::RecoveryReport;
use crate::table::SegmentTable;
use crate::writer::persist_seal;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use scan::{Finding, examine};

/// What a log held.
pub(crate) struct Recovered {
    /// The segments by number.
    pub table: SegmentTable,
    pub segments: Vec<Arc<Segment>>,
    /// Those of them that no key needs: nothing in them lives or hides anything.
    pub surplus: HashSet<SegmentNo>,
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

    /// That the copy stands in for the header, if it does.
    fn lost_header(&self) -> Option<LogFinding> {
        match &self.finding {
            Finding::Segment(found) if found.from_copy => {
                let detail = "the header does not verify; its copy stands in".to_string();
                let offset = self.extent.physical();
                let severity = Severity::Warning;
                Some(LogFinding { severity, what: self.no.to_string(), offset, detail })
            }
            _ => None,
        }
    }
}

/// Recovers the log on `volume`.
///
/// # Errors
/// [`Error::Corruption`](crate::Error::Corruption) if there are bytes that no crash leaves behind,
/// [`Error::MediaError`](crate::Error::MediaError) if there are some that cannot be read;
/// [`Error::Io`](crate::Error::Io).
pub(crate) fn recover(pool: &Pool, volume: &Volume, seed: PoolSeed) -> Result<Recovered> {
    let started = Instant::now();
    let MappedSlots { numbers, len_bytes } = slots(volume)?;
    let all = numbers.iter().copied().collect();
    let slots = in_parallel(all, len_bytes, |no| look(volume, seed, no))?;
    let mut seen = Seen::new(&pool.info());
    for slot in slots.iter().flatten() {
        seen.take_in(slot)?;
    }
    seen.require_what_was_closed()?;
    let Seen { mut report, clock, seqno, .. } = seen;
    // All segments found count as sealed now, which is after all their births.
    let clock = Birth(clock.0 + 1);
    let kept: Vec<Slot> = slots.into_iter().flatten().filter(Slot::holds_a_segment).collect();
    report.discarded = (numbers.len() - kept.len()) as u64;
    let (segments, seals): (Vec<_>, Vec<_>) =
        in_parallel(kept, len_bytes, |slot| adopt(seed, slot, clock))?.into_iter().unzip();
    let table = SegmentTable::new();
    segments.iter().for_each(|segment| table.insert(Arc::clone(segment)));
    let replayed = replay::replay(&segments, &table)?;
    report.live = replayed.live;
    if !pool.is_read_only() {
        for Unsealed { no, mut line, seal } in seals.into_iter().flatten() {
            persist_seal(pool, seed, no, &mut line, seal)?;
        }
        let kept: HashSet<SegmentNo> = segments.iter().map(|segment| segment.no).collect();
        for no in numbers.iter().filter(|no| !kept.contains(no)) {
            volume.punch(no.slot())?;
        }
    }
    report.duration = started.elapsed();
    Ok(Recovered {
        table,
        surplus: replayed.surplus,
        names: replayed.names,
        keyspaces: replayed.keyspaces,
        next_id: replayed.next_id,
        seqno,
        segments,
        clock,
        report,
    })
}

/// What is wrong with each segment of the log on `volume`: its first damage, or that its header is
/// lost and the copy stands in. Nothing is written.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io).
pub(crate) fn flaws(pool: &Pool, volume: &Volume) -> Result<Vec<LogFinding>> {
    let seed = PoolSeed::new(&pool.info().uuid);
    let MappedSlots { numbers, len_bytes } = slots(volume)?;
    let all = numbers.into_iter().collect();
    let looked_at = in_parallel(all, len_bytes, |no| match look(volume, seed, no) {
        Ok(slot) => Ok(Ok(slot)),
        Err(error) => LogFinding::of(Severity::Damage, error).map(Err),
    })?;
    let mut seen = Seen::new(&pool.info());
    let mut flaws = Vec::new();
    for slot in looked_at {
        match slot {
            Err(flaw) => flaws.push(flaw),
            Ok(None) => {}
            Ok(Some(slot)) => match seen.take_in(&slot) {
                Err(error) => flaws.push(LogFinding::of(Severity::Damage, error)?),
                Ok(()) => flaws.extend(slot.lost_header()),
            },
        }
    }
    Ok(flaws)
}

/// What a log is known by at a clean close: the births of its segments, in order. Never 0.
///
/// That is enough. A header ties its birth to its slot, a seal ties where the frames end to the
/// birth, and no birth gets two different seals: sealed segments with these births are those that
/// were closed.
pub(crate) fn log_digest(births: impl IntoIterator<Item = Birth>) -> u64 {
    let births: Vec<u64> = births.into_iter().map(|birth| birth.0).collect();
    xxh3_64(bytemuck::cast_slice(&births)).max(1)
}

/// The slots with an extent.
struct MappedSlots {
    numbers: BTreeSet<SegmentNo>,
    /// What is mapped of all of them.
    len_bytes: u64,
}

fn slots(volume: &Volume) -> Result<MappedSlots> {
    let extents = volume.extents(LogicalRange::new(0, volume.len_bytes()))?;
    let number = |start: u64| SegmentNo((start / HUGE) as u32);
    Ok(MappedSlots {
        numbers: extents.iter().map(|extent| number(extent.logical.start)).collect(),
        len_bytes: extents.iter().map(|extent| extent.logical.len_bytes).sum(),
    })
}

/// Maps slot `no` and examines what is there. `None` if the head of the slot is a hole.
fn look(volume: &Volume, seed: PoolSeed, no: SegmentNo) -> Result<Option<Slot>> {
    let Some((appender, extent)) = volume.map_existing(no.slot())? else { return Ok(None) };
    let len_bytes = extent.len_bytes();
    if !extent.bad_pages(0, len_bytes).is_empty() {
        // Behind the end of a sealed segment nobody cares.
        for (start, end) in [(0, PAGE), (len_bytes - PAGE, len_bytes)] {
            require_readable(&extent, no, start, end)?;
        }
        require_readable(&extent, no, 0, scan::reach(appender.bytes(), seed, no))?;
    }
    let finding = examine(appender.bytes(), seed, no)
        .map_err(|damage| damaged(no, &extent, damage.offset, damage.detail.to_string()))?;
    Ok(Some(Slot { no, appender, extent, finding }))
}

/// # Errors
/// [`Error::MediaError`] unless the bytes of `extent` from `start` to `end` can be read.
fn require_readable(extent: &Extent, no: SegmentNo, start: u64, end: u64) -> Result<()> {
    match extent.unreadable(start, end - start).into_iter().next() {
        None => Ok(()),
        Some(error) => Err(Error::from(error).hitting(no)),
    }
}

/// What all segments together amount to.
struct Seen {
    report: RecoveryReport,
    /// How often the pool was opened and written to.
    opens: u64,
    /// [`log_digest`] of what was closed in good order; 0 if it was not.
    closed_digest: u64,
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
            closed_digest: info.owner_digest,
            clock: Birth(info.opens << 32),
            seqno: SeqNo::default(),
            births: BTreeSet::new(),
        }
    }

    /// # Errors
    /// [`Error::Corruption`] for what cannot be.
    fn take_in(&mut self, slot: &Slot) -> Result<()> {
        let damaged =
            |offset, detail: &str| Err(damaged(slot.no, &slot.extent, offset, detail.to_string()));
        let was_closed = self.closed_digest != 0;
        let Finding::Segment(found) = &slot.finding else {
            return match was_closed {
                true => damaged(0, "it has no header, though the database was closed"),
                false => Ok(()),
            };
        };
        // The counter of the lower half never runs full.
        if found.birth.0 >> 32 > self.opens || found.birth.0 as u32 == u32::MAX {
            return damaged(0, "the segment was born in the future");
        }
        if !self.births.insert(found.birth) {
            return damaged(0, "another segment was born at the same moment");
        }
        if was_closed && !found.sealed {
            let seal_at = slot.extent.len_bytes() - LINE;
            return damaged(seal_at, "it is not sealed, though the database was closed");
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
        self.report.bytes += slot.extent.len_bytes();
        Ok(())
    }

    /// An error if the database was closed in good order and this is not the log that it left: then
    /// a page is back that was written earlier, though all of its checksums are right.
    fn require_what_was_closed(&self) -> Result<()> {
        let found = log_digest(self.births.iter().copied());
        if self.closed_digest == 0 || found == self.closed_digest {
            return Ok(());
        }
        let detail = "a segment is missing, or an older one is in its place".to_string();
        Err(Error::Corruption { what: "the log".to_string(), offset: 0, detail })
    }
}

/// A segment that takes no more frames, but has no seal on the medium yet.
struct Unsealed {
    no: SegmentNo,
    /// The right to the line of the seal.
    line: Appender,
    seal: Seal,
}

/// Makes a sealed segment of what was found, and says what is missing on the medium for it to be one.
fn adopt(seed: PoolSeed, slot: Slot, now: Birth) -> Result<(Arc<Segment>, Option<Unsealed>)> {
    let Slot { no, mut appender, extent, finding } = slot;
    let Finding::Segment(found) = finding else { unreachable!("{no} was not discarded") };
    let line = appender.split_end(LINE)?;
    appender.adopt(found.frames_end)?;
    let unsealed = (!found.sealed).then(|| Unsealed { no, line, seal: found.seal() });
    let frames = seed.frames(no, found.birth);
    let segment = Segment::new(no, found.birth, frames, found.is_moved, extent);
    segment.seal(now);
    segment.raise_covers(now);
    Ok((Arc::new(segment), unsealed))
}

/// So few bytes are read before other threads have begun: a fraction of a millisecond.
const ALONE_BYTES: u64 = HUGE;

/// Applies `act` to all items, which together are `len_bytes` long, on all cores; a model has one.
/// Answers in the order of the items.
///
/// # Errors
/// The first in the order of the items.
fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    len_bytes: u64,
    act: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    if len_bytes <= ALONE_BYTES || items.is_empty() {
        return items.into_iter().map(act).collect();
    }
    let helpers = cores().min(items.len()) - 1;
    let queue = Mutex::new(items.into_iter().enumerate());
    let work = || {
        let mut answers = Vec::new();
        loop {
            let next = queue.lock().next();
            let Some((at, item)) = next else { return answers };
            answers.push((at, act(item)));
        }
    };
    let mut answers = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        // Where the system has no thread to give, this one does more.
        let helpers: Vec<_> = (0..helpers).map_while(start).collect();
        let mut answers = work();
        for helper in helpers {
            answers.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        answers
    });
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use daxite_core::{CreateOptions, OpenOptions};

    use super::*;
    use crate::catalog::encode_id;
    use crate::commit::{Op, Scope, Verdict};
    use crate::store::Store;

    #[test]
    fn a_log_whose_records_contradict_each_other_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let options = CreateOptions { len_bytes: 4 << 20, ..CreateOptions::default() };
        let store = Store::open(Pool::create(&path, &options).unwrap(), None).unwrap();
        let value = encode_id(1);
        for key in [b"one", b"two"] {
            let names = &store.catalog.names;
            let op = Op::new(names, key, Some(&value));
            store.commit(Scope::Keys, &[op], || Ok(Verdict::Write(())), || {}).unwrap();
        }
        // Not closed, so the next opening has a segment to seal.
        drop(store);
        let before = std::fs::read(&path).unwrap();
        let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
        let error = Store::open(pool, None).err().expect("two names have one number");
        assert!(error.is_corruption() && error.to_string().contains("same number"), "{error}");
        assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
    }
}
