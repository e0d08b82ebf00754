//! Goal: builds that are broken on purpose are caught. Each mistake is one that real persistent-memory
//! software has made; it is made in the simulator, by a [`Defect`], and nothing of it is in the code
//! that ships.
//!
//! Method: the workload that must notice the defect runs with it. A failure means that the crash tests
//! would not see such a mistake either. (A tombstone that is dropped too early is in
//! `store/src/compact.rs`: it takes a store whose insides can be reached.)

use daxite::test_util::Budget;
use daxite_core::PAGE;
use daxite_core::sim::{Act, Defect, Explorer, Journal, Recorder, Site, Violation};
use daxite_tests::crash::{
    Expected, Shape, StoreWorkload, Volumes, VolumesExpected, VolumesWorkload, store_test,
};

fn budget() -> Budget {
    Budget { kill_every: 2, recovery_every: 5, ..Budget::default() }
}

/// What a store with `defect` is convicted of, if it is; and what it was seen doing.
fn store(defect: Defect) -> (Option<Violation>, std::sync::Arc<Recorder>) {
    let test = store_test().budget(budget()).defect(defect);
    let (result, recorder) = test.run_recorded(1, Expected::default(), |database, journal| {
        let mut workload = StoreWorkload::new(database, journal, Shape::SHORT, 0);
        (0..12).for_each(|_| workload.anything());
        workload.close();
    });
    (result.err(), recorder)
}

/// The same for volumes.
fn volumes(defect: Defect) -> Option<Violation> {
    let explorer = Explorer::new(Volumes, budget()).defect(defect);
    let expected = VolumesExpected::default();
    let result = explorer.run(1, 4 << 20, expected, |pool, journal: &Journal<_>| {
        let mut workload = VolumesWorkload::new(pool, journal);
        let volume = workload.create("plain", 1 << 20);
        workload.write(&volume, PAGE - 10, &[1; 100]);
        drop(volume);
        (0..25).for_each(|_| workload.one_operation());
    });
    result.err()
}

/// The places of `act` in `file` that a run without a defect passes.
fn places(file: &str, act: Act) -> Vec<Site> {
    let (violation, recorder) = store(Defect::None);
    assert_eq!(violation, None, "without a defect");
    let sites = recorder.sites().into_keys();
    let places: Vec<Site> =
        sites.filter(|site| site.file.ends_with(file) && site.act == act).collect();
    assert!(!places.is_empty(), "nothing of {act:?} in {file}");
    places
}

fn assert_caught(violation: Option<Violation>) {
    println!("{}", violation.expect("it should have been caught"));
}

/// Viper shipped without any fence for five weeks.
#[test]
fn a_build_without_fences_is_caught() {
    assert_caught(store(Defect::NoFences).0);
    assert_caught(volumes(Defect::NoFences));
}

/// Viper begins at the unaligned address, and misses the last line of a range.
#[test]
fn a_write_back_that_is_not_rounded_to_lines_is_caught() {
    assert_caught(volumes(Defect::UnroundedWriteBacks));
}

/// Ten of the bugs of Level hashing: a value and its mark under one fence.
#[test]
fn publishing_before_the_fence_is_caught() {
    assert_caught(store(Defect::LateFences(Vec::new())).0);
    assert_caught(volumes(Defect::LateFences(Vec::new())));
}

/// The extent map names a page that is not zeroed yet.
#[test]
fn a_word_of_the_extent_map_before_its_page_is_caught() {
    let fences = places("core/src/fault.rs", Act::Fence);
    assert_caught(volumes(Defect::LateFences(fences)));
}

/// A table of the extent map is linked before what is in it is durable.
#[test]
fn a_word_of_the_extent_map_before_its_table_is_caught() {
    let fences = places("core/src/extent_map.rs", Act::Fence);
    assert_caught(store(Defect::LateFences(fences)).0);
}

/// What a killed process left in the caches is served, and not written back.
#[test]
fn a_recovery_that_does_not_persist_again_what_it_trusts_is_caught() {
    let adopts = places("core/src/extent.rs", Act::WriteBack);
    assert_caught(store(Defect::Without(adopts)).0);
}
