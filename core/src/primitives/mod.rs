//! The atomics, locks and queues of the DAX protocol: the real ones, or those of a model checker.
//!
//! 1. What decides who may do what (the words of the index, its tables, wait queues, pins, the
//!    length) comes from here, so a model explores the very code that runs.
//! 2. What decides nothing (counters, hints), and locks under which nothing of the above happens
//!    (allocator, extent map, superblock), do not: to a model they are one step.
//!
//! `docs/TESTING.md` says how models are run.

#[cfg(any(loom, shuttle))]
mod modelled;

#[cfg(any(loom, shuttle))]
pub(crate) use modelled::{Condvar, Mutex, MutexGuard, atomic, queue};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use parking_lot_core as queue;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic;
