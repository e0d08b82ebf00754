//! What the store is measured by: its operations beside the limits of the machine, round by round in one
//! process, so that a busy machine disturbs both alike. Prints a table of medians and ratios.
//!
//! `cargo bench -p daxite-benches --bench ratios`. `DAXITE_BENCH_KEYS` says how many keys (a million),
//! `DAXITE_BENCH_POOL` where the pool lives, `DAXITE_BENCH_ROUNDS` how often each is measured (7), and
//! `DAXITE_BENCH_ONLY` which rows are measured, by a part of their names: for profilers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

use daxite::{Database, Keyspace, Options};
use daxite_benches::{Place, Random, RawLog, VALUE_LEN, key, keys};

const VALUE: [u8; VALUE_LEN] = [7; VALUE_LEN];
/// What a put of such a record takes in the log: three lines.
const FRAME: [u8; 192] = [7; 192];
/// Operations of a round.
const ROUND: u64 = 200_000;
const SCAN: usize = 100;
const BATCH: u64 = 100;
const MANY: usize = 16;

/// Threads of the rows that have several.
const THREADS: u64 = 2;

/// One row of the table.
struct Row {
    name: &'static str,
    /// Nanoseconds for each operation, by round.
    rounds: Vec<f64>,
    is_wanted: bool,
}

impl Row {
    fn new(name: &'static str) -> Self {
        let only = std::env::var("DAXITE_BENCH_ONLY").unwrap_or_default();
        Self { name, rounds: Vec::new(), is_wanted: name.contains(&only) }
    }

    /// Measures a round: `count` times what `operation` does.
    fn measure(&mut self, count: u64, mut operation: impl FnMut()) {
        if !self.is_wanted {
            return;
        }
        let started = Instant::now();
        (0..count).for_each(|_| operation());
        self.rounds.push(started.elapsed().as_nanos() as f64 / count as f64);
    }

    /// Measures a round of each of [`THREADS`] threads at once, on numbers of its own.
    fn measure_threads(&mut self, operation: impl Fn(&mut Random, u64) + Sync) {
        if !self.is_wanted {
            return;
        }
        let operation = &operation;
        let started = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let mut random = Random::new(100 + thread);
                    (0..ROUND).for_each(|nth| operation(&mut random, thread * ROUND + nth));
                });
            }
        });
        self.rounds.push(started.elapsed().as_nanos() as f64 / (THREADS * ROUND) as f64);
    }

    fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// The cheapest hash that will do for keys that are spread already: what a hash map costs at least.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Keys in a hash map of the standard library, values in a log: the limit for a get.
struct Hashed {
    map: HashMap<[u8; 16], u32, BuildHasherDefault<FirstBytes>>,
    log: Vec<[u8; 192]>,
}

impl Hashed {
    fn new(keys: u64) -> Self {
        let map = (0..keys).map(|number| (key(number), number as u32)).collect();
        Self { map, log: vec![FRAME; keys as usize] }
    }

    fn get(&self, key: &[u8; 16]) -> u64 {
        sum(&self.log[self.map[key] as usize][40..140])
    }
}

/// Reads all of a value.
fn sum(value: &[u8]) -> u64 {
    let (words, _) = value.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

fn store(place: &Place, keys: u64) -> (Database, Keyspace) {
    let capacity = ((keys + 4_000_000) * 192 * 2).max(1 << 30) / 4096 * 4096;
    let database = Options::new().capacity(capacity).create(place.path("store")).expect("a store");
    let keyspace = database.keyspace("bench").expect("a keyspace");
    for number in 0..keys {
        keyspace.insert(key(number), VALUE).expect("room");
    }
    (database, keyspace)
}

fn main() {
    // Cargo passes `--bench`, and `cargo test` would run it without.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let (place, keys) = (Place::default(), keys());
    let rounds: u32 =
        std::env::var("DAXITE_BENCH_ROUNDS").map_or(7, |n| n.parse().expect("a number"));
    let (database, keyspace) = store(&place, keys);
    let raw_pool = place.pool("raw", 256 << 20);
    let mut raw = RawLog::new(&raw_pool);
    let hashed = Hashed::new(keys);
    let sizes = database.pool().page_sizes();
    let huge_percent = sizes.huge_bytes.map(|huge| huge * 100 / sizes.resident_bytes.max(1));
    println!(
        "{keys} keys on {}, {}, {huge_percent:?} % of the resident bytes in 2 MiB pages; index {:.1} bytes per key",
        database.pool().info().kind,
        database.persistence(),
        keyspace.stats().expect("no damage").index_bytes as f64 / keys as f64,
    );

    let mut rows = [
        "raw log append",
        "update",
        "put, new key",
        "remove",
        "batch of 100, per record",
        "hash map and log",
        "get in place",
        "get, value kept",
        "get of 16 at once, per key",
        "get, miss",
        "scan of 100, per record",
        "scan of 100 in place, per record",
        "update, by two threads",
        "put, new key, by two threads",
        "get in place, by two threads",
    ]
    .map(Row::new);
    let [
        append,
        update,
        put,
        remove,
        batch,
        limit,
        in_place,
        kept,
        many,
        miss,
        scan,
        scan_in_place,
        updates,
        puts,
        gets,
    ] = &mut rows;
    let mut random = Random::new(1);
    for _ in 0..rounds {
        append.measure(ROUND, || raw.append(&FRAME));
        update.measure(ROUND, || {
            keyspace.insert(key(random.below(keys)), VALUE).expect("room");
        });
        let mut next = keys;
        put.measure(ROUND, || {
            keyspace.insert(key(next), VALUE).expect("room");
            next += 1;
        });
        remove.measure(ROUND, || {
            next -= 1;
            keyspace.remove(key(next)).expect("room");
        });
        batch.measure(ROUND / BATCH, || {
            let mut batch = database.batch();
            for _ in 0..BATCH {
                batch.insert(&keyspace, key(random.below(keys)), VALUE);
            }
            batch.commit().expect("room");
        });
        limit.measure(ROUND, || {
            black_box(hashed.get(&key(random.below(keys))));
        });
        in_place.measure(ROUND, || {
            black_box(keyspace.get_with(key(random.below(keys)), sum).expect("no damage"));
        });
        kept.measure(ROUND, || {
            let value = keyspace.get(key(random.below(keys))).expect("no damage");
            black_box(sum(&value.expect("a key")));
        });
        many.measure(ROUND / MANY as u64, || {
            let keys: [_; MANY] = std::array::from_fn(|_| key(random.below(keys)));
            let values = keyspace.get_many(&keys).expect("no damage");
            black_box(values.iter().flatten().map(|value| sum(value)).sum::<u64>());
        });
        miss.measure(ROUND, || {
            black_box(keyspace.contains_key(key(keys + random.below(keys))).expect("no damage"));
        });
        scan.measure(ROUND / SCAN as u64, || {
            let from = key(random.below(keys));
            let pairs = keyspace.range(&from[..]..).take(SCAN);
            black_box(pairs.map(|pair| sum(&pair.expect("no damage").1)).sum::<u64>());
        });
        scan_in_place.measure(ROUND / SCAN as u64, || {
            let from = key(random.below(keys));
            let (mut left, mut all) = (SCAN, 0u64);
            let ended = keyspace.range_with(&from[..].., |_, value| {
                all = all.wrapping_add(sum(value));
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(ended.expect("no damage").is_break() || all > 0);
            black_box(all);
        });
        updates.measure_threads(|random, _| {
            keyspace.insert(key(random.below(keys)), VALUE).expect("room");
        });
        puts.measure_threads(|_, nth| keyspace.insert(key(keys + nth), VALUE).expect("room"));
        if puts.is_wanted {
            for nth in 0..THREADS * ROUND {
                keyspace.remove(key(keys + nth)).expect("room");
            }
        }
        gets.measure_threads(|random, _| {
            black_box(keyspace.get_with(key(random.below(keys)), sum).expect("no damage"));
        });
    }
    batch.rounds.iter_mut().for_each(|ns| *ns /= BATCH as f64);
    many.rounds.iter_mut().for_each(|ns| *ns /= MANY as f64);
    scan.rounds.iter_mut().for_each(|ns| *ns /= SCAN as f64);
    scan_in_place.rounds.iter_mut().for_each(|ns| *ns /= SCAN as f64);
    let (append, limit) = (append.median(), limit.median());
    println!(
        "\n| | ns | against a raw append | against a hash map and the log |\n|---|---|---|---|"
    );
    for row in &rows {
        let ns = row.median();
        println!("| {} | {ns:.0} | {:.2} | {:.2} |", row.name, append / ns, limit / ns);
    }
}
