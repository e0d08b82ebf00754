//! File systems that are really full: creating, opening a copy with holes, and writing.
//!
//! They are mounted where nobody but the process of the test sees them, and are gone with it. A store
//! into a page without space would be SIGBUS, which ends that process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use daxite::{Database, Error, Options};
use daxite_tests::test_folder;

use crate::{in_own_process, namespace, require_io, skip};

/// So much fits the file systems: two pools, and less than one more.
const SPACE_MIB: u64 = 24;
const POOL_BYTES: u64 = 8 << 20;
const KEYSPACE: &str = "k";

#[test]
fn on_tmpfs() {
    play_in_own_process("tmpfs");
}

#[test]
fn on_ext4() {
    play_in_own_process("ext4");
}

/// In a folder that outlives the process: what is mounted there cannot be removed before.
fn play_in_own_process(file_system: &str) {
    let folder = test_folder("daxite-host-faults-");
    in_own_process(&format!("space {file_system} {}", folder.path().display()));
    folder.close().expect("what was mounted is gone");
}

/// The part of a process.
pub(crate) fn play(of: &str) {
    let (file_system, folder) = of.split_once(' ').expect("a file system, and where");
    let folder = Path::new(folder);
    let on = folder.join("full");
    fs::create_dir(&on).unwrap();
    if let Err(error) = namespace::enter().and_then(|()| mount(file_system, folder, &on)) {
        return skip(&format!("a full {file_system}"), error);
    }
    creating(&on);
    a_copy_with_holes(folder, &on);
    writing(&on);
}

fn mount(file_system: &str, folder: &Path, on: &Path) -> io::Result<()> {
    if file_system == "tmpfs" {
        let size = format!("size={SPACE_MIB}m");
        return run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(on));
    }
    let image = folder.join("image");
    File::create(&image)?.set_len(SPACE_MIB << 20)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal", "-m", "0"]).arg(&image))?;
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(on))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(io::Error::other(said.trim())) }
}

/// Takes all space that is left on the file system of `folder`. Answers what to remove for it.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).unwrap();
    let mut bytes = vec![1; 1 << 20];
    while !bytes.is_empty() {
        match file.write_all(&bytes).and_then(|()| file.sync_data()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                bytes.truncate(bytes.len() / 2);
            }
            Err(error) => panic!("filling: {error}"),
        }
    }
    path
}

fn pairs() -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..100_u8).map(|n| (format!("key {n}"), vec![n; 1000]))
}

fn require_pairs(database: &Database) {
    let keyspace = database.get_keyspace(KEYSPACE).unwrap().expect("the keyspace");
    for (key, value) in pairs() {
        assert!(keyspace.get(&key).unwrap().expect("a pair") == value[..], "{key}");
    }
}

fn create(path: &Path, len_bytes: u64) -> Result<Database, Error> {
    let database = Options::new().capacity(len_bytes).create(path)?;
    let keyspace = database.keyspace(KEYSPACE)?;
    pairs().try_for_each(|(key, value)| keyspace.insert(key, value))?;
    Ok(database)
}

fn creating(on: &Path) {
    let path = on.join("created");
    let error = create(&path, (SPACE_MIB + 1) << 20).expect_err("there is no space");
    require_io(&error, &path, io::ErrorKind::StorageFull);
    assert!(!path.exists(), "half of a pool is left");
    // An empty file, too, is what it was.
    File::create(&path).unwrap();
    let error = create(&path, (SPACE_MIB + 1) << 20).expect_err("there is no space");
    require_io(&error, &path, io::ErrorKind::StorageFull);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    // Neither stands in the way of one that fits, nor takes its space.
    create(&path, (SPACE_MIB - 4) << 20).unwrap().close().unwrap();
    require_pairs(&Database::open(&path).unwrap());
    fs::remove_file(&path).unwrap();
}

fn a_copy_with_holes(folder: &Path, on: &Path) {
    let (original, path) = (folder.join("original"), on.join("copy"));
    create(&original, POOL_BYTES).unwrap().close().unwrap();
    run(Command::new("cp").arg("--sparse=always").args([&original, &path])).unwrap();
    let copy = fs::read(&path).unwrap();
    let filler = fill(on);
    let error = Database::open(&path).expect_err("there is no space behind the holes");
    require_io(&error, &path, io::ErrorKind::StorageFull);
    // Readers need space where holes need it to be read, and say so.
    match Options::new().open_read_only(&path) {
        Ok(database) => require_pairs(&database),
        Err(error) => require_io(&error, &path, io::ErrorKind::StorageFull),
    }
    match Database::examine(&path) {
        Ok(checkup) => assert!(!checkup.is_damaged(), "{checkup:?}"),
        Err(error) => require_io(&error, &path, io::ErrorKind::StorageFull),
    }
    assert!(fs::read(&path).unwrap() == copy, "a byte was changed");
    fs::remove_file(filler).unwrap();
    let database = Database::open(&path).unwrap();
    require_pairs(&database);
    // All of it has space now.
    let filler = fill(on);
    write_until_full(&database);
    require_pairs(&database);
    drop(database);
    require_pairs(&Database::open(&path).unwrap());
    [filler, path].iter().for_each(|path| fs::remove_file(path).unwrap());
}

fn writing(on: &Path) {
    let path = on.join("written");
    let database = create(&path, POOL_BYTES).unwrap();
    let filler = fill(on);
    let written = write_until_full(&database);
    drop(database);
    let database = Database::open(&path).unwrap();
    require_pairs(&database);
    let keyspace = database.get_keyspace(KEYSPACE).unwrap().unwrap();
    for n in 0..written {
        let value = keyspace.get(format!("more {n}")).unwrap().expect("it was acknowledged");
        assert!(value == [n as u8; 10_000][..], "more {n}");
    }
    database.close().unwrap();
    fs::remove_file(filler).unwrap();
}

/// Answers how many more pairs were acknowledged.
fn write_until_full(database: &Database) -> usize {
    let keyspace = database.keyspace(KEYSPACE).unwrap();
    for n in 0.. {
        match keyspace.insert(format!("more {n}"), vec![n as u8; 10_000]) {
            Ok(()) => {}
            Err(Error::Full { .. }) => {
                assert!(n > 100, "full after {n}");
                return n;
            }
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("a pool without end")
}
