//! Promise: a database is a map. Whatever is done to it, over crashes of the process and
//! reopenings, it holds what a `BTreeMap` holds to which the same was done.
//!
//! Method: random operations with a printed seed, on a small pool so that reclaim takes part. A
//! database that is dropped without being closed stands for a killed process. A failure means that
//! an operation was lost, invented or misordered.

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Random, pool_path, value_of};
use daxite::{Database, Error, Keyspace, Options};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(random: &mut Random, keys: u64) -> Vec<u8> {
    let n = random.below(keys);
    let mut key = n.to_be_bytes()[6..].to_vec();
    // Keys that are prefixes of others, and the empty one.
    key.truncate((n % 3) as usize);
    key.extend_from_slice(&vec![0xff; (n % 4) as usize]);
    key
}

fn value(random: &mut Random) -> Vec<u8> {
    let len = match random.below(20) {
        0 => 0,
        1 => random.below(20_000),
        2..6 => random.below(1000),
        _ => random.below(120),
    };
    value_of(random.next(), len as usize)
}

fn compare(keyspace: &Keyspace, model: &Model, seed: u64) {
    assert_eq!(keyspace.len(), model.len() as u64, "seed {seed}");
    let pairs: Vec<_> = keyspace.iter().map(Result::unwrap).collect();
    assert_eq!(pairs.len(), model.len(), "seed {seed}");
    for ((key, value), (model_key, model_value)) in pairs.iter().zip(model) {
        assert_eq!(&**key, model_key.as_slice(), "seed {seed}");
        assert_eq!(&**value, model_value.as_slice(), "seed {seed}, key {model_key:?}");
        assert_eq!(keyspace.get(key).unwrap().as_ref(), Some(value), "seed {seed}");
    }
    let mut model_pairs = model.iter();
    let ended = keyspace.range_with(.., |key, value| {
        let (model_key, model_value) = model_pairs.next().expect("no more than the model has");
        assert_eq!((key, value), (model_key.as_slice(), model_value.as_slice()), "seed {seed}");
        ControlFlow::<()>::Continue(())
    });
    assert!(ended.unwrap().is_continue() && model_pairs.next().is_none(), "seed {seed}");
    // Each key twice, and a neighbour of it that is there or not.
    let keys: Vec<_> = model
        .keys()
        .flat_map(|key| [key.clone(), [key, &b"\0"[..]].concat(), key.clone()])
        .collect();
    let values = keyspace.get_many(&keys).unwrap();
    assert_eq!(values.len(), keys.len(), "seed {seed}");
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(value.as_deref(), model.get(key).map(Vec::as_slice), "seed {seed}, key {key:?}");
    }
}

fn read_step(keyspace: &Keyspace, model: &Model, random: &mut Random, seed: u64) {
    let (a, b) = (key(random, 300), key(random, 300));
    match random.below(6) {
        0 => {
            let found = keyspace.get(&a).unwrap().map(|value| value.to_vec());
            assert_eq!(found.as_ref(), model.get(&a), "seed {seed}");
            assert_eq!(keyspace.size_of(&a).unwrap(), model.get(&a).map(Vec::len), "seed {seed}");
            assert_eq!(keyspace.contains_key(&a).unwrap(), model.contains_key(&a), "seed {seed}");
        }
        1 => {
            let mut ours = keyspace.prefix(&a).keys().map(|key| key.unwrap().to_vec());
            let mut theirs = model.keys().filter(|key| key.starts_with(&a)).cloned();
            assert!(ours.by_ref().eq(theirs.by_ref()), "seed {seed}, prefix {a:?}");
        }
        4 => {
            let count = random.below(40) as usize;
            let mut ours = Vec::new();
            let ended = keyspace.range_with(&a[..].., |key, _| {
                if ours.len() == count {
                    return ControlFlow::Break(key.to_vec());
                }
                ours.push(key.to_vec());
                ControlFlow::Continue(())
            });
            let mut theirs = model.range(a.clone()..).map(|(key, _)| key);
            assert!(ours.iter().eq(theirs.by_ref().take(count)), "seed {seed}, range {a:?}");
            let next = theirs.next().cloned();
            assert_eq!(ended.unwrap().break_value(), next, "seed {seed}, range {a:?}");
        }
        2 => {
            let ours = keyspace.range((Bound::Excluded(&a), Bound::Included(&b)));
            let ours: Vec<_> = ours.rev().map(|pair| pair.unwrap().0.to_vec()).collect();
            let theirs = model.keys().rev().filter(|key| **key > a && **key <= b);
            assert!(ours.iter().eq(theirs), "seed {seed}, range {a:?} {b:?}");
        }
        3 => {
            // From both ends in turn.
            let mut ours = keyspace.range(&a..).keys();
            let mut theirs = model.range(a.clone()..).map(|(key, _)| key);
            loop {
                let (ours, theirs) = match random.below(2) {
                    0 => (ours.next(), theirs.next()),
                    _ => (ours.next_back(), theirs.next_back()),
                };
                let ours = ours.map(|key| key.unwrap().to_vec());
                assert_eq!(ours.as_ref(), theirs, "seed {seed}, range {a:?}..");
                if ours.is_none() {
                    break;
                }
            }
        }
        _ => {
            let first =
                keyspace.first().unwrap().map(|(key, value)| (key.to_vec(), value.to_vec()));
            assert_eq!(first, model.clone().pop_first(), "seed {seed}");
            let last = keyspace.last().unwrap().map(|(key, value)| (key.to_vec(), value.to_vec()));
            assert_eq!(last, model.clone().pop_last(), "seed {seed}");
        }
    }
}

fn write_step(keyspace: &Keyspace, model: &mut Model, random: &mut Random, seed: u64) {
    let key = key(random, 300);
    let old = model.get(&key).cloned();
    match random.below(12) {
        0..5 => {
            let value = value(random);
            keyspace.insert(&key, &value).unwrap();
            model.insert(key, value);
        }
        5 => {
            let value = value(random);
            let was = keyspace.replace(&key, &value).unwrap();
            assert_eq!(was.as_deref(), old.as_deref(), "seed {seed}");
            model.insert(key, value);
        }
        6..9 => {
            assert_eq!(keyspace.remove(&key).unwrap(), old.is_some(), "seed {seed}");
            model.remove(&key);
        }
        9 => {
            assert_eq!(keyspace.take(&key).unwrap().as_deref(), old.as_deref(), "seed {seed}");
            model.remove(&key);
        }
        10 => {
            let new = value(random);
            let swapped = keyspace.compare_and_swap(&key, old.as_deref(), Some(&new)).unwrap();
            assert_eq!(swapped, Ok(()), "seed {seed}");
            model.insert(key, new);
        }
        _ => {
            let wrong = Some(&b"never there"[..]);
            let lost = keyspace.compare_and_swap(&key, wrong, None).unwrap().unwrap_err();
            assert_eq!(lost.current.as_deref(), old.as_deref(), "seed {seed}");
        }
    }
}

fn batch_step(db: &Database, keyspaces: &mut [(Keyspace, Model)], random: &mut Random) {
    let mut batch = db.batch();
    for _ in 0..random.below(30) {
        let which = random.below(keyspaces.len() as u64) as usize;
        let (keyspace, model) = &mut keyspaces[which];
        let key = key(random, 300);
        if random.below(3) == 0 {
            batch.remove(keyspace, &key);
            model.remove(&key);
        } else {
            let value = value_of(random.next(), random.below(200) as usize);
            batch.insert(keyspace, &key, &value);
            model.insert(key, value);
        }
    }
    batch.commit().unwrap();
}

fn run(seed: u64, capacity: u64, steps: u64) {
    let random = &mut Random::new(seed);
    let (_folder, path) = pool_path();
    let mut db = Options::new().capacity(capacity).create(&path).unwrap();
    let open = |db: &Database, models: Vec<Model>| -> Vec<(Keyspace, Model)> {
        let names = ["a", "b", "ç"].into_iter();
        names.zip(models).map(|(name, model)| (db.keyspace(name).unwrap(), model)).collect()
    };
    let mut keyspaces = open(&db, vec![Model::new(); 3]);
    for _ in 0..steps {
        let which = random.below(3) as usize;
        match random.below(400) {
            0 => {
                let models = keyspaces.into_iter().map(|(_, model)| model).collect();
                match random.below(3) {
                    0 => db.close().unwrap(),
                    _ => drop(db),
                }
                db = Database::open(&path).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                keyspaces = open(&db, models);
                keyspaces.iter().for_each(|(keyspace, model)| compare(keyspace, model, seed));
            }
            1 => {
                let (keyspace, model) = &mut keyspaces[which];
                if random.below(2) == 0 {
                    keyspace.clear().unwrap();
                } else {
                    let name = keyspace.name().to_string();
                    assert!(db.drop_keyspace(&name).unwrap());
                    let dropped = keyspace.insert("x", "y").unwrap_err();
                    assert!(matches!(dropped, Error::KeyspaceDropped { .. }), "seed {seed}");
                    *keyspace = db.keyspace(&name).unwrap();
                }
                model.clear();
            }
            2 => drop(db.reclaim().unwrap()),
            3..40 => batch_step(&db, &mut keyspaces, random),
            40..140 => read_step(&keyspaces[which].0, &keyspaces[which].1, random, seed),
            _ => {
                let (keyspace, model) = &mut keyspaces[which];
                write_step(keyspace, model, random, seed);
            }
        }
    }
    keyspaces.iter().for_each(|(keyspace, model)| compare(keyspace, model, seed));
    let stats = db.stats();
    let live: u64 =
        keyspaces.iter().map(|(keyspace, _)| keyspace.stats().unwrap().record_bytes).sum();
    let names: u64 = stats.live_bytes - live;
    assert!(names < 200, "seed {seed}: {names} bytes are live in no keyspace");
    assert_eq!(stats.live_records, keyspaces.iter().map(|(k, _)| k.len()).sum::<u64>() + 3);
}

#[test]
fn a_database_is_a_map() {
    for seed in 0..12 {
        run(seed, 4 << 20, 6000);
    }
}

#[test]
fn a_database_on_huge_pages_is_a_map() {
    for seed in 100..102 {
        run(seed, 64 << 20, 20_000);
    }
}

#[test]
fn threads_on_disjoint_keys_do_not_disturb_each_other() {
    for (seed, capacity) in [(0, 5 << 20), (1, 6 << 20), (2, 16 << 20), (3, 64 << 20)] {
        let (_folder, path) = pool_path();
        let db = Options::new().capacity(capacity).lanes(3).create(&path).unwrap();
        let models: Vec<Model> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let keyspace = db.keyspace("shared").unwrap();
                    scope.spawn(move || churn(&keyspace, thread, seed))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let model: Model = models.into_iter().flatten().collect();
        compare(&db.keyspace("shared").unwrap(), &model, seed);
        drop(db);
        let db = Database::open(&path).unwrap();
        compare(&db.keyspace("shared").unwrap(), &model, seed);
    }
}

/// Writes to keys that start with `thread`, and reads all.
fn churn(keyspace: &Keyspace, thread: u8, seed: u64) -> Model {
    let random = &mut Random::new(seed * 16 + u64::from(thread));
    let mut model = Model::new();
    for _ in 0..20_000 {
        let mut key = vec![thread];
        key.extend(random.below(800).to_le_bytes());
        match random.below(8) {
            0 => {
                let there = model.remove(&key).is_some();
                assert_eq!(keyspace.remove(&key).unwrap(), there, "seed {seed}");
            }
            1 => {
                let found = keyspace.get(&key).unwrap();
                assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice), "seed {seed}");
            }
            2 if random.below(50) == 0 => {
                let keys: Vec<_> = keyspace.iter().keys().map(Result::unwrap).collect();
                assert!(keys.is_sorted(), "seed {seed}");
                let ours = keys.iter().filter(|key| key[0] == thread).count();
                assert_eq!(ours, model.len(), "seed {seed}");
            }
            _ => {
                let value = value_of(random.next(), random.below(600) as usize);
                keyspace.insert(&key, &value).unwrap();
                model.insert(key, value);
            }
        }
    }
    model
}

/// A value that proves that it is whole, and whose.
fn self_checking(key: u64, tag: u64) -> Vec<u8> {
    let mut value = [key.to_le_bytes(), tag.to_le_bytes()].concat();
    value.extend(value_of(tag, 100 + tag as usize % 700));
    value
}

fn check_whole(key: &[u8], value: &[u8]) {
    let key = u64::from_be_bytes(key.try_into().unwrap());
    let tag = u64::from_le_bytes(value[8..16].try_into().unwrap());
    assert!(*value == *self_checking(key, tag), "key {key}, tag {tag}");
}

#[test]
fn readers_see_whole_values_while_their_space_is_reclaimed() {
    let db = Options::new().capacity(4 << 20).lanes(2).in_memory().unwrap();
    let keyspace = &db.keyspace("k").unwrap();
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2u64)
            .map(|writer| {
                scope.spawn(move || {
                    let random = &mut Random::new(writer);
                    for n in 0..60_000 {
                        let key = random.below(2000) * 2 + writer;
                        let value = self_checking(key, n);
                        match random.below(10) {
                            0 => drop(keyspace.remove(key.to_be_bytes()).unwrap()),
                            _ => keyspace.insert(key.to_be_bytes(), value).unwrap(),
                        }
                    }
                })
            })
            .collect();
        for reader in 0..2u64 {
            scope.spawn(move || {
                let random = &mut Random::new(100 + reader);
                let mut held = VecDeque::new();
                while !done.load(Ordering::Relaxed) {
                    let key = random.below(4000).to_be_bytes();
                    keyspace.get_with(key, |value| check_whole(&key, value)).unwrap();
                    let pairs = keyspace.range(key..).take(20).map(Result::unwrap);
                    held.extend(pairs.inspect(|(key, value)| check_whole(key, value)));
                    while held.len() > 40 {
                        let (key, value): (daxite::Key, daxite::Value) = held.pop_front().unwrap();
                        check_whole(&key, &value);
                    }
                }
            });
        }
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert!(db.stats().seqno.0 > 50_000, "{:?}", db.stats());
}
