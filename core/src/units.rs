//! The units of the house: line, page, huge page, and the numbers that count them.
//!
//! 1. Anything with a unit is a newtype; no bare `u64` pairs stand in a signature.
//! 2. [`lines`] is the only place where a byte range is rounded to lines.
//!
//! Knows nothing of media, volumes or entries.

use std::fmt;
use std::ops::{Range, RangeInclusive};

/// Bytes in a line, the unit in which stores reach the medium: 64.
pub const LINE: u64 = 64;
/// Bytes in a page, the smaller extent size: 4 KiB.
pub const PAGE: u64 = 4096;
/// Bytes in a huge page, the larger extent size: 2 MiB. A model checker explores as many schedules as
/// there are words to look at, so for it a huge page is as small as it can be.
pub const HUGE: u64 = if cfg!(any(loom, shuttle)) { 8 * PAGE } else { 2 << 20 };
/// Pages in a huge page: 512.
pub const PAGES_PER_HUGE: u64 = HUGE / PAGE;

/// A physical position in a pool, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A physical range of a pool, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ByteRange {
    /// First byte.
    pub start: Offset,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl ByteRange {
    /// The range of `len_bytes` bytes at `start`.
    pub fn new(start: Offset, len_bytes: u64) -> Self {
        Self { start, len_bytes }
    }

    /// One past the last byte.
    pub fn end(self) -> Offset {
        Offset(self.start.0 + self.len_bytes)
    }
}

/// The number of a physical page in its pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageNo(pub u64);

impl PageNo {
    /// Where the page starts.
    pub fn offset(self) -> Offset {
        Offset(self.0 * PAGE)
    }

    /// The aligned group of 512 pages that this page belongs to.
    pub fn huge(self) -> HugeNo {
        HugeNo(self.0 / PAGES_PER_HUGE)
    }

    /// The page `count` pages further on.
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// The number of a physical huge page: an aligned group of 512 pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HugeNo(pub u64);

impl HugeNo {
    /// The first of its 512 pages.
    pub fn first_page(self) -> PageNo {
        PageNo(self.0 * PAGES_PER_HUGE)
    }
}

/// A run of physical pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageRun {
    /// First page.
    pub first: PageNo,
    /// Number of pages, at least one.
    pub pages: u64,
}

impl PageRun {
    /// The bytes of the run.
    pub fn bytes(self) -> ByteRange {
        ByteRange::new(self.first.offset(), self.pages * PAGE)
    }
}

/// The two extent sizes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExtentSize {
    /// One 4 KiB page.
    Page,
    /// One 2 MiB huge page.
    Huge,
}

impl ExtentSize {
    /// Pages in an extent of this size: 1 or 512.
    pub fn pages(self) -> u64 {
        match self {
            Self::Page => 1,
            Self::Huge => PAGES_PER_HUGE,
        }
    }

    /// Bytes in an extent of this size.
    pub fn bytes(self) -> u64 {
        self.pages() * PAGE
    }
}

/// The number of a page in the logical space of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogicalPage(pub u64);

impl LogicalPage {
    /// The slot (aligned group of 512 logical pages) that this page belongs to.
    pub fn slot(self) -> SlotNo {
        SlotNo(self.0 / PAGES_PER_HUGE)
    }

    /// Position of the page within its slot: 0 to 511.
    pub fn index_in_slot(self) -> usize {
        (self.0 % PAGES_PER_HUGE) as usize
    }
}

/// The number of a 2 MiB slot in the logical space of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotNo(pub u64);

impl SlotNo {
    /// The first of its 512 logical pages.
    pub fn first_page(self) -> LogicalPage {
        LogicalPage(self.0 * PAGES_PER_HUGE)
    }

    /// The whole slot as a logical range.
    pub fn range(self) -> LogicalRange {
        LogicalRange { start: self.0 * HUGE, len_bytes: HUGE }
    }
}

/// A range of a volume, in bytes from the start of its logical space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogicalRange {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len_bytes: u64,
}

impl LogicalRange {
    /// The range of `len_bytes` bytes at `start`.
    pub fn new(start: u64, len_bytes: u64) -> Self {
        Self { start, len_bytes }
    }

    /// One past the last byte; `None` where that overflows.
    pub fn end(self) -> Option<u64> {
        self.start.checked_add(self.len_bytes)
    }

    /// The page that holds the first byte.
    pub fn first_page(self) -> LogicalPage {
        LogicalPage(self.start / PAGE)
    }

    /// The part of it in `slot`, which it touches.
    pub(crate) fn within(self, slot: SlotNo) -> Self {
        let end = self.start + self.len_bytes;
        let start = self.start.max(slot.0 * HUGE);
        Self::new(start, end.min((slot.0 + 1) * HUGE) - start)
    }

    /// The slots that it touches; it is not empty.
    pub(crate) fn slots(self) -> RangeInclusive<SlotNo> {
        let last = self.start + (self.len_bytes - 1);
        SlotNo(self.start / HUGE)..=SlotNo(last / HUGE)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.start < other.start + other.len_bytes && other.start < self.start + self.len_bytes
    }
}

/// The numbers of the lines that `range` touches: from the line of its first byte to the line of
/// its last, both included. Empty for an empty range.
///
/// This is where others lost data (a loop that starts at an unaligned address misses the last
/// line), so it stands alone and is tested against the definition, byte by byte.
pub fn lines(range: ByteRange) -> Range<u64> {
    if range.len_bytes == 0 {
        return 0..0;
    }
    let first = range.start.0 / LINE;
    let last = (range.start.0 + (range.len_bytes - 1)) / LINE;
    first..last + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn lines_are_exactly_those_that_hold_a_byte_of_the_range() {
        for start in 0..2 * LINE + 1 {
            for len_bytes in 0..5 * LINE + 1 {
                let naive: BTreeSet<u64> = (start..start + len_bytes).map(|at| at / LINE).collect();
                let ours: BTreeSet<u64> = lines(ByteRange::new(Offset(start), len_bytes)).collect();
                assert_eq!(ours, naive, "start {start}, length {len_bytes}");
            }
        }
    }

    #[test]
    fn lines_do_not_overflow_at_the_end_of_the_address_space() {
        let last = ByteRange::new(Offset(u64::MAX - 7), 8);
        assert_eq!(lines(last).count(), 1);
    }

    #[test]
    fn pages_and_slots_convert() {
        assert_eq!(PageNo(513).huge(), HugeNo(1));
        assert_eq!(HugeNo(1).first_page(), PageNo(512));
        assert_eq!(LogicalPage(1030).slot(), SlotNo(2));
        assert_eq!(LogicalPage(1030).index_in_slot(), 6);
        assert_eq!(ExtentSize::Huge.bytes(), HUGE);
    }

    #[test]
    fn a_range_splits_at_slots() {
        let range = LogicalRange::new(HUGE - 5, HUGE + 10);
        let slots: Vec<_> = (range.slots().start().0..=range.slots().end().0).collect();
        let parts: Vec<_> = slots.iter().map(|&slot| range.within(SlotNo(slot))).collect();
        let expected = [(HUGE - 5, 5), (HUGE, HUGE), (2 * HUGE, 5)];
        assert_eq!(parts, expected.map(|(start, len)| LogicalRange::new(start, len)));
    }
}
