//! Making a volume longer or shorter.
//!
//! 1. No extent is behind the end, on the medium or in DRAM: shorter goes length, fence, punch,
//!    then the length on the medium; longer goes the medium, then the length.
//! 2. A fault locks its entry, fences, and looks at the length. So either the punch here finds the
//!    entry touched, and waits for it, or the fault finds the new length.
//! 3. Bytes behind the end are zeros, up to the end of the last slot. Its huge page, if it has one,
//!    goes when the end moves to its start or before it.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::extent_map::VOLUME_BYTES_MAX;
use crate::primitives::atomic::{Ordering, fence};
use crate::punch::up_to_slot_end;
use crate::units::LogicalRange;
use crate::volume::VolumeShared;

/// An error for a length that no volume can have.
pub(crate) fn check_len(len_bytes: u64) -> Result<()> {
    if len_bytes == 0 || len_bytes > VOLUME_BYTES_MAX {
        return Err(Error::InvalidArgument("a volume has 1 byte to 256 TiB"));
    }
    Ok(())
}

impl VolumeShared {
    pub(crate) fn set_len(&self, len_bytes: u64, deadline: Option<Instant>) -> Result<()> {
        check_len(len_bytes)?;
        let _resizing = self.resizing.lock();
        let old = self.len_bytes();
        if len_bytes < old {
            self.cut_off(old, len_bytes, deadline)?;
        }
        let id = self.id;
        let persisted = self.pool.update_superblock(|superblock| {
            let of_this = superblock.volumes.iter_mut().filter(|record| record.id == id);
            of_this.for_each(|record| record.len_bytes = len_bytes);
        });
        // If that failed the medium may say either; the one from before is safe to go on with.
        let now = if persisted.is_ok() { len_bytes } else { old };
        self.set_end_bytes(now);
        self.set_len_bytes(now);
        persisted
    }

    /// Takes everything away from the end `to` on, and lets nobody map it any more. Guards are waited
    /// for before that, so that a cut which is refused for them hides nothing meanwhile.
    fn cut_off(&self, old: u64, to: u64, deadline: Option<Instant>) -> Result<()> {
        let tail = up_to_slot_end(LogicalRange::new(to, old - to));
        self.wait_unpinned(tail, deadline)?;
        self.set_len_bytes(to);
        // ORDERING: SeqCst; pairs with the fence in `VolumeShared::require_inside`.
        fence(Ordering::SeqCst);
        let punched = self.punch(tail, deadline);
        if punched.is_err() {
            self.set_len_bytes(old);
        }
        punched
    }
}
