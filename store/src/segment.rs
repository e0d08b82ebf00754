//! A segment: one contiguous piece of the log, and what is known of it in DRAM.
//!
//! On the medium a segment is a header line, frames, the copy of the header, a seal line.
//!
//! 1. `Open -> Sealed -> Retired`, never back. Only an open segment takes frames.
//! 2. The count of live records is never lower than the number of index slots that point into the segment: a
//!    record is counted before it is published and uncounted after it was replaced.
//! 3. A retired segment has no slot pointing to it, but readers may still hold it.
//!
//! Knows nothing of keys or of who writes.

use std::fmt;
use std::sync::Arc;

use bytemuck::{bytes_of, pod_read_unaligned};
use daxite_core::primitives::atomic::{AtomicU8, AtomicU64, Ordering};
use daxite_core::{Extent, ExtentSize, HUGE, LINE, LogicalRange, PAGE, SlotNo};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};
use crate::frame::{Record, Seed};
use crate::layout::{HEADER_MAGIC, KIND_RECLAIM, KIND_WRITERS, SEAL_MAGIC, Seal, SegmentHeader};
use crate::location::Location;

/// The number of a segment: that of its slot of the log volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SegmentNo(pub u32);

impl SegmentNo {
    /// The whole slot.
    pub(crate) fn slot(self) -> LogicalRange {
        SlotNo(u64::from(self.0)).range()
    }

    /// The first `pages` of the slot.
    pub(crate) fn head(self, pages: u64) -> LogicalRange {
        LogicalRange::new(u64::from(self.0) * HUGE, pages * PAGE)
    }
}

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}", self.0)
    }
}

/// A moment on the clock that stamps births and seals: grows for ever, over openings too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Birth(pub u64);

/// Ties checksums to a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PoolSeed(u64);

impl PoolSeed {
    pub(crate) fn new(uuid: &[u8; 16]) -> Self {
        Self(xxh3_64_with_seed(uuid, 0))
    }

    /// The seed of header and seal of a segment.
    pub(crate) fn segment(self, no: SegmentNo) -> Seed {
        Seed(xxh3_64_with_seed(&no.0.to_le_bytes(), self.0))
    }

    /// The seed of the frames of a segment.
    pub(crate) fn frames(self, no: SegmentNo, birth: Birth) -> Seed {
        Seed(xxh3_64_with_seed(&birth.0.to_le_bytes(), self.segment(no).0))
    }

    /// `header` with its checksum for position `at`.
    pub(crate) fn sign_header(self, mut header: SegmentHeader, at: u64) -> SegmentHeader {
        header.magic = HEADER_MAGIC;
        header.checksum =
            line_checksum(bytes_of(&header), at, self.segment(SegmentNo(header.segment)));
        header
    }

    /// The header of segment `no` in `line`, which stands at `at`. `None` if it does not verify.
    pub(crate) fn read_header(self, line: &[u8], at: u64, no: SegmentNo) -> Option<SegmentHeader> {
        let header: SegmentHeader = pod_read_unaligned(line);
        let valid = header.magic == HEADER_MAGIC
            && header.segment == no.0
            && matches!(header.kind, KIND_WRITERS | KIND_RECLAIM)
            && header.reserved.iter().all(|&byte| byte == 0)
            && header.checksum == line_checksum(line, at, self.segment(no));
        valid.then_some(header)
    }

    /// `seal` of segment `no` with its checksum for position `at`.
    pub(crate) fn sign_seal(self, mut seal: Seal, at: u64, no: SegmentNo) -> Seal {
        seal.magic = SEAL_MAGIC;
        seal.checksum = line_checksum(bytes_of(&seal), at, self.segment(no));
        seal
    }

    /// The seal of segment `no` in `line`, which stands at `at`. `None` if it does not verify.
    pub(crate) fn read_seal(self, line: &[u8], at: u64, no: SegmentNo) -> Option<Seal> {
        let seal: Seal = pod_read_unaligned(line);
        let valid = seal.magic == SEAL_MAGIC
            && seal.reserved.iter().all(|&byte| byte == 0)
            && seal.checksum == line_checksum(line, at, self.segment(no));
        valid.then_some(seal)
    }
}

/// The checksum of a header or seal: of what follows the field.
pub(crate) fn line_checksum(line: &[u8], at: u64, seed: Seed) -> u64 {
    xxh3_64_with_seed(&line[16..], seed.at(at))
}

/// Bytes of a record that are brought near before it is looked at; of a longer one the rest follows by itself.
const PREFETCHED_BYTES: u64 = 4 * LINE;

/// The life of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Open,
    Sealed,
    Retired,
}

impl State {
    fn can_become(self, next: Self) -> bool {
        matches!((self, next), (Self::Open, Self::Sealed) | (Self::Sealed, Self::Retired))
    }

    fn from_u8(raw: u8) -> Self {
        [Self::Open, Self::Sealed, Self::Retired][usize::from(raw)]
    }
}

/// Records that were appended or found, to be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub puts: u64,
    /// Bytes of the puts.
    pub put_bytes: u64,
    pub tombstones: u64,
    /// Bytes of the tombstones.
    pub tombstone_bytes: u64,
}

impl Tally {
    pub(crate) fn put(&mut self, len_bytes: u64) {
        self.puts += 1;
        self.put_bytes += len_bytes;
    }

    pub(crate) fn tombstone(&mut self, len_bytes: u64) {
        self.tombstones += 1;
        self.tombstone_bytes += len_bytes;
    }
}

/// A segment. Whoever holds it pins its bytes.
pub(crate) struct Segment {
    pub no: SegmentNo,
    pub birth: Birth,
    /// Frames have higher sequence numbers.
    pub seed: Seed,
    /// Whether its records were moved here, so that moving them again costs no byte more.
    pub is_moved: bool,
    extent: Arc<Extent>,
    state: AtomicU8,
    /// See [`Segment::covers`].
    covers: AtomicU64,
    live: Count,
    tombstones: Count,
}

/// A number of records and their bytes, in one word, since both change with each put: the bytes are those of a
/// segment, 4 MiB at most, in the lower half.
#[derive(Default)]
struct Count(AtomicU64);

/// What [`Count`] says at a moment.
#[derive(Clone, Copy)]
struct Counted {
    records: u64,
    bytes: u64,
}

impl Count {
    fn add(&self, records: u64, bytes: u64) {
        if records > 0 {
            // ORDERING: Relaxed; see invariant 2: whoever acts on a zero has seen the segment sealed, and
            // every `add` happened before that.
            self.0.fetch_add(records << 32 | bytes, Ordering::Relaxed);
        }
    }

    /// Takes one record off, and answers what was there before.
    fn subtract_one(&self, bytes: u64) -> Counted {
        // ORDERING: AcqRel, so that the last one sees the state that an earlier one saw.
        Self::of(self.0.fetch_sub(1 << 32 | bytes, Ordering::AcqRel))
    }

    fn get(&self) -> Counted {
        Self::of(self.0.load(Ordering::Acquire))
    }

    fn of(word: u64) -> Counted {
        Counted { records: word >> 32, bytes: word & 0xffff_ffff }
    }
}

impl Segment {
    /// An open segment without records.
    pub(crate) fn new(
        no: SegmentNo,
        birth: Birth,
        seed: Seed,
        is_moved: bool,
        extent: Arc<Extent>,
    ) -> Self {
        Self {
            no,
            birth,
            seed,
            is_moved,
            extent,
            state: AtomicU8::new(State::Open as u8),
            covers: AtomicU64::new(if is_moved { 0 } else { u64::MAX }),
            live: Count::default(),
            tombstones: Count::default(),
        }
    }

    #[inline]
    pub(crate) fn extent(&self) -> &Extent {
        &self.extent
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.extent.len_bytes()
    }

    /// Whether the segment is one huge page.
    pub(crate) fn is_huge(&self) -> bool {
        self.extent.size() == ExtentSize::Huge
    }

    pub(crate) fn state(&self) -> State {
        // ORDERING: Acquire; pairs with the AcqRel in `become_state`, so that whoever sees a
        // sealed segment sees its stamp and all its frames.
        State::from_u8(self.state.load(Ordering::Acquire))
    }

    /// # Panics
    /// If the segment cannot become `next`.
    fn become_state(&self, next: State) {
        let before = State::from_u8(self.state.swap(next as u8, Ordering::AcqRel));
        assert!(before.can_become(next), "{}: {before:?} became {next:?}", self.no);
    }

    /// Takes no more frames since the moment `sealed_at`.
    pub(crate) fn seal(&self, sealed_at: Birth) {
        if !self.is_moved {
            // ORDERING: Relaxed; published by the state.
            self.covers.store(sealed_at.0, Ordering::Relaxed);
        }
        self.become_state(State::Sealed);
    }

    pub(crate) fn retire(&self) {
        self.become_state(State::Retired);
    }

    /// The tombstones of the segment were all published before this moment. That of sealing for
    /// what writers wrote; never, while they still may. For what reclaim moved here, that of the
    /// segments it came from.
    pub(crate) fn covers(&self) -> Birth {
        Birth(self.covers.load(Ordering::Relaxed))
    }

    /// Takes in tombstones that were published before `covers`.
    pub(crate) fn raise_covers(&self, covers: Birth) {
        self.covers.fetch_max(covers.0, Ordering::Relaxed);
    }

    /// Counts new records, before they are published.
    pub(crate) fn add(&self, tally: &Tally) {
        self.live.add(tally.puts, tally.put_bytes);
        self.tombstones.add(tally.tombstones, tally.tombstone_bytes);
    }

    /// Uncounts a record that was replaced or removed. True if it was the last of a sealed one.
    pub(crate) fn subtract(&self, len_bytes: u64) -> bool {
        let before = self.live.subtract_one(len_bytes);
        debug_assert!(before.records > 0, "{}: more records died than lived", self.no);
        before.records == 1 && self.state() == State::Sealed
    }

    pub(crate) fn live_puts(&self) -> u64 {
        self.live.get().records
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live.get().bytes
    }

    pub(crate) fn tombstones(&self) -> u64 {
        self.tombstones.get().records
    }

    pub(crate) fn tombstone_bytes(&self) -> u64 {
        self.tombstones.get().bytes
    }

    /// Header and frames: all that can be read.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.extent.bytes_from(0)
    }

    /// A media error for each page of header and frames that cannot be read, as far as anyone knows.
    pub(crate) fn unreadable(&self) -> Vec<Error> {
        let errors = self.extent.unreadable(0, self.extent.frozen_bytes());
        errors.into_iter().map(|error| Error::from(error).hitting(self.no)).collect()
    }

    /// Where pages of header and frames start, from the start of the segment, that cannot be read, as far
    /// as anyone knows.
    pub(crate) fn bad_pages(&self) -> Vec<u64> {
        let pages = self.extent.bad_pages(0, self.extent.frozen_bytes());
        pages.into_iter().map(|page| page.0 - self.extent.physical().0).collect()
    }

    /// `None` unless all of the range can be read.
    #[inline]
    pub(crate) fn range(&self, start: u64, len_bytes: u64) -> Option<&[u8]> {
        self.extent.bytes(start, len_bytes)
    }

    /// The record at `location`, which is in this segment.
    ///
    /// # Errors
    /// [`Error::Corruption`] if its bytes make no sense, [`Error::MediaError`] if they cannot be read.
    #[inline]
    pub(crate) fn record(&self, location: Location) -> Result<Record<'_>> {
        debug_assert_eq!(location.segment(), self.no);
        let start = location.offset();
        let bytes = self.extent.bytes_from(start);
        self.prefetch(location);
        self.extent.touch(start, location.len_bytes().min(bytes.len() as u64))?;
        Record::decode(bytes).ok_or_else(|| self.no_record(start))
    }

    /// Has the record at `location` brought near: its lines together, not one after the other.
    #[inline]
    pub(crate) fn prefetch(&self, location: Location) {
        self.extent.prefetch(location.offset(), location.len_bytes().min(PREFETCHED_BYTES));
    }

    #[cold]
    fn no_record(&self, offset: u64) -> Error {
        self.damaged(offset, "the record's lengths make no sense".to_string())
    }

    /// The error for damage at `offset` of the segment.
    pub(crate) fn damaged(&self, offset: u64, detail: String) -> Error {
        damaged(self.no, &self.extent, offset, detail)
    }
}

/// The error for damage at `offset` of the segment `no` on `extent`.
pub(crate) fn damaged(no: SegmentNo, extent: &Extent, offset: u64, detail: String) -> Error {
    Error::Corruption { what: no.to_string(), offset: extent.physical().0 + offset, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    #[test]
    fn states_only_go_forward() {
        use State::{Open, Retired, Sealed};
        for from in [Open, Sealed, Retired] {
            for to in [Open, Sealed, Retired] {
                let forward = matches!((from, to), (Open, Sealed) | (Sealed, Retired));
                assert_eq!(from.can_become(to), forward, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn headers_and_seals_verify_in_their_place_only() {
        let (seed, other) = (PoolSeed::new(&[1; 16]), PoolSeed::new(&[2; 16]));
        let no = SegmentNo(5);
        let header = SegmentHeader { birth: 9, segment: 5, pages: 32, ..Zeroable::zeroed() };
        let header = seed.sign_header(header, 0);
        assert_eq!(seed.read_header(bytes_of(&header), 0, no), Some(header));
        assert_eq!(seed.read_header(bytes_of(&header), 64, no), None);
        assert_eq!(seed.read_header(bytes_of(&header), 0, SegmentNo(6)), None);
        assert_eq!(other.read_header(bytes_of(&header), 0, no), None);

        let seal = seed.sign_seal(Seal { birth: 9, ..Zeroable::zeroed() }, 4032, no);
        assert_eq!(seed.read_seal(bytes_of(&seal), 4032, no), Some(seal));
        assert_eq!(seed.read_seal(bytes_of(&seal), 4032, SegmentNo(4)), None);
        assert_eq!(seed.read_header(bytes_of(&seal), 4032, no), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_or_seal_is_noticed() {
        let seed = PoolSeed::new(&[1; 16]);
        let no = SegmentNo(5);
        let header = SegmentHeader { birth: 9, segment: 5, pages: 32, ..Zeroable::zeroed() };
        let header = seed.sign_header(header, 0);
        let seal = seed.sign_seal(Seal { birth: 9, ..Zeroable::zeroed() }, 0, no);
        for bit in 0..512 {
            let mut line = bytes_of(&header).to_vec();
            line[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seed.read_header(&line, 0, no), None, "bit {bit} of the header");
            let mut line = bytes_of(&seal).to_vec();
            line[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seed.read_seal(&line, 0, no), None, "bit {bit} of the seal");
        }
    }
}
