//! Which segment numbers are free, lowest first, so that the segment table stays short.

use std::collections::BTreeMap;

use crate::segment::SegmentNo;
use crate::table::SEGMENTS_MAX;

/// The free numbers as ranges: first to one past the last. Neighbours are merged.
pub(crate) struct FreeNumbers {
    ranges: BTreeMap<u32, u32>,
}

impl FreeNumbers {
    /// All numbers.
    pub(crate) fn all() -> Self {
        Self { ranges: BTreeMap::from([(0, SEGMENTS_MAX)]) }
    }

    /// Takes the lowest.
    pub(crate) fn take(&mut self) -> Option<SegmentNo> {
        let (first, end) = self.ranges.pop_first()?;
        if first + 1 < end {
            self.ranges.insert(first + 1, end);
        }
        Some(SegmentNo(first))
    }

    /// Takes `no`, which is free.
    pub(crate) fn claim(&mut self, no: SegmentNo) {
        let (&first, &end) = self.ranges.range(..=no.0).next_back().expect("the number is free");
        assert!(no.0 < end, "{no} is taken twice");
        self.ranges.remove(&first);
        if first < no.0 {
            self.ranges.insert(first, no.0);
        }
        if no.0 + 1 < end {
            self.ranges.insert(no.0 + 1, end);
        }
    }

    /// Gives `no` back.
    pub(crate) fn release(&mut self, no: SegmentNo) {
        let (mut first, mut end) = (no.0, no.0 + 1);
        if let Some(behind) = self.ranges.remove(&end) {
            end = behind;
        }
        if let Some((&before, &before_end)) = self.ranges.range(..first).next_back() {
            assert!(before_end <= first, "{no} is given back twice");
            if before_end == first {
                first = before;
            }
        }
        self.ranges.insert(first, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_lowest_free_number_comes_first() {
        let mut numbers = FreeNumbers::all();
        let mut taken = BTreeSet::new();
        let mut random = 0x1234_5678_u64;
        for _ in 0..5000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random % 5 < 3 {
                let no = numbers.take().unwrap();
                assert_eq!(no.0, (0..).find(|no| !taken.contains(no)).unwrap());
                taken.insert(no.0);
            } else if let Some(&no) = taken.iter().nth(random as usize / 7 % taken.len().max(1)) {
                taken.remove(&no);
                numbers.release(SegmentNo(no));
            }
        }
        taken.iter().for_each(|&no| numbers.release(SegmentNo(no)));
        assert_eq!(numbers.ranges, FreeNumbers::all().ranges);
    }

    #[test]
    fn numbers_are_claimed_out_of_order() {
        let mut numbers = FreeNumbers::all();
        for no in [3, 0, SEGMENTS_MAX - 1, 1] {
            numbers.claim(SegmentNo(no));
        }
        assert_eq!(numbers.take(), Some(SegmentNo(2)));
        assert_eq!(numbers.take(), Some(SegmentNo(4)));
        numbers.release(SegmentNo(1));
        assert_eq!(numbers.take(), Some(SegmentNo(1)));
    }
}
