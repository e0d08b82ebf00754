//! Operations on a database, compared with a `BTreeMap`.
//!
//! An input is operations, one after the other, on a small pool that fills up: writes, batches, reads
//! from both ends, reclaim, keyspaces that come and go, and lives that end by a close or by a kill. What
//! an operation answers must be what the model answers; a full pool changes nothing.

use std::collections::BTreeMap;
use std::ops::Bound;

use daxite::{Database, Error, Keyspace, Options};

use super::input::Input;
use crate::{POOL_BYTES, Shown, shown, test_folder};

/// The most operations of an input.
const OPERATIONS_MAX: usize = 200;
/// Keyspaces that there may be.
const NAMES: [&str; 3] = ["a", "b", "long name"];

type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A database and what must be in it.
struct Run {
    folder: tempfile::TempDir,
    /// Absent only between two lives.
    database: Option<Database>,
    model: Model,
    /// Operations that met a full pool.
    full: u64,
}

pub(super) fn run(bytes: &[u8]) -> String {
    let folder = test_folder("daxite-fuzz");
    let options = Options::new().capacity(POOL_BYTES).lanes(2);
    let database = options.create(folder.path().join("pool")).expect("a new pool");
    let mut run = Run { folder, database: Some(database), model: Model::new(), full: 0 };
    let mut input = Input::new(bytes);
    let mut kinds = [0u64; 16];
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.below(kinds.len());
        kinds[kind] += 1;
        run.operation(kind, &mut input);
    }
    run.check();
    // Which kinds there were, and how often roughly.
    let met =
        kinds.map(|count| ["none", "one", "some", "many"][count.min(12).div_ceil(4) as usize]);
    let total = kinds.iter().sum::<u64>().div_ceil(16);
    format!("{} of {met:?}; full: {}", "x".repeat(total as usize), run.full > 0)
}

impl Run {
    fn operation(&mut self, kind: usize, input: &mut Input<'_>) {
        match kind {
            0..=3 => self.insert(input),
            4 => self.remove(input),
            5 => self.swap(input),
            6 | 7 => self.batch(input),
            8 | 9 => self.read(input),
            10 => {
                let reclaimed = self.database().reclaim();
                reclaimed.unwrap_or_else(|error| panic!("reclaim answers: {error}"));
            }
            11 => self.change_keyspace(input),
            12 => {
                self.database.take().expect("a life").close().expect("a close");
                self.reopen();
            }
            13 => {
                self.kill();
                self.reopen();
            }
            14 => self.look(),
            _ => self.check(),
        }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("a life")
    }

    /// A keyspace, which is made if there is none. `None` if the pool is full.
    fn keyspace(&mut self, input: &mut Input<'_>) -> Option<Keyspace> {
        let name = *input.pick(&NAMES);
        let keyspace = self.database().keyspace(name);
        let keyspace = self.unless_full(keyspace)?;
        self.model.entry(name.to_string()).or_default();
        Some(keyspace)
    }

    /// What was answered; `None` if the pool is full.
    fn unless_full<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(Error::Full { .. }) => {
                self.full += 1;
                None
            }
            Err(error) => panic!("an operation answers: {error}"),
        }
    }

    fn of(&mut self, keyspace: &Keyspace) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        self.model.get_mut(keyspace.name()).expect("a keyspace of the model")
    }

    fn insert(&mut self, input: &mut Input<'_>) {
        let Some(keyspace) = self.keyspace(input) else { return };
        let (key, value) = (key(input), value(input));
        let before = self.of(&keyspace).get(&key).cloned();
        let replaced = keyspace.replace(&key, &value);
        if let Some(replaced) = self.unless_full(replaced) {
            assert_eq!(replaced.map(|value| value.to_vec()), before);
            self.of(&keyspace).insert(key, value);
        }
    }

    fn remove(&mut self, input: &mut Input<'_>) {
        let Some(keyspace) = self.keyspace(input) else { return };
        let key = key(input);
        let removed =
            keyspace.remove(&key).unwrap_or_else(|error| panic!("remove answers: {error}"));
        assert_eq!(removed, self.of(&keyspace).remove(&key).is_some());
    }

    fn swap(&mut self, input: &mut Input<'_>) {
        let Some(keyspace) = self.keyspace(input) else { return };
        let (key, new) = (key(input), value(input));
        let new = (input.below(3) > 0).then_some(new);
        let current = self.of(&keyspace).get(&key).cloned();
        // What it holds, nothing, or something.
        let expected = match input.below(4) {
            0 => None,
            1 => Some(value(input)),
            _ => current.clone(),
        };
        let swapped = keyspace.compare_and_swap(&key, expected.as_deref(), new.as_deref());
        match self.unless_full(swapped) {
            None => {}
            Some(Ok(())) => {
                assert_eq!(expected, current, "swapped against something else");
                match new {
                    Some(new) => drop(self.of(&keyspace).insert(key, new)),
                    None => drop(self.of(&keyspace).remove(&key)),
                }
            }
            Some(Err(lost)) => {
                assert_ne!(expected, current, "not swapped");
                assert_eq!(lost.current.map(|value| value.to_vec()), current);
            }
        }
    }

    fn batch(&mut self, input: &mut Input<'_>) {
        let mut after = self.model.clone();
        let mut keyspaces = Vec::new();
        for _ in 0..1 + input.below(8) {
            let Some(keyspace) = self.keyspace(input) else { return };
            after.entry(keyspace.name().to_string()).or_default();
            keyspaces.push(keyspace);
        }
        let mut batch = self.database().batch();
        for keyspace in &keyspaces {
            let of = after.get_mut(keyspace.name()).expect("it was made");
            let key = key(input);
            match input.below(3) {
                0 => {
                    batch.remove(keyspace, &key);
                    of.remove(&key);
                }
                _ => {
                    let value = value(input);
                    batch.insert(keyspace, &key, &value);
                    of.insert(key, value);
                }
            }
        }
        if self.unless_full(batch.commit()).is_some() {
            self.model = after;
        }
    }

    /// Reads a range from one end, or from both in turns.
    fn read(&mut self, input: &mut Input<'_>) {
        let Some(keyspace) = self.keyspace(input) else { return };
        let (a, b) = (key(input), key(input));
        let low = [Bound::Included(a.clone()), Bound::Excluded(a.clone()), Bound::Unbounded];
        let high = [Bound::Included(b.clone()), Bound::Excluded(b.clone()), Bound::Unbounded];
        let range = (low[input.below(3)].clone(), high[input.below(3)].clone());
        // A `BTreeMap` panics at ranges that are upside down; here they are empty.
        let is_in = |key: &&Vec<u8>| {
            let starts = match &range.0 {
                Bound::Included(low) => *key >= low,
                Bound::Excluded(low) => *key > low,
                Bound::Unbounded => true,
            };
            let ends = match &range.1 {
                Bound::Included(high) => *key <= high,
                Bound::Excluded(high) => *key < high,
                Bound::Unbounded => true,
            };
            starts && ends
        };
        let of = self.of(&keyspace);
        let mut expected = of.iter().filter(|(key, _)| is_in(key));
        let mut found = keyspace
            .range((range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice)));
        let turns = input.byte();
        for nth in 0..=of.len() {
            let is_front = turns >> (nth % 8) & 1 == 0;
            let (found, expected) = match is_front {
                true => (found.next(), expected.next()),
                false => (found.next_back(), expected.next_back()),
            };
            let found = found.map(|pair| pair.expect("a pair"));
            let found = found.map(|(key, value)| (key.to_vec(), value.to_vec()));
            assert_eq!(found, expected.map(|(key, value)| (key.clone(), value.clone())));
        }
        let got = keyspace.get(&a).expect("a value").map(|value| value.to_vec());
        assert_eq!(got.as_ref(), of.get(&a));
    }

    fn change_keyspace(&mut self, input: &mut Input<'_>) {
        let name = *input.pick(&NAMES);
        if input.below(2) == 0 {
            let Some(keyspace) = self.database().get_keyspace(name).expect("it is open") else {
                return;
            };
            let cleared = keyspace.clear();
            if self.unless_full(cleared).is_some() {
                self.of(&keyspace).clear();
            }
            return;
        }
        let dropped = self.database().drop_keyspace(name);
        let dropped = dropped.unwrap_or_else(|error| panic!("drop_keyspace answers: {error}"));
        assert_eq!(dropped, self.model.remove(name).is_some());
    }

    /// Ends the process, as far as the pool can know: what is visible now is what is there.
    fn kill(&mut self) {
        let path = self.folder.path().join("pool");
        let visible = std::fs::read(&path).expect("an image");
        self.database = None;
        std::fs::write(&path, visible).expect("an image");
    }

    fn reopen(&mut self) {
        let opened = Options::new().lanes(2).open(self.folder.path().join("pool"));
        self.database = Some(opened.unwrap_or_else(|error| panic!("opening answers: {error}")));
        self.check();
    }

    /// Ends the life by a kill, looks without changing anything, and goes on.
    fn look(&mut self) {
        self.kill();
        let path = self.folder.path().join("pool");
        let before = std::fs::read(&path).expect("an image");
        let checkup = Database::examine(&path).expect("a pool");
        assert!(!checkup.is_damaged(), "{checkup:?}");
        let reader = Options::new().open_read_only(&path).expect("a sound pool");
        assert!(shown(&reader).expect("a sound pool") == self.expected(), "read-only");
        drop(reader);
        assert!(std::fs::read(&path).expect("an image") == before, "looking changed the file");
        self.reopen();
    }

    fn check(&mut self) {
        let found = shown(self.database()).expect("a sound pool");
        assert!(found == self.expected(), "{found:?}, not {:?}", self.model);
        self.database().pool().check();
    }

    fn expected(&self) -> Shown {
        let mut expected = Shown::default();
        for (name, of) in &self.model {
            expected.keyspaces.push(name.clone());
            let pairs = of.iter().map(|(key, value)| ((name.clone(), key.clone()), value.clone()));
            expected.contents.extend(pairs);
        }
        expected
    }
}

/// One of a few keys: the empty one, short ones, some that begin alike, and long ones.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    let byte = input.byte();
    match byte % 8 {
        0 => vec![byte / 64; usize::from(byte / 8 % 8)],
        7 => [vec![b'k'; 700], vec![byte]].concat(),
        _ => format!("key {}", byte % 32).into_bytes(),
    }
}

/// A value that tells where it was written, mostly short.
fn value(input: &mut Input<'_>) -> Vec<u8> {
    let byte = input.byte();
    let len = [0, 8, 60, 300, 3_000, 30_000, 200_000, 16][usize::from(byte % 8)];
    vec![byte; len + usize::from(byte / 64)]
}
