//! Promise: what is acknowledged after a process was killed survives a power failure, even where the
//! killed process left words in the caches that never reached the medium.
//!
//! Method: a recorded pool; at every moment the process dies, and a successor opens what is visible,
//! with what is not yet on the medium still not there. It writes to page after page, each of which is
//! acknowledged; the power fails at any of its moments, and every state that may be left must have these
//! bytes. A failure prints the `DAXITE_CRASH_REPLAY` that opens just its state.

use daxite_core::sim::{Budget, Explorer, Journal, Subject};
use daxite_core::{HUGE, LogicalRange, PAGE, Pool, Volume};

const PAGES: u64 = 4;

fn places() -> impl Iterator<Item = u64> {
    (0..2).flat_map(|slot| (0..PAGES).map(move |page| slot * HUGE + page * PAGE))
}

fn write_all(volume: &Volume, fill: u8) {
    places().for_each(|start| volume.write(start, &[fill; 100]).unwrap());
}

/// Expects so many places to have what the successor wrote.
struct Successor;

impl Subject for Successor {
    type Expected = usize;
    type Recovered = Pool;

    fn recover(&self, pool: Pool) -> Result<Pool, String> {
        pool.check();
        Ok(pool)
    }

    fn check(&self, pool: &Pool, acknowledged: &usize) -> Result<(), String> {
        let Some(volume) = pool.volume("v").unwrap() else {
            return if *acknowledged == 0 { Ok(()) } else { Err("no volume".to_string()) };
        };
        for start in places().take(*acknowledged) {
            let guard = volume.map(LogicalRange::new(start, 100)).unwrap();
            if *guard != [9; 100] {
                return Err(format!("the bytes at {start:#x} are {:?}", &guard[..4]));
            }
        }
        Ok(())
    }

    fn go_on(&self, pool: &Pool, journal: &Journal<usize>) {
        let Some(volume) = pool.volume("v").unwrap() else { return };
        for start in places() {
            volume.write(start, &[9; 100]).unwrap();
            journal.end(|acknowledged| *acknowledged += 1);
        }
    }
}

#[test]
fn what_a_successor_acknowledges_survives_though_its_ancestor_was_killed_in_a_fault() {
    for pool_bytes in [4 << 20, 8 << 20] {
        // The power never fails before the process died.
        let budget = Budget { states: 1, kill_every: 1, recovery_every: 0, ..Budget::default() };
        let explorer = Explorer::new(Successor, Budget { depth: 1, ..budget });
        let tally = explorer.run(1, pool_bytes, 0, |pool, _| {
            let volume = pool.create_volume("v", 1 << 40).unwrap();
            write_all(&volume, 1);
            volume.punch(LogicalRange::new(PAGE, HUGE)).unwrap();
            volume.write(0, &[2; 10]).unwrap();
            volume.punch(LogicalRange::new(0, 2 * HUGE)).unwrap();
            write_all(&volume, 3);
        });
        let tally = tally.unwrap_or_else(|violation| panic!("{violation}"));
        assert!(tally.states > 500 && tally.kills > 20, "{tally}");
    }
}
