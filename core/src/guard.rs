//! Guards: the right to the bytes of a mapped range, for as long as the guard lives.
//!
//! 1. A guard pins its range, so nothing that it can reach is punched or given to someone else.
//! 2. Write guards are alone on their bytes; read guards share them ([`crate::Error::Busy`] tells
//!    a request that would break this). So slices never alias bytes that someone may store to.
//! 3. A write guard's entry is dirty before its bytes are handed out.
//! 4. A guard on a hole points at the shared zero extent, pins nothing, and is a view from before
//!    whatever is written there next.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::error::Result;
use crate::fault::{Access, Request, Resolved};
use crate::persist::{fence, flush_range};
use crate::pins::Sharing;
use crate::units::{ByteRange, ExtentSize, LogicalRange, Offset};
use crate::volume::VolumeShared;
use crate::zero;

/// A pinned, mapped range: the base of all guards.
pub(crate) struct Pinned {
    pub volume: Arc<VolumeShared>,
    pub logical: LogicalRange,
    pub physical: ByteRange,
    pub size: ExtentSize,
    sharing: Sharing,
}

impl Pinned {
    /// Pins the head of `request.range` and resolves it. `Err` of the inner result: it is a hole
    /// of so many bytes, and nothing is pinned.
    pub(crate) fn fault(
        volume: &Arc<VolumeShared>,
        mut request: Request,
    ) -> Result<Result<Self, u64>> {
        request.range = volume.clip(request.range)?;
        let sharing = match request.access {
            Access::Read => Sharing::Shared,
            _ => Sharing::Exclusive,
        };
        volume.pins.pin(request.range, sharing)?;
        match volume.fault(request) {
            Ok(Resolved::Mapped { physical, size }) => {
                volume.pins.shorten(request.range, sharing, physical.len_bytes);
                let logical = LogicalRange::new(request.range.start, physical.len_bytes);
                Ok(Ok(Self { volume: Arc::clone(volume), logical, physical, size, sharing }))
            }
            Ok(Resolved::Zero { len_bytes }) => {
                volume.pins.unpin(request.range, sharing);
                Ok(Err(len_bytes))
            }
            Err(error) => {
                volume.pins.unpin(request.range, sharing);
                Err(error)
            }
        }
    }

    fn address(&self) -> *mut u8 {
        self.volume.pool.medium.address(self.physical.start)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.volume.pins.unpin(self.logical, self.sharing);
    }
}

/// Bytes of a volume to read, without a copy.
pub struct ReadGuard(Bytes);

enum Bytes {
    Zeros(&'static [u8]),
    Pinned(Pinned),
}

impl ReadGuard {
    pub(crate) fn fault(volume: &Arc<VolumeShared>, range: LogicalRange) -> Result<Self> {
        let request = Request { range, access: Access::Read, huge_allowed: true, pages_min: 1 };
        Ok(Self(match Pinned::fault(volume, request)? {
            Ok(pinned) => Bytes::Pinned(pinned),
            Err(len_bytes) => Bytes::Zeros(zero::zeros(len_bytes)),
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
    pub(crate) fn fault(volume: &Arc<VolumeShared>, range: LogicalRange) -> Result<Self> {
        let request = Request { range, access: Access::Write, huge_allowed: true, pages_min: 1 };
        let pinned = Pinned::fault(volume, request)?;
        Ok(Self(pinned.unwrap_or_else(|_| unreachable!("a write fault left a hole"))))
    }

    /// Makes everything stored through this guard durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the medium reports that it failed.
    pub fn persist(&mut self) -> Result<()> {
        let medium = &self.0.volume.pool.medium;
        let [_] = fence(medium, [flush_range(medium, self.0.physical)])?;
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
