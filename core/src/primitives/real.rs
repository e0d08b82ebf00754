//! What runs: `std` and `parking_lot`.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use parking_lot::{Mutex, MutexGuard, RwLock};
pub use std::sync::atomic;
pub use std::thread;

pub(crate) use parking_lot::Condvar;
pub(crate) use parking_lot_core as queue;

/// How long someone goes on waiting.
#[derive(Debug)]
pub struct Patience {
    started: Instant,
    lasts: Duration,
}

impl Patience {
    /// One that lasts from now on.
    pub fn new(lasts: Duration) -> Self {
        Self { started: Instant::now(), lasts }
    }

    /// Whether it is over.
    pub fn is_over(&mut self) -> bool {
        self.started.elapsed() > self.lasts
    }
}

/// Cores that this process may use. Asked once: it takes longer than to open a small pool.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// A number for the current thread, in the order in which threads first asked.
#[inline]
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}

/// Lets a moment pass, before what another thread has under way is looked at again for the `nth` time.
pub fn spin(nth: u32) {
    if nth < 64 { std::hint::spin_loop() } else { thread::yield_now() }
}

/// A step of the current thread that others may see.
#[inline(always)]
pub(crate) fn step() {}
