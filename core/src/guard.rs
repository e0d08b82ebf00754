//! Guards: the right to the bytes of a mapped range, for as long as the guard lives.
//!
//! 1. A guard pins its range, so nothing that it can reach is punched or given to someone else.
//! 2. Write guards are alone on their bytes; read guards share them. A request that would break
//!    this is told [`crate::Error::Busy`], or waits as long as its volume handle is patient. So slices never alias bytes that someone may store to.
//! 3. A write guard's entry is dirty before its bytes are handed out.
//! 4. A guard on a hole points at the shared zero extent, pins nothing, and is a view from before
//!    whatever is written there next.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use crate::counters::Access;
use crate::error::Result;
use crate::fault::{Request, Resolved};
use crate::persist::{before_read, before_store, fence, flush_range};
use crate::pins::{Pin, Sharing};
use crate::units::{ByteRange, ExtentSize, LogicalRange, Offset};
use crate::volume::VolumeShared;
use crate::zero;

/// A pinned, mapped range: the base of all guards.
pub(crate) struct Pinned {
    pub volume: Arc<VolumeShared>,
    pub physical: ByteRange,
    pub size: ExtentSize,
    pin: Pin,
}

/// What a fault leads to.
pub(crate) enum Faulted {
    /// A hole of so many bytes; nothing is pinned.
    Hole {
        len_bytes: u64,
    },
    Pinned(Pinned),
}

impl Pinned {
    /// Pins the head of `request.range` and resolves it; waits until `deadline` for guards in the way.
    pub(crate) fn fault(
        volume: &Arc<VolumeShared>,
        mut request: Request,
        deadline: Option<Instant>,
    ) -> Result<Faulted> {
        request.range = volume.clip(request.range)?;
        volume.upgrade_if_due(request);
        let sharing = match request.access {
            Access::Read => Sharing::Shared,
            _ => Sharing::Exclusive,
        };
        let pin = volume.pins.pin(request.range, sharing, deadline)?;
        let resolved = match volume.lookup(request) {
            // The volume may have been cut while the pin was waited for. After the lookup: a cut looks
            // at pins only in slots where it sees anything. What it did not see was put there by a
            // fault that saw the new length, so whoever finds that sees it too.
            Some(resolved) => volume.check_range(request.range).map(|()| resolved),
            None => volume.fault(request),
        };
        if let Ok(Resolved::Mapped { physical, size }) = resolved {
            match request.access {
                Access::Read => before_read(&volume.pool.medium, physical),
                Access::Write => before_store(&volume.pool.medium, physical),
                // Their bytes go through `Extent` and `Appender`.
                _ => {}
            }
            let mut pinned = Self { volume: Arc::clone(volume), physical, size, pin };
            volume.pins.shorten(&mut pinned.pin, physical.len_bytes);
            return Ok(Faulted::Pinned(pinned));
        }
        volume.pins.unpin(&pin);
        match resolved? {
            Resolved::Zero { len_bytes } => Ok(Faulted::Hole { len_bytes }),
            Resolved::Mapped { .. } => unreachable!("returned above"),
        }
    }

    /// The range of the volume that it answers for.
    pub(crate) fn logical(&self) -> LogicalRange {
        self.pin.range()
    }

    fn address(&self) -> *mut u8 {
        self.volume.pool.medium.address(self.physical.start)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.volume.pins.unpin(&self.pin);
    }
}

/// Bytes of a volume to read, without a copy.
pub struct ReadGuard(Bytes);

enum Bytes {
    Zeros(&'static [u8]),
    Pinned(Pinned),
}

impl ReadGuard {
    #[inline]
    pub(crate) fn fault(
        volume: &Arc<VolumeShared>,
        range: LogicalRange,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let range = volume.clip(range)?;
        let request = Request { range, access: Access::Read, huge_allowed: true, pages_min: 1 };
        if let Some(Resolved::Zero { len_bytes }) = volume.lookup(request) {
            return Ok(Self(Bytes::Zeros(zero::zeros(len_bytes))));
        }
        Ok(Self(match Pinned::fault(volume, request, deadline)? {
            Faulted::Pinned(pinned) => Bytes::Pinned(pinned),
            Faulted::Hole { len_bytes } => Bytes::Zeros(zero::zeros(len_bytes)),
        }))
    }

    /// Whether the range is a hole, answered by the shared zero extent.
    pub fn is_hole(&self) -> bool {
        matches!(self.0, Bytes::Zeros(_))
    }

    /// Where the bytes are in the pool; `None` for a hole.
    pub fn physical(&self) -> Option<Offset> {
        match &self.0 {
            Bytes::Zeros(_) => None,
            Bytes::Pinned(pinned) => Some(pinned.physical.start),
        }
    }
}

impl Deref for ReadGuard {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Zeros(zeros) => zeros,
            // SAFETY: the pin keeps the range mapped to this volume and shared by readers only,
            // and the mapping lives in `pinned.volume`.
            Bytes::Pinned(pinned) => unsafe {
                std::slice::from_raw_parts(pinned.address(), pinned.physical.len_bytes as usize)
            },
        }
    }
}

/// Bytes of a volume to read and write in place.
///
/// # Durability
/// What is stored is durable after [`WriteGuard::persist`], or after a [`crate::Volume::sync`]
/// that covers it. Until then any part of it may reach the medium, in any order.
pub struct WriteGuard(Pinned);

impl WriteGuard {
    pub(crate) fn fault(
        volume: &Arc<VolumeShared>,
        range: LogicalRange,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let request = Request { range, access: Access::Write, huge_allowed: true, pages_min: 1 };
        match Pinned::fault(volume, request, deadline)? {
            Faulted::Pinned(pinned) => Ok(Self(pinned)),
            Faulted::Hole { .. } => unreachable!("a write fault left a hole"),
        }
    }

    /// Makes everything stored through this guard durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the medium reports that it failed.
    pub fn persist(&mut self) -> Result<()> {
        let medium = &self.0.volume.pool.medium;
        let [_] = fence(medium, [flush_range(medium, self.0.physical)?])?;
        Ok(())
    }

    /// Where the bytes are in the pool.
    pub fn physical(&self) -> Offset {
        self.0.physical.start
    }

    /// The size of the extent that the bytes lie in.
    pub fn size(&self) -> ExtentSize {
        self.0.size
    }
}

impl Deref for WriteGuard {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pin keeps the range mapped to this volume and excludes every other guard;
        // the mapping lives in `self.0.volume`.
        unsafe { std::slice::from_raw_parts(self.0.address(), self.0.physical.len_bytes as usize) }
    }
}

impl DerefMut for WriteGuard {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.0.physical.len_bytes as usize;
        // SAFETY: as in `deref`; `&mut self` makes this the only slice of the range.
        unsafe { std::slice::from_raw_parts_mut(self.0.address(), len) }
    }
}
