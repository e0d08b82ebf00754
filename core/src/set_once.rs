//! A place that is set once, and then read by one load.
//!
//! 1. The pointer is null, or from `Box::into_raw` and never changes again until the place is dropped.
//! 2. A place of zero bytes is an empty one, so that a large array of them costs memory only where
//!    it is touched: `OnceLock` would be two words, and written at birth.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use bytemuck::Zeroable;

#[repr(transparent)]
#[derive(Zeroable)]
#[zeroable(bound = "")]
pub(crate) struct SetOnce<T> {
    pointer: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
}

impl<T: Send> SetOnce<T> {
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // ORDERING: Acquire; pairs with the Release in `get_or_init`.
        let pointer = self.pointer.load(Ordering::Acquire);
        // SAFETY: null, or a box that stays until `self`, which is borrowed, is dropped (invariant 1).
        unsafe { pointer.as_ref() }
    }

    /// What is there, or else `init`, unless another thread is faster.
    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> Box<T>) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let new = Box::into_raw(init());
        let null = ptr::null_mut();
        // ORDERING: Release; pairs with the Acquire in `get`. Acquire for the other thread's value.
        let set = self.pointer.compare_exchange(null, new, Ordering::Release, Ordering::Acquire);
        if set.is_err() {
            // SAFETY: `new` was not stored, so it is still the only pointer to its box.
            drop(unsafe { Box::from_raw(new) });
        }
        self.get().expect("somebody set it")
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        let pointer = *self.pointer.get_mut();
        if !pointer.is_null() {
            // SAFETY: from `Box::into_raw` (invariant 1), and nobody borrows `self` any more.
            drop(unsafe { Box::from_raw(pointer) });
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
        let place: SetOnce<(u64, Arc<()>)> = SetOnce::zeroed();
        assert!(place.get().is_none());
        let seen: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|nth| {
                    let (place, alive) = (&place, Arc::clone(&alive));
                    scope.spawn(move || place.get_or_init(|| Box::new((nth, alive))).0)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|nth| *nth == place.get().unwrap().0));
        assert_eq!(Arc::strong_count(&alive), 2, "the others are gone");
        drop(place);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
