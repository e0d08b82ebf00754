//! Sleeping on a lock word, and waking who sleeps there.
//!
//! The key of a sleeper is the address of the word that it saw locked, so sleeper and waker can
//! never disagree about it, whatever each of them was asked for.
//! 1. A sleeper announces itself in the word ([`WAITERS`]) before it sleeps, and sleeps only while
//!    the word is still what it saw: an unlock in between is noticed.
//! 2. Whoever clears the lock bit clears `WAITERS` with it and wakes: one sleeper when the word
//!    goes on as it was, all when it is about to mean something else.
//! 3. Who was woken looks up again from the root. If it then does not lock, it passes the wake on.
//!
//! Source: the wait queues of `fs/dax.c`; `parking_lot_core` is the queue.

use std::time::Instant;

use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::primitives::queue::{
    self, DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, ParkResult, UnparkResult,
};

/// Someone sleeps on the word. The same bit in every kind of lock word.
pub(crate) const WAITERS: u64 = 1 << 3;

/// Sleeps while `word` is as it was `seen`. Returns at the latest when it is woken, and the caller
/// looks again; or false when `deadline` has passed: then no wake was spent on it.
pub(crate) fn sleep_while(word: &AtomicU64, seen: u64, deadline: Option<Instant>) -> bool {
    let announced = seen | WAITERS;
    if seen != announced {
        // ORDERING: Relaxed; the word is validated again under the queue's own lock.
        let exchange = word.compare_exchange(seen, announced, Ordering::Relaxed, Ordering::Relaxed);
        if exchange.is_err() {
            return true;
        }
    }
    // ORDERING: Relaxed; the queue's lock orders this against `wake`, which takes it too.
    let validate = || word.load(Ordering::Relaxed) == announced;
    // The last sleeper to give up takes the announcement back. The queue's lock is held here too.
    let gave_up = |_, was_last| {
        if was_last {
            word.fetch_and(!WAITERS, Ordering::Relaxed);
        }
    };
    // SAFETY: the key is the address of a word that outlives the sleep (`word` is borrowed), so no
    // foreign queue shares it; the closures neither panic nor park.
    let result =
        unsafe { queue::park(key(word), validate, || {}, gave_up, DEFAULT_PARK_TOKEN, deadline) };
    result != ParkResult::TimedOut
}

/// Wakes the sleeper that has waited longest. The word then says whether more remain.
pub(crate) fn wake_one(word: &AtomicU64) {
    let mark_rest = |result: UnparkResult| {
        // ORDERING: Relaxed; sleepers validate the word under the queue's lock, which is held.
        match result.have_more_threads {
            true => word.fetch_or(WAITERS, Ordering::Relaxed),
            false => word.fetch_and(!WAITERS, Ordering::Relaxed),
        };
        DEFAULT_UNPARK_TOKEN
    };
    // SAFETY: as in `sleep_while`; the closure neither panics nor parks.
    unsafe { queue::unpark_one(key(word), mark_rest) };
}

/// Wakes every sleeper.
pub(crate) fn wake_all(word: &AtomicU64) {
    // SAFETY: as in `sleep_while`.
    unsafe { queue::unpark_all(key(word), DEFAULT_UNPARK_TOKEN) };
}

fn key(word: &AtomicU64) -> usize {
    std::ptr::from_ref(word) as usize
}
