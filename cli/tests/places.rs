//! Real data goes in and comes out unchanged, in every format.
//!
//! Goal: what is loaded is what is dumped, pair for pair. Method: the bundled places, or any file
//! of JSON lines that `DAXITE_PLACES` names. A failure means that data is changed on its way.

mod common;

use std::collections::BTreeSet;
use std::io::Read;

use common::{Folder, daxite};

const BUNDLED: &[u8] = include_bytes!("../../examples/data/places.jsonl.gz");

fn places() -> String {
    let mut text = String::new();
    match std::env::var_os("DAXITE_PLACES") {
        Some(path) => return std::fs::read_to_string(path).expect("the file of DAXITE_PLACES"),
        None => flate2::read::GzDecoder::new(BUNDLED).read_to_string(&mut text),
    }
    .expect("the bundled data");
    text
}

#[test]
fn real_data_comes_back_as_it_was() {
    let folder = Folder::new();
    let text = places();
    let file = folder.file("places.jsonl", &text);
    let pool = folder.pool("pool", "192M");
    let loaded = daxite(["load", &pool, &file, "--json"]).json().remove(0);
    let lines: BTreeSet<&str> = text.lines().collect();
    assert_eq!(loaded["records"], lines.len());

    let dumped = daxite(["dump", &pool, "--format", "jsonl"]).ok();
    assert!(dumped.lines().collect::<BTreeSet<_>>() == lines, "the JSON lines differ");
    assert_eq!(dumped.lines().count(), lines.len());

    let copy = folder.pool("copy", "192M");
    let lmdb = folder.path("places.lmdb");
    daxite(["dump", &pool, "-o", &lmdb]).ok();
    daxite(["load", &copy, &lmdb]).ok();
    assert!(daxite(["dump", &copy, "--format", "jsonl"]).ok() == dumped, "the LMDB dump differs");

    let keys = daxite(["scan", &pool, "main", "--keys-only"]).ok();
    assert!(keys.lines().is_sorted(), "a scan is not in key order");
    assert_eq!(keys.lines().count(), lines.len());
}
