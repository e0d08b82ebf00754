//! Time, without that for which other processes kept a thread from running.
//!
//! On a machine of our own this is the time on the wall. On one that others use too, it is what the time on
//! the wall would have been: waiting for a lock, for the medium or for a thread of the store counts, and
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
        Self { waited: waited(), started: Instant::now() }
    }

    /// On the wall, which is cheap to ask.
    pub(crate) fn wall(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn stop(self) -> Passed {
        let wall = self.started.elapsed();
        Passed { wall, waited: waited().saturating_sub(self.waited).min(wall) }
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
