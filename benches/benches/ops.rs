//! Puts, gets and scans, each beside its limits in the same run: a raw log append of the same
//! lines with the same stores and fence, and a map in DRAM.
//!
//! `cargo bench -p daxite-benches --bench ops`; see `benches/src/lib.rs` for where the pool lives
//! and how many keys there are.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use daxite::{Database, Keyspace, Options};
use daxite_benches::{Place, Random, RawLog, VALUE_LEN, key, keys};

const VALUE: [u8; VALUE_LEN] = [7; VALUE_LEN];
/// What a put of such a record takes in the log: three lines.
const FRAME: [u8; 192] = [7; 192];
/// Pairs that a scan reads.
const SCAN: usize = 100;

/// A store with the keys in it.
fn loaded(place: &Place, keys: u64) -> (Database, Keyspace) {
    let capacity = (keys * 192 * 4).max(1 << 30) / 4096 * 4096;
    let database = Options::new().capacity(capacity).create(place.path("store")).expect("a store");
    let keyspace = database.keyspace("bench").expect("a keyspace");
    for number in 0..keys {
        keyspace.insert(key(number), VALUE).expect("room");
    }
    let sizes = database.pool().page_sizes();
    let huge_percent = sizes.huge_bytes.map(|huge| huge * 100 / sizes.resident_bytes.max(1));
    println!(
        "medium {}, persistence {}, {huge_percent:?} % of the resident bytes in 2 MiB pages",
        database.pool().info().kind,
        database.persistence(),
    );
    (database, keyspace)
}

fn put(criterion: &mut Criterion) {
    let (place, keys) = (Place::default(), keys());
    let (_database, keyspace) = loaded(&place, keys);
    let raw_pool = place.pool("raw", 256 << 20);
    let mut raw = RawLog::new(&raw_pool);
    let mut ordered: BTreeMap<[u8; 16], [u8; VALUE_LEN]> =
        (0..keys).map(|number| (key(number), VALUE)).collect();

    let mut group = criterion.benchmark_group("put");
    group.bench_function("raw log append", |bencher| bencher.iter(|| raw.append(&FRAME)));
    let mut random = Random::new(1);
    group.bench_function("update", |bencher| {
        bencher.iter(|| keyspace.insert(key(random.below(keys)), VALUE).expect("room"));
    });
    group.bench_function("BTreeMap update", |bencher| {
        bencher.iter(|| ordered.insert(key(random.below(keys)), VALUE));
    });
    let mut next = keys;
    group.bench_function("insert and remove a new key", |bencher| {
        bencher.iter(|| {
            keyspace.insert(key(next), VALUE).expect("room");
            keyspace.remove(key(next)).expect("room");
            next += 1;
        });
    });
    group.bench_function("BTreeMap insert and remove a new key", |bencher| {
        bencher.iter(|| {
            ordered.insert(key(next), VALUE);
            ordered.remove(&key(next));
            next += 1;
        });
    });
    group.finish();
}

fn get(criterion: &mut Criterion) {
    let (place, keys) = (Place::default(), keys());
    let (_database, keyspace) = loaded(&place, keys);
    let ordered: BTreeMap<[u8; 16], [u8; VALUE_LEN]> =
        (0..keys).map(|number| (key(number), VALUE)).collect();
    let hashed: HashMap<[u8; 16], [u8; VALUE_LEN]> =
        ordered.iter().map(|(key, value)| (*key, *value)).collect();

    let mut group = criterion.benchmark_group("get");
    let mut random = Random::new(2);
    group.bench_function("in place", |bencher| {
        bencher.iter(|| {
            let sum = keyspace.get_with(key(random.below(keys)), |value| value[50]);
            black_box(sum.expect("no damage").expect("a key"))
        });
    });
    group.bench_function("value", |bencher| {
        bencher.iter(|| {
            let value = keyspace.get(key(random.below(keys))).expect("no damage");
            black_box(value.expect("a key")[50])
        });
    });
    group.bench_function("miss", |bencher| {
        bencher.iter(|| black_box(keyspace.contains_key(key(keys + random.below(keys)))));
    });
    group.bench_function("BTreeMap", |bencher| {
        bencher.iter(|| black_box(ordered[&key(random.below(keys))][50]));
    });
    group.bench_function("HashMap", |bencher| {
        bencher.iter(|| black_box(hashed[&key(random.below(keys))][50]));
    });
    group.finish();

    let mut group = criterion.benchmark_group("scan of 100");
    group.bench_function("pairs", |bencher| {
        bencher.iter(|| {
            let from = key(random.below(keys));
            let pairs = keyspace.range(&from[..]..).take(SCAN);
            pairs.map(|pair| u64::from(pair.expect("no damage").1[50])).sum::<u64>()
        });
    });
    group.bench_function("BTreeMap", |bencher| {
        bencher.iter(|| {
            let pairs = ordered.range(key(random.below(keys))..).take(SCAN);
            pairs.map(|(_, value)| u64::from(value[50])).sum::<u64>()
        });
    });
    group.finish();
}

criterion_group!(ops, put, get);
criterion_main!(ops);
