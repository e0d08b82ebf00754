//! Promise: what returned is found after any power failure, what did not return is there whole or
//! not at all, and what a recovery showed is not lost by the next failure (P1 to P4).
//!
//! Method: the simulator of the DAX layer follows every store of a small database. Before each
//! fence it makes images that a power failure could leave; each is opened and compared with the
//! acknowledged state, with or without the write under way. Some are opened under the simulator
//! again, so that the power also fails during recovery and right after it. The pool is small and
//! nearly full, so that compaction, retiring and new segments take part all the time.
//!
//! A failure prints the seed, the fence and the choice, which together replay it.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Random, value_of};
use daxite::daxite_core::Pool;
use daxite::daxite_core::sim::{CrashPoint, Recorder};
use daxite::{Database, Options};

/// The smallest pool.
const POOL_BYTES: u64 = 4 << 20;
/// Of which so much is taken by another volume, so that reclaim has work from early on.
const BALLAST_BYTES: u64 = 3200 << 10;

/// Different keys per keyspace.
const KEYS: u64 = 150;

type Model = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// What may be found: the acknowledged state, and that with the write under way.
#[derive(Clone, Default)]
struct Expected {
    acked: Model,
    in_flight: Option<Model>,
}

impl Expected {
    fn allows(&self, found: &Model) -> bool {
        *found == self.acked || self.in_flight.as_ref() == Some(found)
    }
}

fn contents(db: &Database) -> Model {
    let mut model = Model::new();
    for name in db.keyspaces() {
        let keyspace = db.get_keyspace(&name).unwrap().unwrap();
        for pair in keyspace.iter() {
            let (key, value) = pair.unwrap();
            model.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    model
}

fn differences(found: &Model, expected: &Expected) -> String {
    let name = |(name, key): &(String, Vec<u8>)| format!("{name}/{}", key.escape_ascii());
    let unlike = |a: &Model, b: &Model| {
        let unlike = a.iter().filter(|(key, value)| b.get(*key) != Some(value));
        unlike.map(|(key, _)| name(key)).collect::<Vec<_>>().join(" ")
    };
    let acked = &expected.acked;
    format!("missing: {}; not expected: {}", unlike(acked, found), unlike(found, acked))
}

struct Explorer {
    seed: u64,
    budget: usize,
    /// The steps whose fences are looked at.
    looked_at: Vec<bool>,
    step: AtomicU64,
    expected: Mutex<Expected>,
    images: AtomicU64,
}

impl Explorer {
    fn look(&self, point: &CrashPoint<'_>) {
        let step = self.step.load(Ordering::Relaxed) as usize;
        if !self.looked_at.get(step).copied().unwrap_or(false) {
            return;
        }
        let expected = self.expected.lock().unwrap().clone();
        let choices = point.choices(self.budget, self.seed ^ point.fences());
        for (nth, choice) in choices.iter().enumerate() {
            self.images.fetch_add(1, Ordering::Relaxed);
            let place = format!("seed {}, fence {}, choice {choice}", self.seed, point.fences());
            let image = point.image(choice);
            // Every eighth is opened under the simulator.
            match (nth as u64 + point.fences()) % 8 {
                0 => self.crash_again(&image, &expected, &place),
                _ => drop(check(&image, None, &expected, &place)),
            }
        }
    }

    /// Opens `image`, and lets the power fail meanwhile and afterwards.
    fn crash_again(&self, image: &[u8], expected: &Expected, place: &str) {
        let recorder = Arc::new(Recorder::default());
        let (hook_expected, hook_place) = (expected.clone(), format!("{place}, in recovery"));
        recorder.on_fence(move |point| {
            for choice in point.choices(3, point.fences()) {
                let place = format!("{hook_place} fence {} choice {choice}", point.fences());
                check(&point.image(&choice), None, &hook_expected, &place);
            }
        });
        let found = check(image, Some(&recorder), expected, place);
        // What was shown once stays.
        let shown = Expected { acked: found, in_flight: None };
        let place = format!("{place}, after recovery");
        recorder.on_fence(move |point| {
            for choice in point.choices(3, 1) {
                check(&point.image(&choice), None, &shown, &place);
            }
        });
        recorder.crash_point();
        self.images.fetch_add(3, Ordering::Relaxed);
    }
}

/// Opens `image` and compares it with what is `expected`. Answers what is there.
fn check(
    image: &[u8],
    recorder: Option<&Arc<Recorder>>,
    expected: &Expected,
    place: &str,
) -> Model {
    let pool = Pool::from_image(image, recorder).unwrap_or_else(|e| panic!("{place}: {e}"));
    let db = Options::new().on_pool(pool).unwrap_or_else(|e| panic!("{place}: {e}"));
    let found = contents(&db);
    assert!(expected.allows(&found), "{place}: {}", differences(&found, expected));
    found
}

/// One random write to `db`, told to `explorer` before and after.
fn step(db: &Database, explorer: &Explorer, random: &mut Random) {
    let before = explorer.expected.lock().unwrap().acked.clone();
    let mut after = before.clone();
    let name = ["left", "right"][random.below(2) as usize];
    let key = random.below(KEYS).to_be_bytes()[6..].to_vec();
    let len = [10, 200, 1000, 3000][random.below(4) as usize];
    let value = value_of(random.next(), random.below(len) as usize);
    let set = |after: &mut Model, name: &str, key: &[u8], value: &[u8]| {
        after.insert((name.to_string(), key.to_vec()), value.to_vec());
    };
    let choice = random.below(1000);
    match choice {
        0..600 => set(&mut after, name, &key, &value),
        600..850 => drop(after.remove(&(name.to_string(), key.clone()))),
        850..998 => {
            set(&mut after, "left", &key, &value);
            set(&mut after, "right", &key, &value);
            after.remove(&(name.to_string(), vec![0, 1]));
        }
        _ => after.retain(|(keyspace, _), _| keyspace != name),
    }
    explorer.expected.lock().unwrap().in_flight = Some(after.clone());
    let keyspace = db.keyspace(name).unwrap();
    match choice {
        0..600 => keyspace.insert(&key, &value).unwrap(),
        600..850 => drop(keyspace.remove(&key).unwrap()),
        850..998 => {
            let (left, right) = (db.keyspace("left").unwrap(), db.keyspace("right").unwrap());
            let mut batch = db.batch();
            batch.insert(&left, &key, &value).insert(&right, &key, &value);
            batch.remove(&keyspace, [0, 1]);
            batch.commit().unwrap();
        }
        998 => drop(db.drop_keyspace(name).unwrap()),
        _ => keyspace.clear().unwrap(),
    }
    *explorer.expected.lock().unwrap() = Expected { acked: after, in_flight: None };
}

/// Runs `steps` random writes of `seed`. Answers how many fences each took.
fn run(seed: u64, steps: u64, recorder: &Arc<Recorder>, explorer: &Arc<Explorer>) -> Vec<u64> {
    let pool = Pool::recorded(POOL_BYTES, recorder).unwrap();
    let ballast = pool.create_volume("ballast", BALLAST_BYTES).unwrap();
    ballast.write(0, &vec![0xda; BALLAST_BYTES as usize]).unwrap();
    let db = Options::new().on_pool(pool).unwrap();
    let random = &mut Random::new(seed);
    let mut fences = Vec::new();
    for nth in 0..steps {
        explorer.step.store(nth, Ordering::Relaxed);
        let before = recorder.fences();
        if nth + 1 == steps {
            db.reclaim().unwrap();
        } else {
            step(&db, explorer, random);
        }
        fences.push(recorder.fences() - before);
    }
    db.close().unwrap();
    recorder.crash_point();
    fences
}

/// Explores the crashes of `steps` writes of `seed`: all those of writes that do more than append
/// a frame, and some of the others.
fn explore(seed: u64, steps: u64, budget: usize) -> u64 {
    let explorer = |looked_at| {
        Arc::new(Explorer {
            seed,
            budget,
            looked_at,
            step: AtomicU64::new(u64::MAX),
            expected: Mutex::default(),
            images: AtomicU64::new(0),
        })
    };
    // The same twice: first to see which writes are worth it.
    let fences = run(seed, steps, &Arc::default(), &explorer(Vec::new()));
    let looked_at = fences.iter().enumerate().map(|(nth, fences)| *fences > 1 || nth % 40 == 0);
    let explorer = explorer(looked_at.collect());
    let recorder = Arc::new(Recorder::default());
    let hook = Arc::clone(&explorer);
    recorder.on_fence(move |point| hook.look(point));
    assert_eq!(run(seed, steps, &recorder, &explorer), fences, "the two runs differ");
    explorer.images.load(Ordering::Relaxed)
}

#[test]
fn acknowledged_writes_survive_power_failures() {
    let images: u64 = (0..2).map(|seed| explore(seed, 2500, 3)).sum();
    println!("{images} images");
    assert!(images > 1000);
}

#[test]
#[ignore = "takes minutes"]
fn acknowledged_writes_survive_many_power_failures() {
    let seeds = std::env::var("DAXITE_SEEDS").map_or(20, |seeds| seeds.parse().unwrap());
    let images: u64 = (100..100 + seeds).map(|seed| explore(seed, 6000, 8)).sum();
    println!("{images} images");
}
