//! kill -9 in the middle of `load`, again and again on one pool.
//!
//! Goal: every record that was acknowledged is there, each time, and the pool opens each time.
//! Method: `load --acks` prints how many records are durable; it is killed after a random number of
//! them, then `info` opens the pool and a scan must give what was acknowledged, whole. The numbers
//! printed on a failure replay it. A failure means that an acknowledged write was lost.
//!
//! `DAXITE_KILLS` sets the number of kills (10).

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use common::{Folder, command, daxite};

/// Small enough that the log goes round many times, so that kills fall into reclaim as well.
const POOL: &str = "6M";
/// Records per batch: small, so that a kill falls between and into many of them.
const BATCH: u64 = 7;
/// Records that one load would write if it were left alone.
const RECORDS: u64 = 40_000;
/// Different keys: fewer than are written, so that records are replaced and space is reclaimed.
const KEYS: u64 = 8_000;

#[test]
fn every_acknowledged_record_survives_a_kill() {
    let kills = match std::env::var("DAXITE_KILLS") {
        Ok(kills) => kills.parse().expect("DAXITE_KILLS is a number"),
        Err(_) => 10,
    };
    let folder = Folder::new();
    let pool = folder.pool("pool", POOL);
    let mut random = Random(0x0dd5_eed5);
    // What must be there: per key the value that was acknowledged last.
    let mut expected = BTreeMap::new();
    for round in 0..kills {
        let input = folder.file("input", records(round));
        let after = random.next() % 400;
        let acked = load_and_kill(&pool, &input, after);
        let replay = format!("round {round}, killed after ack {after}, {acked} records acked");

        let info = daxite(["info", &pool, "--json"]).json().remove(0);
        let expected_open = serde_json::Value::Bool(false);
        assert_eq!(info["format"]["clean"], expected_open, "{replay}: it was killed too late");
        for number in 0..acked {
            expected.insert(key(round, number), value(round, number));
        }
        check(&pool, round, acked, &mut expected, &replay);
    }
}

/// Starts a load, kills it after `after` acknowledgements; how many records were acknowledged.
fn load_and_kill(pool: &str, input: &str, after: u64) -> u64 {
    let batch = BATCH.to_string();
    let mut load = command(["load", pool, input, "--acks", "--batch", &batch])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting daxite");
    let mut output = BufReader::new(load.stdout.take().expect("a pipe"));
    let mut text = String::new();
    for _ in 0..=after {
        output.read_line(&mut text).expect("an acknowledgement");
    }
    load.kill().expect("killing");
    load.wait().expect("waiting");
    output.read_to_string(&mut text).expect("what was still in the pipe");
    // A last line without an end was cut by the kill.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let last = whole.lines().last().unwrap_or("acked 0");
    last.strip_prefix("acked ").and_then(|count| count.parse().ok()).expect(last)
}

/// Compares the pool with what was acknowledged. The one batch that was under way may be there as
/// a whole or not at all; what is found becomes what is expected from here on.
fn check(
    pool: &str,
    round: u64,
    acked: u64,
    expected: &mut BTreeMap<String, String>,
    replay: &str,
) {
    let mut with_last = expected.clone();
    for number in acked..(acked + BATCH).min(RECORDS) {
        with_last.insert(key(round, number), value(round, number));
    }
    let found: BTreeMap<String, String> = daxite(["scan", pool, "main"])
        .ok()
        .lines()
        .map(|line| line.split_once('\t').expect("key and value"))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    if found == with_last {
        *expected = with_last;
    } else if found != *expected {
        for (key, value) in &*expected {
            let there = found.get(key);
            assert_eq!(there, Some(value), "{replay}: {key} is lost or torn");
        }
        panic!("{replay}: a batch is there in part, or records that nobody wrote");
    }
}

fn key(round: u64, number: u64) -> String {
    format!("key {:05}", Random(round << 32 | number).next() % KEYS)
}

fn value(round: u64, number: u64) -> String {
    let mut random = Random(!(round << 32 | number));
    let mut value = format!("round {round} record {number} ");
    for _ in 0..random.next() % 12 {
        write!(value, "{:016x}", random.next()).expect("writing to a string");
    }
    value
}

fn records(round: u64) -> String {
    (0..RECORDS).fold(String::new(), |mut text, number| {
        let (key, value) = (key(round, number), value(round, number));
        writeln!(text, "{{\"key\":\"{key}\",\"value\":\"{value}\"}}").expect("writing to a string");
        text
    })
}

/// splitmix64, by Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
