//! The index of a keyspace: from a key to the place of its record, in key order, in DRAM.
//!
//! It keeps places, not keys: what a key is stands in its record. Readers take no lock.
//!
//! 1. Every place in the index can be read for as long as it is there, and for whoever pinned before it
//!    asked the index, until the pin is gone; unless its segment was given up meanwhile ([`Records`]), and
//!    then the index says something else by now.
//! 2. Publishing, moving and removing a key need the key's stripe (`stripes.rs`), so that the order of
//!    publication per key is that of the log.
//!
//! | module | |
//! |---|---|
//! | `arena` | where nodes are |
//! | `node` | what they are, and the lock in each |
//! | `ordered` | the tree: finding, publishing, removing |
//! | `scan` | the tree in order |

mod arena;
mod node;
mod ordered;
mod scan;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use daxite_core::primitives::atomic::{AtomicU64, Ordering};
use daxite_core::primitives::thread_number;

use crate::error::Result;
use crate::location::Location;
use node::Slot;
use ordered::{Ordered, persist};
pub(crate) use scan::is_behind;

/// From which end of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Front,
    Back,
}

impl End {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }
}

/// What has a key.
pub(crate) trait Keyed {
    fn key(&self) -> &[u8];
}

/// Where the index reads the keys.
pub(crate) trait Records {
    type Record: Keyed;

    /// The record at `at`. `None` if its segment is gone: then it was moved.
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption), [`Error::MediaError`](crate::Error::MediaError).
    fn record(&self, at: Location) -> Result<Option<Self::Record>>;

    /// Has the record at `at` brought near, since it will be asked for.
    fn prefetch(&self, at: Location);
}

/// Keys that are looked for side by side.
pub(crate) const TOGETHER: usize = 16;

/// The index. All that is fallible answers what `records` does; what publishes also
/// [`Error::Io`](crate::Error::Io) if the system has no memory.
pub(crate) struct Index {
    tree: Ordered,
    len: Tally,
}

impl Index {
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the system has no memory.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { tree: Ordered::new()?, len: Tally::default() })
    }

    /// Where `key` is, and its record.
    #[inline]
    pub(crate) fn find<R: Records>(
        &self,
        key: &[u8],
        records: &R,
    ) -> Result<Option<(Location, R::Record)>> {
        persist(|| self.tree.find(key, records))
    }

    /// Brings near what finding `keys` will read: up to [`TOGETHER`]. Calls `arrived` with the number of a
    /// key and a place that is likely to be its record's; if it is, the key was there during the call.
    pub(crate) fn approach<'k, R: Records>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        records: &R,
        arrived: impl FnMut(usize, Location),
    ) {
        self.tree.approach(keys, records, arrived);
    }

    /// Makes `key` found at `location`, and answers where it was found before.
    pub(crate) fn publish<R: Records>(
        &self,
        key: &[u8],
        location: Location,
        records: &R,
    ) -> Result<Option<Location>> {
        let replaced = persist(|| self.tree.publish(key, location, records))?;
        if replaced.is_none() {
            self.len.add(1);
        }
        Ok(replaced)
    }

    /// Makes `key` not found, and answers where it was found before.
    pub(crate) fn remove<R: Records>(&self, key: &[u8], records: &R) -> Result<Option<Location>> {
        let removed = persist(|| self.tree.remove(key, records))?;
        if removed.is_some() {
            self.len.add(-1);
        }
        Ok(removed)
    }

    /// Makes what is at the place of `key` not found, if it cannot be read, and answers where it is: it was
    /// the record of `key`, or of a key that is like it in all that the index knows.
    pub(crate) fn remove_lost<R: Records>(
        &self,
        key: &[u8],
        records: &R,
    ) -> Result<Option<Location>> {
        let removed = persist(|| self.tree.remove_lost(key, records))?;
        if removed.is_some() {
            self.len.add(-1);
        }
        Ok(removed)
    }

    /// Whether `key`, of which there is a record at `location`, is found there. Reads no record.
    pub(crate) fn is_at(&self, key: &[u8], location: Location) -> Result<bool> {
        persist(|| self.tree.is_at(key, location))
    }

    /// Makes `key` found at `to` if it is found at `from`.
    pub(crate) fn relocate(&self, key: &[u8], from: Location, to: Location) -> Result<bool> {
        persist(|| self.tree.relocate(key, from, to))
    }

    /// Number of keys: exact when nobody writes.
    pub(crate) fn len(&self) -> u64 {
        self.len.get()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.tree.arena.bytes()
    }

    /// Takes everything out at once. Nobody publishes or removes meanwhile.
    pub(crate) fn detach(&self) -> Detached {
        self.len.clear();
        Detached(self.tree.detach())
    }

    /// Calls `visit` with all places that `detached` from this index had, and gives its memory back.
    pub(crate) fn dismantle(&self, detached: Detached, visit: impl FnMut(Location)) {
        self.tree.dismantle(detached.0, visit);
    }

    /// Calls `visit` with all places, as [`Index::gather`] finds them.
    pub(crate) fn for_each_location<R: Records>(
        &self,
        records: &R,
        mut visit: impl FnMut(Location),
    ) -> Result<()> {
        let mut found = Vec::with_capacity(CHUNK);
        let mut last: Option<R::Record> = None;
        loop {
            let from = last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(last.key()));
            found.clear();
            self.gather(from, End::Front, CHUNK, records, &mut found)?;
            found.iter().copied().for_each(&mut visit);
            let [.., behind] = found[..] else { return Ok(()) };
            if found.len() < CHUNK {
                return Ok(());
            }
            last = records.record(behind)?.or(last);
        }
    }

    /// Fills `found`, which is empty, with the places of `count` keys behind `from`, seen from `end`, in
    /// order; fewer if there are no more. Keys that come or go meanwhile may be missing or not.
    pub(crate) fn gather<R: Records>(
        &self,
        from: Bound<&[u8]>,
        end: End,
        count: usize,
        records: &R,
        found: &mut Vec<Location>,
    ) -> Result<()> {
        let mut behind: Option<R::Record> = None;
        persist(|| {
            while let Some(&last) = found.last() {
                // The tree changed under an earlier attempt: go on behind what it found.
                // What cannot be read is found again.
                behind = records.record(last).ok().flatten();
                if behind.is_some() {
                    break;
                }
                found.pop();
            }
            let from = match &behind {
                Some(last) if !found.is_empty() => Bound::Excluded(last.key()),
                _ => from,
            };
            self.tree.gather(from, end, count, records, found)
        })
    }
}

/// What was in an index.
#[must_use = "its records are dead, and its memory is to be given back"]
pub(crate) struct Detached(Slot);

/// Places that are looked at in one go.
const CHUNK: usize = 1024;

/// Threads that count without meeting each other.
const COUNTERS: usize = if cfg!(shuttle) { 2 } else { 16 };

/// A number that many change and few look at.
#[derive(Default)]
struct Tally([Counter; COUNTERS]);

/// Alone in its lines.
#[repr(align(128))]
#[derive(Default)]
struct Counter(AtomicU64);

impl Tally {
    fn add(&self, change: i64) {
        // ORDERING: Relaxed; the number orders nothing.
        self.0[thread_number() % COUNTERS].0.fetch_add(change as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // One alone may be below zero; the sum is not, when nobody writes.
        let sum = self
            .0
            .iter()
            .fold(0, |sum: u64, counter| sum.wrapping_add(counter.0.load(Ordering::Relaxed)));
        (sum as i64).max(0) as u64
    }

    /// Nobody counts meanwhile.
    fn clear(&self) {
        self.0.iter().for_each(|counter| counter.0.store(0, Ordering::Relaxed));
    }
}
