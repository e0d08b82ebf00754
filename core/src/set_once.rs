//! A long array of places that are set once, and then read by one load.
//!
//! 1. A pointer is null, or from `Box::into_raw` and never changes again until the array is dropped.
//! 2. Memory comes zeroed from the kernel and costs only where it is touched, also when it goes: no
//!    place behind `end` was ever set.

use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Places for boxes, each of which is set once.
///
/// ```
/// let array = daxite_core::SetOnceArray::new(1 << 20)?;
/// assert!(array.get(700_000).is_none());
/// assert_eq!(*array.get_or_init(700_000, || Box::new(7)), 7);
/// assert_eq!(*array.get_or_init(700_000, || Box::new(8)), 7);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SetOnceArray<T> {
    memory: MmapRaw,
    len: usize,
    end: AtomicUsize,
    owns: PhantomData<Box<T>>,
}

// SAFETY: places are only reached through atomics; what is in them is shared and dropped like a `T`.
unsafe impl<T: Send + Sync> Send for SetOnceArray<T> {}
// SAFETY: as above; `get_or_init` may also move a `T` to another thread, which `Send` allows.
unsafe impl<T: Send + Sync> Sync for SetOnceArray<T> {}

impl<T> SetOnceArray<T> {
    /// `len` empty places, at least one.
    ///
    /// # Errors
    /// If the system has no address space for them.
    pub fn new(len: usize) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<AtomicPtr<T>>()).expect("an array that can be");
        let memory = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
        Ok(Self { memory: memory.into(), len, end: AtomicUsize::new(0), owns: PhantomData })
    }

    /// No place at or behind this one was set.
    pub fn end(&self) -> usize {
        // ORDERING: Acquire; pairs with the AcqRel in `get_or_init`.
        self.end.load(Ordering::Acquire)
    }

    /// What is at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        // ORDERING: Acquire; pairs with the Release in `get_or_init`.
        let pointer = self.place(index).load(Ordering::Acquire);
        // SAFETY: null, or a box that stays until `self`, which is borrowed, is dropped (invariant 1).
        unsafe { pointer.as_ref() }
    }

    /// What is at `index`, or else `init`, unless another thread is faster.
    pub fn get_or_init(&self, index: usize, init: impl FnOnce() -> Box<T>) -> &T {
        if let Some(value) = self.get(index) {
            return value;
        }
        // ORDERING: AcqRel, before the value can be seen; pairs with the Acquire in `end`.
        self.end.fetch_max(index + 1, Ordering::AcqRel);
        let new = Box::into_raw(init());
        let (place, null) = (self.place(index), ptr::null_mut());
        // ORDERING: Release; pairs with the Acquire in `get`. Acquire for the other thread's value.
        let set = place.compare_exchange(null, new, Ordering::Release, Ordering::Acquire);
        if set.is_err() {
            // SAFETY: `new` was not stored, so it is still the only pointer to its box.
            drop(unsafe { Box::from_raw(new) });
        }
        self.get(index).expect("somebody set it")
    }

    #[inline]
    fn place(&self, index: usize) -> &AtomicPtr<T> {
        assert!(index < self.len, "place {index} of {}", self.len);
        let place = self.memory.as_mut_ptr().cast::<*mut T>().wrapping_add(index);
        // SAFETY: aligned to a page and inside the mapping, which lives as long as `self`; zeros are a
        // null pointer, and every access is atomic.
        unsafe { AtomicPtr::from_ptr(place) }
    }
}

impl<T> Drop for SetOnceArray<T> {
    fn drop(&mut self) {
        for index in 0..*self.end.get_mut() {
            let pointer = self.place(index).load(Ordering::Relaxed);
            if !pointer.is_null() {
                // SAFETY: from `Box::into_raw` (invariant 1), and nobody borrows `self` any more.
                drop(unsafe { Box::from_raw(pointer) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_first_value_stays_and_all_see_it() {
        let alive = Arc::new(());
        let array: SetOnceArray<(u64, Arc<()>)> = SetOnceArray::new(1 << 18).unwrap();
        assert!(array.get(9).is_none());
        let seen: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|nth| {
                    let (array, alive) = (&array, Arc::clone(&alive));
                    scope.spawn(move || array.get_or_init(9, || Box::new((nth, alive))).0)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|nth| *nth == array.get(9).unwrap().0));
        assert_eq!(Arc::strong_count(&alive), 2, "the others are gone");
        assert_eq!(array.end(), 10);
        drop(array);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn without_address_space_there_is_an_error() {
        assert!(SetOnceArray::<u64>::new(1 << 58).is_err());
    }

    #[test]
    #[should_panic(expected = "place 5 of 5")]
    fn there_is_no_place_behind_the_last() {
        SetOnceArray::<u64>::new(5).unwrap().get(5);
    }
}
