//! The segment table: from a number to the segment, without a lock.
//!
//! 1. A reader that pins, then reads a location from an index, then looks here, finds the segment
//!    of that location or nothing: the number is given to another segment only after every pin is
//!    gone that was alive when the first was taken out (`space.rs` waits for its last holder).
//! 2. Nothing means that the record moved meanwhile: read the index again.

use std::io;
use std::sync::Arc;

use daxite_core::{EpochCell, HUGE, Pin, SetOnceArray};

use crate::segment::{Segment, SegmentNo};
use crate::store::LOG_BYTES;

/// Segment numbers: slots of the volume, of which each has one.
pub(crate) const SEGMENTS_MAX: u32 = (LOG_BYTES / HUGE) as u32;
const LEAF: usize = if cfg!(shuttle) { 1 << 6 } else { 1 << 9 };

type Leaf = [EpochCell<Segment>; LEAF];

/// Two levels; the second is made when its first segment comes.
pub(crate) struct SegmentTable {
    leaves: SetOnceArray<Leaf>,
}

impl SegmentTable {
    /// # Errors
    /// Without address space for it.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { leaves: SetOnceArray::new(SEGMENTS_MAX as usize / LEAF)? })
    }

    /// The segment `no`, for as long as `pin` lives.
    #[inline]
    pub(crate) fn get<'p>(&'p self, no: SegmentNo, pin: &'p Pin) -> Option<&'p Segment> {
        self.leaves.get(no.0 as usize / LEAF)?[no.0 as usize % LEAF].load(pin)
    }

    /// The segment `no`, to be kept.
    pub(crate) fn get_arc(&self, no: SegmentNo, pin: &Pin) -> Option<Arc<Segment>> {
        self.leaves.get(no.0 as usize / LEAF)?[no.0 as usize % LEAF].load_arc(pin)
    }

    /// Puts `segment` in its place.
    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        let no = segment.no;
        self.cell(no).replace(Some(segment));
    }

    /// Takes segment `no` out.
    pub(crate) fn remove(&self, no: SegmentNo) {
        self.cell(no).replace(None);
    }

    fn cell(&self, no: SegmentNo) -> &EpochCell<Segment> {
        let empty = || Box::new(std::array::from_fn(|_| EpochCell::empty()));
        let leaf = self.leaves.get_or_init(no.0 as usize / LEAF, empty);
        &leaf[no.0 as usize % LEAF]
    }
}
