//! Promise: what is acknowledged after a process was killed survives a power failure, even where the
//! killed process left words in the caches that never reached the medium.
//!
//! Method: a recorded pool; at every fence the process dies, and a successor opens what is visible,
//! with what is not yet on the medium still not there. It writes to page after page, each of which is
//! acknowledged; the power fails at any fence, and every image that may be left must have these bytes. A failure prints the
//! fence and the image.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daxite_core::sim::{CrashPoint, Recorder};
use daxite_core::{HUGE, LogicalRange, PAGE, Pool, Volume};

const PAGES: u64 = 4;

fn places() -> impl Iterator<Item = u64> {
    (0..2).flat_map(|slot| (0..PAGES).map(move |page| slot * HUGE + page * PAGE))
}

fn write_all(volume: &Volume, fill: u8) {
    places().for_each(|start| volume.write(start, &[fill; 100]).unwrap());
}

fn killed_then_power_failure(point: &CrashPoint<'_>) -> u64 {
    let Ok((pool, recorder)) = point.restart() else { return 0 };
    let Some(volume) = pool.volume("v").unwrap() else { return 0 };
    let (states, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, sure, fence) = (Arc::clone(&states), Arc::clone(&acknowledged), point.fences());
    recorder.on_fence(move |point| {
        for choice in point.choices(3, fence) {
            let context = format!("killed at fence {fence}, then image {choice}");
            let pool = Pool::from_image(&point.image(&choice), None);
            let pool = pool.unwrap_or_else(|error| panic!("{context}: {error}"));
            let volume =
                pool.volume("v").unwrap().unwrap_or_else(|| panic!("{context}: no volume"));
            for start in places().take(sure.load(Ordering::Relaxed) as usize) {
                let guard = volume.map(LogicalRange::new(start, 100)).unwrap();
                assert_eq!(&*guard, &[9; 100], "{context}: bytes at {start:#x}");
            }
            pool.check();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for start in places() {
        volume.write(start, &[9; 100]).unwrap();
        acknowledged.fetch_add(1, Ordering::Relaxed);
        recorder.crash_point();
    }
    states.load(Ordering::Relaxed)
}

#[test]
fn what_a_successor_acknowledges_survives_though_its_ancestor_was_killed_in_a_fault() {
    for pool_bytes in [4 << 20, 8 << 20] {
        let recorder = Arc::new(Recorder::default());
        let states = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&states);
        recorder.on_fence(move |point| {
            counted.fetch_add(killed_then_power_failure(point), Ordering::Relaxed);
        });
        let pool = Pool::recorded(pool_bytes, &recorder).unwrap();
        let volume = pool.create_volume("v", 1 << 40).unwrap();
        write_all(&volume, 1);
        volume.punch(LogicalRange::new(PAGE, HUGE)).unwrap();
        volume.write(0, &[2; 10]).unwrap();
        volume.punch(LogicalRange::new(0, 2 * HUGE)).unwrap();
        write_all(&volume, 3);
        assert!(states.load(Ordering::Relaxed) > 500, "hardly anything: {states:?}");
    }
}
