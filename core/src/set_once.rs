//! A long array of places that are set once, and then read by one load.
//!
//! 1. A pointer is null, or from `Box::into_raw` and never changes again until the array is dropped.
//! 2. The first places are in the array itself, and that is all of most. The memory of the others
//!    comes with the first of them that is set, zeroed by the kernel, and costs only where it is touched,
//!    also when it goes: no place behind `end` was ever set.

use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Places in the array itself: of what has one for each GiB, those of 16 GiB.
const FIRST: usize = 16;

/// Places for boxes, each of which is set once.
///
/// ```
/// let array = daxite_core::SetOnceArray::new(1 << 20);
/// assert!(array.get(700_000).is_none());
/// assert_eq!(*array.get_or_init(700_000, || Box::new(7)), 7);
/// assert_eq!(*array.get_or_init(700_000, || Box::new(8)), 7);
/// ```
pub struct SetOnceArray<T> {
    first: [AtomicPtr<T>; FIRST],
    others: OnceLock<MmapRaw>,
    len: usize,
    end: AtomicUsize,
    owns: PhantomData<Box<T>>,
}

// SAFETY: places are only reached through atomics; what is in them is shared and dropped like a `T`.
unsafe impl<T: Send + Sync> Send for SetOnceArray<T> {}
// SAFETY: as above; `get_or_init` may also move a `T` to another thread, which `Send` allows.
unsafe impl<T: Send + Sync> Sync for SetOnceArray<T> {}

impl<T> SetOnceArray<T> {
    /// `len` empty places.
    pub fn new(len: usize) -> Self {
        let first = [const { AtomicPtr::new(ptr::null_mut()) }; FIRST];
        let (others, end) = (OnceLock::new(), AtomicUsize::new(0));
        Self { first, others, len, end, owns: PhantomData }
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
        let pointer = self.place(index)?.load(Ordering::Acquire);
        // SAFETY: null, or a box that stays until `self`, which is borrowed, is dropped (invariant 1).
        unsafe { pointer.as_ref() }
    }

    /// What is at `index`, or else `init`, unless another thread is faster.
    ///
    /// # Panics
    /// If the system has no address space for places behind the first few: as if it had no memory.
    pub fn get_or_init(&self, index: usize, init: impl FnOnce() -> Box<T>) -> &T {
        if let Some(value) = self.get(index) {
            return value;
        }
        // ORDERING: AcqRel, before the value can be seen; pairs with the Acquire in `end`.
        self.end.fetch_max(index + 1, Ordering::AcqRel);
        let null = ptr::null_mut();
        let place = self.place(index).unwrap_or_else(|| {
            self.others.get_or_init(|| others(self.len - FIRST));
            self.place(index).expect("memory for all places")
        });
        let new = Box::into_raw(init());
        // ORDERING: Release; pairs with the Acquire in `get`. Acquire for the other thread's value.
        let set = place.compare_exchange(null, new, Ordering::Release, Ordering::Acquire);
        if set.is_err() {
            // SAFETY: `new` was not stored, so it is still the only pointer to its box.
            drop(unsafe { Box::from_raw(new) });
        }
        self.get(index).expect("somebody set it")
    }

    /// Where `index` is, if there is memory for it.
    #[inline]
    fn place(&self, index: usize) -> Option<&AtomicPtr<T>> {
        assert!(index < self.len, "place {index} of {}", self.len);
        let Some(behind) = index.checked_sub(FIRST) else { return Some(&self.first[index]) };
        let place = self.others.get()?.as_mut_ptr().cast::<*mut T>().wrapping_add(behind);
        // SAFETY: aligned to a page and inside the mapping, which lives as long as `self`; zeros are a
        // null pointer, and every access is atomic.
        Some(unsafe { AtomicPtr::from_ptr(place) })
    }
}

/// Memory of `len` pointers that are null.
fn others(len: usize) -> MmapRaw {
    let bytes = len.checked_mul(size_of::<AtomicPtr<u8>>()).expect("an array that can be");
    let memory = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
    MmapRaw::from(memory.expect("address space for an array"))
}

impl<T> Drop for SetOnceArray<T> {
    fn drop(&mut self) {
        for index in 0..*self.end.get_mut() {
            let Some(place) = self.place(index) else { break };
            let pointer = place.load(Ordering::Relaxed);
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
        for index in [9, FIRST - 1, FIRST, 70_000, (1 << 18) - 1] {
            the_first_value_stays_at(index);
        }
    }

    fn the_first_value_stays_at(index: usize) {
        let alive = Arc::new(());
        let array: SetOnceArray<(u64, Arc<()>)> = SetOnceArray::new(1 << 18);
        assert!(array.get(index).is_none());
        let seen: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|nth| {
                    let (array, alive) = (&array, Arc::clone(&alive));
                    scope.spawn(move || array.get_or_init(index, || Box::new((nth, alive))).0)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|nth| *nth == array.get(index).unwrap().0));
        assert_eq!(Arc::strong_count(&alive), 2, "the others are gone");
        assert_eq!(array.end(), index + 1);
        drop(array);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    #[should_panic(expected = "place 5 of 5")]
    fn there_is_no_place_behind_the_last() {
        SetOnceArray::<u64>::new(5).get(5);
    }
}
