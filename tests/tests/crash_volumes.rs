//! Promise: whatever the DAX layer was doing when the power failed or the process died, the pool opens,
//! every page has one owner, nothing leaks, and everything that was acknowledged is there.
//!
//! Method: random operations on volumes of a recorded pool, and upgrades of slots that were made for
//! it; at each moment that can make a difference the states are opened that a failure could leave, and
//! compared with what was acknowledged (`tests/src/crash/volumes.rs`). A failure prints the
//! `DAXITE_CRASH_REPLAY` that opens just its state.

use std::sync::atomic::{AtomicU64, Ordering};

use daxite_core::sim::{Budget, Explorer, Journal, Tally, Violation};
use daxite_core::{HUGE, LogicalRange, Offset, PAGE, Pool, Volume};
use daxite_tests::crash::{
    Seeds, UpgradeWhen, VOLUME_BYTES_MAX, Volumes, VolumesExpected, VolumesWorkload,
    earlier_volumes, explore_seeds,
};

/// A workload on a pool of `pool_bytes`.
fn explore(
    name: &str,
    pool_bytes: u64,
    seeds: Seeds,
    counted: impl Fn(&Pool) + Sync,
    act: impl Fn(&mut VolumesWorkload<'_>) + Sync,
) -> Tally {
    explore_seeds(name, seeds, |seed, budget| -> Result<Tally, Violation> {
        let explorer = Explorer::new(Volumes, Budget { states: 16, ..budget });
        let expected = VolumesExpected::default();
        explorer.run(seed, pool_bytes, expected, |pool, journal: &Journal<VolumesExpected>| {
            act(&mut VolumesWorkload::new(pool, journal));
            counted(pool);
        })
    })
}

#[test]
fn a_pool_made_over_an_earlier_one_is_either_of_them_after_a_crash_anywhere() {
    for pool_bytes in [4 << 20, 16 << 20] {
        let earlier = earlier_volumes(pool_bytes);
        let tally = explore_seeds("over an earlier pool", Seeds::Few(1), |seed, budget| {
            let explorer = Explorer::new(Volumes, budget).over(earlier.clone());
            explorer.run(seed, pool_bytes, VolumesExpected::default(), |pool, journal| {
                let mut workload = VolumesWorkload::new(pool, journal);
                (0..10).for_each(|_| workload.one_operation());
            })
        });
        assert!(tally.states > 200 && tally.kills > 5, "{tally}");
    }
}

/// What `act` does to a volume of pages with `holes`, with what the counters say of upgrades.
fn explore_upgrades(
    holes: &[u64],
    counted: impl Fn(&Pool) + Sync,
    act: impl Fn(&mut VolumesWorkload<'_>, &Volume) + Sync,
) {
    let tally = explore("upgrades", 16 << 20, Seeds::Few(1), counted, |workload| {
        let grown = workload.volume_of_pages(holes);
        act(workload, &grown);
    });
    assert!(tally.states > 200, "{tally}");
}

fn in_place(pool: &Pool) {
    let counts = pool.fault_counts();
    assert_eq!((counts.upgraded_in_place, counts.relocated), (1, 0));
}

fn by_moving(pool: &Pool) {
    let counts = pool.fault_counts();
    assert_eq!((counts.upgraded_in_place, counts.relocated), (0, 1));
}

#[test]
fn an_upgrade_in_place_survives_a_crash_anywhere() {
    explore_upgrades(&[], in_place, |workload, grown| {
        workload.upgrade(grown);
        workload.write(grown, 2 * PAGE, &[7; 100]);
        workload.set_len(grown, 77);
    });
}

#[test]
fn an_upgrade_in_place_under_a_guard_survives_a_crash_anywhere() {
    explore_upgrades(&[], in_place, |workload, grown| {
        workload.store_and_upgrade(grown, PAGE - 50, &[7; 100], UpgradeWhen::Guarded);
    });
}

#[test]
fn an_upgrade_by_moving_survives_a_crash_anywhere() {
    explore_upgrades(&[7, 300], by_moving, |workload, grown| {
        workload.upgrade(grown);
        workload.write(grown, 7 * PAGE, &[7; 100]);
        workload.zero(grown, LogicalRange::new(PAGE - 50, 100));
    });
}

#[test]
fn an_upgrade_by_moving_what_is_dirty_survives_a_crash_anywhere() {
    explore_upgrades(&[7, 300, 511], by_moving, |workload, grown| {
        workload.store_and_upgrade(grown, PAGE - 50, &[7; 100], UpgradeWhen::Dirty);
    });
}

#[test]
fn a_volume_is_cut_and_grows_over_a_crash_anywhere() {
    for pool_bytes in [4 << 20, 16 << 20] {
        let tally = explore(
            "cuts",
            pool_bytes,
            Seeds::Few(1),
            |_| {},
            |workload| {
                let volume = workload.create("v", VOLUME_BYTES_MAX);
                workload.write(&volume, HUGE - 2 * PAGE, &[5; 4 * PAGE as usize]);
                let cuts = [2 * HUGE, HUGE + PAGE + 100, HUGE + 1, HUGE, HUGE - PAGE - 1, 1];
                cuts.into_iter().for_each(|len_bytes| workload.set_len(&volume, len_bytes));
                workload.write(&volume, 0, &[6]);
                workload.set_len(&volume, 2 * HUGE);
                workload.set_len(&volume, VOLUME_BYTES_MAX);
            },
        );
        assert!(tally.states > 200, "{tally}");
    }
}

#[test]
fn a_list_of_bad_pages_survives_a_crash_anywhere() {
    let tally = explore(
        "bad pages",
        8 << 20,
        Seeds::Few(1),
        // Two are whole; the first one is not any more when it is given back.
        |pool| assert_eq!(pool.fault_counts().allocated_huge, 2),
        |workload| {
            let volume = workload.create("v", VOLUME_BYTES_MAX);
            workload.write(&volume, 0, &[5; 100]);
            let owned = volume.extents(LogicalRange::new(0, 1)).unwrap()[0].physical;
            let pages = [owned, Offset(HUGE + 9 * PAGE), Offset(2 * HUGE - PAGE)];
            pages.into_iter().for_each(|page| workload.meet_bad_page(page));
            workload.punch(&volume, LogicalRange::new(0, HUGE));
            workload.write(&volume, 0, &[6; 100]);
            workload.forget_bad_page(pages[1]);
            workload.write(&volume, HUGE, &[7; 100]);
        },
    );
    assert!(tally.states > 200, "{tally}");
}

#[test]
fn a_pool_of_pages_survives_a_crash_anywhere() {
    let tally = explore(
        "pages",
        4 << 20,
        Seeds::Random { seeds: 2, one_in: 1 },
        |_| {},
        |workload| {
            (0..40).for_each(|_| workload.one_operation());
        },
    );
    assert!(tally.states > 500 && tally.kills > 10 && tally.recoveries > 10, "{tally}");
}

#[test]
fn a_pool_with_huge_pages_survives_a_crash_anywhere() {
    // Hardly any run has none.
    let huge = AtomicU64::new(0);
    let count_huge = |pool: &Pool| {
        huge.fetch_add(pool.fault_counts().allocated_huge, Ordering::Relaxed);
    };
    let tally = explore(
        "huge pages",
        16 << 20,
        Seeds::Random { seeds: 1, one_in: 1 },
        count_huge,
        |workload| {
            (0..60).for_each(|_| workload.one_operation());
        },
    );
    assert!(huge.into_inner() > 0, "no huge page in any run");
    assert!(tally.states > 100 && tally.kills > 10, "{tally}");
}
