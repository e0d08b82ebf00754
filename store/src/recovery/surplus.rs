//! Which segments a log can do without, since other segments have copies of what they hold.
//!
//! Reclaim copies what lives in a segment, and punches the segment when nobody reads it any more. A crash
//! in between leaves both, and the copies take space that reclaim needs to go on: its reserve. After
//! some crashes of a pool that is full there would be nothing left of it, and no way to gain any. So
//! an opening takes back what reclaim had not finished:
//!
//! 1. Of what is kept, every key has a copy of its newest record.
//! 2. Oldest first, so that a segment that was emptied goes before its copies. Where not even one segment
//!    was emptied, the copies go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::segment::{Segment, SegmentNo};

/// Where the newest records of all keys are.
#[derive(Default)]
pub(super) struct Copies {
    /// Segments that have something alone.
    sole: HashSet<SegmentNo>,
    /// For each record that several segments have: which.
    shared: Vec<Vec<SegmentNo>>,
}

impl Copies {
    /// Takes in the `places` of one record, of which there is at least one, and hardly ever more.
    pub(super) fn take_in(&mut self, mut places: impl Iterator<Item = SegmentNo>) {
        let first = places.next().expect("a record is somewhere");
        let mut others = places.filter(|no| *no != first).peekable();
        if others.peek().is_none() {
            self.sole.insert(first);
        } else {
            self.shared.push(std::iter::once(first).chain(others).collect());
        }
    }

    /// Those of `segments` that nothing needs.
    pub(super) fn surplus(&self, segments: &[Arc<Segment>]) -> HashSet<SegmentNo> {
        let mut shared_by: HashMap<SegmentNo, Vec<&[SegmentNo]>> = HashMap::new();
        for places in &self.shared {
            for no in places {
                shared_by.entry(*no).or_default().push(places);
            }
        }
        let mut oldest_first: Vec<&Arc<Segment>> = segments.iter().collect();
        oldest_first.sort_unstable_by_key(|segment| segment.birth);
        let mut surplus = HashSet::new();
        for no in oldest_first.into_iter().map(|segment| segment.no) {
            let is_elsewhere = |places: &&[SegmentNo]| {
                places.iter().any(|other| *other != no && !surplus.contains(other))
            };
            let shared = shared_by.get(&no).map_or(&[][..], Vec::as_slice);
            if !self.sole.contains(&no) && shared.iter().all(is_elsewhere) {
                surplus.insert(no);
            }
        }
        surplus
    }
}
