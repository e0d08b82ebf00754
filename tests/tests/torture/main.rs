//! Promises P1 to P3 and P6 with real processes and real kills: what was acknowledged is found, what was
//! under way is there whole or not at all, opening takes no longer than the data accounts for, and no
//! space leaks, however often a pool was left by SIGKILL.
//!
//! Method: one pool ages over all cycles. In each a process opens it, and up to 32 of its threads put,
//! overwrite, remove, swap, write batches, clear and reclaim, on keys that they share; it is killed
//! while it opens, works, reclaims or closes. Every value names the write that made it (`Stamp`), and
//! every operation is told to the parent through a pipe before it begins and after it ended (`Ledger`).
//! Then another process examines the pool, opens it, and tells what is in it; `History` decides whether
//! that can be. At the end everything is removed, and the space must be back.
//!
//! A process that is silent for longer than it may take is killed, and that is a failure, too. A failure
//! keeps the pool and the ledger, says where they are, and with which seed it happened; how threads meet
//! is not repeatable.
//!
//! `DAXITE_KILLS` sets the number of kills (10), `DAXITE_TORTURE_SEED` the seed (1), `DAXITE_TEST_DIR` the
//! place.

mod cycle;
mod look;
mod plan;
mod worker;

use daxite_tests::{my_part, number};
use plan::PoolKind;

/// Kills of the pool of pages for one of the pool of huge pages, in which a cycle takes longer.
const SMALL_FOR_ONE_LARGE: u64 = 4;

fn kills() -> u64 {
    number("DAXITE_KILLS").unwrap_or(10)
}

fn seed() -> u64 {
    number("DAXITE_TORTURE_SEED").unwrap_or(1)
}

#[test]
fn a_pool_of_pages_survives_being_killed_again_and_again() {
    cycle::run(PoolKind::Pages, seed(), kills() - kills() / SMALL_FOR_ONE_LARGE);
}

#[test]
fn a_pool_of_huge_pages_survives_being_killed_again_and_again() {
    cycle::run(PoolKind::Huge, seed(), kills() / SMALL_FOR_ONE_LARGE);
}

#[test]
#[ignore = "a part that the other tests start processes for"]
fn part() {
    let Some((part, ledger)) = my_part() else { return };
    let (role, rest) = part.split_once(' ').expect("a role and what it needs");
    let (plan, path) = plan::Plan::parse(rest);
    match role {
        "work" => worker::work(&plan, &path, &ledger),
        "look" => look::look(&plan, &path, &ledger),
        "empty" => look::empty(&plan, &path, &ledger),
        _ => panic!("nobody knows the part {role:?}"),
    }
}
