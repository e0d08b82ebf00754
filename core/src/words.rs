//! Memory of zeros for words that threads share, as a DRAM index needs it: cheap to ask for, paid for
//! where it is touched, and in huge pages where the system gives them.

use std::ops::Deref;

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
pub struct Words(Memory);

#[cfg(any(loom, shuttle))]
type Memory = Box<[AtomicU64]>;
#[cfg(not(any(loom, shuttle)))]
type Memory = mapped::Memory;

impl Words {
    /// `len` words.
    ///
    /// # Errors
    /// [`std::io::Error`] if the system has no memory for them.
    pub fn zeroed(len: usize) -> std::io::Result<Self> {
        #[cfg(any(loom, shuttle))]
        return Ok(Self((0..len).map(|_| AtomicU64::new(0)).collect()));
        #[cfg(not(any(loom, shuttle)))]
        return mapped::Memory::zeroed(len).map(Self);
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}

#[cfg(not(any(loom, shuttle)))]
mod mapped {
    use std::ops::Deref;

    use memmap2::{Advice, MmapOptions, MmapRaw};

    use super::AtomicU64;
    use crate::units::HUGE;

    /// From this size on words are mapped on their own.
    const MAPPED_FROM: usize = HUGE as usize / 8;

    pub(super) enum Memory {
        Boxed(Box<[AtomicU64]>),
        /// The words from `first` on: the first that stands at a huge page.
        Mapped {
            map: MmapRaw,
            first: usize,
            len: usize,
        },
    }

    impl Memory {
        pub(super) fn zeroed(len: usize) -> std::io::Result<Self> {
            if len < MAPPED_FROM {
                return Ok(Self::Boxed(bytemuck::zeroed_slice_box(len)));
            }
            let bytes = len.checked_mul(8).and_then(|bytes| bytes.checked_add(HUGE as usize));
            let bytes = bytes.ok_or(std::io::ErrorKind::OutOfMemory)?;
            let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
            // A wish: without huge pages the words are as good, and a little slower.
            let _ = map.advise(Advice::HugePage);
            let map = MmapRaw::from(map);
            let first = map.as_ptr().align_offset(HUGE as usize) / 8;
            Ok(Self::Mapped { map, first, len })
        }
    }

    impl Deref for Memory {
        type Target = [AtomicU64];

        #[inline]
        fn deref(&self) -> &[AtomicU64] {
            match self {
                Self::Boxed(words) => words,
                Self::Mapped { map, first, len } => {
                    let first = map.as_ptr().cast::<AtomicU64>().wrapping_add(*first);
                    // SAFETY: `zeroed` mapped a huge page more than `len` words, and the first one is
                    // in the first huge page, aligned; zeros are words; all accesses are atomic, and
                    // the mapping lives as long as `self`.
                    unsafe { std::slice::from_raw_parts(first, *len) }
                }
            }
        }
    }
}
