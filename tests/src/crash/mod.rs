//! Workloads that are crashed at every moment, and what must be found afterwards.

mod store;
mod volumes;

use std::time::{Duration, Instant};

use daxite_core::sim::{Budget, Tally, Violation};

pub use store::{Expected, Shape, StoreWorkload, store_test};
pub use volumes::{
    SLOTS, UpgradeWhen, VOLUME_BYTES_MAX, Volumes, VolumesExpected, VolumesWorkload,
};

/// The seed that crash tests begin with: `DAXITE_CRASH_SEED`.
pub fn crash_seed() -> u64 {
    number("DAXITE_CRASH_SEED").unwrap_or(1)
}

/// For how long each crash test runs: `DAXITE_CRASH_SECONDS`.
pub fn crash_seconds() -> Option<u64> {
    number("DAXITE_CRASH_SECONDS")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

/// Explores seed after seed on all cores: `seeds` of them, or for [`crash_seconds`]. The sum of it.
///
/// # Panics
/// With the first violation.
pub fn explore_seeds(
    name: &str,
    seeds: u64,
    explore: impl Fn(u64, Budget) -> Result<Tally, Violation> + Sync,
) -> Tally {
    let until = crash_seconds().map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let first = crash_seed();
    let total = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                let explore = &explore;
                scope.spawn(move || {
                    let mut total = Tally::default();
                    for nth in (core..).step_by(cores as usize) {
                        let is_over = match until {
                            Some(until) => Instant::now() > until,
                            None => nth >= seeds,
                        };
                        if is_over {
                            break;
                        }
                        let tally = explore(first + nth, Budget { until, ..Budget::default() });
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
