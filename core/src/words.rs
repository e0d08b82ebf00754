//! Memory of zeros for words that threads share, as a DRAM index needs it: cheap to ask for, paid for
//! where it is touched, and in huge pages where the system gives them.

use std::ops::Deref;
use std::ptr::NonNull;

#[cfg(not(any(loom, shuttle)))]
use memmap2::MmapRaw;

use crate::persist::prefetch;
use crate::primitives::atomic::AtomicU64;

/// A fixed number of atomic words, zero at first.
///
/// ```
/// use std::sync::atomic::Ordering;
/// let words = daxite_core::Words::zeroed(1 << 20).unwrap();
/// words[700_000].store(7, Ordering::Relaxed);
/// assert_eq!(words[700_000].load(Ordering::Relaxed), 7);
/// assert_eq!(words[0].load(Ordering::Relaxed), 0);
/// assert_eq!(words.len(), 1 << 20);
/// ```
pub struct Words {
    first: NonNull<AtomicU64>,
    len: usize,
    _memory: Memory,
}

/// What the words are in.
enum Memory {
    Boxed(#[expect(dead_code, reason = "kept for as long as the words")] Box<[AtomicU64]>),
    #[cfg(not(any(loom, shuttle)))]
    Mapped(#[expect(dead_code, reason = "kept for as long as the words")] MmapRaw),
}

// SAFETY: `first` points into `_memory`, which may be sent and shared, at words that may.
unsafe impl Send for Words {}
// SAFETY: as above; all accesses are atomic.
unsafe impl Sync for Words {}

impl Words {
    /// `len` words.
    ///
    /// # Errors
    /// [`std::io::Error`] if the system has no memory for them.
    #[cfg(any(loom, shuttle))]
    pub fn zeroed(len: usize) -> std::io::Result<Self> {
        Ok(Self::boxed((0..len).map(|_| AtomicU64::new(0)).collect()))
    }

    /// `len` words.
    ///
    /// # Errors
    /// [`std::io::Error`] if the system has no memory for them.
    #[cfg(not(any(loom, shuttle)))]
    pub fn zeroed(len: usize) -> std::io::Result<Self> {
        use memmap2::{Advice, MmapOptions};

        use crate::units::HUGE;

        let huge = HUGE as usize;
        let bytes = len.checked_mul(8).and_then(|bytes| bytes.checked_add(huge));
        let bytes = bytes.ok_or(std::io::ErrorKind::OutOfMemory)?;
        if bytes < 2 * huge {
            return Ok(Self::boxed(bytemuck::zeroed_slice_box(len)));
        }
        // A huge page more, so that the words can start with one.
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
        // A wish: without huge pages the words are as good, and a little slower.
        let _ = map.advise(Advice::HugePage);
        let map = MmapRaw::from(map);
        let first = map.as_mut_ptr();
        let first = first.wrapping_add(first.align_offset(huge)).cast();
        let first = NonNull::new(first).expect("a mapping is somewhere");
        Ok(Self { first, len, _memory: Memory::Mapped(map) })
    }

    fn boxed(words: Box<[AtomicU64]>) -> Self {
        let len = words.len();
        let first = NonNull::from(&*words).cast();
        Self { first, len, _memory: Memory::Boxed(words) }
    }

    /// Asks for word `index` to be brought near, since it will be read. A hint: any number will do.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        prefetch(self.first.as_ptr().wrapping_add(index).cast());
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `len` words from `first` on are in `_memory`, which lives as long as `self`: zeroed,
        // aligned, and accessed as atomics only.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}
