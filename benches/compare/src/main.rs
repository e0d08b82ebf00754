//! The same workloads over Daxite and its peers, round by round.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml` prints a report in Markdown. With
//! `-- --write` it goes into `docs/PERFORMANCE.md` instead. `DAXITE_BENCH_KEYS` says how many keys (100,000),
//! `DAXITE_BENCH_POOL` in which folder the stores live (`/dev/shm`), `DAXITE_BENCH_ROUNDS` how often each is
//! measured (3), `DAXITE_BENCH_SLICE_MS` how long each workload of a round runs (50).
//!
//! A round goes through the contestants one after the other: only one store is open at a time, so what
//! one does in the background slows down itself and nobody else.

mod record;

mod ledger;
mod scan_check;

mod draw;
mod workload;

mod peers;

mod arena;
mod clock;
#[cfg(test)]
mod liars;
mod plan;
mod reopen;

mod report;
mod results;

use std::time::Duration;

use daxite_benches::Place;

use arena::Arena;
use clock::Passed;
use peers::{Contestant, Durability, contestants};
use plan::Plan;
use reopen::{End, FILL, reopen};
use report::Report;
use results::{Measure, Results};
use workload::WORKLOADS;

/// Whatever a store says that went wrong, or what is wrong with an answer. Either ends the run.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Error>;

fn main() -> Outcome<()> {
    let slice = Duration::from_millis(setting("DAXITE_BENCH_SLICE_MS", 50)?.into());
    let plan = Plan::new(setting("DAXITE_BENCH_KEYS", 100_000)?, slice);
    let mut args = std::env::args().skip(1);
    let write = match args.next().as_deref() {
        None => false,
        Some("--write") => true,
        Some(FILL) => return reopen::fill(&plan, args),
        Some(other) => return Err(format!("what is {other}? there is only --write").into()),
    };
    let rounds = setting("DAXITE_BENCH_ROUNDS", 3)?;
    let contestants = contestants();
    let mut results = Results::default();
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            // Another one is first in each round.
            let number = (turn + round as usize) % contestants.len();
            let contestant = &contestants[number];
            eprintln!("round {} of {rounds}: {}", round + 1, contestant.title());
            measure(&plan, number, contestant, &mut results)
                .map_err(|error| format!("{}: {error}", contestant.title()))?;
        }
    }
    let report = Report { plan: &plan, rounds, contestants: &contestants, results: &results };
    if write { report.write() } else { report.print() }
}

/// A number from the environment.
fn setting(name: &str, default: u32) -> Outcome<u32> {
    match std::env::var(name) {
        Ok(given) => given.parse().map_err(|_| format!("{name}={given} is no number").into()),
        Err(_) => Ok(default),
    }
}

/// One round of one contestant.
fn measure(
    plan: &Plan,
    number: usize,
    contestant: &Contestant,
    results: &mut Results,
) -> Outcome<()> {
    let place = Place::default();
    let folder = place.path("store");
    std::fs::create_dir(&folder)?;
    let peer = (contestant.open)(&folder, contestant.durability, plan.room())?;
    let arena = Arena::new(plan, &*peer);
    for workload in WORKLOADS {
        for threads in workload.threads() {
            let rate = arena
                .run(workload, *threads)
                .map_err(|error| format!("{}, {threads} threads: {error}", workload.title()))?;
            results.add(Measure::Rate(workload, *threads), number, rate.per_second);
            let Passed { wall, waited } = rate.passed;
            results.add(Measure::Waited, number, waited.as_secs_f64() / wall.as_secs_f64());
        }
    }
    arena.check()?;
    drop(arena);
    peer.close()?;
    if contestant.durability == Durability::Durable {
        for end in [End::Closed, End::Killed] {
            let place = Place::default();
            let folder = place.path("store");
            std::fs::create_dir(&folder)?;
            let reopened = reopen(plan, number, &folder, end)?;
            match end {
                End::Closed => {
                    results.add(Measure::OpenClosed, number, reopened.open_ms);
                    results.add(Measure::Space, number, reopened.space);
                    results.add(Measure::SpaceInUse, number, reopened.in_use);
                }
                End::Killed => results.add(Measure::OpenKilled, number, reopened.open_ms),
            }
        }
    }
    Ok(())
}
