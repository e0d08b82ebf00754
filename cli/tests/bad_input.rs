//! Wrong files: each gets a message of its own, the documented exit code, and stays as it is.
//!
//! Goal: nothing that is not a healthy pool is changed, crashed on, or taken for something else.
//! Method: each kind of wrong file meets every command that opens one. A failure means lost data
//! of somebody who mistyped a path, or a message that sends them the wrong way.

mod common;

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use common::{Folder, command, daxite};

/// Where the two copies of the superblock stand, in bytes.
const SUPERBLOCKS: [usize; 2] = [0, 2 << 20];

/// Every command that opens an existing pool.
fn every_command(path: &str) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    vec![
        words(&["info", path]),
        words(&["check", path]),
        words(&["map", path]),
        words(&["keyspaces", path]),
        words(&["get", path, "main", "a"]),
        words(&["scan", path, "main"]),
        words(&["dump", path]),
        words(&["put", path, "main", "a", "1"]),
        words(&["del", path, "main", "a"]),
        words(&["load", path]),
        words(&["shell", path]),
    ]
}

/// Every command answers with `code` and `message`, and leaves the file byte-identical.
#[track_caller]
fn all_refuse(path: &str, code: i32, message: &str) {
    let before = fs::read(path).ok();
    for args in every_command(path) {
        let run = daxite(&args);
        run.exit(code).says(message).says("daxite: ").says(path);
        assert_eq!(run.stderr.lines().count(), 1, "one line per failure: {}", run.stderr);
        assert!(fs::read(path).ok() == before, "{args:?} changed the file");
    }
}

#[test]
fn an_empty_file() {
    let folder = Folder::new();
    all_refuse(&folder.file("empty", ""), 3, "not a daxite pool");
}

#[test]
fn a_text_file() {
    let folder = Folder::new();
    all_refuse(&folder.file("text", "Dear diary, "), 3, "not a daxite pool");
    all_refuse(&folder.file("long", "Dear diary, ".repeat(500_000)), 3, "not a daxite pool");
}

#[test]
fn a_missing_file() {
    let folder = Folder::new();
    let path = folder.path("missing");
    all_refuse(&path, 3, "no such file or directory");
    assert!(!fs::exists(&path).expect("looking"), "a reading command made a file");
    daxite(["info", &path]).exit(3).says("daxite create");
    let nowhere = folder.path("no/such/folder/pool");
    daxite(["create", &nowhere, "--size", "8M"]).exit(3).says("its folder is not there");
}

#[test]
fn a_directory() {
    let folder = Folder::new();
    let path = folder.path("folder");
    fs::create_dir(&path).expect("making a folder");
    for args in every_command(&path) {
        daxite(&args).exit(3).says("directory");
    }
    daxite(["create", &path, "--size", "8M"]).exit(3);
    assert_eq!(fs::read_dir(&path).expect("looking").count(), 0);
}

/// A pool with something in it.
fn pool(folder: &Folder) -> String {
    let pool = folder.pool("pool", "8M");
    daxite(["put", &pool, "main", "a", "1"]).ok();
    pool
}

#[test]
fn a_truncated_pool() {
    let folder = Folder::new();
    let path = pool(&folder);
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(5 << 20))
        .expect("cutting");
    all_refuse(&path, 3, "truncated");
    daxite(["info", &path]).exit(3).says("8388608").says("5242880");
}

#[test]
fn a_pool_of_another_version() {
    let folder = Folder::new();
    let path = pool(&folder);
    let mut bytes = fs::read(&path).expect("reading");
    raise_version(&mut bytes);
    fs::write(&path, bytes).expect("writing");
    all_refuse(&path, 3, "format version");
}

/// Makes the pool one of a later version: the version stands behind magic and checksum in both
/// copies of the superblock, and is looked at before the checksum, whose place and kind may change.
fn raise_version(bytes: &mut [u8]) {
    for copy in SUPERBLOCKS {
        assert_eq!(&bytes[copy..copy + 8], b"DAXITE\r\n", "the superblock has moved");
        bytes[copy + 16] = 99;
    }
}

#[test]
fn a_pool_without_either_superblock() {
    let folder = Folder::new();
    let path = pool(&folder);
    let mut bytes = fs::read(&path).expect("reading");
    for copy in SUPERBLOCKS {
        bytes[copy..copy + 4096].fill(0xa5);
    }
    fs::write(&path, bytes).expect("writing");
    all_refuse(&path, 3, "not a daxite pool");
}

#[test]
fn a_pool_with_both_superblocks_damaged() {
    let folder = Folder::new();
    let path = pool(&folder);
    let mut bytes = fs::read(&path).expect("reading");
    for copy in SUPERBLOCKS {
        bytes[copy + 30] ^= 1;
    }
    fs::write(&path, &bytes).expect("writing");
    for args in every_command(&path).iter().filter(|args| args[0] != "check") {
        daxite(args).exit(4).says("superblock at offset");
        assert!(fs::read(&path).expect("reading") == bytes, "{args:?} changed the file");
    }
    let run = daxite(["check", &path]);
    let listed = text(run.exit(4).says("damaged: 2 findings"));
    let places: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').nth(3)).collect();
    assert_eq!(places, ["0x0", "0x200000"]);
    assert!(fs::read(&path).expect("reading") == bytes, "check changed the file");
}

#[test]
fn one_superblock_is_enough() {
    for copy in SUPERBLOCKS {
        let folder = Folder::new();
        let path = pool(&folder);
        let mut bytes = fs::read(&path).expect("reading");
        bytes[copy..copy + 4096].fill(0xa5);
        fs::write(&path, bytes).expect("writing");
        assert_eq!(daxite(["get", &path, "main", "a"]).ok(), "1", "copy at {copy:#x} lost");
        daxite(["put", &path, "main", "a", "2"]).ok();
        assert_eq!(daxite(["get", &path, "main", "a"]).ok(), "2");
    }
}

#[test]
fn a_damaged_log() {
    let folder = Folder::new();
    let path = folder.pool("pool", "8M");
    let value = "needle in a haystack ".repeat(20);
    for key in ["a", "b", "c"] {
        daxite(["put", &path, "main", key, &value]).ok();
    }
    let mut bytes = fs::read(&path).expect("reading");
    let at = bytes.windows(16).position(|bytes| bytes == &value.as_bytes()[..16]).expect("a value");
    bytes[at + 40] ^= 1;
    fs::write(&path, bytes).expect("writing");
    let before = fs::read(&path).expect("reading");
    for args in every_command(&path).iter().filter(|args| args[0] != "check") {
        match args[0].as_str() {
            // It shows where things are, and does not read the log.
            "map" => drop(daxite(args).ok()),
            _ => {
                daxite(args).exit(4).says("at offset").says("segment");
            }
        }
        assert!(fs::read(&path).expect("reading") == before, "{args:?} changed the file");
    }
    let run = daxite(["check", &path]);
    run.exit(4).says("damaged: 1 finding");
    assert!(text(&run).starts_with("damage\tsegment 0"), "{}", text(&run));
    let run = daxite(["check", &path, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text(run.exit(4))).expect("JSON");
    assert_eq!(report["findings"][0]["volume"], "log");
    assert!(report["findings"][0]["offset"].as_u64().is_some_and(|offset| offset > 0));
    assert!(fs::read(&path).expect("reading") == before, "check changed the file");
}

fn text(run: &common::Run) -> String {
    String::from_utf8(run.stdout.clone()).expect("output in UTF-8")
}

#[test]
fn damaged_maps_are_named_one_by_one() {
    let folder = Folder::new();
    let path = pool(&folder);
    assert_eq!(daxite(["check", &path]).ok(), "");
    let sound = &daxite(["check", &path, "--json"]).json()[0];
    assert_eq!((&sound["superblocks"], &sound["volumes"]), (&2.into(), &1.into()));
    assert!(sound["log"]["records"].as_u64().is_some_and(|records| records > 0), "{sound}");
    let mut bytes = fs::read(&path).expect("reading");
    // A copy of the superblock, and two words of every table: pages of words that all have a check.
    bytes[SUPERBLOCKS[1] + 100] ^= 1;
    let tables = sound["tables"].as_u64().expect("a number");
    let mut found = 0;
    for page in bytes.chunks_exact_mut(4096) {
        let holes =
            page.chunks_exact(8).filter(|word| word[0] == 1 && word[1..6] == [0; 5]).count();
        if holes > 400 {
            page[4000] ^= 1;
            page[4080] ^= 1;
            found += 1;
        }
    }
    assert_eq!(found, tables, "tables that were recognised");
    fs::write(&path, &bytes).expect("writing");
    let run = daxite(["check", &path]);
    run.exit(4).says(&format!("damaged: {} findings", 2 * tables + 1));
    let listed = text(&run);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("warning\tsuperblock\t-\t0x200000\t"), "{}", lines[0]);
    assert!(lines[1..].iter().all(|line| line.starts_with("damage\textent map word\tlog\t")));
    assert!(fs::read(&path).expect("reading") == bytes, "check changed the file");
}

#[test]
fn a_read_only_file() {
    let folder = Folder::new();
    let path = pool(&folder);
    fs::set_permissions(&path, Permissions::from_mode(0o444)).expect("changing permissions");
    assert_eq!(daxite(["get", &path, "main", "a"]).ok(), "1");
    daxite(["info", &path]).ok();
    daxite(["put", &path, "main", "a", "2"]).exit(3).says("read-only");
    daxite(["del", &path, "main", "a"]).exit(3).says("read-only");
    daxite(["create", &path, "--size", "8M", "--force"]).exit(3).says("read-only");
    assert_eq!(daxite(["get", &path, "main", "a"]).ok(), "1");
}

#[test]
fn a_pool_that_is_open_already() {
    let folder = Folder::new();
    let path = pool(&folder);
    let mut shell = command(["shell", &path])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting daxite");
    let mut stdin = shell.stdin.take().expect("a pipe");
    let mut output = BufReader::new(shell.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdin.write_all(b"get a\n").expect("writing a line");
    output.read_line(&mut line).expect("an answer");
    assert_eq!(line, "1\n");
    all_refuse(&path, 3, "already open elsewhere");
    drop(stdin);
    assert!(shell.wait().expect("waiting").success());
    daxite(["info", &path]).ok();
}

#[test]
fn what_is_there_is_not_overwritten() {
    let folder = Folder::new();
    let path = pool(&folder);
    daxite(["create", &path, "--size", "8M"]).exit(3).says("already holds a pool").says("--force");
    assert_eq!(daxite(["get", &path, "main", "a"]).ok(), "1");
    let text = folder.file("text", "Dear diary");
    daxite(["create", &text, "--size", "8M"]).exit(3).says("already exists");
    assert_eq!(fs::read(&text).expect("reading"), b"Dear diary");
    daxite(["create", &path, "--size", "8M", "--force"]).ok();
    daxite(["get", &path, "main", "a"]).exit(1);
}

#[test]
fn reading_commands_leave_the_file_as_it_was() {
    let folder = Folder::new();
    let path = pool(&folder);
    let before = fs::read(&path).expect("reading");
    for args in every_command(&path).into_iter().take(6) {
        daxite(&args).ok();
        assert!(fs::read(&path).expect("reading") == before, "{args:?} changed the file");
    }
}

#[test]
fn memory_is_refused_where_persistence_is_required() {
    let folder = Folder::new();
    let path = folder.path("pool");
    daxite(["create", &path, "--size", "8M", "--require-dax"])
        .exit(3)
        .says("not persistent memory");
    assert!(!fs::exists(&path).expect("looking"), "a file was left behind");
}
