//! Write-back: making durable what write guards stored, by dirty entries.
//!
//! 1. Only slots that had a dirty entry when the call began are visited, so that writers cannot keep
//!    it from ending; in the kernel the TOWRITE tags are for that.
//! 2. A locked slot is waited for, never skipped: who holds it may be another sync.
//! 3. An entry is flushed whole, and becomes clean only if no write guard reached it before the
//!    flush began.

use crate::error::Result;
use crate::persist::{fence_all, flush_range};
use crate::units::{ByteRange, LogicalRange, PAGE, SlotNo};
use crate::volume::VolumeShared;

impl VolumeShared {
    pub(crate) fn sync(&self, range: LogicalRange) -> Result<()> {
        let to_write = self.index.dirty_slots(range.slots());
        to_write.into_iter().try_for_each(|slot| self.sync_slot(slot, range))
    }

    fn sync_slot(&self, slot: SlotNo, range: LogicalRange) -> Result<()> {
        let medium = &self.pool.medium;
        let mut locked = self.index.lock_slot(slot);
        let mut flushed = Vec::new();
        let mut clean = Vec::new();
        for entry in locked.dirty_entries() {
            let start = (slot.first_page().0 + entry.index as u64) * PAGE;
            let logical = LogicalRange::new(start, entry.size.bytes());
            if !logical.overlaps(range) {
                continue;
            }
            // Asked before flushing: a guard that is dropped meanwhile may have stored behind it.
            // A new one cannot, since its fault waits for the slot.
            if !self.pins.is_pinned_for_writing(logical) {
                clean.push(entry);
            }
            let physical = ByteRange::new(entry.physical.offset(), entry.size.bytes());
            flushed.push(flush_range(medium, physical)?);
        }
        fence_all(medium, flushed)?;
        clean.into_iter().for_each(|entry| locked.set_clean(entry));
        Ok(())
    }
}
