//! What `crossbeam-epoch` offers, for threads that a model checker runs on one thread of the system.
//!
//! To `crossbeam-epoch` they would all be one thread, whose pins nest: nothing would be reclaimed
//! while any of them is pinned, and other tests of the process would decide when.
//! 1. Pins are numbered. What is deferred waits for those that were alive at that moment, and for no
//!    other: nothing goes too early, and everything as early as it may, so that a missing pin shows.
//! 2. When no pin is left, nothing waits: an execution leaves nothing to the next one.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::mem::ManuallyDrop;

type Deferred = Box<dyn FnOnce()>;

#[derive(Default)]
struct Epoch {
    next: u64,
    pins: BTreeSet<u64>,
    /// With the number of the first pin that they do not wait for; ascending.
    deferred: VecDeque<(u64, Deferred)>,
}

thread_local! {
    /// A failed execution leaves something behind; its atomics must not be touched outside of it.
    static EPOCH: ManuallyDrop<RefCell<Epoch>> = ManuallyDrop::default();
}

/// A pin, until it is dropped.
pub(crate) struct Guard {
    number: u64,
}

/// A new pin.
pub(crate) fn pin() -> Guard {
    EPOCH.with(|epoch| {
        let mut epoch = epoch.borrow_mut();
        let number = epoch.next;
        epoch.next += 1;
        epoch.pins.insert(number);
        Guard { number }
    })
}

impl Guard {
    /// Calls what has nothing left to wait for.
    pub(crate) fn flush(&self) {
        collect();
    }

    /// As `crossbeam_epoch::Guard::defer_unchecked`.
    ///
    /// # Safety
    /// That one's conditions; this form needs none of them.
    pub(crate) unsafe fn defer_unchecked(&self, act: impl FnOnce() + 'static) {
        EPOCH.with(|epoch| {
            let mut epoch = epoch.borrow_mut();
            let next = epoch.next;
            epoch.deferred.push_back((next, Box::new(act)));
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        EPOCH.with(|epoch| epoch.borrow_mut().pins.remove(&self.number));
        if !std::thread::panicking() {
            collect();
        }
    }
}

fn collect() {
    // One at a time: what is called may let other threads run.
    while let Some(act) = EPOCH.with(|epoch| epoch.borrow_mut().take()) {
        act();
    }
}

impl Epoch {
    fn take(&mut self) -> Option<Deferred> {
        let oldest_pin = self.pins.first().copied().unwrap_or(u64::MAX);
        let (from, _) = self.deferred.front()?;
        (*from <= oldest_pin).then(|| self.deferred.pop_front().expect("it is there").1)
    }
}
