//! Time, without that for which a thread was ready and had no CPU.
//!
//! On a machine of our own this is the time on the wall. On one that others use too, it is about what the
//! time on the wall would have been: waiting for a lock, for the medium or for another thread counts, and
//! waiting for a CPU does not.

use std::fs;
use std::time::{Duration, Instant};

/// A moment in the life of this thread.
pub(crate) struct Clock {
    started: Instant,
    waited: Duration,
}

/// What has passed since.
#[derive(Clone, Copy, Default)]
pub(crate) struct Passed {
    /// On the wall.
    pub(crate) wall: Duration,
    /// Of that, what the thread waited for a CPU.
    pub(crate) waited: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        // What it waited lies between the two looks at the wall, here and in `stop`.
        let started = Instant::now();
        Self { started, waited: waited() }
    }

    /// On the wall, which is cheap to ask.
    pub(crate) fn wall(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn stop(self) -> Passed {
        let waited = waited() - self.waited;
        Passed { wall: self.started.elapsed(), waited }
    }
}

impl Passed {
    /// What counts.
    pub(crate) fn own(self) -> Duration {
        self.wall - self.waited
    }
}

/// How long this thread has been ready and no CPU ran it; nothing where the kernel does not tell.
///
/// Source: Documentation/scheduler/sched-stats.rst of Linux, the second number of a task's file.
fn waited() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').nth(1).and_then(|waited| waited.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
