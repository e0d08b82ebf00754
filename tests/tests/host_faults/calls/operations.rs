//! The operations of which calls fail. Each goes on afterwards, in the same process, with nothing
//! failing: what is left locked, mapped or half made is met there.

use std::fs::{self, File};
use std::path::Path;

use daxite::{Database, Error, Options};
use daxite_core::{CreateOptions, HUGE, LogicalRange, OpenOptions, PAGE, Pool};
use daxite_tests::traced::count_calls;

use super::ledger::{KEYSPACE, Ledger, fill, require_telling};
use super::{On, Operation, nothing};

const POOL_BYTES: u64 = 4 << 20;
const TEXT: &[u8] = b"Dear diary";

pub(super) const CREATING: [Operation; 6] = [
    Operation { name: "create", on: On::Disk, prepare: nothing, run: create },
    Operation { name: "create in memory", on: On::Memory, prepare: nothing, run: create },
    Operation { name: "create on an empty file", on: On::Disk, prepare: empty, run: create },
    Operation { name: "create over a text", on: On::Disk, prepare: text, run: create_over },
    Operation { name: "create where a pool is", on: On::Disk, prepare: closed, run: not_create },
    Operation { name: "open or create", on: On::Disk, prepare: nothing, run: open_or_create },
];

pub(super) const OPENING: [Operation; 6] = [
    Operation { name: "open", on: On::Disk, prepare: closed, run: open },
    Operation { name: "open in memory", on: On::Memory, prepare: closed, run: open },
    Operation { name: "open after a kill", on: On::Disk, prepare: killed, run: open },
    Operation { name: "open many segments", on: On::Memory, prepare: grown, run: open_as_it_comes },
    Operation { name: "open read-only", on: On::Disk, prepare: killed, run: open_read_only },
    Operation { name: "examine", on: On::Disk, prepare: killed, run: examine },
];

pub(super) const USING: [Operation; 6] = [
    Operation { name: "write", on: On::Disk, prepare: closed, run: write },
    Operation { name: "grow", on: On::Disk, prepare: closed, run: grow },
    Operation { name: "reclaim", on: On::Disk, prepare: grown, run: reclaim },
    Operation { name: "volumes", on: On::Disk, prepare: a_volume, run: volumes },
    Operation { name: "look", on: On::Disk, prepare: closed, run: look },
    Operation { name: "close", on: On::Disk, prepare: closed, run: close },
];

/// The number of cores, which is found out by many calls of the standard library, does not matter.
fn options() -> Options {
    Options::new().capacity(POOL_BYTES).lanes(1)
}

fn empty(path: &Path) {
    File::create(path).expect("an empty file");
}

fn text(path: &Path) {
    fs::write(path, TEXT).expect("a text");
}

fn closed(path: &Path) {
    let database = options().create(path).expect("a pool");
    fill(&database);
    database.close().expect("closing");
}

fn killed(path: &Path) {
    fill(&options().create(path).expect("a pool"));
}

/// A pool of which most is full, some of it of what is dead.
fn grown(path: &Path) {
    let database = options().create(path).expect("a pool");
    fill(&database);
    let keyspace = database.keyspace(KEYSPACE).expect("the keyspace");
    for at in 0..20 {
        keyspace.insert(format!("dead-{}", at % 5), vec![at; 60_000]).expect("a put");
    }
}

fn a_volume(path: &Path) {
    let options = CreateOptions { len_bytes: 2 * POOL_BYTES, ..CreateOptions::default() };
    let pool = Pool::create(path, &options).expect("a pool");
    let volume = pool.create_volume("v", 1 << 40).expect("a volume");
    volume.write(0, &[7; 100]).expect("a write");
    pool.close().expect("closing");
}

/// On nothing, or on an empty file.
fn create(path: &Path) {
    let was_there = path.exists();
    let database = count_calls(|| options().create(path));
    let database = database.unwrap_or_else(|error| {
        require_telling(&error, path);
        assert!(path.exists() || !was_there, "after {error}: the file is gone");
        // What can be locked, and looked at afterwards, is removed: `space` and `limits` see to that.
        let len_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        assert_eq!(len_bytes, 0, "after {error}");
        options().create(path).expect("creating with nothing failing")
    });
    fill(&database);
    drop(database);
    Ledger::of_filled().require_at(path);
}

/// What is there may be lost.
fn create_over(path: &Path) {
    let database = count_calls(|| options().force(true).create(path));
    let database = database.unwrap_or_else(|error| {
        require_telling(&error, path);
        options().force(true).create(path).expect("creating with nothing failing")
    });
    fill(&database);
    drop(database);
    Ledger::of_filled().require_at(path);
}

/// What is there may not be lost.
fn not_create(path: &Path) {
    let before = fs::read(path).expect("reading");
    let error = count_calls(|| options().create(path)).expect_err("a pool is there");
    if !matches!(error, Error::AlreadyExists { is_pool: true, .. }) {
        require_telling(&error, path);
    }
    assert!(fs::read(path).expect("reading") == before, "the file was changed");
    Ledger::of_filled().require_at(path);
}

fn open_or_create(path: &Path) {
    let database = count_calls(|| options().open_or_create(path));
    let database = database.unwrap_or_else(|error| {
        require_telling(&error, path);
        options().open_or_create(path).expect("creating with nothing failing")
    });
    fill(&database);
    drop(database);
    Ledger::of_filled().require_at(path);
}

fn open(path: &Path) {
    let ledger = Ledger::of_filled();
    match count_calls(|| options().open(path)) {
        Ok(database) => {
            ledger.require_visible(&database.keyspace(KEYSPACE).expect("the keyspace"));
        }
        Err(error) => require_telling(&error, path),
    }
    ledger.require_at(path);
}

/// With all that the machine has; where there are cores, with threads.
fn open_as_it_comes(path: &Path) {
    if let Err(error) = count_calls(|| Database::open(path)) {
        require_telling(&error, path);
    }
    Ledger::of_filled().require_at(path);
}

fn open_read_only(path: &Path) {
    let before = fs::read(path).expect("reading");
    let ledger = Ledger::of_filled();
    match count_calls(|| options().open_read_only(path)) {
        Ok(database) => {
            ledger.require_visible(&database.keyspace(KEYSPACE).expect("the keyspace"));
        }
        Err(error) => require_telling(&error, path),
    }
    assert!(fs::read(path).expect("reading") == before, "the file was changed");
    ledger.require_at(path);
}

fn examine(path: &Path) {
    let before = fs::read(path).expect("reading");
    match count_calls(|| Database::examine(path)) {
        Ok(checkup) => {
            let found = format!("{checkup:?}");
            // A page that the kernel says is bad.
            assert!(!checkup.is_damaged() || found.contains("media error"), "{found}");
        }
        Err(error) => require_telling(&error, path),
    }
    assert!(fs::read(path).expect("reading") == before, "the file was changed");
    Ledger::of_filled().require_at(path);
}

fn write(path: &Path) {
    let mut ledger = Ledger::of_filled();
    let database = Database::open(path).expect("opening");
    let keyspace = database.keyspace(KEYSPACE).expect("the keyspace");
    count_calls(|| {
        ledger.put(path, &keyspace, "a", b"another");
        let removed = keyspace.remove("b").map_err(|error| require_telling(&error, path));
        ledger.note("b", None, removed.is_ok());
        let mut batch = database.batch();
        batch.insert(&keyspace, "both", "1").insert(&keyspace, "of them", "1");
        let committed = batch.commit().map_err(|error| require_telling(&error, path));
        for key in ["both", "of them"] {
            ledger.note(key, Some(b"1"), committed.is_ok());
        }
        if let Err(error) = database.keyspace("more") {
            require_telling(&error, path);
        }
        ledger.put(path, &keyspace, "last", b"1");
    });
    ledger.require_visible(&keyspace);
    drop((keyspace, database));
    ledger.require_at(path);
    let database = Database::open(path).expect("opening");
    let keyspace = database.keyspace(KEYSPACE).expect("the keyspace");
    let halves = ["both", "of them"].map(|key| keyspace.contains_key(key).expect("a read"));
    assert_eq!(halves[0], halves[1], "half a batch");
}

fn grow(path: &Path) {
    let mut ledger = Ledger::of_filled();
    let database = Database::open(path).expect("opening");
    let keyspace = database.keyspace(KEYSPACE).expect("the keyspace");
    count_calls(|| {
        for at in 0..6 {
            ledger.put(path, &keyspace, &format!("large-{at}"), &[at; 200_000]);
        }
    });
    ledger.require_visible(&keyspace);
    drop((keyspace, database));
    ledger.require_at(path);
}

fn reclaim(path: &Path) {
    let mut ledger = Ledger::of_filled();
    let database = Database::open(path).expect("opening");
    let keyspace = database.keyspace(KEYSPACE).expect("the keyspace");
    count_calls(|| {
        if let Err(error) = database.reclaim() {
            require_telling(&error, path);
        }
        ledger.put(path, &keyspace, "a", b"another");
    });
    ledger.require_visible(&keyspace);
    drop((keyspace, database));
    ledger.require_at(path);
}

fn look(path: &Path) {
    let database = Database::open(path).expect("opening");
    count_calls(|| {
        let pool = database.pool();
        let (info, stats) = (pool.info(), database.stats());
        assert_eq!(info.len_bytes, stats.capacity_bytes);
        pool.page_sizes();
        if let Err(error) = pool.volumes() {
            require_telling(&error.into(), path);
        }
    });
    drop(database);
    Ledger::of_filled().require_at(path);
}

fn close(path: &Path) {
    let mut ledger = Ledger::of_filled();
    let database = Database::open(path).expect("opening");
    let keyspace = database.keyspace(KEYSPACE).expect("the keyspace");
    ledger.put(path, &keyspace, "a", b"another");
    drop(keyspace);
    if let Err(error) = count_calls(|| database.close()) {
        require_telling(&error, path);
    }
    ledger.require_at(path);
}

/// The DAX layer by itself.
fn volumes(path: &Path) {
    let tell = |error: daxite_core::Error| require_telling(&error.into(), path);
    let pool = Pool::open(path, &OpenOptions::default()).expect("opening");
    let volume = pool.volume("v").expect("looking").expect("the volume");
    let (mut written, mut punched) = (false, false);
    count_calls(|| {
        written = volume.write(HUGE, &[9; 100]).map_err(tell).is_ok();
        volume.write(5 * HUGE + PAGE, &[9; 100]).unwrap_or_else(tell);
        let slot = LogicalRange::new(5 * HUGE, HUGE);
        volume.upgrade(slot, 1).map(drop).unwrap_or_else(tell);
        punched = volume.punch(slot).map_err(tell).is_ok();
        volume.set_len(3 * HUGE).unwrap_or_else(tell);
        volume.sync(LogicalRange::new(0, 3 * HUGE)).unwrap_or_else(tell);
        pool.create_volume("w", HUGE).map(drop).unwrap_or_else(tell);
        pool.remove_volume("w").map(drop).unwrap_or_else(tell);
        pool.close().unwrap_or_else(tell);
    });
    drop((volume, pool));
    let pool = Pool::open(path, &OpenOptions::default()).expect("opening with nothing failing");
    let volume = pool.volume("v").expect("looking").expect("the volume");
    let at = |start| {
        let mut bytes = [0; 100];
        volume.read(start, &mut bytes).map(|()| bytes)
    };
    assert_eq!(at(0).expect("a read"), [7; 100]);
    assert!(!written || at(HUGE).expect("a read") == [9; 100], "a write is lost");
    let hole = at(5 * HUGE + PAGE);
    assert!(!punched || hole.is_err() || hole.is_ok_and(|bytes| bytes == [0; 100]), "not punched");
    pool.check();
    pool.close().expect("closing with nothing failing");
}
