//! The store: random writes, batches, keyspaces that come and go, reclaim.
//!
//! Every value is unique and says so itself: which operation wrote it, and a pattern of its length.
//! So a value that is of another operation, or torn, is not among those that may be found.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use daxite::test_util::{CrashTest, Journal};
use daxite::{Database, Options};
use daxite_core::Pool;

use super::Known;
use crate::{Contents, Random, check_space, contents, naive};

/// Of so many states the structure of one is checked, too.
const STRUCTURE_EVERY: u64 = 32;

/// What may be found in a store.
pub type Expected = Known<Contents>;

fn allows(expected: &Expected, found: &Contents) -> Result<(), String> {
    if *found == expected.acknowledged || expected.under_way.as_ref() == Some(found) {
        return Ok(());
    }
    let differs = |key: &&(String, Vec<u8>)| found.get(*key) != expected.acknowledged.get(*key);
    let keys = expected.acknowledged.keys().chain(found.keys());
    let of_under_way = |key: &(String, Vec<u8>)| match &expected.under_way {
        Some(under_way) if found.get(key) == under_way.get(key) => "as it will be",
        _ => "as it never was",
    };
    let differing: BTreeMap<_, _> = keys
        .filter(differs)
        .map(|key| (format!("{}/{}", key.0, key.1.escape_ascii()), of_under_way(key)))
        .collect();
    Err(format!("not what was acknowledged: {differing:?}"))
}

/// The crash test of a store with such contents.
pub fn store_test() -> CrashTest<Expected> {
    let states = AtomicU64::new(0);
    CrashTest::new(move |database: &Database, expected: &Expected| {
        let found = contents(database).map_err(|error| error.to_string())?;
        allows(expected, &found)?;
        // Costs more than all the rest, and hardly depends on which lines survived.
        if states.fetch_add(1, Ordering::Relaxed).is_multiple_of(STRUCTURE_EVERY) {
            database.pool().check();
            check_space(database.pool());
            naive::compare(database.pool(), database)?;
        }
        Ok(())
    })
    .narrow(|database, expected| {
        let acknowledged = contents(database).expect("contents that were just read");
        *expected = Expected { acknowledged, under_way: None };
    })
    .successor(|database, journal| {
        // One write of each kind by whoever comes after a kill.
        let mut workload = StoreWorkload::new(database, journal, Shape::SHORT, 1 << 40);
        workload.insert("one", 3);
        workload.remove("two", 4);
        workload.batch();
    })
}

/// The image of a store with the keys that operations use, and other values.
pub fn earlier_store(pool_bytes: u64) -> Vec<u8> {
    let pool = Pool::in_memory(pool_bytes).unwrap();
    let database = Options::new().lanes(2).on_pool(pool).unwrap();
    for name in ["one", "two"] {
        let keyspace = database.keyspace(name).unwrap();
        (0..Shape::SHORT.keys).for_each(|key| keyspace.insert(name_of(key), [0xee; 90]).unwrap());
    }
    database.pool().image()
}

/// What is written.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Different keys of a keyspace.
    pub keys: u64,
    /// Longest value in bytes.
    pub value_max: u64,
}

impl Shape {
    /// Few keys, values of a few lines.
    pub const SHORT: Self = Self { keys: 12, value_max: 100 };
    /// Values of up to half a segment.
    pub const LONG: Self = Self { keys: 12, value_max: 60_000 };
    /// Values of up to a fifth of a segment of 2 MiB.
    pub const HUGE: Self = Self { keys: 12, value_max: 400_000 };
    /// Many keys, values that together fill a small pool.
    pub const MANY: Self = Self { keys: 150, value_max: 3000 };
}

/// Operations on a store, told to a journal.
pub struct StoreWorkload<'a> {
    database: &'a Database,
    journal: &'a Journal<Expected>,
    shape: Shape,
    random: Random,
    operation: u64,
}

impl<'a> StoreWorkload<'a> {
    /// Operations from number `first` on: numbers must not repeat in the life of a pool.
    pub fn new(
        database: &'a Database,
        journal: &'a Journal<Expected>,
        shape: Shape,
        first: u64,
    ) -> Self {
        let random = Random::new(journal.seed() ^ first);
        Self { database, journal, shape, random, operation: first }
    }

    fn value(&mut self) -> Vec<u8> {
        self.operation += 1;
        let (operation, len) = (self.operation, self.random.below(self.shape.value_max) as usize);
        let mut value = operation.to_le_bytes().to_vec();
        value.extend((0..len).map(|at| (operation as usize + at) as u8));
        value
    }

    fn key(&mut self) -> u64 {
        self.random.below(self.shape.keys)
    }

    /// Runs `act`, which turns the contents into what `change` makes of them.
    fn step<T>(&self, change: impl FnOnce(&mut Contents), act: impl FnOnce() -> T) -> T {
        self.journal.begin(|expected| expected.begin(change));
        let result = act();
        self.journal.end(Known::end);
        result
    }

    /// Inserts a new value.
    pub fn insert(&mut self, keyspace: &str, key: u64) {
        let handle = self.database.keyspace(keyspace).unwrap();
        let (key, value) = (name_of(key), self.value());
        let place = (keyspace.to_string(), key.clone());
        let after = value.clone();
        self.step(
            |contents| drop(contents.insert(place, after)),
            || handle.insert(&key, &value).unwrap(),
        );
    }

    /// Removes a key.
    pub fn remove(&mut self, keyspace: &str, key: u64) {
        let handle = self.database.keyspace(keyspace).unwrap();
        let key = name_of(key);
        let place = (keyspace.to_string(), key.clone());
        self.step(|contents| drop(contents.remove(&place)), || handle.remove(&key).unwrap());
    }

    /// A batch over both keyspaces.
    pub fn batch(&mut self) {
        let mut batch = self.database.batch();
        let mut changes = Vec::new();
        for name in ["one", "two"] {
            let keyspace = self.database.keyspace(name).unwrap();
            for _ in 0..1 + self.random.below(3) {
                let key = name_of(self.key());
                let value = (self.random.below(4) > 0).then(|| self.value());
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

    /// Gives dead space back.
    pub fn reclaim(&self) {
        self.step(|_| {}, || self.database.reclaim().unwrap());
    }

    /// What it takes to get to what is tested, without a crash in it.
    pub fn aside(&mut self, act: impl FnOnce(&mut Self)) {
        let journal = self.journal;
        journal.aside(|| act(self));
    }

    /// Anything, at random.
    pub fn anything(&mut self) {
        let name = self.random.pick(&["one", "two"]);
        let key = self.key();
        match self.random.below(200) {
            0..110 => self.insert(name, key),
            110..155 => self.remove(name, key),
            155..195 => self.batch(),
            195..198 => self.reclaim(),
            198 => {
                let drop_it = |contents: &mut Contents| contents.retain(|(of, _), _| of != name);
                self.step(drop_it, || self.database.drop_keyspace(name).unwrap());
            }
            _ => {
                let handle = self.database.keyspace(name).unwrap();
                let clear = |contents: &mut Contents| contents.retain(|(of, _), _| of != name);
                self.step(clear, || handle.clear().unwrap());
            }
        }
    }

    /// Closes the database in good order.
    pub fn close(self) {
        self.step(|_| {}, || self.database.clone().close().unwrap());
    }
}

fn name_of(key: u64) -> Vec<u8> {
    format!("key{key:03}").into_bytes()
}
