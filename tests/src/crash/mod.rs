//! Workloads that are crashed at every moment, and what must be found afterwards.

mod store;
mod volumes;

use std::time::{Duration, Instant};

use daxite_core::sim::{Budget, Tally, Violation};

use crate::number;

pub use store::{Expected, Shape, StoreWorkload, earlier_store, store_test};
pub use volumes::{
    SLOTS, UpgradeWhen, VOLUME_BYTES_MAX, Volumes, VolumesExpected, VolumesWorkload,
    earlier_volumes,
};

/// What may be found: what was acknowledged, or what the operation under way leads to.
#[derive(Clone, Default)]
pub struct Known<T> {
    /// What was acknowledged.
    pub acknowledged: T,
    /// What the operation under way leads to.
    pub under_way: Option<T>,
}

impl<T: Clone> Known<T> {
    /// An operation begins that makes of it what `change` does.
    fn begin(&mut self, change: impl FnOnce(&mut T)) {
        let mut after = self.acknowledged.clone();
        change(&mut after);
        self.under_way = Some(after);
    }

    /// The operation is over.
    fn end(&mut self) {
        self.acknowledged = self.under_way.take().expect("what was begun");
    }
}

/// The seed that crash tests begin with: `DAXITE_CRASH_SEED`.
pub fn crash_seed() -> u64 {
    number("DAXITE_CRASH_SEED").unwrap_or(1)
}

/// For how long each crash test runs: `DAXITE_CRASH_SECONDS`.
pub fn crash_seconds() -> Option<u64> {
    number("DAXITE_CRASH_SECONDS")
}

/// Which seeds of a workload are explored.
#[derive(Clone, Copy)]
pub enum Seeds {
    /// So many, whatever time is given: another seed makes little difference.
    Few(u64),
    /// As many as can be in the time that [`crash_seconds`] gives, or so many without it.
    Random {
        /// How many without a time.
        seeds: u64,
        /// Of so many moments one is looked at then.
        one_in: u64,
    },
}

/// Explores seed after seed on all cores. The sum of it.
///
/// # Panics
/// With the first violation.
pub fn explore_seeds(
    name: &str,
    seeds: Seeds,
    explore: impl Fn(u64, Budget) -> Result<Tally, Violation> + Sync,
) -> Tally {
    let time = crash_seconds().map(Duration::from_secs);
    let (seeds, one_in, until) = match (seeds, time) {
        (Seeds::Few(seeds), _) => (seeds, 1, None),
        (Seeds::Random { seeds, one_in }, None) => (seeds, one_in, None),
        (Seeds::Random { .. }, Some(time)) => (u64::MAX, 3, Some(Instant::now() + time)),
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let first = crash_seed();
    let total = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                let explore = &explore;
                scope.spawn(move || {
                    let mut total = Tally::default();
                    for nth in (core..).step_by(cores as usize) {
                        if nth >= seeds || until.is_some_and(|until| Instant::now() > until) {
                            break;
                        }
                        let budget = Budget { one_in, until, ..Budget::default() };
                        let tally = explore(first + nth, budget);
                        total += tally.unwrap_or_else(|violation| panic!("{violation}"));
                    }
                    total
                })
            })
            .collect();
        threads.into_iter().fold(Tally::default(), |mut total, thread| {
            total += thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            total
        })
    });
    println!("{name}: {total}");
    total
}
