//! Promise: a volume is a sparse array of bytes that survives reopening, in extents of 2 MiB where
//! they can be had and of 4 KiB where not.
//!
//! Method: each behaviour on a pool in memory or on a file, with the counters of the DAX layer as
//! witness. A failure means that bytes, extents or counters are not what was promised.

use daxite_core::{
    CreateOptions, Error, ExtentSize, FallbackReason, HUGE, LogicalRange, OpenOptions, PAGE, Pool,
    SlotExtents, SlotNo, Volume,
};

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn volume_in_memory(pool_bytes: u64) -> (Pool, Volume) {
    let pool = Pool::in_memory(pool_bytes).unwrap();
    let volume = pool.create_volume("v", 1 << 40).unwrap();
    (pool, volume)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn holes_read_as_zeros_and_cost_nothing() {
    let (pool, volume) = volume_in_memory(16 << 20);
    let free = pool.space().free_pages;
    for start in [0, PAGE + 1, HUGE - 1, 700 << 30, (1 << 40) - 1] {
        let guard = volume.map(range(start, 1)).unwrap();
        assert!(guard.is_hole());
        assert_eq!(&*guard, &[0]);
    }
    assert_eq!(pool.space().free_pages, free);
    let whole = volume.map(range(4 * HUGE, HUGE)).unwrap();
    assert_eq!(whole.len() as u64, HUGE);
    assert!(whole.iter().all(|&byte| byte == 0));
    assert!(pool.entry_counts().huge_zero > 0);
}

#[test]
fn a_fresh_slot_is_one_huge_page_and_nothing_falls_back() {
    let (pool, volume) = volume_in_memory(64 << 20);
    for slot in 0..8 {
        let mut guard = volume.map_mut(range(slot * HUGE, HUGE)).unwrap();
        assert_eq!(guard.len() as u64, HUGE);
        assert_eq!(guard.size(), ExtentSize::Huge);
        assert_eq!(guard.physical().0 % HUGE, 0);
        guard[5] = slot as u8;
        guard.persist().unwrap();
    }
    assert_eq!(pool.fault_counts().all_fallbacks(), 0);
    assert_eq!(pool.fault_counts().allocated_huge, 8);
    assert_eq!(pool.entry_counts().huge_mapping, 8);
    volume.check();
}

#[test]
fn a_volume_is_full_only_when_no_page_is_left_for_its_tables_either() {
    // Both sizes take pages first, and then need three for tables.
    let huge_pages = HUGE / PAGE;
    for wanted in [huge_pages, 100] {
        let pool = Pool::in_memory(6 << 20).unwrap();
        let volume = pool.create_volume("v", 1 << 40).unwrap();
        let filler = pool.create_volume("filler", 1 << 30).unwrap();
        // What is broken already, in two slots; then all but what is wanted, of a whole huge page.
        for (slot, left, tables) in [(0, huge_pages, 3), (1, huge_pages, 1), (2, wanted, 1)] {
            let pages = (pool.space().free_pages - left).saturating_sub(tables).min(huge_pages - 2);
            if pages > 0 {
                drop(filler.map_append(range(slot * HUGE, pages * PAGE), pages).unwrap());
            }
        }
        assert_eq!(pool.space().free_pages, wanted);
        assert_eq!(pool.space().longest_run_pages, wanted);
        let guard = volume.map_mut(range(0, wanted * PAGE)).unwrap();
        assert_eq!(guard.len() as u64 / PAGE, wanted - 3);
        assert!(guard.iter().all(|&byte| byte == 0));
        drop(guard);
        assert_eq!(pool.space().free_pages, 0);
        assert!(matches!(volume.map_mut(range(HUGE, PAGE)), Err(Error::Full { .. })));
        pool.check();
    }
}

#[test]
fn a_pool_without_whole_huge_pages_goes_on_in_pages() {
    let (pool, volume) = volume_in_memory(4 << 20);
    let bytes = pattern(3 * PAGE as usize, 1);
    volume.write(HUGE + 100, &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    volume.read(HUGE + 100, &mut back).unwrap();
    assert_eq!(back, bytes);
    assert_eq!(pool.fault_counts().fallbacks(FallbackReason::NoHugePage), 1);
    assert_eq!(pool.fault_counts().allocated_pages, 4);
    assert_eq!(pool.fault_counts().downgrades, 1, "the empty 2 MiB entry made way");
    let extents = volume.extents(range(0, volume.len_bytes())).unwrap();
    assert_eq!(extents.len(), 1, "neighbours stay neighbours: {extents:?}");
    assert_eq!(extents[0].logical, range(HUGE, 4 * PAGE));
    volume.check();
}

#[test]
fn a_full_pool_says_so_and_changes_nothing() {
    let (pool, volume) = volume_in_memory(4 << 20);
    let mut written = 0;
    let error = loop {
        match volume.write(written * PAGE, &[7; PAGE as usize]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(written > 1000, "{written} pages of 1024");
    let before = (pool.space(), volume.extents(range(0, volume.len_bytes())).unwrap());
    assert!(volume.write(written * PAGE, &[7; 10]).is_err());
    assert_eq!((pool.space(), volume.extents(range(0, volume.len_bytes())).unwrap()), before);
    for page in 0..written {
        assert_eq!(&*volume.map(range(page * PAGE, 3)).unwrap(), &[7; 3]);
    }
    volume.punch(range(0, written * PAGE)).unwrap();
    assert_eq!(volume.extents(range(0, volume.len_bytes())).unwrap(), []);
    assert!(volume.map(range(0, 1)).unwrap().is_hole());
    volume.check();
}

#[test]
fn everything_is_there_after_reopening_with_and_without_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 32 << 20, ..CreateOptions::default() };
    let bytes = pattern(3 * HUGE as usize, 9);
    let extents = {
        let pool = Pool::create(&path, &options).unwrap();
        let volume = pool.create_volume("data", 1 << 30).unwrap();
        pool.create_volume("other", 1 << 20).unwrap();
        volume.write(HUGE - 77, &bytes).unwrap();
        volume.write(900 << 20, b"end").unwrap();
        volume.extents(range(0, volume.len_bytes())).unwrap()
    };
    for close in [false, true, true] {
        let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
        let volume = pool.volume("data").unwrap().unwrap();
        assert_eq!(volume.extents(range(0, volume.len_bytes())).unwrap(), extents);
        let mut back = vec![0; bytes.len()];
        volume.read(HUGE - 77, &mut back).unwrap();
        assert!(back == bytes);
        assert_eq!(&*volume.map(range(900 << 20, 3)).unwrap(), b"end");
        if close {
            pool.close().unwrap();
            assert!(matches!(volume.map(range(0, 1)), Err(Error::Closed)));
        }
    }
    let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
    assert!(pool.info().was_clean);
    assert_eq!(pool.info().opens, 3, "lives that change nothing do not count");
}

fn page_of(image: &[u8], page: usize) -> &[u8] {
    &image[page * PAGE as usize..(page + 1) * PAGE as usize]
}

#[test]
fn a_table_that_fell_back_is_noticed_in_every_volume_that_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    // Both huge pages have a superblock, so all extents are pages, in tables of all four levels.
    let options = CreateOptions { len_bytes: 2 * HUGE, ..CreateOptions::default() };
    let names = ["first", "second"];
    let all_extents = |pool: &Pool| {
        names.map(|name| {
            let volume = pool.volume(name).unwrap().unwrap();
            volume.extents(range(0, volume.len_bytes())).unwrap()
        })
    };
    let pool = Pool::create(&path, &options).unwrap();
    for name in names {
        let volume = pool.create_volume(name, 4 << 40).unwrap();
        volume.write(0, &[1; 3 * PAGE as usize]).unwrap();
    }
    pool.close().unwrap();
    drop(pool);
    let earlier = std::fs::read(&path).unwrap();
    let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
    for name in names {
        let volume = pool.volume(name).unwrap().unwrap();
        // Another word in each table of the path to the first page.
        for start in [9 * PAGE, HUGE, 1 << 30, 1 << 40] {
            volume.write(start, &[2; PAGE as usize]).unwrap();
        }
    }
    // Last, so that nobody gets the page: then two owners would give the older table away.
    for name in names {
        pool.volume(name).unwrap().unwrap().punch(range(PAGE, PAGE)).unwrap();
    }
    let extents = all_extents(&pool);
    pool.close().unwrap();
    drop(pool);
    let image = std::fs::read(&path).unwrap();
    let mut refused = names.map(|_| 0);
    for page in 0..image.len() / PAGE as usize {
        let (now, before) = (page_of(&image, page), page_of(&earlier, page));
        if now == before || before.iter().all(|&byte| byte == 0) {
            continue;
        }
        let mut fallen = image.clone();
        fallen[page * PAGE as usize..][..PAGE as usize].copy_from_slice(before);
        match Pool::from_image(&fallen, None) {
            Ok(pool) => assert_eq!(all_extents(&pool), extents, "page {page}"),
            Err(error) => {
                let says = error.to_string();
                let named = names.iter().position(|name| says.contains(&format!("volume {name} ")));
                refused[named.unwrap_or_else(|| panic!("page {page}: {says}"))] += 1;
            }
        }
    }
    assert_eq!(refused, [4, 4], "one table of each level");
}

#[test]
fn a_call_after_the_close_leaves_the_pool_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 8 << 20, ..CreateOptions::default() };
    let pool = Pool::create(&path, &options).unwrap();
    pool.create_volume("v", 1 << 30).unwrap();
    pool.close().unwrap();
    drop(pool);
    let before = std::fs::read(&path).unwrap();
    let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
    let volume = pool.volume("v").unwrap().unwrap();
    pool.close().unwrap();
    assert!(matches!(volume.write(0, b"late"), Err(Error::Closed)));
    assert!(matches!(volume.punch(range(0, PAGE)), Err(Error::Closed)));
    assert!(matches!(volume.set_len(PAGE), Err(Error::Closed)));
    assert!(matches!(pool.create_volume("w", 1), Err(Error::Closed)));
    assert!(matches!(pool.remove_volume("v"), Err(Error::Closed)));
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}

#[test]
fn a_read_only_pool_serves_and_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 8 << 20, ..CreateOptions::default() };
    let pool = Pool::create(&path, &options).unwrap();
    pool.create_volume("v", 1 << 30).unwrap().write(5, b"hello").unwrap();
    drop(pool);
    let before = std::fs::read(&path).unwrap();
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let one = Pool::open(&path, &read_only).unwrap();
    let two = Pool::open(&path, &read_only).unwrap();
    let volume = one.volume("v").unwrap().unwrap();
    assert_eq!(&*volume.map(range(5, 5)).unwrap(), b"hello");
    assert!(matches!(volume.write(0, b"x"), Err(Error::ReadOnly { .. })));
    assert!(matches!(volume.punch(range(0, 10)), Err(Error::ReadOnly { .. })));
    assert!(matches!(one.create_volume("w", 1), Err(Error::ReadOnly { .. })));
    let writer = Pool::open(&path, &OpenOptions::default());
    assert!(matches!(writer, Err(Error::Locked { .. })));
    two.close().unwrap();
    drop((volume, one, two));
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn guards_share_or_exclude_and_keep_their_pages() {
    let (_pool, volume) = volume_in_memory(16 << 20);
    volume.write(0, &[1; 100]).unwrap();
    let reader = volume.map(range(0, 50)).unwrap();
    let beside = volume.map(range(20, 50)).unwrap();
    assert!(matches!(volume.map_mut(range(10, 1)), Err(Error::Busy { .. })));
    let writer = volume.map_mut(range(70, 10)).unwrap();
    assert!(matches!(volume.map(range(75, 1)), Err(Error::Busy { .. })));
    assert!(matches!(volume.punch(range(0, HUGE)), Err(Error::Busy { .. })));
    drop(writer);
    drop(beside);
    assert!(matches!(volume.punch(range(0, HUGE)), Err(Error::Busy { .. })));
    assert_eq!(reader[49], 1);
    drop(reader);
    volume.punch(range(0, HUGE)).unwrap();
    assert!(volume.map(range(0, 1)).unwrap().is_hole());
}

#[test]
fn a_hole_guard_is_a_view_from_before_the_write() {
    let (_pool, volume) = volume_in_memory(16 << 20);
    let hole = volume.map(range(0, 4)).unwrap();
    volume.write(0, b"data").unwrap();
    assert_eq!(&*hole, &[0; 4]);
    assert_eq!(&*volume.map(range(0, 4)).unwrap(), b"data");
}

#[test]
fn punching_part_of_a_huge_page_zeroes_it_in_place() {
    let (pool, volume) = volume_in_memory(16 << 20);
    volume.write(0, &pattern(HUGE as usize, 3)).unwrap();
    let free = pool.space().free_pages;
    volume.punch(range(PAGE, 3 * PAGE)).unwrap();
    assert_eq!(pool.space().free_pages, free);
    let mut back = vec![1; HUGE as usize];
    volume.read(0, &mut back).unwrap();
    let mut expected = pattern(HUGE as usize, 3);
    expected[PAGE as usize..4 * PAGE as usize].fill(0);
    assert!(back == expected);
}

#[test]
fn punching_pages_frees_them_and_their_table_last() {
    let (pool, volume) = volume_in_memory(4 << 20);
    let free = pool.space().free_pages;
    volume.write(10, &pattern(5 * PAGE as usize, 3)).unwrap();
    volume.punch(range(PAGE - 7, 2 * PAGE)).unwrap();
    let mut back = vec![1; 5 * PAGE as usize];
    volume.read(10, &mut back).unwrap();
    let mut expected = pattern(5 * PAGE as usize, 3);
    expected[PAGE as usize - 17..3 * PAGE as usize - 17].fill(0);
    assert!(back == expected);
    volume.punch(range(0, HUGE)).unwrap();
    assert_eq!(volume.extents(range(0, volume.len_bytes())).unwrap(), []);
    // The two tables above the slot stay.
    assert_eq!(pool.space().free_pages, free - 2);
    assert_eq!(pool.entry_counts().page_mapping, 0);
    volume.check();
}

#[test]
fn appenders_freeze_what_readers_then_see() {
    let (pool, volume) = volume_in_memory(16 << 20);
    let (mut appender, extent) = volume.map_append(range(0, HUGE), 1).unwrap();
    assert_eq!(extent.size(), ExtentSize::Huge);
    let mut footer = appender.split_end(64).unwrap();
    let flushed = appender.append(&[1; 128]).unwrap();
    assert_eq!(extent.bytes(0, 1), None, "not before it is durable");
    let [durable] = pool.fence([flushed]).unwrap();
    extent.freeze(durable);
    assert_eq!(extent.bytes(0, 128).unwrap(), [1; 128]);
    assert_eq!(extent.bytes(100, 29), None);
    assert_eq!(footer.remaining_bytes(), 64);
    let flushed = footer.append(&[9; 64]).unwrap();
    pool.fence([flushed]).unwrap();
    assert!(matches!(volume.map(range(3, 1)), Err(Error::Busy { .. })));
    drop((appender, footer, extent));
    let again = volume.map_append(range(0, HUGE), 1);
    assert!(matches!(again, Err(Error::InvalidArgument(_))));
    let (mut appender, extent) = volume.map_existing(range(0, HUGE)).unwrap().unwrap();
    assert_eq!(appender.bytes()[..128], [1; 128]);
    assert_eq!(appender.bytes()[HUGE as usize - 64..], [9; 64]);
    appender.adopt(128).unwrap();
    assert_eq!(extent.bytes(64, 64).unwrap(), [1; 64]);
    assert!(volume.map_existing(range(HUGE, HUGE)).unwrap().is_none());
}

#[test]
fn a_short_append_gets_a_run_of_pages() {
    let (pool, volume) = volume_in_memory(4 << 20);
    let (appender, extent) = volume.map_append(range(HUGE, 32 * PAGE), 8).unwrap();
    assert_eq!(extent.len_bytes(), 32 * PAGE);
    assert_eq!(appender.remaining_bytes(), 32 * PAGE);
    assert_eq!(extent.size(), ExtentSize::Page);
    assert_eq!(pool.fault_counts().fallbacks(FallbackReason::RangeTooShort), 1);
    let too_long = volume.map_append(range(2 * HUGE, HUGE), 512);
    assert!(matches!(too_long, Err(Error::Full { .. })));
    assert_eq!(volume.extents(range(0, volume.len_bytes())).unwrap().len(), 1);
    drop((appender, extent));
    volume.punch(range(HUGE, HUGE)).unwrap();
    volume.check();
}

#[test]
fn volumes_come_and_go_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 16 << 20, ..CreateOptions::default() };
    let pool = Pool::create(&path, &options).unwrap();
    let free = pool.space().free_pages;
    let volume = pool.create_volume("one", 1 << 30).unwrap();
    for name in ["one", "", "a\0b", &"x".repeat(32)] {
        assert!(matches!(pool.create_volume(name, 1), Err(Error::InvalidArgument(_))), "{name:?}");
    }
    volume.write(0, &[5; 100]).unwrap();
    assert!(matches!(pool.remove_volume("one"), Err(Error::Busy { .. })));
    drop(volume);
    assert!(pool.remove_volume("one").unwrap());
    assert!(!pool.remove_volume("one").unwrap());
    assert_eq!(pool.space().free_pages, free);
    assert_eq!(pool.entry_counts(), Default::default());
    let ids: Vec<u32> =
        (0..3).map(|n| pool.create_volume(&format!("v{n}"), PAGE).unwrap().id()).collect();
    assert_eq!(ids, [2, 3, 4], "ids are never used twice");
    drop(pool);
    let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
    let names: Vec<String> = pool.volumes().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["v0", "v1", "v2"]);
}

#[test]
fn ranges_that_do_not_fit_are_refused() {
    let pool = Pool::in_memory(8 << 20).unwrap();
    let volume = pool.create_volume("v", HUGE + 5).unwrap();
    for (start, len) in [(0, 0), (HUGE + 5, 1), (HUGE, 6), (u64::MAX, 2), (0, u64::MAX)] {
        let error = volume.map(range(start, len)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { .. }), "{start} {len}: {error}");
        assert!(matches!(volume.punch(range(start, len)), Err(Error::OutOfRange { .. })));
    }
    volume.write(HUGE, b"12345").unwrap();
    assert_eq!(pool.fault_counts().fallbacks(FallbackReason::PastEnd), 1);
}

#[test]
fn sync_makes_dirty_entries_clean() {
    let (_pool, volume) = volume_in_memory(16 << 20);
    let mut guard = volume.map_mut(range(0, 10)).unwrap();
    guard[0] = 1;
    volume.sync(range(0, 1 << 40)).unwrap();
    guard[1] = 2;
    drop(guard);
    volume.sync(range(0, HUGE)).unwrap();
    assert_eq!(&volume.map(range(0, 2)).unwrap()[..], [1, 2]);
    volume.check();
}

#[test]
fn slots_say_what_answers_for_them_and_what_is_dirty() {
    let pool = Pool::in_memory(32 << 20).unwrap();
    let last = (256 << 40) / HUGE - 1;
    let volume = pool.create_volume("long", 256 << 40).unwrap();
    let slots = |range| {
        let slots = volume.slots(range).unwrap().into_iter();
        slots.map(|slot| (slot.slot.0, slot.extents, slot.dirty_bytes)).collect::<Vec<_>>()
    };
    let all = range(0, volume.len_bytes());
    assert_eq!(slots(all), []);

    volume.write(3 * HUGE + 5, b"huge").unwrap();
    volume.write(last * HUGE, b"the last one").unwrap();
    volume.sync(range(0, 1 << 40)).unwrap();
    drop(volume.map(range(4 * HUGE, 1)).unwrap());
    let pages = volume.map_append(range(9 * HUGE, 3 * PAGE), 3).unwrap();
    volume.write(9 * HUGE + 7 * PAGE - 1, b"two pages").unwrap();
    let near = [(3, SlotExtents::Huge, 0), (9, SlotExtents::Pages(5), 2 * PAGE)];
    assert_eq!(slots(all), [&near[..], &[(last, SlotExtents::Huge, HUGE)]].concat());
    assert_eq!(volume.stats().unwrap().dirty_bytes, HUGE + 2 * PAGE, "their sum");
    assert_eq!(slots(range(4 * HUGE - 1, 5 * HUGE + 2)), near, "touched by one byte each");
    assert_eq!(slots(range(4 * HUGE, 5 * HUGE)), [], "holes, one of them read");

    drop(pages);
    volume.punch(SlotNo(9).range()).unwrap();
    volume.sync(all).unwrap();
    let left = [(3, SlotExtents::Huge, 0), (last, SlotExtents::Huge, 0)];
    assert_eq!(slots(all), left);
    assert!(matches!(volume.slots(range(0, 0)), Err(Error::OutOfRange { .. })));
    assert!(matches!(volume.slots(range(256 << 40, 1)), Err(Error::OutOfRange { .. })));
    pool.close().unwrap();
    assert!(matches!(volume.slots(all), Err(Error::Closed)));
}

#[test]
fn faults_and_punches_of_one_slot_race_and_end() {
    for pool_bytes in [4 << 20, 16 << 20] {
        let (pool, volume) = volume_in_memory(pool_bytes);
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let volume = &volume;
                scope.spawn(move || {
                    for round in 0..2_000u64 {
                        let start = (round * 7 + thread) % 64 * PAGE;
                        match volume.map_mut(range(start, PAGE)) {
                            Ok(mut guard) => guard.fill(thread as u8),
                            Err(Error::Busy { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            let volume = &volume;
            scope.spawn(move || {
                for round in 0..500u64 {
                    let whole = range(0, HUGE);
                    let part = range(round % 60 * PAGE, 3 * PAGE);
                    match volume.punch(if round % 3 == 0 { whole } else { part }) {
                        Ok(()) | Err(Error::Busy { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        });
        volume.punch(range(0, HUGE)).unwrap();
        volume.check();
        assert_eq!(volume.extents(range(0, volume.len_bytes())).unwrap(), []);
        assert_eq!(pool.space().reserved_pages, 0);
    }
}

#[test]
fn the_last_page_of_a_volume_comes_back_too() {
    let pool = Pool::in_memory(8 << 20).unwrap();
    let volume = pool.create_volume("v", 3 * PAGE + 10).unwrap();
    volume.write(0, &pattern(3 * PAGE as usize + 10, 1)).unwrap();
    volume.punch(range(PAGE, 2 * PAGE + 10)).unwrap();
    let extents = volume.extents(range(0, volume.len_bytes())).unwrap();
    assert_eq!(extents.len(), 1);
    assert_eq!(extents[0].logical, range(0, PAGE));
}
