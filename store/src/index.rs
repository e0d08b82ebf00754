//! The index of a keyspace: from key to location, in key order, in DRAM.
//!
//! A tree under a lock, behind an interface that a better tree can take over.
//!
//! 1. While a reader holds the index, every location in it can be read: records are moved, and
//!    their segments retired, only after the index says so, and saying so takes the lock.
//! 2. Publishing a key needs the key's stripe (`stripes.rs`), so that the order of publication per
//!    key is that of the log.

use std::collections::BTreeMap;
use std::ops::Bound;

use daxite_core::primitives::RwLock;

use crate::location::Location;
use crate::range::Bounds;

/// From which end of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Front,
    Back,
}

pub(crate) type Tree = BTreeMap<Box<[u8]>, Location>;

#[derive(Default)]
pub(crate) struct Index {
    /// Guards the whole tree. A leaf in the lock order.
    tree: RwLock<Tree>,
}

impl Index {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree: RwLock::new(tree) }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Location> {
        self.tree.read().get(key).copied()
    }

    /// Makes `key` found at `location`, and answers where it was found before.
    pub(crate) fn publish(&self, key: &[u8], location: Location) -> Option<Location> {
        let mut tree = self.tree.write();
        match tree.get_mut(key) {
            Some(slot) => Some(std::mem::replace(slot, location)),
            None => tree.insert(Box::from(key), location),
        }
    }

    /// Makes `key` not found, and answers where it was found before.
    pub(crate) fn remove(&self, key: &[u8]) -> Option<Location> {
        self.tree.write().remove(key)
    }

    /// Makes `key` found at `to` if it is found at `from`.
    pub(crate) fn relocate(&self, key: &[u8], from: Location, to: Location) -> bool {
        match self.tree.write().get_mut(key) {
            Some(slot) if *slot == from => {
                *slot = to;
                true
            }
            _ => false,
        }
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> u64 {
        self.tree.read().len() as u64
    }

    /// Takes everything out.
    pub(crate) fn take_all(&self) -> Tree {
        std::mem::take(&mut *self.tree.write())
    }

    /// Calls `visit` with every location.
    pub(crate) fn for_each_location(&self, visit: impl FnMut(Location)) {
        self.tree.read().values().copied().for_each(visit);
    }

    /// Calls `visit` with up to `count` keys of the range from its `end` on, outermost first, while
    /// the index is held. Stops early if `visit` answers false.
    pub(crate) fn visit(
        &self,
        bounds: &Bounds,
        end: End,
        count: usize,
        mut visit: impl FnMut(&[u8], Location) -> bool,
    ) {
        if bounds.is_empty() {
            return;
        }
        let tree = self.tree.read();
        let low = bounds.low.as_ref().map(Vec::as_slice);
        let high = bounds.high.as_ref().map(Vec::as_slice);
        let range = tree.range::<[u8], (Bound<&[u8]>, Bound<&[u8]>)>((low, high));
        let mut range = range.map(|(key, location)| (&**key, *location));
        for _ in 0..count {
            let pair = match end {
                End::Front => range.next(),
                End::Back => range.next_back(),
            };
            let Some((key, location)) = pair else { return };
            if !visit(key, location) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::KeyRange;
    use crate::segment::SegmentNo;

    fn at(n: u64) -> Location {
        Location::new(SegmentNo(1), n * 64, 64)
    }

    fn keys(index: &Index, range: impl KeyRange, end: End, count: usize) -> String {
        let mut keys = String::new();
        index.visit(&range.into_bounds(), end, count, |key, _| {
            keys += std::str::from_utf8(key).unwrap();
            true
        });
        keys
    }

    #[test]
    fn publish_remove_relocate() {
        let index = Index::default();
        assert_eq!(index.publish(b"a", at(1)), None);
        assert_eq!(index.publish(b"a", at(2)), Some(at(1)));
        assert!(!index.relocate(b"a", at(1), at(3)));
        assert!(index.relocate(b"a", at(2), at(3)));
        assert!(!index.relocate(b"b", at(2), at(3)));
        assert_eq!(index.get(b"a"), Some(at(3)));
        assert_eq!(index.len(), 1);
        assert_eq!(index.remove(b"a"), Some(at(3)));
        assert_eq!(index.remove(b"a"), None);
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn visits_go_in_order_from_either_end() {
        let index = Index::default();
        for key in ["c", "a", "e", "b", "d"] {
            index.publish(key.as_bytes(), at(1));
        }
        assert_eq!(keys(&index, .., End::Front, 9), "abcde");
        assert_eq!(keys(&index, .., End::Back, 2), "ed");
        assert_eq!(keys(&index, "b".."d", End::Front, 9), "bc");
        assert_eq!(keys(&index, "d".."b", End::Front, 9), "");
        assert_eq!(keys(&index, "b".."b", End::Back, 9), "");
    }
}
