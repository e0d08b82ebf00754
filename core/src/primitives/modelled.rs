//! What `parking_lot` and `parking_lot_core` offer, on the primitives of a model checker.
//!
//! 1. The checker chooses when a thread runs, and so when a deadline passes: time is not looked at.
//! 2. A wait with a deadline ends on its own the next time the thread runs. The checker lets any
//!    other thread run before that, so the deadline passes at every moment that there is.
//! 3. Queues hand out wakes in the order of arrival, under one lock for all keys.

#[cfg(loom)]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use checker::sync;

pub use checker::sync::atomic;
pub use checker::thread;

/// As `parking_lot::Mutex`.
#[derive(Default)]
pub struct Mutex<T>(sync::Mutex<T>);

/// As `parking_lot::MutexGuard`.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// None only while [`Condvar::wait_until`] has given the lock back.
    held: Option<sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// An unlocked one.
    pub fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.0.lock().expect("no thread panicked")) }
    }

    /// The lock, if nobody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = self.0.try_lock().ok()?;
        Some(MutexGuard { mutex: self, held: Some(held) })
    }
}

/// As `parking_lot::RwLock`.
#[derive(Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// An unlocked one.
    pub fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// Waits for the lock, to be shared.
    pub fn read(&self) -> sync::RwLockReadGuard<'_, T> {
        self.0.read().expect("no thread panicked")
    }

    /// Waits for the lock, to be alone.
    pub fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
        self.0.write().expect("no thread panicked")
    }
}

/// How long someone goes on waiting: some looks, between which others may do anything.
#[derive(Debug)]
pub struct Patience {
    looks_left: u32,
}

impl Patience {
    /// One that lasts from now on.
    pub fn new(_lasts: Duration) -> Self {
        Self { looks_left: 3 }
    }

    /// Whether it is over.
    pub fn is_over(&mut self) -> bool {
        let is_over = self.looks_left == 0;
        self.looks_left = self.looks_left.saturating_sub(1);
        is_over
    }
}

/// One: nothing is gained by more.
pub fn cores() -> usize {
    1
}

/// A number for the current thread, the same in each run of a schedule.
#[cfg(shuttle)]
pub fn thread_number() -> usize {
    shuttle::current::me().into()
}

/// A number for the current thread. In models nothing depends on it.
#[cfg(loom)]
pub fn thread_number() -> usize {
    0
}

/// Lets others run, since what is waited for is theirs to do.
pub fn spin(_nth: u32) {
    thread::yield_now();
}

/// A step of the current thread: any other may run before it.
#[cfg(shuttle)]
pub(crate) fn step() {
    atomic::AtomicBool::new(false).load(atomic::Ordering::SeqCst);
}

/// To loom, what is stored to the medium is no step.
#[cfg(loom)]
pub(crate) fn step() {}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("the lock")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("the lock")
    }
}

/// All waits have a deadline, so nobody needs to be told: the checker wakes who waits.
#[derive(Default)]
pub(crate) struct Condvar;

pub(crate) struct TimedOut;

impl Condvar {
    pub(crate) fn notify_all(&self) {}

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _deadline: Instant,
    ) -> TimedOut {
        guard.held = None;
        guard.held = guard.mutex.lock().held;
        TimedOut
    }
}

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        true
    }
}

/// Threads that sleep until they are woken, by key.
pub(crate) mod queue {
    use std::sync::Arc;
    use std::time::Instant;

    pub(crate) use parking_lot_core::{
        DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, ParkResult, ParkToken, UnparkResult, UnparkToken,
    };

    use super::checker;
    use super::sync::{Condvar, Mutex};

    /// A sleeper; its own condition variable tells it from the others.
    struct Sleeper {
        key: usize,
        woken: Arc<Condvar>,
    }

    checker::lazy_static! {
        static ref SLEEPERS: Mutex<Vec<Sleeper>> = Mutex::new(Vec::new());
    }

    /// As `parking_lot_core::park`.
    ///
    /// # Safety
    /// That one's conditions; this form needs none of them.
    pub(crate) unsafe fn park(
        key: usize,
        validate: impl FnOnce() -> bool,
        before_sleep: impl FnOnce(),
        timed_out: impl FnOnce(usize, bool),
        _token: ParkToken,
        deadline: Option<Instant>,
    ) -> ParkResult {
        let mut sleepers = SLEEPERS.lock().expect("no thread panicked");
        if !validate() {
            return ParkResult::Invalid;
        }
        let woken = Arc::new(Condvar::new());
        sleepers.push(Sleeper { key, woken: Arc::clone(&woken) });
        before_sleep();
        let place = |sleepers: &[Sleeper]| {
            sleepers.iter().position(|sleeper| Arc::ptr_eq(&sleeper.woken, &woken))
        };
        if deadline.is_some() {
            drop(sleepers);
            sleepers = SLEEPERS.lock().expect("no thread panicked");
            if let Some(place) = place(&sleepers) {
                sleepers.remove(place);
                timed_out(key, !sleepers.iter().any(|sleeper| sleeper.key == key));
                return ParkResult::TimedOut;
            }
        }
        while place(&sleepers).is_some() {
            sleepers = woken.wait(sleepers).expect("no thread panicked");
        }
        ParkResult::Unparked(DEFAULT_UNPARK_TOKEN)
    }

    /// As `parking_lot_core::unpark_one`.
    ///
    /// # Safety
    /// That one's conditions; this form needs none of them.
    pub(crate) unsafe fn unpark_one(
        key: usize,
        callback: impl FnOnce(UnparkResult) -> UnparkToken,
    ) -> UnparkResult {
        let mut sleepers = SLEEPERS.lock().expect("no thread panicked");
        let mut result = UnparkResult::default();
        let first = sleepers.iter().position(|sleeper| sleeper.key == key);
        let woken = first.map(|first| sleepers.remove(first).woken);
        result.unparked_threads = usize::from(woken.is_some());
        result.have_more_threads = sleepers.iter().any(|sleeper| sleeper.key == key);
        let _ = callback(result);
        if let Some(woken) = woken {
            woken.notify_one();
        }
        result
    }

    /// As `parking_lot_core::unpark_all`.
    ///
    /// # Safety
    /// That one's conditions; this form needs none of them.
    pub(crate) unsafe fn unpark_all(key: usize, _token: UnparkToken) -> usize {
        let mut sleepers = SLEEPERS.lock().expect("no thread panicked");
        let before = sleepers.len();
        sleepers.retain(|sleeper| {
            if sleeper.key == key {
                sleeper.woken.notify_one();
            }
            sleeper.key != key
        });
        before - sleepers.len()
    }
}
