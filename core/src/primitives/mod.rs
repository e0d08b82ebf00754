//! The locks, atomics, threads and waiting of the protocols: the real ones, or a model checker's.
//!
//! 1. What decides who may do what (in `core` the words of the index, its tables, wait queues, pins,
//!    the length; in `store` everything that is shared) comes from here, so a model explores the very
//!    code that runs.
//! 2. What decides nothing (counters, hints), and locks under which nothing of the above happens (the
//!    allocator), do not: to a model they are one step.
//! 3. To shuttle every call to the medium is a step (`step`), in front of which any other thread may
//!    run. So locks under which the medium is stored to are of its kind (`coarse`). To loom, which
//!    has to try all schedules, what happens under them is one step.
//!
//! Not part of the API: for the crate `daxite` alone. `docs/TESTING.md` says how models are run.

#[cfg(any(loom, shuttle))]
mod modelled;
#[cfg(not(any(loom, shuttle)))]
mod real;

#[cfg(any(loom, shuttle))]
pub(crate) use modelled::{Condvar, queue, step};
#[cfg(any(loom, shuttle))]
pub use modelled::{
    Mutex, MutexGuard, Patience, RwLock, atomic, cores, spin, thread, thread_number,
};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::{Condvar, queue, step};
#[cfg(not(any(loom, shuttle)))]
pub use real::{Mutex, MutexGuard, Patience, RwLock, atomic, cores, spin, thread, thread_number};

#[cfg(not(shuttle))]
pub(crate) use crossbeam_epoch as epoch;
#[cfg(shuttle)]
pub(crate) mod epoch;

/// Locks under which the medium is stored to.
pub(crate) mod coarse {
    #[cfg(shuttle)]
    pub(crate) use super::modelled::{Mutex, MutexGuard};
    #[cfg(not(shuttle))]
    pub(crate) use parking_lot::{Mutex, MutexGuard};
}
