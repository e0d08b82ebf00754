//! Promises P1 to P4: what was acknowledged is found after any crash, what was under way is there
//! whole or not at all, and what a reader was shown after a recovery stays.
//!
//! Method: random operations on a store whose every store, write-back and fence is followed
//! (`daxite::test_util`). At each moment that can make a difference the states are opened that a power
//! failure could leave; at some, recovery is interrupted at each of its own moments; and at some the
//! process dies, and its successor shows what it finds, writes, and loses the power. A failure prints
//! the `DAXITE_CRASH_REPLAY` that opens just its state.

use daxite::test_util::{Budget, Tally, Violation};
use daxite_core::LogicalRange;
use daxite_tests::crash::{
    Expected, Seeds, Shape, StoreWorkload, earlier_store, explore_seeds, store_test,
};

fn short(seed: u64, budget: Budget) -> Result<Tally, Violation> {
    let test = store_test().budget(budget);
    test.run(seed, Expected::default(), |database, journal| {
        let mut workload = StoreWorkload::new(database, journal, Shape::SHORT, 0);
        (0..30).for_each(|_| workload.anything());
        workload.close();
    })
}

#[test]
fn short_records_survive_a_crash_anywhere() {
    let tally = explore_seeds("short records", Seeds::Random { seeds: 2, one_in: 1 }, short);
    assert!(tally.states > 3000 && tally.kills > 10 && tally.recoveries > 10, "{tally}");
}

#[test]
fn a_store_made_over_an_earlier_one_shows_nothing_of_it_after_a_crash_anywhere() {
    let earlier = earlier_store(4 << 20);
    let tally = explore_seeds("over an earlier store", Seeds::Few(1), |seed, budget| {
        let test = store_test().budget(budget).over(earlier.clone());
        test.run(seed, Expected::default(), |database, journal| {
            let mut workload = StoreWorkload::new(database, journal, Shape::SHORT, 0);
            (0..10).for_each(|_| workload.anything());
        })
    });
    assert!(tally.states > 500 && tally.kills > 2, "{tally}");
}

fn long(seed: u64, budget: Budget) -> Result<Tally, Violation> {
    let test = store_test().budget(Budget { states: 12, ..budget });
    test.run(seed, Expected::default(), |database, journal| {
        // Values of up to half a segment fill segments, and their updates leave dead ones behind.
        let mut workload = StoreWorkload::new(database, journal, Shape::LONG, 0);
        (0..60).for_each(|_| workload.anything());
        workload.reclaim();
        (0..10).for_each(|_| workload.anything());
    })
}

#[test]
fn segments_that_fill_and_come_back_survive_a_crash_anywhere() {
    let tally = explore_seeds("long records", Seeds::Random { seeds: 2, one_in: 6 }, long);
    assert!(tally.states > 500 && tally.kills > 2, "{tally}");
}

/// Of which so much is taken by another volume, so that reclaim has work from early on.
const BALLAST_BYTES: u64 = 3200 << 10;

fn crowded(seed: u64, budget: Budget) -> Result<Tally, Violation> {
    let test = store_test().budget(Budget { states: 12, ..budget });
    test.run(seed, Expected::default(), |database, journal| {
        let mut workload = StoreWorkload::new(database, journal, Shape::MANY, 0);
        journal.aside(|| {
            let ballast = database.pool().create_volume("ballast", BALLAST_BYTES).unwrap();
            let mut mapped = 0;
            while mapped < BALLAST_BYTES {
                let rest = LogicalRange::new(mapped, BALLAST_BYTES - mapped);
                mapped += ballast.map_mut(rest).unwrap().len() as u64;
            }
        });
        // The first time that something is compacted is far from the start.
        for _ in 0..20 {
            workload.aside(|workload| (0..100).for_each(|_| workload.anything()));
            (0..5).for_each(|_| workload.anything());
        }
        workload.reclaim();
        workload.close();
    })
}

#[test]
fn a_full_pool_that_reclaims_survives_a_crash_anywhere() {
    let tally = explore_seeds("full pool", Seeds::Random { seeds: 2, one_in: 4 }, crowded);
    assert!(tally.states > 500 && tally.kills > 2, "{tally}");
}
