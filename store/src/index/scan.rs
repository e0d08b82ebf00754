//! Walking the ordered index in key order, from either end of a range, without reading records.
//!
//! 1. A walk keeps the nodes that it is in, each with the version it had. Before it takes anything out of
//!    a node it looks whether the version is still the same; if not, it starts over behind the last key.
//! 2. So every place that it takes was in the index when it was taken, and the keys are in strict order.

use std::ops::Bound;

use super::node::{NodeRef, Slot};
use super::ordered::{Attempt, Missed, Ordered, Seen, Skipped, compare_skipped};
use super::{End, Keyed, Records};
use crate::location::Location;

/// A node on the way, and the first of its slots that is still to come.
struct Step<'a> {
    seen: Seen<'a>,
    /// By number (`node.rs`); `None` when none is left.
    next: Option<usize>,
}

impl<'a> Step<'a> {
    /// All of the slots, from `end` on.
    fn whole(seen: Seen<'a>, end: End) -> Self {
        let next = match end {
            End::Front => 0,
            End::Back => seen.node.last_number(),
        };
        Self { seen, next: Some(next) }
    }

    /// Those behind the slot of `byte`, or of the key that ends here, seen from `end`.
    fn behind(seen: Seen<'a>, byte: Option<u8>, end: End) -> Self {
        let numbers = byte.map_or(0..1, |byte| seen.node.numbers(byte));
        let next = match end {
            End::Front => Some(numbers.end),
            End::Back => numbers.start.checked_sub(1),
        };
        Self { seen, next }
    }

    /// Appends the places of leaves to `found`, until there are `count` of them or a node comes, which is the
    /// answer. `None` if there is nothing else.
    fn take(&mut self, end: End, count: usize, found: &mut Vec<Location>) -> Option<NodeRef> {
        let last = self.seen.node.last_number();
        while let Some(number) = self.next.filter(|number| *number <= last) {
            if found.len() == count {
                return None;
            }
            self.next = match end {
                End::Front => Some(number + 1),
                End::Back => number.checked_sub(1),
            };
            match self.seen.node.numbered(number) {
                Slot::Empty => {}
                Slot::Leaf(location) => found.push(location),
                Slot::Node(place) => return Some(place),
            }
        }
        None
    }
}

impl Ordered {
    /// Appends to `found` the places of up to `count` keys behind `from`, seen from `end`, in order.
    pub(super) fn gather<R: Records>(
        &self,
        from: Bound<&[u8]>,
        end: End,
        count: usize,
        records: &R,
        found: &mut Vec<Location>,
    ) -> Attempt<()> {
        let mut way = self.seek(from, end, records, found)?;
        while found.len() < count
            && let Some(step) = way.last_mut()
        {
            let (seen, before) = (step.seen, found.len());
            let node = step.take(end, count, found);
            if !seen.node.is_still(seen.version) {
                found.truncate(before);
                return Err(Missed::Changed);
            }
            match node {
                None => drop(way.pop()),
                Some(place) => {
                    let child = self.enter(seen, place)?;
                    way.push(Step::whole(child, end));
                }
            }
        }
        Ok(())
    }

    /// The nodes on the way to `from`, with what is behind it still to come. A leaf at the end of the way
    /// that belongs to the range is found already.
    fn seek<'a, R: Records>(
        &'a self,
        from: Bound<&[u8]>,
        end: End,
        records: &R,
        found: &mut Vec<Location>,
    ) -> Attempt<Vec<Step<'a>>> {
        let mut way = Vec::new();
        let (mut above, mut slot) = self.root_slot();
        let mut depth = 0;
        loop {
            match slot {
                Slot::Empty => return still(above, way),
                Slot::Leaf(location) => {
                    if let Bound::Unbounded = from {
                        found.push(location);
                        return still(above, way);
                    }
                    let belongs = match records.record(location) {
                        Ok(record) => is_behind(record.ok_or(Missed::Changed)?.key(), from, end),
                        // Whoever looks at it will say so.
                        Err(_) => true,
                    };
                    if belongs {
                        found.push(location);
                    }
                    return still(above, way);
                }
                Slot::Node(place) => {
                    let seen = self.enter(above, place)?;
                    let (Bound::Included(key) | Bound::Excluded(key)) = from else {
                        way.push(Step::whole(seen, end));
                        return Ok(way);
                    };
                    let meta = seen.node.meta();
                    let node_depth = meta.depth();
                    let skipped = compare_skipped(seen.node, key, depth, node_depth);
                    if !matches!(skipped, Skipped::Same) {
                        let other = self.any_key(seen, records)?;
                        let common = other.key().get(..node_depth).ok_or(Missed::Changed)?;
                        if key.get(..node_depth) != Some(common) {
                            // A key that is a prefix of all of them is before them.
                            if is_behind(common, Bound::Excluded(key), end) {
                                way.push(Step::whole(seen, end));
                            }
                            return Ok(way);
                        }
                    }
                    let byte = key.get(node_depth).copied();
                    way.push(Step::behind(seen, byte, end));
                    let at = seen.node.find(meta, byte);
                    slot = at.map_or(Slot::Empty, |at| seen.node.slot(at));
                    above = seen;
                    depth = node_depth + 1;
                }
            }
        }
    }
}

/// `way`, if `seen` is still as it was.
fn still<'a>(seen: Seen<'_>, way: Vec<Step<'a>>) -> Attempt<Vec<Step<'a>>> {
    if seen.node.is_still(seen.version) { Ok(way) } else { Err(Missed::Changed) }
}

/// Whether `key` belongs to what is behind `from`, seen from `end`.
pub(crate) fn is_behind(key: &[u8], from: Bound<&[u8]>, end: End) -> bool {
    match (from, end) {
        (Bound::Unbounded, _) => true,
        (Bound::Included(from), End::Front) => key >= from,
        (Bound::Excluded(from), End::Front) => key > from,
        (Bound::Included(from), End::Back) => key <= from,
        (Bound::Excluded(from), End::Back) => key < from,
    }
}
