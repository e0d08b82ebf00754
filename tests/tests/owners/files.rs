//! What happens to an owner whose file is changed by others, which no lock prevents.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use daxite::{Database, Error};
use daxite_tests::{Ledger, test_folder};

use crate::{attempt, create, said, say, start};

const POOL_BYTES: u64 = 8 << 20;

fn set_len(path: &Path, len_bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(len_bytes).unwrap();
}

/// Reads on after its file was cut.
pub(crate) fn shrink(path: &Path, ledger: &Ledger) {
    let (_database, keyspace) = create(path);
    for n in 0..1000u64 {
        keyspace.insert(n.to_be_bytes(), [7; 4000]).unwrap();
    }
    set_len(path, POOL_BYTES / 4);
    say(ledger, "cut");
    for n in 0..1000u64 {
        let read = keyspace.get_with(n.to_be_bytes(), |value| value.iter().all(|byte| *byte == 7));
        assert_eq!(read.unwrap(), Some(true), "a wrong value");
    }
    say(ledger, "all values were there");
}

#[test]
fn a_file_that_was_cut_ends_its_reader_and_is_named_at_the_next_opening() {
    let folder = test_folder("daxite-owners-");
    let path = folder.path().join("pool");
    let mut owner = start("shrink", &path);
    assert_eq!(said(&owner), "cut");
    let status = owner.wait();
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    for answer in [Database::open(&path).map(drop), Database::examine(&path).map(drop)] {
        let Err(Error::Truncated { expected_bytes, found_bytes, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((expected_bytes, found_bytes), (POOL_BYTES, POOL_BYTES / 4));
    }
}

#[test]
fn a_file_that_was_cut_and_made_longer_again_is_damaged() {
    let folder = test_folder("daxite-owners-");
    let path = folder.path().join("pool");
    let (database, keyspace) = create(&path);
    for n in 0..1000u64 {
        keyspace.insert(n.to_be_bytes(), [7; 4000]).unwrap();
    }
    database.close().unwrap();
    drop(keyspace);
    set_len(&path, POOL_BYTES / 4);
    set_len(&path, POOL_BYTES);
    let error = Database::open(&path).unwrap_err();
    assert!(error.is_corruption(), "{error}");
}

#[test]
fn a_file_that_was_replaced_is_another_pool() {
    let folder = test_folder("daxite-owners-");
    let path = folder.path().join("pool");
    let (old, old_keyspace) = create(&path);
    fs::remove_file(&path).unwrap();
    assert!(attempt(&path).contains("No such file"), "{}", attempt(&path));
    // The name is free, and the lock of the old file is not in the way of the new one.
    let (new, new_keyspace) = create(&path);
    assert_eq!(attempt(&path), "locked");
    old_keyspace.insert("key", "old").unwrap();
    new_keyspace.insert("only here", "new").unwrap();
    assert_eq!(old_keyspace.get("key").unwrap().unwrap(), b"old");
    assert_eq!(old_keyspace.get("only here").unwrap(), None);
    assert_eq!(new_keyspace.get("key").unwrap().unwrap(), b"value");
    // Whoever closes last, what has the name is the new one.
    new.close().unwrap();
    drop(new_keyspace);
    old.close().unwrap();
    drop(old_keyspace);
    assert_eq!(attempt(&path), "open");
}

#[test]
fn a_file_that_was_renamed_is_the_same_pool() {
    let folder = test_folder("daxite-owners-");
    let (path, renamed) = (folder.path().join("pool"), folder.path().join("renamed"));
    let (database, keyspace) = create(&path);
    fs::rename(&path, &renamed).unwrap();
    assert_eq!(attempt(&renamed), "locked");
    keyspace.insert("key", "value").unwrap();
    database.close().unwrap();
    drop(keyspace);
    assert_eq!(attempt(&renamed), "open");
}
