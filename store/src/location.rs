//! Where a record is, in one word.
//!
//! | bits | |
//! |---|---|
//! | 19..64 | logical position in the log, in units of 8 bytes |
//! | 18 | the size is counted in lines instead of units of 8 bytes |
//! | 16..18 | zero |
//! | 0..16 | size of the record |
//!
//! So what a record costs is known without reading it: liveness is accounted in DRAM alone.

use daxite_core::{HUGE, LINE};

use crate::segment::SegmentNo;

const UNIT: u64 = 8;
const COARSE: u64 = 1 << 18;
const POSITION_SHIFT: u32 = 19;

/// Where a record is and how long. DRAM only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location(u64);

impl Location {
    /// The record of `len_bytes` at `offset` of `segment`; both are multiples of 8.
    pub(crate) fn new(segment: SegmentNo, offset: u64, len_bytes: u64) -> Self {
        debug_assert!(offset < HUGE);
        debug_assert!(offset.is_multiple_of(UNIT) && len_bytes.is_multiple_of(UNIT));
        let position = (u64::from(segment.0) * HUGE + offset) / UNIT;
        Self(position << POSITION_SHIFT | size_class(len_bytes))
    }

    /// As a word whose bits 16 and 17 are zero.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// What [`Location::word`] said.
    #[inline]
    pub(crate) fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// The length that the location of a record of `len_bytes` tells.
    pub(crate) fn accounted(len_bytes: u64) -> u64 {
        Self(size_class(len_bytes)).len_bytes()
    }

    #[inline]
    pub(crate) fn segment(self) -> SegmentNo {
        SegmentNo(((self.0 >> POSITION_SHIFT) * UNIT / HUGE) as u32)
    }

    /// In bytes from the start of the segment.
    #[inline]
    pub(crate) fn offset(self) -> u64 {
        (self.0 >> POSITION_SHIFT) * UNIT % HUGE
    }

    /// Length of the record, rounded up to a line from 512 KiB on.
    #[inline]
    pub(crate) fn len_bytes(self) -> u64 {
        let size = self.0 & 0xffff;
        if self.0 & COARSE == 0 { size * UNIT } else { size * LINE }
    }
}

fn size_class(len_bytes: u64) -> u64 {
    match len_bytes / UNIT {
        units @ ..=0xffff => units,
        _ => COARSE | len_bytes.div_ceil(LINE).min(0xffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for segment in [0, 1, 77, (1 << 27) - 1] {
            for offset in [0, 64, 88, HUGE - 8] {
                for len_bytes in [16, 136, 0xffff * 8] {
                    let location = Location::new(SegmentNo(segment), offset, len_bytes);
                    assert_eq!(location.segment(), SegmentNo(segment));
                    assert_eq!(location.offset(), offset);
                    assert_eq!(location.len_bytes(), len_bytes);
                }
            }
        }
    }

    #[test]
    fn large_records_round_up_to_lines() {
        let location = Location::new(SegmentNo(3), 88, 0x10000 * 8 + 8);
        assert_eq!(location.len_bytes(), 0x10000 * 8 + 64);
        assert_eq!(Location::new(SegmentNo(3), 88, 2 << 20).len_bytes(), 2 << 20);
        assert_eq!(location.offset(), 88);
    }
}
