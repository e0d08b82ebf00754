//! Promises P2 and P6, by a reader that shares no code with the library: what a pool says, read in the
//! plainest way from `docs/FORMAT.md`, is what the recovered database has, and every page has one owner.
//!
//! Method: a database after much random work, closed or left; the image is read naively and compared.
//! Then the image is changed in places that the reader must notice. (The crash tests compare in the same
//! way, one state in so many.)

use daxite::{Database, Options};
use daxite_core::Pool;
use daxite_tests::naive::{Owner, compare, read};
use daxite_tests::{Random, contents};

/// A database after `operations` writes, in a pool without any huge page that is whole, or with some.
fn worked_on(pool_bytes: u64, seed: u64, operations: u64) -> Database {
    let database = Options::new().on_pool(Pool::in_memory(pool_bytes).unwrap()).unwrap();
    let random = &mut Random::new(seed);
    for nth in 0..operations {
        let keyspace = database.keyspace(random.pick(&["one", "two", "three"])).unwrap();
        let key = random.below(60).to_be_bytes();
        match random.below(100) {
            0..60 => {
                let len = random.below(20_000);
                keyspace.insert(key, random.bytes(len)).unwrap();
            }
            60..90 => drop(keyspace.remove(key).unwrap()),
            90..97 => {
                let mut batch = database.batch();
                batch.insert(&keyspace, key, nth.to_le_bytes()).remove(&keyspace, [1]);
                batch.commit().unwrap();
            }
            97 => drop(database.drop_keyspace("three").unwrap()),
            98 => keyspace.clear().unwrap(),
            _ => drop(database.reclaim().unwrap()),
        }
    }
    database
}

#[test]
fn a_naive_reader_finds_what_the_database_has() {
    for pool_bytes in [4 << 20, 64 << 20] {
        for seed in 1..4 {
            let database = worked_on(pool_bytes, seed, 800);
            compare(database.pool(), &database).unwrap();
            let pairs = contents(&database).unwrap();
            assert!(pairs.len() > 10, "hardly anything to compare");
            // As it is opened after a kill, and after a close.
            let image = database.pool().image();
            let again = Options::new().on_pool(Pool::from_image(&image, None).unwrap()).unwrap();
            assert!(contents(&again).unwrap() == pairs);
            compare(again.pool(), &again).unwrap();
            again.clone().close().unwrap();
            let closed = again.pool().image();
            let reading = read(&closed[..]).unwrap();
            assert!(reading.contents == pairs);
            assert!(reading.owners.values().any(|owner| matches!(owner, Owner::Bytes(_))));
        }
    }
}

#[test]
fn a_naive_reader_notices_what_is_wrong() {
    let database = worked_on(4 << 20, 7, 300);
    let image = database.pool().image();
    let differs = |image: &[u8]| compare(image, &database).expect_err("what is wrong");
    let reading = read(&image[..]).unwrap();
    let of = |wanted: fn(&Owner) -> bool| {
        let mut pages = reading.owners.iter().filter(|(_, owner)| wanted(owner));
        *pages.next_back().expect("such a page").0 as usize * 4096
    };

    let mut word = image.clone();
    word[of(|owner| matches!(owner, Owner::Table(_))) + 9] ^= 1;
    assert!(differs(&word).contains("a word does not verify"));

    let mut both = image.clone();
    both[0] ^= 1;
    both[2 << 20] ^= 1;
    assert!(differs(&both).contains("no superblock verifies"));

    // A value that nobody removed.
    database.keyspace("one").unwrap().insert("new", "value").unwrap();
    assert!(differs(&image).contains("pairs"));
}
