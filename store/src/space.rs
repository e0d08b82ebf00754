//! Segments coming and going: where a lane gets a new one, and where dead ones go.
//!
//! 1. A number belongs to at most one segment, from mapping its slot to punching it.
//! 2. A segment is punched after it was retired, after every pin is gone that could have seen it
//!    in the table, and after every value is gone that was read from it.
//! 3. A punch is durable before the number is free.
//! 4. Puts leave the reserve free, removals half of it, which is a whole segment; reclaim may use
//!    all. So on a full pool removals go on, and reclaim has room to turn them into space: emptying
//!    a segment takes at most as much as it gives.
//!
//! Knows nothing of keys. The order of locks is in `stripes.rs`; the one here guards nothing that
//! takes another, but for calls into the volume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daxite_core::primitives::atomic::{AtomicU64, Ordering};
use daxite_core::primitives::{Mutex, Patience, thread};
use daxite_core::{PAGE, PAGES_PER_HUGE, Pool, Volume, pin};

use crate::SeqNo;
use crate::error::Result;
use crate::numbers::FreeNumbers;
use crate::retired::{RetiredSegments, Waiting};
use crate::segment::{Birth, PoolSeed, Segment, SegmentNo, State};
use crate::table::SegmentTable;
use crate::writer::{NewSegment, Writer, pages_for};

/// From this size on a pool has segments of a huge page.
const HUGE_SEGMENTS_FROM: u64 = 64 << 20;
/// A smaller pool has so many segments.
const SEGMENTS_OF_SMALL_POOL: u64 = 32;
/// The shortest segment of a small pool, in pages.
const SEGMENT_PAGES_MIN: u64 = 4;
/// Where space is short or in pieces, segments get shorter: those for removals and reclaim down to
/// this many pages, which is a frame of reclaim.
const RUN_PAGES_MIN: u64 = 16;
/// A slot of 4 KiB extents needs a page for their table, and maybe one for the table above.
const TABLE_PAGES: u64 = 2;
/// How long to wait for readers that may have seen a segment before it was retired. They are in the middle
/// of an operation, and it takes a machine that is overloaded to keep them there.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait for values before a database is called full: longer than a thread that holds one is
/// likely to be kept off the processor.
const LINGER: Duration = Duration::from_millis(100);
/// After so many attempts the waiting is done asleep.
const SPINS: u32 = 64;

/// What a segment is wanted for; decides how much must stay free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Puts, and batches with a put.
    Put,
    /// Tombstones alone.
    Remove,
    /// Tombstones, when reclaim found nothing.
    LastResort,
    /// Records that reclaim moves.
    Reclaim,
}

/// What a segment needs, in pages.
struct Want {
    /// Its length where space is plenty.
    pages: u64,
    /// Pages that must be free, above the floor.
    free: u64,
    /// The shortest run that will do.
    run: u64,
}

struct Inner {
    numbers: FreeNumbers,
    /// Those in the table.
    segments: BTreeMap<SegmentNo, Arc<Segment>>,
    retired: RetiredSegments,
}

/// All segments.
pub(crate) struct Space {
    pub pool: Pool,
    pub table: SegmentTable,
    volume: Volume,
    pool_seed: PoolSeed,
    target_pages: u64,
    /// The clock of births and seals.
    clock: AtomicU64,
    /// Guards the coming and going of segments.
    state: Mutex<Inner>,
    /// Sealed segments whose last record died, here or before the opening: a hint for the next sweep.
    dying: Mutex<Vec<SegmentNo>>,
}

impl Space {
    /// The space with the segments that recovery found, which are in `table`; all moments so far are before
    /// `clock`.
    pub(crate) fn new(
        pool: Pool,
        volume: Volume,
        pool_seed: PoolSeed,
        table: SegmentTable,
        segments: Vec<Arc<Segment>>,
        clock: Birth,
    ) -> Self {
        let mut numbers = FreeNumbers::all();
        for segment in &segments {
            numbers.claim(segment.no);
        }
        let segments = segments.into_iter().map(|segment| (segment.no, segment)).collect();
        let state = Inner { numbers, segments, retired: RetiredSegments::new() };
        Self {
            target_pages: target_pages(pool.space().total_pages),
            pool,
            table,
            volume,
            pool_seed,
            clock: AtomicU64::new(clock.0),
            state: Mutex::new(state),
            dying: Mutex::new(Vec::new()),
        }
    }

    /// A new moment, later than all before.
    pub(crate) fn now(&self) -> Birth {
        Birth(self.clock.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Segments that the pool has room for, roughly.
    pub(crate) fn segments_max(&self) -> u64 {
        self.pool.space().total_pages / self.target_pages
    }

    /// Pages that a new segment has where space is plenty.
    pub(crate) fn target_pages(&self) -> u64 {
        self.target_pages
    }

    /// Pages that puts leave free.
    pub(crate) fn reserve_pages(&self) -> u64 {
        2 * self.reclaim_pages()
    }

    /// Pages of a whole segment: with so many free, reclaim can empty any segment of normal length.
    fn reclaim_pages(&self) -> u64 {
        self.target_pages + TABLE_PAGES
    }

    /// Opens a segment with room for a frame of `frame_bytes`. `None` if there is no space for it.
    ///
    /// # Errors
    /// What the volume answers, [`Error::Full`](crate::Error::Full) aside.
    pub(crate) fn open(
        &self,
        purpose: Purpose,
        frame_bytes: u64,
        lane: u16,
        clock: SeqNo,
    ) -> Result<Option<Writer>> {
        let mut state = self.state.lock();
        self.sweep_locked(&mut state)?;
        let want = self.want(purpose, frame_bytes);
        loop {
            let free_pages = self.pool.free_pages();
            let budget = free_pages.saturating_sub(self.floor(purpose) + TABLE_PAGES);
            if budget < want.free {
                return Ok(None);
            }
            let Some(no) = state.numbers.take() else { return Ok(None) };
            let pages = want.pages.min(budget);
            let mapped = match self.volume.map_append(no.head(pages), want.run) {
                Ok(mapped) => mapped,
                Err(daxite_core::Error::Full { .. }) => {
                    state.numbers.release(no);
                    return Ok(None);
                }
                // The slot may be mapped, so nobody gets it before the next recovery.
                Err(error) => return Err(error.into()),
            };
            let is_moved = purpose == Purpose::Reclaim;
            let new = NewSegment { no, birth: self.now(), clock, lane, is_moved };
            let mut writer = match Writer::create(&self.pool, self.pool_seed, &new, mapped) {
                // The rest of it is given back, and other pages are taken: each time one less.
                Err(error) if error.is_media_error() => {
                    self.volume.punch(no.slot())?;
                    state.numbers.release(no);
                    continue;
                }
                // The slot stays mapped, without a header: the next recovery gives it back.
                created => created?,
            };
            writer.from_reserve = free_pages < self.reserve_pages() + pages + TABLE_PAGES;
            self.table.insert(Arc::clone(&writer.segment));
            state.segments.insert(no, Arc::clone(&writer.segment));
            return Ok(Some(writer));
        }
    }

    /// Whether [`Space::open`] would find space now.
    pub(crate) fn fits(&self, purpose: Purpose, frame_bytes: u64) -> bool {
        let want = self.want(purpose, frame_bytes);
        self.pool.free_pages() >= want.free + self.floor(purpose) + TABLE_PAGES
            && self.pool.space().longest_run_pages >= want.run
    }

    /// Seals what `writer` wrote, all of it before `sealed_at`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub(crate) fn seal(&self, writer: Writer, sealed_at: Birth) -> Result<()> {
        let segment = writer.seal(&self.pool, sealed_at)?;
        if segment.live_puts() == 0 {
            self.dying.lock().push(segment.no);
        }
        Ok(())
    }

    /// Notes that the last record of the sealed segment `no` died.
    pub(crate) fn note_dying(&self, no: SegmentNo) {
        self.dying.lock().push(no);
    }

    /// Takes `segment` out of the table. No index points to it any more, and none of its
    /// tombstones is needed (`reclaim.rs` says which are).
    pub(crate) fn retire(&self, segment: Arc<Segment>) {
        self.retire_locked(&mut self.state.lock(), segment);
    }

    /// Retires what died by itself and punches what nobody holds any more.
    ///
    /// # Errors
    /// What the volume answers.
    pub(crate) fn sweep(&self) -> Result<()> {
        self.sweep_locked(&mut self.state.lock())
    }

    /// Sweeps until there is `enough`, waiting for readers that may have seen a segment before it
    /// was retired. Values can be held for ever and are not waited for.
    ///
    /// # Errors
    /// What the volume answers.
    pub(crate) fn sweep_patiently(&self, enough: impl Fn() -> bool) -> Result<()> {
        self.wait_for_readers(|state| {
            self.sweep_locked(state)?;
            Ok(enough())
        })
    }

    /// Sweeps until there is `enough`, waiting a moment for values to be dropped: most are held only
    /// for as long as it takes to look at them.
    ///
    /// # Errors
    /// What the volume answers.
    pub(crate) fn sweep_lingering(&self, enough: impl Fn() -> bool) -> Result<()> {
        let mut patience = Patience::new(LINGER);
        while !patience.is_over() && !enough() && !self.state.lock().retired.is_empty() {
            thread::sleep(Duration::from_micros(200));
            self.sweep()?;
        }
        Ok(())
    }

    /// Waits for readers without sweeping, so that what they hold goes with this.
    pub(crate) fn let_go(&self) {
        let _ = self.wait_for_readers(|_| Ok(false));
    }

    /// Calls `done` again and again, until it says so, fails, or nobody is left to wait for.
    fn wait_for_readers(&self, done: impl Fn(&mut Inner) -> Result<bool>) -> Result<()> {
        let mut patience = Patience::new(PATIENCE);
        for attempt in 0.. {
            let mut state = self.state.lock();
            if done(&mut state)? || !state.retired.may_be_seen() {
                return Ok(());
            }
            drop(state);
            if patience.is_over() {
                return Ok(());
            }
            pin().flush();
            if attempt < SPINS {
                thread::yield_now();
            } else {
                thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    /// The segments in the table, by number.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.state.lock().segments.values().cloned().collect()
    }

    /// The births of all segments that are not punched, lowest first.
    pub(crate) fn unpunched(&self) -> Vec<Birth> {
        let state = self.state.lock();
        let alive = state.segments.values().map(|segment| segment.birth);
        let mut births: Vec<_> = alive.chain(state.retired.births()).collect();
        births.sort_unstable();
        births
    }

    /// Segments that wait for their readers.
    pub(crate) fn waiting(&self) -> Waiting {
        self.state.lock().retired.waiting()
    }

    /// Segments punched since opening.
    pub(crate) fn punched(&self) -> u64 {
        self.state.lock().retired.punched
    }

    /// Bytes that must be free, the floor aside, for a segment that serves `purpose`.
    pub(crate) fn bytes_min(&self, purpose: Purpose) -> u64 {
        self.want(purpose, 0).free * PAGE
    }

    /// What a segment for a frame of `frame_bytes` needs.
    fn want(&self, purpose: Purpose, frame_bytes: u64) -> Want {
        let frame = pages_for(frame_bytes);
        let whole = self.target_pages.max(frame);
        let run = self.run_pages_min().max(frame);
        match purpose {
            // Always whole segments, as long as there are runs: shorter ones would leave holes
            // in which no whole one fits.
            Purpose::Put | Purpose::Remove => Want { pages: whole, free: whole, run },
            Purpose::Reclaim => Want { pages: whole, free: run, run },
            Purpose::LastResort => Want { pages: frame, free: frame, run: frame },
        }
    }

    /// The shortest segment that is worth its overhead.
    fn run_pages_min(&self) -> u64 {
        (self.target_pages / 4).min(RUN_PAGES_MIN)
    }

    /// Pages that `purpose` leaves free.
    fn floor(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Put => self.reserve_pages(),
            Purpose::Remove => self.reclaim_pages(),
            Purpose::LastResort => self.run_pages_min() + TABLE_PAGES,
            Purpose::Reclaim => 0,
        }
    }

    /// Retires what died by itself, punches what nobody holds any more, oldest birth first.
    fn sweep_locked(&self, state: &mut Inner) -> Result<()> {
        for no in std::mem::take(&mut *self.dying.lock()) {
            let Some(segment) = state.segments.get(&no) else { continue };
            let dead = segment.state() == State::Sealed && segment.live_puts() == 0;
            // One with tombstones goes when reclaim finds that none is needed.
            if dead && segment.tombstones() == 0 {
                let segment = Arc::clone(segment);
                self.retire_locked(state, segment);
            }
        }
        if state.retired.is_empty() {
            return Ok(());
        }
        pin().flush();
        let Inner { retired, numbers, .. } = state;
        retired.punch(&self.volume, numbers)
    }

    /// Retires `segment`, unless someone else just did.
    fn retire_locked(&self, state: &mut Inner, segment: Arc<Segment>) {
        if segment.state() == State::Retired {
            return;
        }
        segment.retire();
        state.segments.remove(&segment.no);
        self.table.remove(segment.no);
        state.retired.push(segment);
    }
}

/// Pages that a segment of a pool of `pool_pages` is meant to have.
fn target_pages(pool_pages: u64) -> u64 {
    if pool_pages * PAGE >= HUGE_SEGMENTS_FROM {
        return PAGES_PER_HUGE;
    }
    (pool_pages / SEGMENTS_OF_SMALL_POOL).clamp(SEGMENT_PAGES_MIN, PAGES_PER_HUGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pools_have_short_segments() {
        assert_eq!(target_pages(1024), 32);
        assert_eq!(target_pages(64), SEGMENT_PAGES_MIN);
        assert_eq!(target_pages((64 << 20) / PAGE), PAGES_PER_HUGE);
        assert_eq!(target_pages((1 << 40) / PAGE), PAGES_PER_HUGE);
    }
}
