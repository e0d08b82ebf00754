//! Sharing `msync` between callers: one caller does the work of all who wait.
//!
//! 1. A caller returns only after a sync that *began* after it came in, and covered its ranges.
//! 2. At most one sync runs at a time. Its failure is the failure of everyone whose ranges it
//!    carried, and of all who come later: the kernel may have dropped what it could not write, so
//!    that a later success would prove nothing.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::units::{ByteRange, Offset, PAGE};

#[derive(Default)]
pub(crate) struct GroupSync {
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Default)]
struct State {
    /// Ranges of callers that no sync has taken up yet, and the round that will.
    waiting: Vec<ByteRange>,
    /// Rounds that have begun.
    begun: u64,
    /// Rounds that have ended.
    ended: u64,
    running: bool,
    /// The round that failed; none after it succeeds.
    failed: Option<(u64, Arc<io::Error>)>,
}

impl GroupSync {
    /// Syncs `ranges` by `sync`, together with the ranges of others.
    pub(crate) fn run(
        &self,
        ranges: &[ByteRange],
        sync: impl Fn(ByteRange) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        state.waiting.extend_from_slice(ranges);
        let my_round = state.begun + 1;
        while state.running && state.begun < my_round {
            self.finished.wait(&mut state);
        }
        if state.begun < my_round {
            let work = merge(std::mem::take(&mut state.waiting));
            state.begun = my_round;
            if state.failed.is_none() {
                state.running = true;
                drop(state);
                let result = work.into_iter().try_for_each(sync);
                state = self.state.lock();
                state.running = false;
                state.failed = result.err().map(|error| (my_round, Arc::new(error)));
            }
            state.ended = my_round;
            self.finished.notify_all();
        }
        while state.ended < my_round {
            self.finished.wait(&mut state);
        }
        match &state.failed {
            Some((round, error)) if *round <= my_round => {
                Err(io::Error::new(error.kind(), Arc::clone(error)))
            }
            _ => Ok(()),
        }
    }
}

/// Page-aligned ranges, sorted, overlapping and adjacent ones made one.
fn merge(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for range in ranges {
        let start = range.start.0 / PAGE * PAGE;
        let end = range.end().0.div_ceil(PAGE) * PAGE;
        match merged.last_mut() {
            Some((_, last_end)) if start <= *last_end => *last_end = end.max(*last_end),
            _ => merged.push((start, end)),
        }
    }
    merged.iter().map(|&(start, end)| ByteRange::new(Offset(start), end - start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn range(start: u64, len_bytes: u64) -> ByteRange {
        ByteRange::new(Offset(start), len_bytes)
    }

    #[test]
    fn ranges_are_aligned_and_merged() {
        let merged = merge(vec![range(PAGE * 4 + 9, 1), range(10, 20), range(PAGE - 1, 2)]);
        assert_eq!(merged, [range(0, 2 * PAGE), range(4 * PAGE, PAGE)]);
    }

    #[test]
    fn every_caller_is_covered_by_a_sync_that_began_after_it_came() {
        let group = GroupSync::default();
        let synced = Mutex::new(std::collections::BTreeMap::<u64, u64>::new());
        let calls = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (group, synced, calls) = (&group, &synced, &calls);
                scope.spawn(move || {
                    for round in 0..200u64 {
                        let start = thread * PAGE;
                        let before = synced.lock().get(&thread).copied().unwrap_or(0);
                        let sync = |range: ByteRange| {
                            calls.fetch_add(1, Ordering::Relaxed);
                            let mut synced = synced.lock();
                            for page in range.start.0 / PAGE..range.end().0 / PAGE {
                                *synced.entry(page).or_default() += 1;
                            }
                            Ok(())
                        };
                        group.run(&[range(start, 8)], sync).unwrap();
                        let after = synced.lock()[&thread];
                        assert!(after > before, "thread {thread}, round {round} was not synced");
                    }
                });
            }
        });
        assert!(calls.load(Ordering::Relaxed) <= 8 * 200);
    }

    #[test]
    fn a_failure_is_final_also_for_who_came_before_it() {
        let group = GroupSync::default();
        let fail = |_| {
            // Until someone waits for the next round, whose own sync would succeed.
            while group.state.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            Err(io::Error::other("no"))
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| group.run(&[range(0, 1)], fail));
            while !group.state.lock().running {
                std::thread::yield_now();
            }
            assert!(group.run(&[range(1, 1)], |_| Ok(())).is_err());
            assert!(first.join().unwrap().is_err());
        });
        assert!(group.run(&[range(0, 1)], |_| Ok(())).is_err());
    }
}
