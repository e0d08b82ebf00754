//! Faults of the DAX layer, each beside what the kernel or a bare array would take.
//!
//! `cargo bench -p daxite-benches --bench fault`; see `benches/src/lib.rs` for where the pool lives.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use daxite_benches::{Place, Random};
use daxite_core::{HUGE, LogicalRange, PAGE, SlotNo};

const POOL_BYTES: u64 = 1 << 30;
const SLOTS: u64 = 256;

fn fault(criterion: &mut Criterion) {
    let place = Place::default();
    let pool = place.pool("fault", POOL_BYTES);
    let volume = pool.create_volume("v", 1 << 40).expect("a volume");
    let mut group = criterion.benchmark_group("fault");

    group.bench_function("hole, 2 MiB, for appending, and punch", |bencher| {
        bencher.iter(|| {
            drop(volume.map_append(SlotNo(0).range(), 1).expect("room"));
            volume.punch(SlotNo(0).range()).expect("not in use");
        });
    });
    for slot in 1..SLOTS {
        drop(volume.map_mut(SlotNo(slot).range()).expect("room"));
    }
    let mut random = Random::new(1);
    group.bench_function("mapped 2 MiB extent, read guard", |bencher| {
        bencher.iter(|| {
            let start = (1 + random.below(SLOTS - 1)) * HUGE + random.below(511) * PAGE;
            black_box(volume.map(LogicalRange::new(start, 64)).expect("mapped").len())
        });
    });
    group.bench_function("hole, read guard of 4 KiB", |bencher| {
        bencher.iter(|| {
            let start = (1000 + random.below(1000)) * HUGE;
            black_box(volume.map(LogicalRange::new(start, PAGE)).expect("a hole").len())
        });
    });
    group.finish();
    kernel(criterion, &place);
}

/// What a process pays that leaves all this to the kernel.
fn kernel(criterion: &mut Criterion, place: &Place) {
    let mut group = criterion.benchmark_group("fault");
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

criterion_group!(faults, fault);
criterion_main!(faults);
