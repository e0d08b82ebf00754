//! Each command, as a script sees it.
//!
//! Goal: what is printed, where, and the exit code stay what scripts rely on. Method: transcripts
//! of the built program on small pools. A failure means that a script somewhere breaks.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Folder, command, daxite, daxite_with};
use daxite::daxite_core::{CreateOptions, Pool, SlotNo};

#[test]
fn a_key_is_put_read_and_deleted() {
    let folder = Folder::new();
    let pool = folder.pool("p", "8M");
    assert_eq!(daxite(["put", &pool, "users", "alice", "42"]).ok(), "");
    assert_eq!(daxite(["get", &pool, "users", "alice"]).ok(), "42");
    let line = &daxite(["--json", "get", &pool, "users", "alice"]).json()[0];
    assert_eq!(
        (&line["schema"], &line["key"], &line["value"]),
        (&1.into(), &"alice".into(), &"42".into())
    );
    assert_eq!(daxite(["del", &pool, "users", "alice"]).ok(), "");
    daxite(["get", &pool, "users", "alice"]).exit(1).says("no key \"alice\"");
    daxite(["del", &pool, "users", "alice"]).exit(1).says("no key \"alice\"");
    daxite(["get", &pool, "nobody", "alice"]).exit(1).says("there are: users");
}

#[test]
fn keys_and_values_are_any_bytes() {
    let folder = Folder::new();
    let pool = folder.pool("p", "8M");
    let bytes: Vec<u8> = (0..=255).collect();
    let file = folder.file("value", &bytes);
    daxite(["put", &pool, "k", "hex:00ff", &format!("@{file}")]).ok();
    assert_eq!(daxite(["get", &pool, "k", "b64:AP8="]).exit(0).stdout, bytes);
    daxite_with(&bytes, ["put", &pool, "k", "stdin", "-"]).ok();
    assert_eq!(daxite(["get", &pool, "k", "stdin"]).exit(0).stdout, bytes);
    daxite(["put", &pool, "k", "", ""]).ok();
    assert_eq!(daxite(["get", &pool, "k", ""]).ok(), "");
    daxite(["put", &pool, "k", "text:hex:", "-1"]).ok();
    assert_eq!(daxite(["get", &pool, "k", "text:hex:"]).ok(), "-1");
    daxite(["put", &pool, "k", "hex:0", "x"]).exit(2).says("odd number");
    daxite(["put", &pool, "k", "-", "-"]).exit(2).says("standard input");
    daxite(["put", &pool, "k", &"x".repeat(70_000), "v"]).exit(2).says("too long");
}

fn fruit(folder: &Folder) -> String {
    let pool = folder.pool("fruit", "8M");
    for (key, value) in [("apple", "1"), ("apricot", "2"), ("banana", "a\tb"), ("cherry", "4")] {
        daxite(["put", &pool, "f", key, value]).ok();
    }
    daxite(["put", &pool, "f", "hex:ff", "hex:00"]).ok();
    pool
}

#[test]
fn a_scan_goes_in_key_order() {
    let folder = Folder::new();
    let pool = fruit(&folder);
    let scan = |more: &[&str]| daxite([&["scan", &pool, "f"], more].concat()).ok();
    assert_eq!(scan(&[]), "apple\t1\napricot\t2\nbanana\ta\\tb\ncherry\t4\n\\xff\t\\x00\n");
    assert_eq!(scan(&["--prefix", "ap"]), "apple\t1\napricot\t2\n");
    assert_eq!(scan(&["--from", "apricot", "--to", "cherry", "--keys-only"]), "apricot\nbanana\n");
    assert_eq!(scan(&["--rev", "--limit", "2", "--keys-only"]), "\\xff\ncherry\n");
    assert_eq!(scan(&["--count"]), "5\n");
    assert_eq!(scan(&["--from", "z", "--to", "a"]), "");
    let json = daxite(["scan", &pool, "f", "--from", "cherry", "--json"]).ok();
    assert_eq!(
        json,
        "{\"key\":\"cherry\",\"value\":\"4\"}\n{\"key_hex\":\"ff\",\"value\":\"\\u0000\"}\n"
    );
    daxite(["scan", &pool, "f", "--prefix", "a", "--from", "b"]).exit(2);
}

#[test]
fn json_is_one_object_with_a_schema_or_lines() {
    let folder = Folder::new();
    let path = folder.path("p");
    let created = &daxite(["create", &path, "--size", "8M", "--json"]).json()[0];
    assert_eq!((&created["schema"], &created["capacity_bytes"]), (&1.into(), &(8 << 20).into()));
    daxite(["put", &path, "a", "k", "v"]).ok();
    let info = &daxite(["info", &path, "--json"]).json()[0];
    assert_eq!(info["schema"], 1);
    assert_eq!(info["format"]["version"], 3);
    assert_eq!(info["format"]["clean"], true);
    assert_eq!(info["keyspaces"][0]["keys"], 1);
    assert_eq!(info["space"]["capacity_bytes"], 8 << 20);
    for (group, names) in [
        ("fallbacks", vec!["range-too-short", "past-end", "smaller-entry", "no-huge-page"]),
        ("refusals", vec!["past-end", "in-use", "too-few-pages", "pinned", "no-huge-page"]),
    ] {
        for name in names {
            assert!(info["faults"][group][name].is_u64(), "{group}.{name}, zero or not");
        }
    }
    for access in ["read", "write", "append", "adopt"] {
        for outcome in ["huge", "page", "huge-zero", "page-zero", "failed"] {
            let count = &info["faults"]["by_access"][access][outcome];
            assert!(count.is_u64(), "faults.by_access.{access}.{outcome}, zero or not");
        }
    }
    for name in ["upgraded_in_place", "relocated", "waits", "wakes", "downgrades", "failed"] {
        assert!(info["faults"][name].is_u64(), "faults.{name}, zero or not");
    }
    let map = &daxite(["map", &path, "--json"]).json()[0];
    assert_eq!((&map["schema"], &map["huge_pages"]), (&1.into(), &4.into()));
    let keyspaces = &daxite(["keyspaces", &path, "--json"]).json()[0];
    assert_eq!((&keyspaces["name"], &keyspaces["keys"]), (&"a".into(), &1.into()));
    let count = &daxite(["scan", &path, "a", "--count", "--json"]).json()[0];
    assert_eq!((&count["schema"], &count["count"]), (&1.into(), &1.into()));
    let run = daxite(["get", &path, "a", "x", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&run.exit(1).stderr).expect("JSON");
    assert_eq!(error["error"]["kind"], "KeyNotFound");
}

#[test]
fn info_in_a_pipe_is_names_and_values() {
    let folder = Folder::new();
    let pool = folder.pool("p", "8M");
    let text = daxite(["info", &pool]).ok();
    assert!(text.lines().all(|line| line.contains('\t')), "{text}");
    assert!(text.contains("\nspace.capacity_bytes\t8388608\n"), "{text}");
    assert!(!text.contains('\x1b'), "colour in a pipe");
}

#[test]
fn small_pools_use_pages_and_large_ones_huge_pages() {
    let folder = Folder::new();
    let data: String =
        (0..2000).map(|n| format!("{{\"key\":\"{n:05}\",\"value\":\"{n:0500}\"}}\n")).collect();
    let data = folder.file("data", data);
    let info = |size: &str| {
        let pool = folder.pool(size, size);
        daxite(["load", &pool, &data]).ok();
        daxite(["info", &pool, "--json"]).json().remove(0)
    };
    let small = info("4M");
    assert_eq!(small["log"]["huge_segments"], 0, "{small}");
    assert!(small["log"]["page_segments"].as_u64() > Some(0), "{small}");
    let large = info("128M");
    assert_eq!(large["log"]["page_segments"], 0, "{large}");
    assert!(large["log"]["huge_segments"].as_u64() > Some(0), "{large}");
}

#[test]
fn the_map_has_a_cell_for_each_huge_page() {
    let folder = Folder::new();
    let pool = folder.pool("p", "64M");
    let text = daxite(["map", &pool, "--width", "8"]).ok();
    let picture: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(picture.len(), 4, "{text}");
    assert!(picture[0].ends_with('.'), "{text}");
    assert!(picture[0].contains('M') && text.contains("superblock"), "{text}");
}

/// A pool of the DAX layer alone: a volume of 1 TiB with three extents of 2 MiB, two of them side by
/// side, and a short one that has pages of 4 KiB.
fn volumes(folder: &Folder) -> String {
    let path = folder.path("volumes");
    let options = CreateOptions { len_bytes: 32 << 20, ..CreateOptions::default() };
    let pool = Pool::create(path.as_ref(), &options).expect("a pool");
    let long = pool.create_volume("long", 1 << 40).expect("a volume");
    for slot in [17, 18, (700 << 30) / (2 << 20)] {
        long.write(SlotNo(slot).range().start, b"x").expect("writing");
    }
    let short = pool.create_volume("short", 1 << 20).expect("a volume");
    short.write(0, &[1; 9 << 12]).expect("writing");
    pool.close().expect("closing");
    path
}

#[test]
fn the_map_draws_volumes_and_says_where_they_are_holes() {
    let folder = Folder::new();
    let pool = volumes(&folder);
    let text = daxite(["map", &pool, "--width", "16"]).ok();
    let pictures = text.split_once("\nVolume long").expect("a volume").1;
    let expected = ", 1.0 TiB long
           0 B  (32.0 MiB of hole)
        32 MiB  .HH.............
        64 MiB  (699.9 GiB of hole)
       700 GiB  H...............
   716,832 MiB  (324.0 GiB of hole)

Volume short, 1.0 MiB long
           0 B  0

             H  one extent of 2 MiB
           0-9  extents of 4 KiB, tenths of the slot
             .  hole
";
    assert_eq!(pictures, expected, "{text}");
}

#[test]
fn the_json_of_the_map_has_every_slot_of_every_volume_in_runs() {
    let folder = Folder::new();
    let map = &daxite(["map", &volumes(&folder), "--json"]).json()[0];
    let long = &map["volumes"][0];
    assert_eq!((&long["name"], &long["slots"]), (&"long".into(), &(1 << 19).into()), "{map}");
    let runs = long["runs"].as_array().expect("runs");
    let runs: Vec<_> = runs
        .iter()
        .map(|run| (run["first"].as_u64(), run["count"].as_u64(), run["use"].as_str()))
        .collect();
    let run = |first: u64, count: u64, used| (Some(first), Some(count), Some(used));
    let expected = [
        run(0, 17, "hole"),
        run(17, 2, "huge"),
        run(19, 358_381, "hole"),
        run(358_400, 1, "huge"),
        run(358_401, 165_887, "hole"),
    ];
    assert_eq!(runs, expected);
    let short = &map["volumes"][1]["runs"][0];
    assert_eq!((&short["use"], &short["pages_used"]), (&"pages".into(), &9.into()), "{map}");
    assert_eq!(short["dirty_bytes"], 0, "nothing is dirty in a pool just opened");
}

#[test]
fn info_has_each_volume_and_leaves_zeros_out_of_the_text() {
    let folder = Folder::new();
    let path = volumes(&folder);
    // The first write makes a log beside the volumes.
    let script = "put a 1\n.mode json\ninfo\n.mode table\ninfo\nmap --width 16\n";
    let run = daxite_with(script.as_bytes(), ["shell", &path]);
    let output = run.ok();
    let (json, text) = output.split_once('\n').expect("lines");
    let info: serde_json::Value = serde_json::from_str(json).expect(json);
    let volume = |name: &str| {
        let volumes = info["volumes"].as_array().expect("volumes");
        volumes.iter().find(|volume| volume["name"] == name).expect(name).clone()
    };
    let long = volume("long");
    assert_eq!((&long["len_bytes"], &long["huge_extents"]), (&(1u64 << 40).into(), &3.into()));
    assert_eq!(long["entries"]["huge_mapping"], 0, "its extents have not been used yet");
    let log = volume("log");
    assert!(log["pins"].as_u64() > Some(0) && log["index_bytes"].as_u64() > Some(0), "{log}");
    assert_eq!(info["faults"]["by_access"]["append"]["page"], 1, "{info}");

    let rows = |name: &str| text.lines().filter(|line| line.trim_start().starts_with(name)).count();
    assert_eq!(rows("long "), 1, "{text}");
    assert_eq!((rows("faults to append"), rows("faults to write")), (1, 0), "{text}");
    assert_eq!((rows("upgraded"), rows("upgrade refused"), rows("dirty")), (0, 0, 0), "{text}");
    assert_eq!(rows("Volume long"), 1, "the map in the shell: {text}");
}

#[test]
fn a_load_is_checked_before_it_changes_anything() {
    let folder = Folder::new();
    let pool = folder.pool("p", "8M");
    let good =
        "{\"key\":\"a\",\"value\":\"1\"}\n{\"keyspace\":\"u\",\"key\":\"b\",\"value\":\"2\"}\n";
    let bad = folder.file("bad", format!("{good}{{\"key\":\"c\"}}\n"));
    daxite(["load", &pool, &bad]).exit(3).says("line 3: no value; nothing was loaded");
    assert_eq!(daxite(["keyspaces", &pool]).ok(), "");
    let cut = folder.file("cut", "VERSION=3\nformat=print\nHEADER=END\n a\n 1\n");
    daxite(["load", &pool, &cut]).exit(3).says("the dump ends before DATA=END");
    assert_eq!(daxite(["keyspaces", &pool]).ok(), "");
    daxite(["load", &pool, &folder.file("odd", "key,value\n")]).exit(3).says("--format");
    daxite(["load", &pool, &folder.path("none")]).exit(3).says("no such file");
    daxite(["load", &pool, &folder.path("")]).exit(3).says("directory");

    daxite(["load", &pool, &folder.file("good", good), "--ks", "other"]).ok();
    assert_eq!(daxite(["get", &pool, "other", "a"]).ok(), "1");
    assert_eq!(daxite(["get", &pool, "u", "b"]).ok(), "2");
}

#[test]
fn a_pipe_is_loaded_batch_by_batch() {
    let folder = Folder::new();
    let pool = folder.pool("p", "8M");
    let line = |n: u32| format!("{{\"key\":\"{n}\",\"value\":\"v\"}}\n");
    let input: String = (0..25).map(line).collect();
    let run = daxite_with(input.as_bytes(), ["load", &pool, "--batch", "10", "--acks"]);
    assert_eq!(run.ok(), "acked 10\nacked 20\nacked 25\n");
    let wrong: String = (30..45).map(line).chain(["oops\n".to_string()]).collect();
    let run = daxite_with(wrong.as_bytes(), ["load", &pool, "--batch", "10"]);
    run.exit(3).says("line 16").says("the 10 records before are loaded");
    assert_eq!(daxite(["scan", &pool, "main", "--count"]).ok(), "35\n");
    daxite_with(b"", ["load", &pool]).ok();
}

#[test]
fn a_dump_takes_its_name_when_it_is_complete() {
    let folder = Folder::new();
    let pool = fruit(&folder);
    let file = folder.path("out");
    assert_eq!(daxite(["dump", &pool, "--format", "jsonl", "-o", &file]).ok(), "");
    let text = fs::read_to_string(&file).expect("the dump");
    assert!(text.starts_with("{\"keyspace\":\"f\",\"key\":\"apple\",\"value\":\"1\"}\n"), "{text}");
    assert_eq!(text.lines().count(), 5);
    daxite(["dump", &pool, "--ks", "none", "-o", &folder.path("never")]).exit(1);
    assert!(!fs::exists(folder.path("never")).expect("looking"), "a dump of nothing");
    let copy = folder.pool("copy", "8M");
    daxite(["load", &copy, &file]).ok();
    assert_eq!(daxite(["dump", &copy]).ok(), daxite(["dump", &pool]).ok());
}

#[test]
fn a_full_pool_says_so_and_deletes() {
    let folder = Folder::new();
    let pool = folder.pool("p", "4M");
    let line = |n: u32| format!("{{\"key\":\"{n:05}\",\"value\":\"{n:01000}\"}}\n");
    let input: String = (0..6000).map(line).collect();
    let run = daxite_with(input.as_bytes(), ["load", &pool, "--batch", "20"]);
    run.exit(5).says("the pool is full").says("records before are loaded");
    assert_eq!(daxite(["get", &pool, "main", "00007"]).ok().len(), 1000);
    let keys = daxite(["scan", &pool, "main", "--keys-only"]).ok();
    let keys: Vec<&str> = keys.lines().collect();
    assert!(keys.len() > 2000, "only {} fitted", keys.len());
    daxite([&["del", &pool, "main"], &keys[..keys.len() / 2]].concat()).ok();
    daxite(["put", &pool, "main", "again", &"x".repeat(1000)]).ok();
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = Folder::new();
    let pool = folder.pool("p", "64M");
    let line = |n: u32| format!("{{\"key\":\"{n:06}\",\"value\":\"{n:0100}\"}}\n");
    daxite_with((0..50_000).map(line).collect::<String>().as_bytes(), ["load", &pool]).ok();
    for args in [["scan", &pool, "main"], ["dump", &pool, "--format=jsonl"]] {
        let mut child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting daxite");
        let mut first = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_line(&mut first).expect("a line");
        drop(output);
        let output = child.wait_with_output().expect("waiting");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn a_script_stops_at_its_first_failure() {
    let folder = Folder::new();
    let pool = folder.pool("p", "8M");
    let script = "put a 1\n# a comment\n\nuse other\nput 'b c' \"2\"\nget 'b c'\nkeyspaces\n";
    let run = daxite_with(script.as_bytes(), ["shell", &pool]);
    assert!(run.ok().starts_with("2\nmain\t1\t"), "{}", run.ok());
    let script = "put x 1\nget none\nput y 1\n";
    let run = daxite_with(script.as_bytes(), ["shell", &pool]);
    run.exit(1).says("in line 2 of the script");
    assert_eq!(daxite(["scan", &pool, "main", "--keys-only"]).ok(), "a\nx\n");
    daxite_with(b"fly\n", ["shell", &pool]).exit(2).says("fly");
    daxite_with(b"put 'a\n", ["shell", &pool]).exit(2).says("not closed");
    daxite_with(b"put a -\n", ["shell", &pool]).exit(2).says("text:-");
    daxite_with(b"put a 1\n", ["shell", &pool, "--read-only"]).exit(3).says("read-only");
    let json = daxite_with(b".mode json\nget a\n.quit\nfly\n", ["shell", &pool]).json();
    assert_eq!(json[0]["value"], "1");
}

#[test]
fn colour_is_for_terminals_and_those_who_ask() {
    let folder = Folder::new();
    let pool = folder.pool("p", "8M");
    assert!(!daxite(["map", &pool]).ok().contains('\x1b'));
    assert!(daxite(["map", &pool, "--color", "always"]).ok().contains('\x1b'));
    let volumes = daxite(["map", &volumes(&folder), "--color", "always"]).ok();
    let green = volumes.split("Volume long").nth(1).expect("its picture").contains("\x1b[32mHH");
    assert!(green, "{volumes:?}");
}

#[test]
fn wrong_usage_is_told_from_trouble() {
    let folder = Folder::new();
    daxite(["fly"]).exit(2);
    daxite(["get"]).exit(2);
    daxite(["create", &folder.path("p"), "--size", "8X"]).exit(2).says("unknown unit");
    daxite(["create", &folder.path("p")]).exit(2).says("--size");
    daxite(["create", &folder.path("p"), "--size", "1K"]).exit(2);
    daxite(["--help"]).ok();
    daxite(["--version"]).ok();
}

#[test]
fn the_demo_keeps_its_promises() {
    let folder = Folder::new();
    let run = daxite(["demo", "--pool", &folder.path("demo.pool"), "--json"]);
    let figures = &run.json()[0];
    assert_eq!(figures["load"]["records"], 57_025);
    assert!(figures["crash"]["acknowledged"].as_u64() > Some(0), "{figures}");
    assert_eq!(figures["info"]["format"]["clean"], true);
    daxite(["demo", "--pool", &folder.path("demo.pool")]).exit(3).says("--force");
}
