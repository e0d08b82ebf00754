//! Promise: a full database takes removals, and their space comes back. Overwriting goes on for
//! ever on a pool that is not full of live data.
//!
//! Method: fill until `Full`, read, remove all, fill again; overwrite at random for many times the
//! size of the pool. A failure means that reclaim has too little reserve, gains nothing, or that
//! space leaks.

mod common;

use common::{Random, pool_path, value_of};
use daxite::{Database, Error, Keyspace, Options};

fn database(capacity: u64) -> (Database, Keyspace) {
    let db = Options::new().capacity(capacity).in_memory().unwrap();
    let keyspace = db.keyspace("space").unwrap();
    (db, keyspace)
}

/// Inserts values until the database is full. Answers how many.
fn fill(keyspace: &Keyspace, value_len: usize) -> u64 {
    let value = value_of(1, value_len);
    for n in 0u64.. {
        match keyspace.insert(n.to_be_bytes(), &value) {
            Ok(()) => {}
            Err(Error::Full { .. }) => return n,
            Err(error) => panic!("after {n}: {error}"),
        }
    }
    unreachable!()
}

fn fill_and_empty(capacity: u64, value_len: usize, rounds: u64) {
    let (db, keyspace) = database(capacity);
    let first = fill(&keyspace, value_len);
    let value = value_of(1, value_len);
    for round in 0..rounds {
        let what = format!("{capacity} bytes, values of {value_len}, round {round}");
        let count = keyspace.len();
        // Of values so large that only a few fit, one may find its place broken up.
        let enough = count * 100 >= first * 95 || count + 1 >= first;
        assert!(enough, "{what}: {count} after {first}: {:#?}", db.stats());
        for n in 0..count {
            let same = keyspace.get_with(n.to_be_bytes(), |found| *found == *value).unwrap();
            assert_eq!(same, Some(true), "{what}: {n}");
        }
        // Not in the order of insertion: every segment dies slowly.
        let step = (0..).map(|n| count / 3 + n).find(|step| gcd(*step, count) == 1).unwrap();
        for n in 0..count {
            let key = (n * step % count).to_be_bytes();
            let removed = keyspace.remove(key);
            assert!(
                matches!(removed, Ok(true)),
                "{what}: {n} of {count}: {removed:?} {:#?}",
                db.stats()
            );
        }
        assert!(keyspace.is_empty());
        fill(&keyspace, value_len);
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[test]
fn a_full_small_pool_takes_removals_and_fills_again() {
    for value_len in [0, 10, 100, 1000, 5000, 30_000, 200_000] {
        fill_and_empty(4 << 20, value_len, 10);
    }
}

#[test]
fn a_full_pool_of_huge_pages_takes_removals_and_fills_again() {
    for value_len in [100, 3000, 700_000] {
        fill_and_empty(64 << 20, value_len, 3);
    }
}

#[test]
#[ignore = "takes minutes and 1 GiB"]
fn a_full_large_pool_takes_removals_and_fills_again() {
    for (value_len, rounds) in [(100, 2), (1000, 10), (1 << 20, 10)] {
        fill_and_empty(1 << 30, value_len, rounds);
    }
}

/// Overwrites random keys while `live_percent` of the pool is live, 20 times the pool's size.
fn overwrite(capacity: u64, value_len: usize, live_percent: u64) {
    let (db, keyspace) = database(capacity);
    let record = value_len as u64 + 8 + 12 + 8;
    let keys = capacity * live_percent / 100 / record;
    let value = value_of(1, value_len);
    let random = &mut Random::new(7);
    for n in 0..keys {
        keyspace.insert(n.to_be_bytes(), &value).unwrap();
    }
    for n in 0..20 * capacity / record {
        let key = random.below(keys).to_be_bytes();
        if let Err(error) = keyspace.insert(key, &value) {
            panic!("{error} at {n}, {keys} keys, values of {value_len}: {:#?}", db.stats());
        }
    }
    assert_eq!(keyspace.len(), keys);
}

#[test]
fn overwriting_goes_on_in_a_small_pool() {
    for (value_len, live_percent) in [(100, 60), (500, 65), (1000, 70), (4000, 70)] {
        overwrite(4 << 20, value_len, live_percent);
    }
}

#[test]
fn overwriting_goes_on_in_a_pool_of_huge_pages() {
    overwrite(64 << 20, 1000, 70);
    overwrite(64 << 20, 40_000, 60);
}

#[test]
#[ignore = "takes a minute and 1 GiB"]
fn overwriting_goes_on_in_a_large_pool() {
    overwrite(1 << 30, 1000, 70);
}

#[test]
fn tombstones_of_keys_that_come_and_go_do_not_pile_up() {
    let (db, keyspace) = database(4 << 20);
    // A part that never changes, older than everything else.
    for n in 0..2000u64 {
        keyspace.insert(n.to_be_bytes(), [1; 300]).unwrap();
    }
    for n in 0..300_000u64 {
        let key = (1 << 40 | n).to_be_bytes();
        keyspace.insert(key, [2; 100]).unwrap();
        assert!(keyspace.remove(key).unwrap());
    }
    assert_eq!(keyspace.len(), 2000);
    assert!(db.stats().tombstones < 60_000, "{:#?}", db.stats());
}

#[test]
fn a_value_that_is_held_stays_and_its_space_comes_back_later() {
    let (db, keyspace) = database(4 << 20);
    keyspace.insert("held", value_of(9, 900)).unwrap();
    let held = keyspace.get("held").unwrap().unwrap();
    keyspace.remove("held").unwrap();
    for n in 0..100_000u64 {
        keyspace.insert((n % 50).to_be_bytes(), value_of(n, 500)).unwrap();
    }
    assert_eq!(&*held, value_of(9, 900));
    assert!(db.reclaim().unwrap().retired_segments >= 1, "{:#?}", db.stats());
    drop(held);
    let report = db.reclaim().unwrap();
    assert_eq!(report.retired_segments, 0, "{report:?} {:#?}", db.stats());
    keyspace.clear().unwrap();
    db.reclaim().unwrap();
    let stats = db.stats();
    assert!(stats.log_bytes <= 512 << 10, "{stats:#?}");
}

#[test]
fn a_crash_of_a_full_pool_in_the_middle_of_reclaim_leaves_it_usable() {
    let (_folder, path) = pool_path();
    let (keys, value) = (2400u64, value_of(1, 1000));
    let mut db = Options::new().capacity(4 << 20).create(&path).unwrap();
    let mut keyspace = db.keyspace("space").unwrap();
    for n in 0..keys {
        // Tombstones everywhere, each of which is needed.
        let passing = (1 << 40 | n).to_be_bytes();
        keyspace.insert(passing, "").unwrap();
        keyspace.insert(n.to_be_bytes(), &value).unwrap();
        keyspace.remove(passing).unwrap();
    }
    for round in 0..10u64 {
        let random = &mut Random::new(round);
        // Readers keep every segment, so what reclaim empties cannot be given back: it copies until its
        // reserve is used up.
        let held: Vec<_> = keyspace.iter().map(|pair| pair.unwrap().1).collect();
        let full = loop {
            if let Err(error) = keyspace.insert(random.below(keys).to_be_bytes(), &value) {
                break error;
            }
        };
        assert!(matches!(full, Error::Full { .. }), "{full}");
        assert!(db.reclaim().unwrap().retired_segments > 0, "nothing was emptied");
        // The process is killed, and with it the readers.
        drop((held, keyspace, db));
        db = Database::open(&path).unwrap();
        assert!(!db.recovery_report().was_clean);
        keyspace = db.get_keyspace("space").unwrap().unwrap();
        assert_eq!(keyspace.len(), keys);
        for n in 0..keys {
            let what = format!("round {round}, key {n}");
            let same = keyspace.get_with(n.to_be_bytes(), |found| *found == *value).unwrap();
            assert_eq!(same, Some(true), "{what}");
            let put = keyspace.insert(n.to_be_bytes(), &value);
            put.unwrap_or_else(|error| panic!("{what}: {error}: {:#?}", db.stats()));
        }
    }
}

#[test]
fn a_full_database_says_so_and_changes_nothing() {
    let (db, keyspace) = database(4 << 20);
    let count = fill(&keyspace, 1000);
    let full = keyspace.insert("one more", [0; 1000]).unwrap_err();
    assert!(matches!(full, Error::Full { needed: 1000.., free: 1.. }), "{full}");
    assert_eq!(keyspace.get("one more").unwrap(), None);
    let mut batch = db.batch();
    for n in 0..100u64 {
        batch.insert(&keyspace, (1 << 50 | n).to_be_bytes(), [0; 1000]);
    }
    assert!(matches!(batch.commit(), Err(Error::Full { .. })));
    assert_eq!(keyspace.len(), count);
    assert!(matches!(db.keyspace("another"), Ok(_) | Err(Error::Full { .. })));
}
