//! The DAX layer, each figure beside what the kernel or a bare array would take.
//!
//! `cargo bench -p daxite-benches --bench fault`; see `benches/src/lib.rs` for where the pool lives.
//! Groups: `lookup`, `lock`, `guard`, `fault`, `threads`, `upgrade`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use daxite_benches::{Place, Random};
use daxite_core::{ExtentSize, HUGE, LogicalRange, PAGE, Pool, SlotNo, Volume};

const POOL_BYTES: u64 = 1 << 30;
/// Mapped 2 MiB extents.
const SLOTS: u64 = 256;
/// Slots of a sparse TiB.
const TIB_SLOTS: u64 = (1 << 40) / HUGE;
/// Places that are looked up in turn, in random order.
const PROBES: usize = 1 << 16;

/// A volume with the first [`SLOTS`] slots mapped at 2 MiB.
fn volume_of_huge_pages(pool: &Pool) -> Volume {
    let volume = pool.create_volume("huge", 1 << 41).expect("a volume");
    for slot in 0..SLOTS {
        drop(volume.map_mut(SlotNo(slot).range()).expect("room"));
    }
    volume
}

/// A volume with one slot mapped at 4 KiB, in runs of one page.
fn volume_of_pages(pool: &Pool) -> Volume {
    let volume = pool.create_volume("pages", HUGE - PAGE).expect("a volume");
    for page in (0..HUGE / PAGE - 1).rev() {
        drop(volume.map_mut(LogicalRange::new(page * PAGE, PAGE)).expect("room"));
    }
    volume
}

fn probes(below: u64, unit: u64) -> Vec<u64> {
    let mut random = Random::new(7);
    (0..PROBES).map(|_| random.below(below) * unit).collect()
}

/// Runs `act` on one probe after the other.
fn probe(criterion: &mut Criterion, group: &str, name: &str, at: &[u64], act: impl Fn(u64)) {
    let mut group = criterion.benchmark_group(group);
    group.bench_function(name, |bencher| {
        let mut next = 0;
        bencher.iter(|| {
            act(at[next % PROBES]);
            next += 1;
        });
    });
    group.finish();
}

/// What the index adds to an array with a word for each 2 MiB.
fn lookup(criterion: &mut Criterion) {
    let place = Place::default();
    let pool = place.pool("lookup", POOL_BYTES);
    let volume = volume_of_huge_pages(&pool);
    let flat = |slots: u64| -> Vec<AtomicU64> { (0..slots).map(AtomicU64::new).collect() };

    let mapped = probes(SLOTS, HUGE);
    let array = flat(SLOTS);
    probe(criterion, "lookup", "512 MiB mapped: array", &mapped, |start| {
        black_box(array[(start / HUGE) as usize].load(Ordering::Acquire));
    });
    probe(criterion, "lookup", "512 MiB mapped: index", &mapped, |start| {
        black_box(volume.lookup(start));
    });
    for slot in 0..TIB_SLOTS {
        drop(volume.map(LogicalRange::new((1 << 40) + slot * HUGE, 1)).expect("a hole"));
    }
    let sparse = probes(TIB_SLOTS, HUGE);
    let array = flat(TIB_SLOTS);
    probe(criterion, "lookup", "1 TiB of holes: array", &sparse, |start| {
        black_box(array[(start / HUGE) as usize].load(Ordering::Acquire));
    });
    probe(criterion, "lookup", "1 TiB of holes: index", &sparse, |start| {
        black_box(volume.lookup((1 << 40) + start));
    });
    let pages = volume_of_pages(&pool);
    let at = probes(HUGE / PAGE - 1, PAGE);
    probe(criterion, "lookup", "4 KiB mapped: index", &at, |start| {
        black_box(pages.lookup(start));
    });
}

/// What the lock of an entry adds to a compare-and-swap and its reverse.
fn lock(criterion: &mut Criterion) {
    let pool = Pool::in_memory(64 << 20).expect("a pool");
    let huge = pool.create_volume("huge", HUGE).expect("a volume");
    drop(huge.map_mut(SlotNo(0).range()).expect("room"));
    let pages = volume_of_pages(&pool);
    let word = AtomicU64::new(0);
    let at = probes(1, 0);
    probe(criterion, "lock", "compare-and-swap, there and back", &at, |_| {
        let swap = |from, to| word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        black_box((swap(0, 1).is_ok(), swap(1, 0).is_ok()));
    });
    probe(criterion, "lock", "2 MiB entry, lock and unlock", &at, |start| {
        huge.lock_and_unlock(start, ExtentSize::Huge);
    });
    probe(criterion, "lock", "4 KiB entry, lock and unlock", &at, |start| {
        pages.lock_and_unlock(start, ExtentSize::Page);
    });
}

/// What users pay for a range that is mapped, or a hole, already.
fn guard(criterion: &mut Criterion) {
    let place = Place::default();
    let pool = place.pool("guard", POOL_BYTES);
    let volume = volume_of_huge_pages(&pool);
    let mapped = probes(SLOTS * 512, PAGE);
    probe(criterion, "guard", "read, 2 MiB extent", &mapped, |start| {
        black_box(volume.map(LogicalRange::new(start, 64)).expect("mapped").len());
    });
    probe(criterion, "guard", "write, 2 MiB extent", &mapped, |start| {
        black_box(volume.map_mut(LogicalRange::new(start, 64)).expect("mapped").len());
    });
    let holes: Vec<u64> = mapped.iter().map(|start| (1 << 40) + start).collect();
    for slot in 0..SLOTS {
        drop(volume.map(LogicalRange::new((1 << 40) + slot * HUGE, 1)).expect("a hole"));
    }
    probe(criterion, "guard", "read, hole", &holes, |start| {
        black_box(volume.map(LogicalRange::new(start, PAGE)).expect("a hole").len());
    });
    let pages = volume_of_pages(&pool);
    let at = probes(HUGE / PAGE - 1, PAGE);
    probe(criterion, "guard", "read, 4 KiB extent", &at, |start| {
        black_box(pages.map(LogicalRange::new(start, 64)).expect("mapped").len());
    });
}

/// A 2 MiB extent for a hole, against a process that leaves it to the kernel.
fn fault(criterion: &mut Criterion) {
    let place = Place::default();
    let pool = place.pool("fault", POOL_BYTES);
    let volume = pool.create_volume("v", 1 << 40).expect("a volume");
    let mut group = criterion.benchmark_group("fault");
    group.bench_function("hole, 2 MiB, for appending, and punch", |bencher| {
        bencher.iter(|| append_and_punch(&volume, SlotNo(0)));
    });
    group.bench_function("hole, 2 MiB of zeros, and punch", |bencher| {
        bencher.iter(|| {
            drop(volume.map_mut(SlotNo(0).range()).expect("room"));
            volume.punch(SlotNo(0).range()).expect("not in use");
        });
    });
    let path = place.path("kernel");
    group.sample_size(20);
    group.bench_function("kernel: first touch of 2 MiB of a new file", |bencher| {
        bencher.iter_batched(
            || {
                let _ = std::fs::remove_file(&path);
                let mut options = std::fs::File::options();
                let file = options.read(true).write(true).create_new(true).open(&path);
                let file = file.expect("a file");
                file.set_len(HUGE).expect("room");
                memmap2::MmapOptions::new().map_raw(&file).expect("a mapping")
            },
            |mapping| {
                for page in 0..HUGE / PAGE {
                    // A volatile store, as the first touch of each page.
                    let at = mapping.as_mut_ptr().wrapping_add((page * PAGE) as usize);
                    // SAFETY: the mapping is HUGE bytes long and nobody else has it.
                    unsafe { at.write_volatile(1) };
                }
                mapping
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

type Act = fn(&Volume, SlotNo);

fn append_and_punch(volume: &Volume, slot: SlotNo) {
    drop(volume.map_append(slot.range(), 1).expect("room"));
    volume.punch(slot.range()).expect("not in use");
}

/// Threads that fault different slots of one volume: per fault, all threads together.
fn threads(criterion: &mut Criterion) {
    let place = Place::default();
    let pool = place.pool("threads", POOL_BYTES);
    let volume = pool.create_volume("v", 1 << 40).expect("a volume");
    let mut group = criterion.benchmark_group("threads");
    group.throughput(Throughput::Elements(1));
    let kinds: [(&str, Act); 2] = [
        ("2 MiB for appending, and punch", append_and_punch),
        ("2 MiB of zeros, and punch", |volume, slot| {
            drop(volume.map_mut(slot.range()).expect("room"));
            volume.punch(slot.range()).expect("not in use");
        }),
    ];
    for (name, act) in kinds {
        for threads in [1, 2] {
            group.bench_function(format!("{name}: {threads} threads"), |bencher| {
                bencher.iter_custom(|iterations| in_threads(threads, iterations, &volume, act));
            });
        }
    }
    group.finish();
}

/// How long `threads` threads take for `iterations` faults in all.
fn in_threads(
    threads: u64,
    iterations: u64,
    volume: &Volume,
    act: fn(&Volume, SlotNo),
) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for nth in 0..iterations / threads {
                    act(volume, SlotNo(thread * 1000 + nth % 8));
                }
            });
        }
    });
    start.elapsed()
}

/// 512 pages of 4 KiB become one huge page, by moving them: what is copied is 2 MiB.
fn upgrade(criterion: &mut Criterion) {
    let place = Place::default();
    let pool = place.pool("upgrade", POOL_BYTES);
    let mut group = criterion.benchmark_group("upgrade");
    group.sample_size(20);
    group.bench_function("by relocation", |bencher| {
        bencher.iter_batched(
            || {
                let _ = pool.remove_volume("pages");
                let volume = volume_of_pages(&pool);
                volume.set_len(HUGE).expect("longer");
                volume
            },
            |volume| {
                let report = volume.upgrade(SlotNo(0).range(), 1).expect("room");
                assert_eq!(report.relocated, 1);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(faults, lookup, lock, guard, fault, threads, upgrade);
criterion_main!(faults);
