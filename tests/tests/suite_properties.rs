//! Promise: what the test suites of the kernel's DAX code ask of it holds here too.
//!
//! Method: one test for each item of ndctl and xfstests that has a meaning in user space, named by
//! its property; the source stands at the test. Only properties were taken, no code. A failure means
//! that an application would see what those suites were written against.
//!
//! Not here:
//! - dax-pmd, the case of a fork under a 2 MiB map: a pool belongs to one process, and safe Rust
//!   cannot fork.
//! - dax-errors, daxdev-errors, dax-poison, xfs/550 to 552: bad lines can be injected only into real
//!   devices or by the kernel; damaged bytes are the subject of `damage.rs`.
//! - generic/605 to 608: there is no flag that turns DAX on and off.
//! - xfs reflink tests: extents are not shared.
//! - generic/437 asks for private maps; what is left of it is 2 MiB against 4 KiB faults.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use daxite_core::sim::Recorder;
use daxite_core::{
    Access, CreateOptions, Error, ExtentSize, FallbackReason, FaultOutcome, HUGE, LogicalRange,
    OpenOptions, PAGE, Pool, Volume,
};
use daxite_tests::{Place, Random};

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn all(volume: &Volume) -> LogicalRange {
    range(0, volume.len_bytes())
}

fn volume_in_memory(pool_bytes: u64) -> (Pool, Volume) {
    let pool = Pool::in_memory(pool_bytes).unwrap();
    let volume = pool.create_volume("v", 1 << 40).unwrap();
    (pool, volume)
}

fn folder() -> Place {
    Place::in_folder(&std::env::temp_dir())
}

/// A pool that was closed and opened again, so that its slots of `bytes` are mapped but not faulted.
fn reopened(place: &Place, bytes: &[u8]) -> (Pool, Volume) {
    let path = place.path().expect("a pool in a folder");
    let pool = place.create(48 << 20);
    pool.create_volume("v", 1 << 40).unwrap().write(HUGE, bytes).unwrap();
    pool.close().unwrap();
    drop(pool);
    let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
    let volume = pool.volume("v").unwrap().unwrap();
    (pool, volume)
}

/// Source: ndctl dax.sh, which counts that at least ten faults of 2 MiB are answered so, and that
/// the first ten are.
#[test]
fn aligned_ranges_are_mapped_by_2_mib_without_one_fallback() {
    const SLOTS: u64 = 12;
    let place = folder();
    let (pool, volume) = reopened(&place, &vec![7; (SLOTS * HUGE) as usize]);
    let slots = 1..=SLOTS;
    for (nth, slot) in (1..).zip(slots.clone()) {
        assert_eq!(volume.map(range(slot * HUGE, HUGE)).unwrap().len() as u64, HUGE);
        assert_eq!(pool.fault_counts().faults(Access::Read, FaultOutcome::Huge), nth);
    }
    for slot in slots {
        let guard = volume.map_mut(range(slot * HUGE + 5 * PAGE, PAGE)).unwrap();
        assert_eq!(guard.size(), ExtentSize::Huge, "a part of a slot is served by 2 MiB too");
    }
    let fresh = volume.map_mut(range((SLOTS + 1) * HUGE, HUGE)).unwrap();
    assert_eq!(fresh.size(), ExtentSize::Huge);
    assert_eq!(pool.fault_counts().outcomes(FaultOutcome::Huge), 2 * SLOTS + 1);
    assert_eq!(pool.fault_counts().outcomes(FaultOutcome::Page), 0);
    assert_eq!(pool.fault_counts().all_fallbacks(), 0);
}

/// Source: ndctl dax-pmd.c, cases 0, 1 and 4: direct I/O from and to maps, faulted and not.
#[test]
fn a_map_is_a_buffer_for_file_io_whatever_was_faulted_before() {
    let (place, bytes) = (folder(), Random::new(1).bytes(2 * HUGE));
    let (_pool, volume) = reopened(&place, &bytes);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&volume.map(range(HUGE, HUGE)).unwrap()).unwrap();
    // A slot that was only read so far, a dirty one, and one that is a hole.
    let read_before = range(2 * HUGE, HUGE);
    assert_eq!(&*volume.map(read_before).unwrap(), &bytes[HUGE as usize..]);
    for target in [read_before, range(HUGE, HUGE), range(9 * HUGE, HUGE)] {
        file.rewind().unwrap();
        let mut guard = volume.map_mut(target).unwrap();
        guard.fill(1);
        file.read_exact(&mut guard).unwrap();
        guard.persist().unwrap();
        drop(guard);
        assert_eq!(&*volume.map(target).unwrap(), &bytes[..HUGE as usize]);
    }
    let dirty = volume.map_mut(range(HUGE, HUGE)).unwrap();
    file.rewind().unwrap();
    file.write_all(&dirty).unwrap();
    file.rewind().unwrap();
    let mut back = vec![0; HUGE as usize];
    file.read_exact(&mut back).unwrap();
    assert_eq!(back, *dirty);
}

/// Source: ndctl dax-pmd.c, case 3, and its `hugetlb.c`, the same in memory without DAX.
#[test]
fn what_was_read_first_can_be_written_in_place() {
    let place = folder();
    for (_pool, volume) in [reopened(&place, &vec![7; HUGE as usize]), volume_in_memory(16 << 20)] {
        let before = volume.map(range(HUGE, HUGE)).unwrap().physical();
        let mut guard = volume.map_mut(range(HUGE, HUGE)).unwrap();
        assert_eq!(guard.physical().0, before.unwrap_or(guard.physical()).0);
        guard[77] = 99;
        drop(guard);
        assert_eq!(volume.map(range(HUGE + 77, 1)).unwrap()[0], 99);
    }
}

/// Source: ndctl device-dax.c and align.sh: mappings that do not fit the alignment or the length of
/// the device are refused; what is mapped is what the block device shows.
#[test]
fn what_is_misaligned_or_past_the_end_is_refused_and_the_rest_is_what_the_file_shows() {
    let place = folder();
    let (pool, volume) = reopened(&place, &Random::new(2).bytes(HUGE));
    let space = pool.space();
    for (start, len_bytes) in [(1, HUGE), (PAGE, HUGE), (4 * HUGE, PAGE + 1)] {
        let refused = volume.map_append(range(start, len_bytes), 1).map(drop);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{start:#x} {len_bytes:#x}");
    }
    let refused = volume.map_existing(range(HUGE + 1, 64)).map(drop);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    for (start, len_bytes) in [(1 << 40, 1), ((1 << 40) - PAGE, 2 * PAGE), (0, 0), (u64::MAX, 9)] {
        let refused = volume.map_mut(range(start, len_bytes)).map(drop);
        assert!(matches!(refused, Err(Error::OutOfRange { .. })), "{start:#x} {len_bytes:#x}");
    }
    for pool_bytes in [0, 1, (4 << 20) - 1, (4 << 20) + 1, u64::MAX] {
        let refused = Pool::in_memory(pool_bytes).map(drop);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{pool_bytes}");
    }
    assert_eq!(pool.space(), space);
    let file = std::fs::read(place.path().unwrap()).unwrap();
    let guard = volume.map(range(HUGE, HUGE)).unwrap();
    let start = guard.physical().unwrap().0 as usize;
    assert!(*guard == file[start..start + HUGE as usize]);
}

/// Source: ndctl device-dax.c: stores after the device was disabled.
#[test]
fn after_closing_nothing_is_mapped_any_more_and_guards_stay_valid() {
    let (pool, volume) = volume_in_memory(16 << 20);
    let mut guard = volume.map_mut(range(0, HUGE)).unwrap();
    pool.close().unwrap();
    guard.fill(3);
    assert_eq!(guard[HUGE as usize - 1], 3);
    assert!(matches!(volume.map(range(0, 1)), Err(Error::Closed)));
    assert!(matches!(volume.map_mut(range(HUGE, 1)), Err(Error::Closed)));
    assert!(matches!(volume.sync(range(0, 1)), Err(Error::Closed)));
}

/// How a thread of [`no_tag_is_lost`] stores its tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    /// Through a guard.
    Map,
    /// Through a guard, after the page was read, in which the tag may be zero yet.
    ReadThenMap,
    /// By a write call.
    Call,
}

/// Threads store a tag each into every page, all in the same order, and none is lost.
fn no_tag_is_lost(stores: [Store; 4], prepare: fn(&Volume, LogicalRange)) {
    const PAGES: u64 = 700;
    for pool_bytes in [4 << 20, 32 << 20] {
        let (pool, volume) = volume_in_memory(pool_bytes);
        prepare(&volume, range(0, PAGES * PAGE));
        let tag = |page: u64, thread: u64| (page ^ (thread + 1) << 32).to_le_bytes();
        let at = |page: u64, thread: u64| range(page * PAGE + thread * 8, 8);
        std::thread::scope(|scope| {
            for (thread, store) in (0..).zip(stores) {
                let volume = &volume;
                scope.spawn(move || {
                    for page in 0..PAGES {
                        let (place, tag) = (at(page, thread), tag(page, thread));
                        if store == Store::Call {
                            volume.write(place.start, &tag).unwrap();
                            continue;
                        }
                        if store == Store::ReadThenMap {
                            assert_eq!(&*volume.map(place).unwrap(), &[0; 8]);
                        }
                        volume.map_mut(place).unwrap().copy_from_slice(&tag);
                    }
                });
            }
        });
        for (page, thread) in (0..PAGES).flat_map(|page| (0..4).map(move |nth| (page, nth))) {
            assert_eq!(*volume.map(at(page, thread)).unwrap(), tag(page, thread), "page {page}");
        }
        pool.check();
    }
}

/// Source: xfstests generic/340 (holetest), on holes, on allocated space and on zeroed space.
#[test]
fn threads_that_store_into_the_same_pages_lose_no_tag() {
    let prepares: [fn(&Volume, LogicalRange); 3] = [
        |_, _| {},
        |volume, part| {
            volume.write(part.start, &vec![0; part.len_bytes as usize]).unwrap();
        },
        |volume, part| {
            volume.write(part.start, &vec![5; part.len_bytes as usize]).unwrap();
            volume.zero(part).unwrap();
        },
    ];
    prepares.into_iter().for_each(|prepare| no_tag_is_lost([Store::Map; 4], prepare));
}

/// Source: xfstests generic/344 (holetest -r, and with one side that writes by calls).
#[test]
fn threads_that_read_holes_first_lose_no_tag() {
    no_tag_is_lost([Store::ReadThenMap; 4], |_, _| {});
    let mixed = [Store::ReadThenMap, Store::Call, Store::ReadThenMap, Store::Call];
    no_tag_is_lost(mixed, |_, _| {});
}

/// Source: xfstests generic/346 (holetest -w): stores through maps race with write calls.
#[test]
fn stores_through_maps_and_write_calls_lose_no_tag() {
    no_tag_is_lost([Store::Map, Store::Call, Store::Map, Store::Call], |_, _| {});
}

/// Source: xfstests generic/345 (holetest -F) has processes in place of threads. Here a second process
/// must be refused, and may have the pool when the first is done.
#[test]
fn a_second_process_is_refused() {
    const PATH: &str = "DAXITE_TEST_SECOND_PROCESS";
    if let Some(path) = std::env::var_os(PATH) {
        match Pool::open(Path::new(&path), &OpenOptions::default()) {
            Ok(_) => println!("second process: opened"),
            Err(Error::Locked { .. }) => println!("second process: refused"),
            Err(error) => panic!("{error}"),
        }
        return;
    }
    let place = folder();
    let path = place.path().unwrap();
    let second_process = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_second_process_is_refused", "--nocapture"]).env(PATH, &path);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let pool = place.create(8 << 20);
    let answer = second_process();
    assert!(answer.contains("second process: refused"), "{answer}");
    drop(pool);
    let answer = second_process();
    assert!(answer.contains("second process: opened"), "{answer}");
}

/// Source: xfstests generic/413 (t_mmap_dio): a map of one file is the buffer for I/O on another, in
/// 1 KiB, 4 KiB, 16 MiB and 64 MiB.
#[test]
fn a_map_of_one_volume_is_a_buffer_for_another_and_for_files() {
    for len in [1u64 << 10, 4 << 10, 16 << 20, 64 << 20] {
        let pool = Pool::in_memory((2 * len).next_multiple_of(HUGE) + (8 << 20)).unwrap();
        let [from, to] = ["from", "to"].map(|name| pool.create_volume(name, len).unwrap());
        let bytes = Random::new(len).bytes(len);
        from.write(0, &bytes).unwrap();
        let mut file: File = tempfile::tempfile().unwrap();
        let mut done = 0;
        while done < len {
            let guard = from.map(range(done, len - done)).unwrap();
            to.write(done, &guard).unwrap();
            file.write_all(&guard).unwrap();
            done += guard.len() as u64;
        }
        file.rewind().unwrap();
        let mut done = 0;
        while done < len {
            let mut guard = from.map_mut(range(done, len - done)).unwrap();
            guard.fill(0);
            file.read_exact(&mut guard).unwrap();
            done += guard.len() as u64;
        }
        from.sync(range(0, len)).unwrap();
        for volume in [&from, &to] {
            let mut back = vec![0; len as usize];
            volume.read(0, &mut back).unwrap();
            assert!(back == bytes, "{len} bytes of {}", volume.name());
        }
    }
}

/// Source: xfstests generic/428 (t_mmap_stale_pmd): a hole that was read through a map, then written
/// by a call, must not read as zeros through a map again. With zero entries of both sizes.
#[test]
fn a_hole_that_was_read_shows_what_is_written_next() {
    let (pool, huge) = volume_in_memory(32 << 20);
    let pages = pool.create_volume("pages", 2 * HUGE - 1).unwrap();
    for (volume, zeros) in [(&huge, FaultOutcome::HugeZero), (&pages, FaultOutcome::PageZero)] {
        for start in [HUGE, HUGE + 3 * PAGE + 5, 2 * HUGE - PAGE - 1] {
            volume.punch(range(HUGE, volume.len_bytes() - HUGE)).unwrap();
            let before = pool.fault_counts().outcomes(zeros);
            let hole = volume.map(range(start, 1)).unwrap();
            assert!(hole.is_hole());
            assert!(pool.fault_counts().outcomes(zeros) > before, "{zeros}");
            volume.write(start, &[1]).unwrap();
            assert_eq!(&*volume.map(range(start, 1)).unwrap(), &[1]);
        }
    }
    pool.check();
}

/// Source: xfstests generic/437 (t_mmap_cow_race): reads of 2 MiB and writes of 4 KiB race for the same
/// slot while it is thrown away again and again.
#[test]
fn reads_of_2_mib_and_writes_of_4_kib_race_for_a_slot() {
    const ROUNDS_MIN: u64 = 1000;
    let (pool, volume) = volume_in_memory(4 << 20);
    let is_over = AtomicBool::new(false);
    let [holes, mapped] = [(); 2].map(|()| AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                match volume.map(range(HUGE, HUGE)) {
                    Ok(guard) => {
                        let (seen, allowed): (_, &[u8]) = match guard.is_hole() {
                            true => (&holes, &[0]),
                            // A page that was allocated, and not stored to yet, is zeros.
                            false => (&mapped, &[0, 9]),
                        };
                        assert!(guard.iter().all(|byte| allowed.contains(byte)));
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(Error::Busy { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let patient = volume.with_patience(Duration::from_secs(60));
        let met = || holes.load(Ordering::Relaxed) > 0 && mapped.load(Ordering::Relaxed) > 0;
        for round in (0..).take_while(|round| *round < ROUNDS_MIN || !met()) {
            let page = HUGE + round % 5 * PAGE;
            patient.write(page, &[9; PAGE as usize]).unwrap();
            assert_eq!(patient.map(range(page, 1)).unwrap()[0], 9);
            patient.punch(range(HUGE, HUGE)).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(volume.extents(all(&volume)).unwrap(), []);
    pool.check();
}

/// Source: xfstests generic/452 (faults for reading on a read-only file system work) and generic/462
/// (a write into it fails, and the file is as it was).
#[test]
fn a_read_only_pool_is_mapped_for_reading_only() {
    let place = folder();
    let bytes = Random::new(3).bytes(HUGE + 5 * PAGE);
    drop(reopened(&place, &bytes));
    let path = place.path().unwrap();
    let before = std::fs::read(&path).unwrap();
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let pool = Pool::open(&path, &read_only).unwrap();
    let volume = pool.volume("v").unwrap().unwrap();
    assert!(*volume.map(range(HUGE, HUGE)).unwrap() == bytes[..HUGE as usize]);
    assert!(volume.map(range(700 << 30, HUGE)).unwrap().is_hole());
    let calls: [fn(&Volume) -> daxite_core::Result<()>; 6] = [
        |volume| volume.map_mut(range(HUGE, 1)).map(drop),
        |volume| volume.write(0, &[1]),
        |volume| volume.punch(range(HUGE, HUGE)),
        |volume| volume.zero(range(HUGE, 1)),
        |volume| volume.set_len(1),
        |volume| volume.upgrade(range(HUGE, 1), 1).map(drop),
    ];
    for call in calls {
        assert!(matches!(call(&volume), Err(Error::ReadOnly { .. })));
    }
    drop((volume, pool));
    assert!(std::fs::read(&path).unwrap() == before);
}

/// Source: xfstests generic/470: after a store through a MAP_SYNC map, without any sync, the extent is
/// there whenever the power fails.
#[test]
fn an_extent_is_durable_before_its_bytes_are_handed_out() {
    for pool_bytes in [4 << 20, 12 << 20] {
        let recorder = Arc::new(Recorder::default());
        let pool = Pool::recorded(pool_bytes, &recorder).unwrap();
        let volume = pool.create_volume("v", 1 << 30).unwrap();
        let mut guard = volume.map_mut(range(HUGE, 1 << 20)).unwrap();
        guard[0] = 1;
        let mapped = range(HUGE, guard.len() as u64);
        assert_eq!(mapped.len_bytes, 1 << 20);
        recorder.on_fence(move |point| {
            point.each_state(16, 1, |pool| {
                let volume = pool.unwrap().volume("v").unwrap().unwrap();
                let extents = volume.extents(mapped).unwrap();
                let bytes: u64 = extents.iter().map(|extent| extent.logical.len_bytes).sum();
                assert!(bytes >= 1 << 20, "{extents:?}");
            });
        });
        recorder.crash_point();
        guard.persist().unwrap();
    }
}

/// Source: xfstests generic/503 (t_mmap_collision): reads into a map race with punching, zeroing and
/// truncating; blocks of a map never get into other hands.
#[test]
fn no_page_changes_hands_under_a_map() {
    const ROUNDS: u64 = 1500;
    let pool = Pool::in_memory(4 << 20).unwrap();
    let [volume, other] = ["v", "other"].map(|name| pool.create_volume(name, HUGE).unwrap());
    let mut file = tempfile::tempfile().unwrap();
    let bytes = Random::new(5).bytes(2 * PAGE);
    file.write_all(&bytes).unwrap();
    let busy_or_done = |result: daxite_core::Result<()>| match result {
        Ok(()) | Err(Error::Busy { .. } | Error::OutOfRange { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let changes: [fn(&Volume) -> daxite_core::Result<()>; 4] = [
                |volume| volume.punch(range(0, 3 * PAGE)),
                |volume| volume.zero(range(100, PAGE)),
                |volume| volume.set_len(PAGE),
                |volume| volume.set_len(HUGE),
            ];
            for change in changes.into_iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                busy_or_done(change(&volume));
            }
        });
        scope.spawn(|| {
            // Takes what is freed at once, and gives it back.
            while !is_over.load(Ordering::Relaxed) {
                other.write(0, &[0xee; 3 * PAGE as usize]).unwrap();
                let mut back = [0; 3 * PAGE as usize];
                other.read(0, &mut back).unwrap();
                assert!(back.iter().all(|&byte| byte == 0xee), "a store into a page of another");
                other.punch(range(0, HUGE)).unwrap();
            }
        });
        let mut mapped = 0;
        while mapped < ROUNDS {
            let mut guard = match volume.map_mut(range(0, 2 * PAGE)) {
                Ok(guard) => guard,
                Err(error) => {
                    busy_or_done(Err(error));
                    continue;
                }
            };
            file.rewind().unwrap();
            file.read_exact(&mut guard).unwrap();
            assert!(*guard == bytes[..guard.len()], "a page changed under its map");
            mapped += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    pool.check();
    for volume in [volume, other] {
        volume.punch(all(&volume)).unwrap();
        assert_eq!(volume.extents(all(&volume)).unwrap(), []);
    }
}

/// Source: xfstests ext4/030 and ext4/031: two views of one file that could differ must be refused.
#[test]
fn two_views_of_one_pool_are_refused() {
    let place = folder();
    let path = place.path().unwrap();
    let pool = place.create(8 << 20);
    let links = ["symbolic", "hard"].map(|name| path.with_file_name(name));
    std::os::unix::fs::symlink(&path, &links[0]).unwrap();
    std::fs::hard_link(&path, &links[1]).unwrap();
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let over_it = CreateOptions { len_bytes: 8 << 20, overwrite: true, ..CreateOptions::default() };
    for view in [&path, &links[0], &links[1]] {
        for options in [&OpenOptions::default(), &read_only] {
            let second = Pool::open(view, options).map(drop);
            assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
        }
        let second = Pool::create(view, &over_it).map(drop);
        assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    }
    drop(pool);
    let reader = Pool::open(&path, &read_only).unwrap();
    assert!(Pool::open(&links[0], &read_only).is_ok(), "readers change nothing");
    let writer = Pool::open(&links[1], &OpenOptions::default()).map(drop);
    assert!(matches!(writer, Err(Error::Locked { .. })), "{writer:?}");
    drop(reader);
}

/// Source: xfstests t_mmap_fallocate.c: a file is extended byte by byte, and each byte is stored to;
/// zeroing at the end never takes what is there.
#[test]
fn growing_byte_by_byte_keeps_every_byte() {
    for start in [PAGE - 50, HUGE - 50] {
        let pool = Pool::in_memory(32 << 20).unwrap();
        let volume = pool.create_volume("v", start).unwrap();
        for len_bytes in start + 1..start + 100 {
            volume.set_len(len_bytes).unwrap();
            let mut guard = volume.map_mut(range(len_bytes - 1, 1)).unwrap();
            assert_eq!(*guard, [0], "what is added is zero");
            guard[0] = len_bytes as u8 | 1;
        }
        for at in start..start + 99 {
            assert_eq!(*volume.map(range(at, 1)).unwrap(), [(at + 1) as u8 | 1], "byte {at}");
        }
        assert!(pool.fault_counts().fallbacks(FallbackReason::PastEnd) > 0);
        pool.check();
    }
}
