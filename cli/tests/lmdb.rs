//! Our dump and LMDB's own programs agree, both ways.
//!
//! Goal: `mdb_load` takes what `daxite dump` writes, `mdb_dump` gives the same pairs back, and
//! `daxite load` reads those. Method: the programs of Debian's `lmdb-utils`, as an oracle that we
//! did not write. Where they are not installed the test says so and passes. A failure means that
//! data cannot be moved in or out.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{Folder, daxite, daxite_with};

/// Whether the programs of LMDB are there.
fn installed() -> bool {
    let there = |program| {
        Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let both = there("mdb_load") && there("mdb_dump");
    if !both {
        eprintln!("SKIPPED: mdb_load and mdb_dump are not installed (package lmdb-utils)");
    }
    both
}

/// Loads `dump` into a new LMDB environment and dumps it again.
fn through_lmdb(folder: &Folder, dump: &str, print: bool) -> String {
    let env = folder.path("env");
    fs::create_dir(&env).expect("a folder for LMDB");
    let file = folder.file("dump", dump);
    let load = Command::new("mdb_load").args(["-f", &file, &env]).output().expect("mdb_load");
    assert!(load.status.success(), "mdb_load: {}", String::from_utf8_lossy(&load.stderr));
    assert_eq!(String::from_utf8_lossy(&load.stderr), "");
    let more: &[&str] = if print { &["-p"] } else { &[] };
    let output = Command::new("mdb_dump").args(more).args(["-a", &env]).output().expect("mdb_dump");
    assert!(output.status.success(), "mdb_dump: {}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(&env).expect("removing the environment");
    String::from_utf8(output.stdout).expect("a dump is text")
}

/// A dump without the header lines that describe the file it was made of.
fn content(dump: &str) -> Vec<&str> {
    let about_the_file = ["mapsize=", "maxreaders=", "db_pagesize=", "mapaddr="];
    dump.lines().filter(|line| !about_the_file.iter().any(|name| line.starts_with(name))).collect()
}

fn pool_with_two_keyspaces(folder: &Folder, records: u32) -> String {
    let pool = folder.pool("pool", "64M");
    let mut text = String::new();
    // No backslash: mdb_dump -p of LMDB 0.9.24 does not spell it in a way that can be read back.
    for number in (0..records).filter(|number| !number.to_be_bytes().contains(&b'\\')) {
        let length = 1 + number as usize * 37 % 3000;
        text += &format!("{{\"key\":\"k{number:05}\",\"value\":\"{}\"}}\n", "v".repeat(length));
        text += &format!(
            "{{\"keyspace\":\"bytes\",\"key_hex\":\"{number:08x}00ff0a\",\"value_hex\":\"{number:08x}\"}}\n"
        );
    }
    daxite_with(text.as_bytes(), ["load", &pool]).ok();
    pool
}

#[test]
fn a_dump_goes_through_lmdb_and_comes_back_equal() {
    if !installed() {
        return;
    }
    let folder = Folder::new();
    let pool = pool_with_two_keyspaces(&folder, 3000);
    let dump = daxite(["dump", &pool]).ok();
    for print in [false, true] {
        let back = through_lmdb(&folder, &dump, print);
        if !print {
            assert!(content(&back) == content(&dump), "mdb_dump differs from daxite dump");
        }
        let copy = folder.pool(if print { "print" } else { "bytes" }, "64M");
        daxite_with(back.as_bytes(), ["load", &copy]).ok();
        let again = daxite(["dump", &copy]).ok();
        assert!(content(&again) == content(&dump), "print: {print}");
    }
}

#[test]
fn a_dump_says_how_large_a_map_it_needs() {
    if !installed() {
        return;
    }
    // Well above the 1 MiB that LMDB maps when nobody tells it.
    let folder = Folder::new();
    let pool = folder.pool("pool", "64M");
    let line = |n: u32| format!("{{\"key\":\"{n:06}\",\"value\":\"{}\"}}\n", "x".repeat(2100));
    daxite_with((0..8000).map(line).collect::<String>().as_bytes(), ["load", &pool]).ok();
    let dump = daxite(["dump", &pool]).ok();
    assert!(content(&through_lmdb(&folder, &dump, false)) == content(&dump));
}

#[test]
fn keys_that_lmdb_refuses_are_counted() {
    let folder = Folder::new();
    let pool = folder.pool("pool", "8M");
    daxite(["put", &pool, "main", "", "empty"]).ok();
    daxite(["put", &pool, "main", &"x".repeat(512), "long"]).ok();
    daxite(["put", &pool, "main", &"x".repeat(511), "fits"]).ok();
    let run = daxite(["dump", &pool]);
    run.exit(0).says("mdb_load will refuse 2 keys");
    let copy = folder.pool("copy", "8M");
    daxite_with(&run.stdout, ["load", &copy]).ok();
    assert_eq!(daxite(["scan", &copy, "main", "--count"]).ok(), "3\n");
}

#[test]
fn names_that_the_format_cannot_spell_are_refused() {
    let folder = Folder::new();
    let pool = folder.pool("pool", "8M");
    daxite(["put", &pool, "two\nlines", "a", "1"]).ok();
    daxite(["dump", &pool]).exit(2).says("--format jsonl");
    let copy = folder.pool("copy", "8M");
    let jsonl = daxite(["dump", &pool, "--format", "jsonl"]).ok();
    daxite_with(jsonl.as_bytes(), ["load", &copy]).ok();
    assert_eq!(daxite(["get", &copy, "two\nlines", "a"]).ok(), "1");
}
