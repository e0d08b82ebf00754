//! Which logical ranges of a volume are in use by guards.
//!
//! 1. Two pins overlap only if both read: that is what makes the slices of guards sound.
//! 2. A pin is taken before its fault and punch looks at pins with the slot locked. So whoever
//!    comes second sees the other: punch is refused, or the fault waits and finds the hole.
//! 3. A request that meets a pin is refused at once ([`Error::Busy`]), never queued: its own
//!    thread may hold that pin.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::units::{LogicalRange, SlotNo};

/// What the holder of a pin may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// Read, beside other readers.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Default)]
pub(crate) struct PinTable {
    /// By the slot that the range lies in.
    pins: Mutex<HashMap<SlotNo, Vec<(LogicalRange, Sharing)>>>,
}

impl PinTable {
    /// Pins `range`, which lies within one slot.
    ///
    /// # Errors
    /// [`Error::Busy`] if a pin overlaps and one of the two is exclusive.
    pub(crate) fn pin(&self, range: LogicalRange, sharing: Sharing) -> Result<()> {
        let mut pins = self.pins.lock();
        let in_slot = pins.entry(range.first_page().slot()).or_default();
        let conflicts = |&(other, others): &(LogicalRange, Sharing)| {
            range.overlaps(other) && (sharing == Sharing::Exclusive || others == Sharing::Exclusive)
        };
        if in_slot.iter().any(conflicts) {
            return Err(Error::Busy { start: range.start, len_bytes: range.len_bytes });
        }
        in_slot.push((range, sharing));
        Ok(())
    }

    /// Takes back a pin of exactly `range`.
    pub(crate) fn unpin(&self, range: LogicalRange, sharing: Sharing) {
        let mut pins = self.pins.lock();
        let slot = range.first_page().slot();
        let in_slot = pins.get_mut(&slot).expect("pins of the slot of a pin");
        let own = in_slot.iter().position(|pin| *pin == (range, sharing)).expect("the pin");
        in_slot.swap_remove(own);
        if in_slot.is_empty() {
            pins.remove(&slot);
        }
    }

    /// Shortens a pin of exactly `range` to its first `len_bytes` bytes.
    pub(crate) fn shorten(&self, range: LogicalRange, sharing: Sharing, len_bytes: u64) {
        let mut pins = self.pins.lock();
        let in_slot = pins.get_mut(&range.first_page().slot()).expect("pins of the slot of a pin");
        let own = in_slot.iter_mut().find(|pin| **pin == (range, sharing)).expect("the pin");
        own.0.len_bytes = len_bytes;
    }

    /// Whether any pin overlaps `range`, which lies within one slot.
    pub(crate) fn is_pinned(&self, range: LogicalRange) -> bool {
        let pins = self.pins.lock();
        let in_slot = pins.get(&range.first_page().slot());
        in_slot.is_some_and(|pins| pins.iter().any(|(other, _)| range.overlaps(*other)))
    }

    /// Whether an exclusive pin overlaps `range`.
    pub(crate) fn is_pinned_for_writing(&self, range: LogicalRange) -> bool {
        let pins = self.pins.lock();
        let in_slot = pins.get(&range.first_page().slot());
        in_slot.is_some_and(|pins| {
            let writes = |(other, sharing): &(LogicalRange, Sharing)| {
                *sharing == Sharing::Exclusive && range.overlaps(*other)
            };
            pins.iter().any(writes)
        })
    }

    /// Number of pins.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.pins.lock().values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len_bytes: u64) -> LogicalRange {
        LogicalRange::new(start, len_bytes)
    }

    #[test]
    fn readers_share_and_writers_are_alone() {
        let pins = PinTable::default();
        pins.pin(range(0, 100), Sharing::Shared).unwrap();
        pins.pin(range(50, 100), Sharing::Shared).unwrap();
        assert!(matches!(pins.pin(range(99, 1), Sharing::Exclusive), Err(Error::Busy { .. })));
        pins.pin(range(150, 10), Sharing::Exclusive).unwrap();
        assert!(matches!(pins.pin(range(155, 1), Sharing::Shared), Err(Error::Busy { .. })));
        assert!(pins.is_pinned_for_writing(range(159, 9)));
        assert!(!pins.is_pinned_for_writing(range(160, 9)));
        pins.unpin(range(150, 10), Sharing::Exclusive);
        pins.pin(range(155, 1), Sharing::Shared).unwrap();
        assert_eq!(pins.len(), 3);
    }

    #[test]
    fn a_shortened_pin_covers_its_prefix_only() {
        let pins = PinTable::default();
        pins.pin(range(0, 100), Sharing::Exclusive).unwrap();
        pins.shorten(range(0, 100), Sharing::Exclusive, 40);
        assert!(pins.is_pinned(range(39, 1)));
        assert!(!pins.is_pinned(range(40, 60)));
        pins.unpin(range(0, 40), Sharing::Exclusive);
        assert_eq!(pins.len(), 0);
    }
}
