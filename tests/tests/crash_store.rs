//! Promises P1 to P4: what was acknowledged is found after any crash, what was under way is there
//! whole or not at all, and what a reader was shown after a recovery stays.
//!
//! Method: random operations on a store in a recorded pool. Before every fence and around every
//! operation the crash is played through: the images that a power failure could leave; a crash in
//! the middle of the recovery of one of them; and a killed process, whose successor opens the pool
//! from the caches, is read, and then loses the power. A failure prints what replays it:
//! `DAXITE_CRASH_SEED=N cargo test -p daxite-tests --test crash_store`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daxite::{Database, Error, Options};
use daxite_core::Pool;
use daxite_core::sim::{CrashPoint, Recorder};
use daxite_tests::{Contents, contents, crash_seed};
use parking_lot::Mutex;

#[derive(Clone, Default)]
struct Expectation {
    acknowledged: Contents,
    /// What the operation under way leads to.
    under_way: Option<Contents>,
}

impl Expectation {
    fn allows(&self, found: &Contents) -> Result<(), String> {
        if *found == self.acknowledged || self.under_way.as_ref() == Some(found) {
            return Ok(());
        }
        let missing = self.acknowledged.keys().filter(|key| !found.contains_key(*key)).count();
        let extra = found.keys().filter(|key| !self.acknowledged.contains_key(*key)).count();
        let changed = found.iter().filter(|(key, value)| {
            self.acknowledged.get(*key).is_some_and(|acknowledged| acknowledged != *value)
        });
        let first = changed.clone().next();
        Err(format!(
            "{missing} keys missing, {extra} extra, {} other values, first {first:?}; {}",
            changed.count(),
            if self.under_way.is_some() {
                "an operation was under way"
            } else {
                "nothing was under way"
            },
        ))
    }
}

fn open(pool: Pool) -> Result<Database, Error> {
    Options::new().lanes(2).on_pool(pool)
}

/// Plays crashes of one point through, and counts the states that were opened.
struct Check {
    seed: u64,
    budget: usize,
    states: AtomicU64,
}

impl Check {
    fn point(&self, point: &CrashPoint<'_>, expectation: &Expectation) {
        let context = |what: &str| format!("seed {}, fence {}: {what}", self.seed, point.fences());
        let choices = point.choices(self.budget, self.seed ^ point.fences());
        for (nth, choice) in choices.iter().enumerate() {
            let context = || context(&format!("power failure, image {choice}"));
            let image = point.image(choice);
            // One image per point is recovered with a second crash at every fence of it.
            let nested = nth as u64 == point.fences() % choices.len() as u64;
            let recorder = nested.then(|| self.crash_in_recovery(expectation, context()));
            let pool = match Pool::from_image(&image, recorder.as_ref()) {
                Ok(pool) => pool,
                Err(daxite_core::Error::NotAPool { .. }) if point.fences() < 5 => continue,
                Err(error) => panic!("{}: {error}", context()),
            };
            self.expect(pool, expectation, &context);
        }
        if point.fences() >= 5 {
            self.kill_then_power_failure(
                point,
                expectation,
                &context("killed, then power failure"),
            );
        }
    }

    fn expect(&self, pool: Pool, expectation: &Expectation, context: &dyn Fn() -> String) {
        self.states.fetch_add(1, Ordering::Relaxed);
        let database = open(pool).unwrap_or_else(|error| panic!("{}: {error}", context()));
        let found = contents(&database).unwrap_or_else(|error| panic!("{}: {error}", context()));
        if let Err(difference) = expectation.allows(&found) {
            panic!("{}: {difference}\n{:?}", context(), database.recovery_report());
        }
    }

    fn crash_in_recovery(&self, expectation: &Expectation, context: String) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder::default());
        let expectation = expectation.clone();
        let seed = self.seed;
        recorder.on_fence(move |point| {
            for choice in point.choices(3, seed ^ point.fences()) {
                let context = format!("{context}, then in recovery, fence {}", point.fences());
                let pool = Pool::from_image(&point.image(&choice), None)
                    .unwrap_or_else(|error| panic!("{context}, image {choice}: {error}"));
                let database = open(pool).unwrap_or_else(|error| panic!("{context}: {error}"));
                let found = contents(&database).unwrap();
                if let Err(difference) = expectation.allows(&found) {
                    panic!("{context}, image {choice}: {difference}");
                }
            }
        });
        recorder
    }

    fn kill_then_power_failure(
        &self,
        point: &CrashPoint<'_>,
        expectation: &Expectation,
        context: &str,
    ) {
        let (pool, recorder) = point.restart().unwrap_or_else(|error| panic!("{context}: {error}"));
        let database = open(pool).unwrap_or_else(|error| panic!("{context}: {error}"));
        let shown = contents(&database).unwrap();
        if let Err(difference) = expectation.allows(&shown) {
            panic!("{context}: before the power failed: {difference}");
        }
        let (seed, context) = (self.seed, context.to_string());
        recorder.on_fence(move |point| {
            for choice in point.choices(4, seed) {
                let pool = Pool::from_image(&point.image(&choice), None)
                    .unwrap_or_else(|error| panic!("{context}, image {choice}: {error}"));
                let database = open(pool).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(
                    contents(&database).unwrap() == shown,
                    "{context}, image {choice}: what was shown is lost"
                );
            }
        });
        recorder.crash_point();
        self.states.fetch_add(4, Ordering::Relaxed);
    }
}

struct Run {
    database: Database,
    recorder: Arc<Recorder>,
    expectation: Arc<Mutex<Expectation>>,
    check: Arc<Check>,
    random: u64,
}

impl Run {
    fn start(seed: u64, pool_bytes: u64, budget: usize) -> Self {
        let recorder = Arc::new(Recorder::default());
        let expectation = Arc::new(Mutex::new(Expectation::default()));
        let check = Arc::new(Check { seed, budget, states: AtomicU64::new(0) });
        let (seen, checks) = (Arc::clone(&expectation), Arc::clone(&check));
        recorder.on_fence(move |point| checks.point(point, &seen.lock()));
        let pool = Pool::recorded(pool_bytes, &recorder).unwrap();
        let database = open(pool).unwrap();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { database, recorder, expectation, check, random }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    /// Runs `act`, which turns the contents into what `change` makes of them.
    fn step<T>(&self, change: impl FnOnce(&mut Contents), act: impl FnOnce() -> T) -> T {
        let mut after = self.expectation.lock().acknowledged.clone();
        change(&mut after);
        self.expectation.lock().under_way = Some(after.clone());
        self.recorder.crash_point();
        let result = act();
        *self.expectation.lock() = Expectation { acknowledged: after, under_way: None };
        self.recorder.crash_point();
        result
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key{:02}", self.random(12)).into_bytes()
    }

    fn value(&mut self, len_max: u64) -> Vec<u8> {
        let len = self.random(len_max) as usize;
        let first = self.random(256) as u8;
        (0..len).map(|at| first.wrapping_add(at as u8)).collect()
    }

    fn one_operation(&mut self, len_max: u64) {
        let name = ["one", "two"][self.random(2) as usize].to_string();
        let database = self.database.clone();
        let keyspace = database.keyspace(&name).unwrap();
        let key = self.key();
        match self.random(10) {
            0..=4 => {
                let value = self.value(len_max);
                let place = (name, key.clone());
                let after = value.clone();
                let put = |contents: &mut Contents| drop(contents.insert(place, after));
                self.step(put, || keyspace.insert(&key, &value).unwrap());
            }
            5 | 6 => {
                let place = (name, key.clone());
                let remove = |contents: &mut Contents| drop(contents.remove(&place));
                self.step(remove, || keyspace.remove(&key).unwrap());
            }
            7 | 8 => self.one_batch(len_max),
            _ => {
                let drop_it = |contents: &mut Contents| contents.retain(|(of, _), _| *of != name);
                self.step(drop_it, || self.database.drop_keyspace(&name).unwrap());
            }
        }
    }

    fn one_batch(&mut self, len_max: u64) {
        let mut batch = self.database.batch();
        let mut changes = Vec::new();
        for name in ["one", "two"] {
            let keyspace = self.database.keyspace(name).unwrap();
            for _ in 0..1 + self.random(3) {
                let key = self.key();
                let value = (self.random(4) > 0).then(|| self.value(len_max));
                match &value {
                    Some(value) => batch.insert(&keyspace, &key, value),
                    None => batch.remove(&keyspace, &key),
                };
                changes.push(((name.to_string(), key), value));
            }
        }
        let apply = |contents: &mut Contents| {
            for (place, value) in changes {
                match value {
                    Some(value) => drop(contents.insert(place, value)),
                    None => drop(contents.remove(&place)),
                }
            }
        };
        self.step(apply, || batch.commit().unwrap());
    }
}

#[test]
fn short_records_survive_a_crash_anywhere() {
    for seed in crash_seed()..crash_seed() + 2 {
        let mut run = Run::start(seed, 4 << 20, 10);
        (0..30).for_each(|_| run.one_operation(100));
        assert!(run.check.states.load(Ordering::Relaxed) > 300, "hardly anything was explored");
    }
}

#[test]
fn segments_that_fill_and_come_back_survive_a_crash_anywhere() {
    let mut run = Run::start(crash_seed(), 4 << 20, 3);
    // Long values fill segments of 128 KiB, and their updates leave dead ones behind.
    (0..60).for_each(|_| run.one_operation(60_000));
    run.step(|_| {}, || run.database.reclaim().unwrap());
    (0..10).for_each(|_| run.one_operation(60_000));
    assert!(run.check.states.load(Ordering::Relaxed) > 200, "hardly anything was explored");
}
