//! Which logical ranges of a volume are in use by guards.
//!
//! 1. Two pins overlap only if both read: that is what makes the slices of guards sound.
//! 2. A pin is taken before its fault, and whoever takes extents away looks at pins with the slot
//!    locked. So whoever comes second sees the other: the pin is seen, or the fault waits and
//!    finds the hole.
//! 3. A request that meets a pin waits for it only until its deadline, holding nothing: its own
//!    thread may hold that pin.
//!
//! A leaf in the lock order.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::primitives::{Condvar, Mutex, MutexGuard};
use crate::units::{HUGE, LogicalRange};

/// What the holder of a pin may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// Read, beside other readers.
    Shared,
    /// Alone.
    Exclusive,
}

/// Parts of the table with a lock of their own; slots next to each other are in different ones.
const SHARDS: u64 = 64;

pub(crate) struct PinTable {
    shards: [Shard; SHARDS as usize],
}

/// On lines of its own, so that threads in different slots share none.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    pins: Mutex<Pins>,
    /// A pin went.
    unpinned: Condvar,
}

#[derive(Default)]
struct Pins {
    /// Lengths by first byte, and by number where several start there.
    shared: BTreeMap<Key, u64>,
    exclusive: BTreeMap<Key, u64>,
    next_number: u64,
}

type Key = (u64, u64);

/// A pin that was taken; given back by [`PinTable::unpin`].
#[derive(Debug)]
#[must_use = "a pin that is forgotten is never given back"]
pub(crate) struct Pin {
    range: LogicalRange,
    sharing: Sharing,
    number: u64,
}

impl Pin {
    pub(crate) fn range(&self) -> LogicalRange {
        self.range
    }

    fn key(&self) -> Key {
        (self.range.start, self.number)
    }
}

impl Default for PinTable {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }
}

impl PinTable {
    /// Pins `range`, which lies within one slot.
    ///
    /// # Errors
    /// [`Error::Busy`] if a pin overlaps, and one of the two is exclusive, until `deadline`.
    pub(crate) fn pin(
        &self,
        range: LogicalRange,
        sharing: Sharing,
        deadline: Option<Instant>,
    ) -> Result<Pin> {
        let mut pins = self.wait_while(range, sharing, deadline)?;
        let number = pins.next_number;
        pins.next_number += 1;
        let pin = Pin { range, sharing, number };
        pins.of(sharing).insert(pin.key(), range.len_bytes);
        Ok(pin)
    }

    pub(crate) fn unpin(&self, pin: &Pin) {
        let shard = self.shard(pin.range);
        let removed = shard.pins.lock().of(pin.sharing).remove(&pin.key());
        debug_assert!(removed.is_some(), "unpinned twice");
        shard.unpinned.notify_all();
    }

    /// Shortens `pin` to its first `len_bytes` bytes.
    pub(crate) fn shorten(&self, pin: &mut Pin, len_bytes: u64) {
        if len_bytes == pin.range.len_bytes {
            return;
        }
        debug_assert!(len_bytes < pin.range.len_bytes, "a pin that grows");
        let shard = self.shard(pin.range);
        *shard.pins.lock().of(pin.sharing).get_mut(&pin.key()).expect("the pin") = len_bytes;
        pin.range.len_bytes = len_bytes;
        shard.unpinned.notify_all();
    }

    /// Waits until no pin overlaps `range`, which lies within one slot. The caller holds no lock.
    ///
    /// # Errors
    /// [`Error::Busy`] if one does until `deadline`.
    pub(crate) fn wait_unpinned(
        &self,
        range: LogicalRange,
        deadline: Option<Instant>,
    ) -> Result<()> {
        self.wait_while(range, Sharing::Exclusive, deadline).map(drop)
    }

    /// Whether any pin overlaps `range`, which lies within one slot.
    pub(crate) fn is_pinned(&self, range: LogicalRange) -> bool {
        self.shard(range).pins.lock().conflicts(range, Sharing::Exclusive)
    }

    /// Whether an exclusive pin overlaps `range`.
    pub(crate) fn is_pinned_for_writing(&self, range: LogicalRange) -> bool {
        self.shard(range).pins.lock().conflicts(range, Sharing::Shared)
    }

    /// Number of pins.
    pub(crate) fn len(&self) -> usize {
        let of_shard = |pins: &Pins| pins.shared.len() + pins.exclusive.len();
        self.shards.iter().map(|shard| of_shard(&shard.pins.lock())).sum()
    }

    /// Waits while a pin is in the way of one of `sharing`; an error when `deadline` has passed.
    fn wait_while(
        &self,
        range: LogicalRange,
        sharing: Sharing,
        mut deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, Pins>> {
        let shard = self.shard(range);
        let mut pins = shard.pins.lock();
        while pins.conflicts(range, sharing) {
            let Some(until) = deadline else {
                return Err(Error::Busy { start: range.start, len_bytes: range.len_bytes });
            };
            if shard.unpinned.wait_until(&mut pins, until).timed_out() {
                // Looks once more: the last pin in the way may have gone at that moment.
                deadline = None;
            }
        }
        Ok(pins)
    }

    fn shard(&self, range: LogicalRange) -> &Shard {
        &self.shards[(range.start / HUGE % SHARDS) as usize]
    }
}

impl Pins {
    fn of(&mut self, sharing: Sharing) -> &mut BTreeMap<Key, u64> {
        match sharing {
            Sharing::Shared => &mut self.shared,
            Sharing::Exclusive => &mut self.exclusive,
        }
    }

    /// Whether a pin overlaps `range` that cannot be beside one of `sharing`. Readers take no longer
    /// for other readers; a writer looks at all who read before its end in the slot.
    fn conflicts(&self, range: LogicalRange, sharing: Sharing) -> bool {
        // Pins lie within one slot each, so those of other slots of the shard are out of these.
        let slot_start = range.start / HUGE * HUGE;
        let before_end = (slot_start, 0)..(range.start + range.len_bytes, 0);
        let reaches = |(&(start, _), &len_bytes): (&Key, &u64)| start + len_bytes > range.start;
        // They do not overlap each other, so the last one reaches furthest.
        let last_writer = self.exclusive.range(before_end.clone()).next_back();
        last_writer.is_some_and(reaches)
            || sharing == Sharing::Exclusive && self.shared.range(before_end).any(reaches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn range(start: u64, len_bytes: u64) -> LogicalRange {
        LogicalRange::new(start, len_bytes)
    }

    fn is_busy<T>(result: Result<T>) -> bool {
        matches!(result, Err(Error::Busy { .. }))
    }

    #[test]
    fn readers_share_and_writers_are_alone() {
        let pins = PinTable::default();
        let readers = [range(0, 100), range(50, 100), range(50, 100)];
        let readers = readers.map(|range| pins.pin(range, Sharing::Shared, None).unwrap());
        assert!(is_busy(pins.pin(range(99, 1), Sharing::Exclusive, None)));
        let writer = pins.pin(range(150, 10), Sharing::Exclusive, None).unwrap();
        assert!(is_busy(pins.pin(range(155, 1), Sharing::Shared, None)));
        assert!(pins.is_pinned_for_writing(range(159, 9)));
        assert!(!pins.is_pinned_for_writing(range(160, 9)));
        assert!(!pins.is_pinned_for_writing(range(0, 150)));
        assert!(!pins.is_pinned(range(64 * HUGE, HUGE)), "another slot of the same shard");
        pins.unpin(&writer);
        let reader = pins.pin(range(155, 1), Sharing::Shared, None).unwrap();
        assert_eq!(pins.len(), 4);
        readers.iter().chain([&reader]).for_each(|pin| pins.unpin(pin));
        assert_eq!(pins.len(), 0);
    }

    #[test]
    fn a_shortened_pin_covers_its_prefix_only() {
        let pins = PinTable::default();
        let mut pin = pins.pin(range(0, 100), Sharing::Exclusive, None).unwrap();
        pins.shorten(&mut pin, 40);
        assert!(pins.is_pinned(range(39, 1)));
        assert!(!pins.is_pinned(range(40, 60)));
        pins.unpin(&pin);
        assert_eq!(pins.len(), 0);
    }

    #[test]
    fn a_patient_request_gets_its_turn_or_gives_up_in_time() {
        let pins = PinTable::default();
        let pin = pins.pin(range(0, 100), Sharing::Shared, None).unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(5));
        assert!(is_busy(pins.pin(range(5, 1), Sharing::Exclusive, soon())));
        assert!(is_busy(pins.wait_unpinned(range(99, 50), soon())));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                pins.unpin(&pin);
            });
            let late = Some(Instant::now() + Duration::from_secs(20));
            pins.wait_unpinned(range(0, 1), late).unwrap();
            let writer = pins.pin(range(5, 1), Sharing::Exclusive, late).unwrap();
            pins.unpin(&writer);
        });
    }

    #[test]
    fn readers_do_not_look_at_each_other() {
        let pins = PinTable::default();
        let (started, readers_max) = (Instant::now(), 100_000);
        let pin = |nth| pins.pin(range(nth * 16, 16), Sharing::Shared, None).unwrap();
        let held: Vec<_> = (0..readers_max).map(pin).collect();
        assert!(is_busy(pins.pin(range(16 * readers_max - 1, 1), Sharing::Exclusive, None)));
        held.iter().for_each(|pin| pins.unpin(pin));
        // They took a minute when each looked at all before it.
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}
