//! A small pool with some history, at several moments of it: what is damaged in tests of damage.

use daxite::{Database, Options};
use daxite_core::{Offset, PAGE};

use crate::{Log, Shown, shown, test_folder};

/// A pool at several moments.
pub struct Subject {
    /// At an earlier clean close.
    pub earlier: Vec<u8>,
    /// As a kill leaves it: segments that are sealed, and some that are not.
    pub killed: Vec<u8>,
    /// After the clean close of that life: everything is sealed.
    pub closed: Vec<u8>,
    /// What the last two hold.
    pub shown: Shown,
}

/// Pages of it that met a media error: a free one in an early life, one more in the last.
pub const BAD_PAGES: [u64; 2] = [POOL_BYTES / PAGE - 1, POOL_BYTES / PAGE - 3];

/// Length of the pool, the shortest there is.
pub const POOL_BYTES: u64 = 4 << 20;

impl Subject {
    /// The pool with keys that were overwritten and removed in several lives, some moved by reclaim,
    /// beside a volume with three pages. Pools of different `salt` have the same history and different
    /// values, and so on: nothing of one is right in the other.
    pub fn new(salt: u8) -> Self {
        let folder = test_folder("daxite-damage");
        let path = folder.path().join("pool");
        let write = |database: &Database, numbers: std::ops::Range<u32>| {
            for number in numbers {
                let keyspace = database.keyspace(["a", "b"][number as usize % 2]).unwrap();
                let len = [10, 90, 700][number as usize % 3];
                let value = vec![number as u8 ^ salt; len];
                keyspace.insert(format!("key {}", number % 40), value).unwrap();
                if number % 7 == 0 {
                    keyspace.remove(format!("key {}", (number + 6) % 40)).unwrap();
                }
            }
        };
        let database = Options::new().capacity(POOL_BYTES).lanes(2).create(&path).unwrap();
        let plain = database.pool().create_volume("plain", 4 << 30).unwrap();
        for at in [0, 5 << 20, 3 << 30] {
            plain.write(at, &[0x51; 100]).unwrap();
        }
        drop(plain);
        database.pool().meet_bad_page(Offset(BAD_PAGES[0] * PAGE));
        write(&database, 0..50);
        // Killed, so that the next life seals what this one wrote.
        drop(database);
        let database = Options::new().lanes(2).open(&path).unwrap();
        write(&database, 50..70);
        database.keyspace("dropped").unwrap().insert("key", "value").unwrap();
        database.drop_keyspace("dropped").unwrap();
        database.reclaim().unwrap();
        database.close().unwrap();
        let earlier = std::fs::read(&path).unwrap();
        let database = Options::new().lanes(2).open(&path).unwrap();
        write(&database, 70..90);
        database.pool().meet_bad_page(Offset(BAD_PAGES[1] * PAGE));
        let keyspace = database.keyspace("a").unwrap();
        let mut batch = database.batch();
        batch
            .insert(&keyspace, "one", "1")
            .insert(&keyspace, "two", "2")
            .remove(&keyspace, "key 2");
        batch.commit().unwrap();
        drop(keyspace);
        write(&database, 90..100);
        let killed = std::fs::read(&path).unwrap();
        let shown = shown(&database).unwrap();
        database.close().unwrap();
        let closed = std::fs::read(&path).unwrap();
        for image in [&killed, &closed] {
            assert!(Log::of(image).unwrap().shows() == shown, "the model of the log is wrong");
        }
        let is_sealed = |sealed| {
            let mut segments = Log::of(&killed).unwrap().segments.into_iter();
            segments.any(|segment| segment.contents.is_some_and(|found| found.is_sealed == sealed))
        };
        assert!(is_sealed(true) && is_sealed(false), "a kill leaves both");
        Self { earlier, killed, closed, shown }
    }
}
