//! One pool by all of its names, in one process and in several.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use daxite::daxite_core::{CreateOptions, OpenOptions, Pool};
use daxite::{Database, Error, Options};
use daxite_tests::{Ledger, test_folder};

use crate::{PATIENCE, attempt, attempt_elsewhere, create, said, say, start};

/// Owns the pool until it is killed.
pub(crate) fn own(path: &Path, ledger: &Ledger) {
    let (_database, _keyspace) = create(path);
    say(ledger, "open");
    std::thread::sleep(PATIENCE);
}

/// Other names of the file at `path`.
fn other_names(path: &Path) -> [PathBuf; 4] {
    let folder = path.parent().expect("a folder");
    let (hard, soft) = (folder.join("hard-link"), folder.join("symlink"));
    fs::hard_link(path, &hard).unwrap();
    symlink(path, &soft).unwrap();
    symlink(folder, folder.join("folder")).unwrap();
    let roundabout = folder.join(".").join("folder").join("pool");
    [path.to_path_buf(), hard, soft, roundabout]
}

#[test]
fn a_second_opener_is_refused_by_whatever_name() {
    let folder = test_folder("daxite-owners-");
    let path = folder.path().join("pool");
    let (database, keyspace) = create(&path);
    for name in &other_names(&path) {
        for answer in [
            Database::open(name).map(drop),
            Options::new().open_read_only(name).map(drop),
            Options::new().capacity(8 << 20).force(true).create(name).map(drop),
            Options::new().capacity(8 << 20).open_or_create(name).map(drop),
            Database::examine(name).map(drop),
            Pool::open(name, &OpenOptions::default()).map(drop).map_err(Error::from),
            Pool::create(name, &CreateOptions { overwrite: true, ..CreateOptions::default() })
                .map(drop)
                .map_err(Error::from),
        ] {
            assert!(matches!(answer, Err(Error::Locked { .. })), "{name:?}: {answer:?}");
        }
        assert_eq!(attempt_elsewhere(name), "locked", "{name:?}");
    }
    // None of these attempts took the lock away or changed a byte.
    keyspace.insert("key", "value").unwrap();
    drop((database, keyspace));
    for name in &[path.clone(), folder.path().join("hard-link"), folder.path().join("symlink")] {
        assert_eq!(attempt_elsewhere(name), "open", "{name:?}");
        assert_eq!(attempt(name), "open", "{name:?}");
    }
}

#[test]
fn readers_share_a_pool_and_keep_writers_out() {
    let folder = test_folder("daxite-owners-");
    let path = folder.path().join("pool");
    drop(create(&path));
    let first = Options::new().open_read_only(&path).unwrap();
    let second = Options::new().open_read_only(&path).unwrap();
    assert!(!Database::examine(&path).unwrap().is_damaged());
    assert_eq!(attempt(&path), "locked");
    assert_eq!(attempt_elsewhere(&path), "locked");
    drop(first);
    assert_eq!(attempt_elsewhere(&path), "locked", "a reader is left");
    // A value that a reader holds keeps the file as it is.
    let value = second.get_keyspace("k").unwrap().unwrap().get("key").unwrap().unwrap();
    drop(second);
    assert_eq!(attempt_elsewhere(&path), "locked", "a value is left");
    assert_eq!(value, b"value");
    drop(value);
    assert_eq!(attempt_elsewhere(&path), "open");
}

#[test]
fn after_its_owner_was_killed_a_pool_opens_at_once() {
    let folder = test_folder("daxite-owners-");
    for round in 0..10 {
        let path = folder.path().join(format!("pool-{round}"));
        let mut owner = start("own", &path);
        assert_eq!(said(&owner), "open");
        assert_eq!(attempt(&path), "locked");
        owner.kill();
        owner.wait();
        assert_eq!(attempt(&path), "open", "the lock outlived its owner");
    }
}

#[test]
fn a_program_that_the_owner_started_has_no_part_in_the_lock() {
    let folder = test_folder("daxite-owners-");
    let path = folder.path().join("pool");
    let owned = create(&path);
    let other = start("own", &folder.path().join("another"));
    assert_eq!(said(&other), "open");
    drop(owned);
    assert_eq!(attempt(&path), "open", "another program runs on");
}

#[test]
fn of_many_that_create_at_once_one_gets_the_pool() {
    let folder = test_folder("daxite-owners-");
    for round in 0..200 {
        let path = folder.path().join(format!("pool-{round}"));
        let started = Instant::now();
        let databases: Vec<_> = std::thread::scope(|scope| {
            let path = &path;
            let creators: Vec<_> = (0..6)
                .map(|nth| {
                    scope.spawn(move || {
                        // Half of them fail when they have made the file, and remove it again.
                        let capacity = if nth % 2 == 0 { 4 << 20 } else { 1 };
                        Options::new().capacity(capacity).open_or_create(path).ok()
                    })
                })
                .collect();
            creators.into_iter().filter_map(|creator| creator.join().unwrap()).collect()
        });
        assert!(started.elapsed() < PATIENCE);
        assert!(databases.len() <= 1, "round {round}: {} owners", databases.len());
        if let Some(database) = databases.first() {
            database.keyspace("k").unwrap().insert("key", "value").unwrap();
            assert_eq!(attempt(&path), "locked", "round {round}: the owner's file has no name");
        }
        drop(databases);
    }
}
