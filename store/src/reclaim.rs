//! Reclaim: how dead records become space.
//!
//! Whoever finds no space makes room, one at a time: retire what is dead, compact the segment
//! with the most dead bytes, or else the oldest one, until there is space or nothing to gain.
//!
//! # Which tombstones may go
//!
//! A tombstone hides older records of its key. Dropped too early, a recovery that still finds
//! such a record would bring it back. Every segment has a moment that it *covers*: all tombstones
//! in it were published before. For what writers wrote that is the moment of sealing; a tombstone
//! that reclaim moves takes that of its segment along. The rule:
//!
//! > The tombstones of a segment T are needed until every other segment that is not yet punched
//! > has a birth after the moment that T covers.
//!
//! *Why it is enough.* Let `t` be a tombstone of key `k` in T, and let X be an unpunched segment
//! with `X.birth > T.covers`. Every record in X was appended after `t` was published. A record of
//! `k` that a writer appended to X got its number under the stripe of `k` after `t` had, so it is
//! newer than `t` and needs no hiding. A record of `k` that reclaim moved to X was live when it was
//! moved, under the stripe of `k`, after `t` was published, so it is newer than `t`, too; a moved
//! tombstone hides, it needs none. What T itself holds of `k` goes with T: its slot is one word
//! or one table of the extent map, and is punched whole. So no recovery finds an older record.
//!
//! (A writer appends `t` before it publishes it, and another may seal the lane's segment in
//! between. But the writer holds the stripe of `k` all the while, so nothing of `k` is appended
//! anywhere meanwhile, and the argument holds.)
//!
//! *Once true it stays true*: later segments have later births, and a punched segment never comes
//! back: the punch is durable before the number is free, and the first line of a segment that is
//! mapped again is zero before it can be found. Moments are unique and grow over openings; a
//! recovered segment covers the moment of the opening, which only keeps its tombstones longer.
//!
//! *A tombstone also may go when its key is in the index*: what is found there is a durable newer
//! record, which hides the same records. When it dies, it is by a newer record again, and if that
//! is a tombstone, the rule holds for it.
//!
//! So retiring needs no order: dead puts hide nothing that something newer does not hide, and
//! tombstones go last by the rule.
//!
//! # Why it ends
//!
//! A round compacts only segments born before it started, each once. Every segment that it opens
//! is younger. A pass has two rounds, since the first makes tombstones droppable that it moved
//! itself; then it gives up.

use std::collections::HashSet;
use std::sync::Arc;

use daxite_core::PAGE;

use crate::compact::Outcome;
use crate::error::{Error, Result};
use crate::lane::{FrameRequest, Lane};
use crate::segment::{Birth, Segment, State};
use crate::space::{Purpose, Space};
use crate::stats::ReclaimReport;
use crate::store::Store;
use crate::writer::frames_max;

/// A segment is compacted for puts if that gains an eighth of it: at worst eight bytes are moved
/// for one byte gained.
const WORTH: u64 = 8;
/// What a record grows by when it is moved for the first time: its number.
const MOVED_BYTES: u64 = 8;

/// What the one who makes room needs.
pub(crate) struct Reclaimer {
    /// The lane for records that are moved: what survived once is likely to survive again.
    pub lane: Lane,
    pub compacted_segments: u64,
    pub moved_records: u64,
    pub moved_bytes: u64,
}

impl Reclaimer {
    /// With `lane` for what is moved.
    pub(crate) fn new(lane: Lane) -> Self {
        Self { lane, compacted_segments: 0, moved_records: 0, moved_bytes: 0 }
    }
}

/// One search for space.
struct Pass {
    purpose: Purpose,
    /// Rounds that may follow.
    rounds: u32,
    /// Segments born after the round started are left alone.
    started: Birth,
    /// Segments with records that found no room, or cannot be read.
    passed_over: HashSet<Birth>,
    sealed_lanes: bool,
}

impl Store {
    /// Makes room for the frame of `request`, for which no lane found any. Answers with the
    /// purpose to try again with. The caller holds no lock.
    ///
    /// # Errors
    /// [`Error::Full`] if there is nothing to gain; [`Error::Corruption`] if a record that should
    /// be moved is damaged; [`Error::Io`].
    pub(crate) fn make_room(&self, request: &FrameRequest) -> Result<Purpose> {
        let mut reclaimer = self.reclaimer.lock();
        self.check_open()?;
        let (purpose, frame_bytes) = (request.purpose, request.len_bytes);
        let fits = || self.space.fits(purpose, frame_bytes);
        let mut pass = self.start_pass(purpose);
        loop {
            self.space.sweep_patiently(fits)?;
            if fits() {
                return Ok(purpose);
            }
            if !self.advance(&mut reclaimer, &mut pass)? {
                break;
            }
        }
        self.space.sweep_lingering(fits)?;
        if fits() {
            return Ok(purpose);
        }
        // Removals must go on: that is what makes room in the end.
        let is_removal = purpose != Purpose::Put;
        if is_removal && self.space.fits(Purpose::LastResort, frame_bytes) {
            return Ok(Purpose::LastResort);
        }
        let free = self.pool().space().free_pages * PAGE;
        Err(Error::Full { needed: frame_bytes, free })
    }

    /// Gives back all space that is worth the copying.
    ///
    /// # Errors
    /// As [`Store::make_room`], without [`Error::Full`].
    pub(crate) fn reclaim(&self) -> Result<ReclaimReport> {
        self.check_writable()?;
        let mut reclaimer = self.reclaimer.lock();
        self.check_open()?;
        let before = (
            reclaimer.compacted_segments,
            reclaimer.moved_records,
            reclaimer.moved_bytes,
            self.space.punched(),
        );
        let free_bytes_before = self.pool().space().free_pages * PAGE;
        // First what is dead already: an opening may have found some.
        self.space.sweep()?;
        let mut pass = self.start_pass(Purpose::Put);
        while self.advance(&mut reclaimer, &mut pass)? {}
        self.space.sweep_patiently(|| false)?;
        let waiting = self.space.waiting();
        Ok(ReclaimReport {
            compacted_segments: reclaimer.compacted_segments - before.0,
            moved_records: reclaimer.moved_records - before.1,
            moved_bytes: reclaimer.moved_bytes - before.2,
            punched_segments: self.space.punched() - before.3,
            retired_segments: waiting.huge + waiting.page,
            free_bytes_before,
            free_bytes_after: self.pool().space().free_pages * PAGE,
        })
    }

    fn start_pass(&self, purpose: Purpose) -> Pass {
        let started = self.space.now();
        Pass { purpose, rounds: 1, started, passed_over: HashSet::new(), sealed_lanes: false }
    }

    /// Does the next thing that may gain space. False if there is none.
    fn advance(&self, reclaimer: &mut Reclaimer, pass: &mut Pass) -> Result<bool> {
        if let Some(victim) = choose(&self.space, pass) {
            let unpunched = self.space.unpunched();
            match self.compact(reclaimer, &victim, needs_tombstones(&victim, &unpunched))? {
                Outcome::Empty => {
                    reclaimer.compacted_segments += 1;
                    self.space.retire(victim);
                    self.space.sweep()?;
                }
                Outcome::NoRoom | Outcome::Unreadable => {
                    pass.passed_over.insert(victim.birth);
                }
            }
            return Ok(true);
        }
        if !std::mem::replace(&mut pass.sealed_lanes, true) && self.seal_lanes(reclaimer, pass)? {
            return Ok(true);
        }
        let Some(rounds) = pass.rounds.checked_sub(1) else { return Ok(false) };
        *pass = Pass { rounds, ..self.start_pass(pass.purpose) };
        Ok(true)
    }

    /// Seals open segments that have something to gain. False if there is none.
    fn seal_lanes(&self, reclaimer: &mut Reclaimer, pass: &Pass) -> Result<bool> {
        let mut sealed = false;
        let mut seal = |lane: &mut Lane| {
            let gain = lane.open_segment().map_or(0, dead_bytes);
            let worth = match pass.purpose {
                Purpose::Put => lane.open_segment().map_or(0, Segment::len_bytes) / WORTH,
                _ => PAGE,
            };
            if gain < worth || gain == 0 {
                return Ok(());
            }
            sealed = true;
            lane.seal(&self.space)
        };
        self.lanes.for_each(&mut seal)?;
        seal(&mut reclaimer.lane)?;
        Ok(sealed)
    }
}

/// The segment to be compacted next, if one is worth it.
fn choose(space: &Space, pass: &Pass) -> Option<Arc<Segment>> {
    let unpunched = space.unpunched();
    let candidates: Vec<_> = space
        .segments()
        .into_iter()
        .filter(|segment| {
            segment.state() == State::Sealed
                && segment.birth <= pass.started
                && !pass.passed_over.contains(&segment.birth)
        })
        .collect();
    let capacity = frames_max(space.target_pages() * PAGE);
    let gain = |segment: &Segment, tombstones| {
        segment.len_bytes().saturating_sub(moved_bytes(segment, capacity, tombstones))
    };
    let best = candidates
        .iter()
        .map(|segment| (gain(segment, needs_tombstones(segment, &unpunched)), segment))
        .max_by_key(|(gain, _)| *gain);
    if let Some((gain, segment)) = best
        && gain * WORTH >= segment.len_bytes()
    {
        return Some(Arc::clone(segment));
    }
    // No segment alone is worth it. But going through them from the oldest on frees every
    // tombstone, and what little each has to gain.
    let total: u64 = candidates.iter().map(|segment| segment.len_bytes()).sum();
    let gain: u64 = candidates.iter().map(|segment| gain(segment, Tombstones::Drop)).sum();
    let worth = match pass.purpose {
        Purpose::Put => gain > 0 && gain * WORTH >= total,
        _ => gain >= space.bytes_min(pass.purpose),
    };
    let oldest = candidates.into_iter().min_by_key(|segment| segment.birth);
    oldest.filter(|_| worth)
}

/// What compaction does with the tombstones of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tombstones {
    Keep,
    Drop,
}

/// Whether the tombstones of `segment` are needed, by the rule above, while the segments with the
/// births `unpunched` (lowest first) may be found.
fn needs_tombstones(segment: &Segment, unpunched: &[Birth]) -> Tombstones {
    let oldest_other = unpunched.iter().find(|birth| **birth != segment.birth);
    match oldest_other {
        Some(birth) if *birth <= segment.covers() => Tombstones::Keep,
        _ => Tombstones::Drop,
    }
}

/// Bytes of segments with room for `capacity` bytes of frames that the records of `segment` will
/// take when they are moved.
fn moved_bytes(segment: &Segment, capacity: u64, tombstones: Tombstones) -> u64 {
    let growth = if segment.is_moved { 0 } else { MOVED_BYTES };
    let puts = segment.live_puts();
    let put_bytes = segment.live_bytes() + growth * puts;
    // Large records leave gaps: a segment holds a whole number of them.
    let per_segment = (capacity * puts).checked_div(put_bytes).unwrap_or(0).max(1);
    let put_bytes = put_bytes.max(puts * capacity / per_segment);
    match tombstones {
        Tombstones::Keep => put_bytes + segment.tombstone_bytes() + growth * segment.tombstones(),
        Tombstones::Drop => put_bytes,
    }
}

/// Bytes written to `segment` that are no live record.
pub(crate) fn dead_bytes(segment: &Segment) -> u64 {
    let live = segment.live_bytes() + segment.tombstone_bytes();
    segment.extent().frozen_bytes().saturating_sub(live)
}
