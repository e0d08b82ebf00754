//! Promise: whatever the DAX layer was doing when the power failed, the pool opens, every page has
//! one owner, and everything that was acknowledged is there.
//!
//! Method: random operations on volumes of a recorded pool. Before every fence, and around every
//! operation, the images that a power failure could leave are made (all of them where they are few,
//! else extremes and samples), opened, and compared with what was acknowledged; the operation under
//! way may be there in any part. A failure prints the seed, the fence and the image's choice, which
//! replay it: `DAXITE_CRASH_SEED=N cargo test -p daxite-tests --test crash_volumes`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daxite_core::sim::{CrashPoint, Recorder};
use daxite_core::{Error, HUGE, LogicalRange, PAGE, Pool, Volume};
use daxite_tests::crash_seed;
use parking_lot::Mutex;

/// What the volumes must hold: a fill byte for each page that is not a hole.
#[derive(Clone, Default, Debug)]
struct Model {
    volumes: BTreeMap<String, BTreeMap<u64, u8>>,
}

/// What was acknowledged, and what is under way and leads to it or not.
#[derive(Default)]
struct Expectation {
    acknowledged: Model,
    under_way: Option<Model>,
}

const SLOTS: u64 = 3;
/// Pages at the head of each slot that operations use.
const PAGES: u64 = 5;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 9
}

/// Opens every image of a crash point and compares it with what is expected.
fn check(point: &CrashPoint<'_>, expectation: &Expectation, seed: u64, budget: usize) -> u64 {
    let choices = point.choices(budget, seed ^ point.fences());
    let states = choices.len() as u64;
    for choice in choices {
        let context = || format!("seed {seed}, fence {}, choice {choice}", point.fences());
        let pool = match Pool::from_image(&point.image(&choice), None) {
            Ok(pool) => pool,
            // Before the first superblock is whole there is nothing to lose.
            Err(Error::NotAPool { .. }) if point.fences() < 4 => continue,
            Err(error) => panic!("{}: {error}", context()),
        };
        if let Err(difference) = compare(&pool, expectation) {
            panic!("{}: {difference}", context());
        }
        pool.occupancy().unwrap_or_else(|error| panic!("{}: {error}", context()));
        pool.close().unwrap();
    }
    states
}

fn compare(pool: &Pool, expectation: &Expectation) -> Result<(), String> {
    let after = expectation.under_way.as_ref().unwrap_or(&expectation.acknowledged);
    let before = &expectation.acknowledged;
    let names: Vec<&String> = before.volumes.keys().chain(after.volumes.keys()).collect();
    for info in pool.volumes().map_err(|error| error.to_string())? {
        if !names.contains(&&info.name) {
            return Err(format!("volume {} was never made, or is gone", info.name));
        }
    }
    for name in names {
        let in_both = before.volumes.contains_key(name) && after.volumes.contains_key(name);
        match pool.volume(name).map_err(|error| error.to_string())? {
            None if in_both => return Err(format!("volume {name} is lost")),
            None => {}
            Some(volume) => {
                let empty = BTreeMap::new();
                let old = before.volumes.get(name).unwrap_or(&empty);
                let new = after.volumes.get(name).unwrap_or(&empty);
                compare_volume(&volume, old, new)
                    .map_err(|what| format!("volume {name}: {what}"))?;
            }
        }
    }
    Ok(())
}

fn compare_volume(
    volume: &Volume,
    old: &BTreeMap<u64, u8>,
    new: &BTreeMap<u64, u8>,
) -> Result<(), String> {
    for page in (0..SLOTS).flat_map(|slot| (0..PAGES).map(move |page| slot * 512 + page)) {
        let allowed = [old, new].map(|model| model.get(&page).copied().unwrap_or(0));
        let mut bytes = [0; PAGE as usize];
        volume.read(page * PAGE, &mut bytes).map_err(|error| format!("page {page}: {error}"))?;
        if let Some(at) = bytes.iter().position(|byte| !allowed.contains(byte)) {
            return Err(format!("page {page} byte {at} is {}, not {allowed:?}", bytes[at]));
        }
    }
    Ok(())
}

struct Run {
    pool: Pool,
    recorder: Arc<Recorder>,
    expectation: Arc<Mutex<Expectation>>,
    states: Arc<AtomicU64>,
}

impl Run {
    fn start(seed: u64, pool_bytes: u64, budget: usize) -> Self {
        let recorder = Arc::new(Recorder::default());
        let expectation = Arc::new(Mutex::new(Expectation::default()));
        let states = Arc::new(AtomicU64::new(0));
        let (seen, counted) = (Arc::clone(&expectation), Arc::clone(&states));
        recorder.on_fence(move |point| {
            let explored = check(point, &seen.lock(), seed, budget);
            counted.fetch_add(explored, Ordering::Relaxed);
        });
        let pool = Pool::recorded(pool_bytes, &recorder).unwrap();
        Self { pool, recorder, expectation, states }
    }

    /// Runs `act`, which turns the acknowledged model into what `change` makes of it.
    fn step<T>(&self, change: impl Fn(&mut Model), act: impl FnOnce() -> T) -> T {
        let mut after = self.expectation.lock().acknowledged.clone();
        change(&mut after);
        self.expectation.lock().under_way = Some(after.clone());
        self.recorder.crash_point();
        let result = act();
        *self.expectation.lock() = Expectation { acknowledged: after, under_way: None };
        self.recorder.crash_point();
        result
    }

    fn one_operation(&self, state: &mut u64) {
        let name = ["a", "b"][(random(state) % 2) as usize].to_string();
        let Some(volume) = self.pool.volume(&name).unwrap() else {
            let make =
                |model: &mut Model| drop(model.volumes.insert(name.clone(), BTreeMap::new()));
            self.step(make, || self.pool.create_volume(&name, 1 << 40).unwrap());
            return;
        };
        let first = random(state) % SLOTS * 512 + random(state) % PAGES;
        let count = 1 + random(state) % (PAGES - first % 512);
        let pages = first..first + count;
        let range = LogicalRange::new(first * PAGE, count * PAGE);
        match random(state) % 8 {
            0..=3 => {
                let fill = 1 + (random(state) % 250) as u8;
                let write = |model: &mut Model| {
                    let pages = pages.clone().map(|page| (page, fill));
                    model.volumes.get_mut(&name).unwrap().extend(pages);
                };
                let bytes = vec![fill; (count * PAGE) as usize];
                self.step(write, || volume.write(range.start, &bytes).unwrap());
            }
            4 | 5 => {
                let punch = |model: &mut Model| {
                    model.volumes.get_mut(&name).unwrap().retain(|page, _| !pages.contains(page));
                };
                self.step(punch, || volume.punch(range).unwrap());
            }
            6 => {
                let slot = first / 512;
                let punch = |model: &mut Model| {
                    model.volumes.get_mut(&name).unwrap().retain(|page, _| page / 512 != slot);
                };
                let whole = LogicalRange::new(slot * HUGE, HUGE);
                self.step(punch, || volume.punch(whole).unwrap());
            }
            _ => {
                drop(volume);
                let remove = |model: &mut Model| drop(model.volumes.remove(&name));
                self.step(remove, || self.pool.remove_volume(&name).unwrap());
            }
        }
    }
}

#[test]
fn a_pool_of_pages_survives_a_crash_anywhere() {
    for seed in crash_seed()..crash_seed() + 3 {
        let run = Run::start(seed, 4 << 20, 24);
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..25).for_each(|_| run.one_operation(&mut state));
        assert!(run.states.load(Ordering::Relaxed) > 500, "hardly anything was explored");
    }
}

#[test]
fn a_pool_with_huge_pages_survives_a_crash_anywhere() {
    let seed = crash_seed();
    let run = Run::start(seed, 12 << 20, 6);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..40).for_each(|_| run.one_operation(&mut state));
    assert!(run.pool.fault_counts().allocated_huge > 0);
    assert!(run.states.load(Ordering::Relaxed) > 100, "hardly anything was explored");
}
