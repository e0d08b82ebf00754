//! Shared places that are read without a lock: what a reader saw stays until it is done.
//!
//! 1. An [`EpochCell`] owns one reference count of what it holds. When it is replaced, that count
//!    is given up only after every [`Pin`] that was alive then is gone.
//! 2. So while a pin and the cell live, whatever was loaded under the pin has a count of at least
//!    one. A cell that is dropped, which nobody borrows then, gives its count up at once.
//!
//! Source: epoch-based reclamation (Fraser 2004), by `crossbeam-epoch`. In DRAM only.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::primitives::atomic::{AtomicPtr, Ordering};
use crate::primitives::epoch::{self, Guard};

/// Keeps everything alive that could be loaded while it lives. Cheap; hold it for one operation,
/// since space comes back only when no old pin is left.
pub struct Pin {
    guard: Guard,
}

/// A new pin of the current thread.
///
/// ```
/// use std::sync::Arc;
/// let cell = daxite_core::EpochCell::empty();
/// cell.replace(Some(Arc::new(7)));
/// let pin = daxite_core::pin();
/// let seven = cell.load(&pin).unwrap();
/// cell.replace(None);
/// assert_eq!(*seven, 7);
/// ```
#[inline]
pub fn pin() -> Pin {
    Pin { guard: epoch::pin() }
}

impl Pin {
    /// Moves reclamation on; for loops that wait for space.
    pub fn flush(&self) {
        self.guard.flush();
    }
}

/// A place for an `Arc<T>` that is loaded without a lock.
pub struct EpochCell<T: Send + Sync + 'static> {
    /// From `Arc::into_raw`, or null.
    pointer: AtomicPtr<T>,
    owns: PhantomData<Arc<T>>,
    /// What was replaced, under loom. It shows a thread the past of an atomic unless a fence that it
    /// knows forbids it, and it does not know those of `crossbeam-epoch`.
    #[cfg(loom)]
    replaced: std::sync::Mutex<Vec<Arc<T>>>,
}

impl<T: Send + Sync + 'static> EpochCell<T> {
    /// A cell that holds nothing.
    pub fn empty() -> Self {
        Self {
            pointer: AtomicPtr::new(std::ptr::null_mut()),
            owns: PhantomData,
            #[cfg(loom)]
            replaced: std::sync::Mutex::default(),
        }
    }

    /// What the cell holds, for as long as `pin` and the cell live: a cell that is dropped gives
    /// up what it holds at once.
    ///
    /// ```compile_fail,E0505
    /// let cell = daxite_core::EpochCell::empty();
    /// cell.replace(Some(std::sync::Arc::new(7)));
    /// let pin = daxite_core::pin();
    /// let seven = cell.load(&pin).unwrap();
    /// drop(cell);
    /// assert_eq!(*seven, 7);
    /// ```
    #[inline]
    pub fn load<'p>(&'p self, pin: &'p Pin) -> Option<&'p T> {
        let _ = pin;
        // ORDERING: Acquire; pairs with the AcqRel in `replace` and `set_if_empty`.
        let pointer = self.pointer.load(Ordering::Acquire);
        // SAFETY: null, or from `Arc::into_raw`; invariant 2 keeps it alive while `pin` and the cell,
        // which are both borrowed, do.
        unsafe { pointer.as_ref() }
    }

    /// What the cell holds, counted.
    #[inline]
    pub fn load_arc(&self, pin: &Pin) -> Option<Arc<T>> {
        let pointer = std::ptr::from_ref(self.load(pin)?);
        // SAFETY: `pointer` comes from `Arc::into_raw` and has a count by invariant 2.
        unsafe { Arc::increment_strong_count(pointer) };
        // SAFETY: the count that was just added belongs to the new `Arc`.
        Some(unsafe { Arc::from_raw(pointer) })
    }

    /// Puts `new` into the cell; what it held goes when no pin is left that could see it.
    pub fn replace(&self, new: Option<Arc<T>>) {
        let new = new.map_or(std::ptr::null_mut(), |new| Arc::into_raw(new).cast_mut());
        // ORDERING: AcqRel; pairs with the Acquire in `load`.
        let old = self.pointer.swap(new, Ordering::AcqRel);
        if !old.is_null() {
            self.retire(Retired(old));
        }
    }

    #[cfg(loom)]
    fn retire(&self, old: Retired<T>) {
        self.replaced.lock().expect("no panic").push(old.into_arc());
    }

    #[cfg(not(loom))]
    fn retire(&self, old: Retired<T>) {
        let guard = epoch::pin();
        // SAFETY: the swap of the caller made it the only one to retire `old`; readers that saw it are
        // pinned, and the closure runs after their pins are gone. `T` is `Send`, so any thread
        // may drop it.
        unsafe { guard.defer_unchecked(move || drop(old.into_arc())) };
        // Not kept by this thread, which may never pin again, but where any thread finds it.
        guard.flush();
    }

    /// Puts `new` into the cell if it is empty; gives it back otherwise.
    ///
    /// # Errors
    /// `new`, if the cell holds something.
    pub fn set_if_empty(&self, new: Arc<T>) -> Result<(), Arc<T>> {
        let pointer = Arc::into_raw(new).cast_mut();
        let null = std::ptr::null_mut();
        // ORDERING: AcqRel; pairs with the Acquire in `load`.
        match self.pointer.compare_exchange(null, pointer, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            // SAFETY: the pointer was not stored, so its count is still ours.
            Err(_) => Err(unsafe { Arc::from_raw(pointer) }),
        }
    }
}

impl<T: Send + Sync + 'static> Drop for EpochCell<T> {
    fn drop(&mut self) {
        // ORDERING: Relaxed; nobody else has the cell any more.
        let held = self.pointer.load(Ordering::Relaxed);
        if !held.is_null() {
            drop(Retired(held).into_arc());
        }
    }
}

/// A count that was taken out of a cell.
struct Retired<T>(*const T);

// SAFETY: it stands for an `Arc<T>`, which may be sent if `T` is `Send + Sync`, as every cell asks.
unsafe impl<T: Send + Sync> Send for Retired<T> {}

impl<T> Retired<T> {
    fn into_arc(self) -> Arc<T> {
        // SAFETY: the pointer comes from `Arc::into_raw` of the cell it was taken from, and
        // `self` is the only holder of that count.
        unsafe { Arc::from_raw(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_outlives_its_replacement_while_pinned() {
        let cell = EpochCell::empty();
        let first = Arc::new(String::from("first"));
        cell.replace(Some(Arc::clone(&first)));
        let pinned = pin();
        let seen = cell.load(&pinned).unwrap();
        cell.replace(Some(Arc::new(String::from("second"))));
        for _ in 0..1000 {
            pin().flush();
        }
        assert_eq!(seen, "first");
        assert_eq!(Arc::strong_count(&first), 2, "the cell's count waits for the pin");
        drop(pinned);
        // Pins of other tests of this process may hold it back for a while.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Arc::strong_count(&first) > 1 && std::time::Instant::now() < deadline {
            pin().flush();
            std::thread::yield_now();
        }
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn a_full_cell_gives_the_newcomer_back() {
        let cell = EpochCell::empty();
        assert!(cell.set_if_empty(Arc::new(1)).is_ok());
        assert_eq!(cell.set_if_empty(Arc::new(2)).unwrap_err(), Arc::new(2));
        assert_eq!(cell.load_arc(&pin()).as_deref(), Some(&1));
    }

    #[test]
    fn readers_and_a_replacer_agree() {
        let cell = EpochCell::empty();
        cell.replace(Some(Arc::new(vec![0u64; 8])));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let pin = pin();
                        let seen = cell.load(&pin).unwrap();
                        assert!(seen.iter().all(|&value| value == seen[0]));
                    }
                });
            }
            scope.spawn(|| (1..20_000).for_each(|n| cell.replace(Some(Arc::new(vec![n; 8])))));
        });
    }
}
