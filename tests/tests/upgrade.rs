//! Promise: 4 KiB extents become 2 MiB ones, by call or because faults keep falling back, and no byte,
//! guard or counter notices; volumes can be made longer and shorter, and be zeroed, around guards.
//!
//! Method: each behaviour on a pool in memory, with counters and extents as witness. A failure means
//! that bytes were lost, that space leaked, or that a guard was passed over.

use std::time::{Duration, Instant};

use daxite_core::{
    CreateOptions, Error, ExtentSize, HUGE, LogicalRange, OpenOptions, PAGE, PAGES_PER_HUGE, Pool,
    Refusal, SlotNo, Volume,
};

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn all(volume: &Volume) -> LogicalRange {
    range(0, volume.len_bytes())
}

/// A volume of a slot and a bit, whose first slot has all pages but `hole`, at 4 KiB, written from
/// the first to the last or in reverse; and the bytes of the slot.
fn volume_of_pages(pool: &Pool, hole: Option<u64>, reverse: bool) -> (Volume, Vec<u8>) {
    let volume = pool.create_volume("pages", HUGE - 1).unwrap();
    let mut bytes = vec![0; HUGE as usize];
    let mut pages: Vec<u64> = (0..PAGES_PER_HUGE).filter(|page| Some(*page) != hole).collect();
    if reverse {
        pages.reverse();
    }
    for page in pages {
        let at = (page * PAGE) as usize;
        let content = vec![page as u8 ^ 0x5a; PAGE as usize - 1];
        volume.write(page * PAGE, &content).unwrap();
        bytes[at..at + content.len()].copy_from_slice(&content);
    }
    volume.set_len(HUGE + 5).unwrap();
    let extents = volume.extents(all(&volume)).unwrap();
    assert!(extents.iter().all(|extent| extent.size == ExtentSize::Page));
    (volume, bytes)
}

fn contents(volume: &Volume) -> Vec<u8> {
    let mut bytes = vec![0xee; HUGE as usize];
    volume.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_slot_that_grew_in_pages_is_upgraded_where_it_is_under_the_eyes_of_its_guards() {
    for reverse in [false, true] {
        let pool = Pool::in_memory(64 << 20).unwrap();
        let (volume, bytes) = volume_of_pages(&pool, None, reverse);
        let reader = volume.map(range(5 * PAGE, 10)).unwrap();
        let mut writer = volume.map_mut(range(6 * PAGE, 3)).unwrap();
        let physical = (reader.physical().unwrap(), writer.physical());
        let free = pool.space().free_pages;
        let report = volume.upgrade(SlotNo(0).range(), PAGES_PER_HUGE).unwrap();
        assert_eq!((report.in_place, report.relocated), (1, 0), "{report:?}");
        assert_eq!(pool.fault_counts().upgraded_in_place, 1);
        assert_eq!(pool.space().free_pages, free + 1, "the table is free");
        assert_eq!(volume.stats().unwrap().dirty_bytes, HUGE, "dirty as its pages were");
        assert_eq!(&*reader, &bytes[5 * PAGE as usize..][..10]);
        writer.copy_from_slice(b"abc");
        writer.persist().unwrap();
        drop((reader, writer));
        assert_eq!(volume.map(range(5 * PAGE, 10)).unwrap().physical(), Some(physical.0));
        assert_eq!(volume.map_mut(range(6 * PAGE, 3)).unwrap().physical(), physical.1);
        let mut expected = bytes;
        expected[6 * PAGE as usize..][..3].copy_from_slice(b"abc");
        assert!(contents(&volume) == expected);
        volume.sync(all(&volume)).unwrap();
        assert_eq!(volume.stats().unwrap().dirty_bytes, 0);
        pool.check();
    }
}

#[test]
fn scattered_pages_are_moved_and_their_holes_become_zeros() {
    let pool = Pool::in_memory(64 << 20).unwrap();
    let (volume, bytes) = volume_of_pages(&pool, Some(77), true);
    let before = pool.space();
    let report = volume.upgrade(all(&volume), 1).unwrap();
    assert_eq!((report.relocated, report.in_place), (1, 0), "{report:?}");
    assert!(contents(&volume) == bytes);
    let extents = volume.extents(all(&volume)).unwrap();
    assert_eq!(extents.len(), 1);
    assert_eq!((extents[0].size, extents[0].logical), (ExtentSize::Huge, SlotNo(0).range()));
    // 511 pages and a table went, 512 came.
    assert_eq!(pool.space().free_pages, before.free_pages);
    assert_eq!(pool.fault_counts().relocated, 1);
    let again = volume.upgrade(all(&volume), 1).unwrap();
    assert_eq!(again.already_huge, 1);
    pool.check();
}

#[test]
fn an_upgrade_that_cannot_be_is_refused_with_its_reason_and_changes_nothing() {
    let pool = Pool::in_memory(64 << 20).unwrap();
    let (volume, bytes) = volume_of_pages(&pool, Some(3), true);
    let extents = volume.extents(all(&volume)).unwrap();
    let refused = |reason: Refusal, pages_min: u64| {
        let report = volume.upgrade(all(&volume), pages_min).unwrap();
        assert_eq!(report.refusals(reason), 1, "{reason}: {report:?}");
        assert_eq!(volume.extents(all(&volume)).unwrap(), extents);
        assert!(contents(&volume) == bytes);
    };
    refused(Refusal::TooFewPages, PAGES_PER_HUGE);
    let guard = volume.map(range(9 * PAGE, 1)).unwrap();
    refused(Refusal::Pinned, 1);
    drop(guard);
    volume.set_len(HUGE - 1).unwrap();
    let report = volume.upgrade(all(&volume), 1).unwrap();
    assert_eq!(report.refusals(Refusal::PastEnd), 1);
    volume.set_len(HUGE).unwrap();
    let other = pool.create_volume("other", 1 << 30).unwrap();
    let mut slot = 0;
    while pool.space().free_huge_pages > 0 {
        drop(other.map_append(SlotNo(slot).range(), 1).unwrap());
        slot += 1;
    }
    refused(Refusal::NoHugePage, 1);
    for reason in [Refusal::TooFewPages, Refusal::Pinned, Refusal::PastEnd, Refusal::NoHugePage] {
        assert_eq!(pool.fault_counts().refusals(reason), 1, "{reason}");
    }
    pool.check();
}

#[test]
fn a_slot_that_keeps_falling_back_is_upgraded_by_a_fault() {
    let pool = Pool::in_memory(64 << 20).unwrap();
    // No whole huge page is free at first, so the volume begins in pages.
    let other = pool.create_volume("other", 1 << 30).unwrap();
    let mut slots = 0;
    while pool.space().free_huge_pages > 0 {
        drop(other.map_append(SlotNo(slots).range(), 1).unwrap());
        slots += 1;
    }
    let volume = pool.create_volume("v", HUGE).unwrap();
    for page in 0..200 {
        volume.write(page * PAGE, &[page as u8; 100]).unwrap();
    }
    assert_eq!(pool.entry_counts().page_mapping, 200);
    other.punch(SlotNo(0).range()).unwrap();
    for page in 200..400 {
        volume.write(page * PAGE, &[page as u8; 100]).unwrap();
    }
    assert_eq!(pool.fault_counts().relocated, 1);
    assert_eq!(pool.entry_counts().page_mapping, 0);
    for page in 0..PAGES_PER_HUGE {
        let expected = if page < 400 { page as u8 } else { 0 };
        assert_eq!(&*volume.map(range(page * PAGE, 100)).unwrap(), &[expected; 100], "{page}");
    }
    pool.check();
}

#[test]
fn what_is_cut_off_is_gone_and_what_is_added_is_zero() {
    for pool_bytes in [4 << 20, 64 << 20] {
        let pool = Pool::in_memory(pool_bytes).unwrap();
        let volume = pool.create_volume("v", 1 << 40).unwrap();
        let bytes: Vec<u8> = (0..3 * PAGE).map(|at| at as u8 | 1).collect();
        for cut in [PAGE, PAGE + 1, 2 * PAGE - 1, 3 * PAGE - 1, 3 * PAGE] {
            volume.set_len(HUGE + 3 * PAGE).unwrap();
            volume.write(HUGE, &bytes).unwrap();
            volume.set_len(HUGE + cut).unwrap();
            assert_eq!(volume.len_bytes(), HUGE + cut);
            assert!(matches!(volume.map(range(HUGE + cut, 1)), Err(Error::OutOfRange { .. })));
            volume.set_len(1 << 40).unwrap();
            let mut back = vec![7; bytes.len()];
            volume.read(HUGE, &mut back).unwrap();
            let mut expected = bytes.clone();
            expected[cut as usize..].fill(0);
            assert!(back == expected, "cut at {cut}");
            pool.check();
        }
        let guard = volume.map(range(HUGE + PAGE - 1, 1)).unwrap();
        assert!(matches!(volume.set_len(HUGE), Err(Error::Busy { .. })));
        assert_eq!(volume.len_bytes(), 1 << 40, "as it was");
        volume.set_len(HUGE + PAGE).unwrap();
        drop(guard);
        for len_bytes in [0, (1 << 48) + 1, u64::MAX] {
            assert!(matches!(volume.set_len(len_bytes), Err(Error::InvalidArgument(_))));
        }
        volume.set_len(1).unwrap();
        assert_eq!(volume.extents(range(0, 1)).unwrap(), []);
    }
}

#[test]
fn a_huge_page_goes_when_the_volume_is_cut_to_its_start_however_it_ended_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 16 << 20, ..CreateOptions::default() };
    let calls: [fn(&Volume) -> daxite_core::Result<()>; 2] =
        [|volume| volume.set_len(HUGE), |volume| volume.punch(LogicalRange::new(HUGE, HUGE / 2))];
    for (nth, take_away) in (0..).zip(calls) {
        let name = format!("v{nth}");
        let pool = match nth {
            0 => Pool::create(&path, &options).unwrap(),
            _ => Pool::open(&path, &OpenOptions::default()).unwrap(),
        };
        let volume = pool.create_volume(&name, 2 * HUGE).unwrap();
        volume.write(HUGE, &[1; HUGE as usize]).unwrap();
        volume.set_len(HUGE + HUGE / 2).unwrap();
        take_away(&volume).unwrap();
        assert_eq!(volume.extents(all(&volume)).unwrap(), [], "{name}");
        assert_eq!(pool.volumes().unwrap()[nth].huge_extents, 0, "{name}");
        pool.check();
        drop((volume, pool));
        // An extent behind the end would be taken for damage.
        let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(pool.volumes().unwrap()[nth].huge_extents, 0, "{name}");
    }
}

#[test]
fn zeroing_keeps_extents_and_leaves_holes_alone() {
    for pool_bytes in [4 << 20, 64 << 20] {
        let pool = Pool::in_memory(pool_bytes).unwrap();
        let volume = pool.create_volume("v", 1 << 30).unwrap();
        volume.write(PAGE, &[9; 3 * PAGE as usize]).unwrap();
        let before = volume.extents(all(&volume)).unwrap();
        volume.zero(range(PAGE + 10, 2 * PAGE)).unwrap();
        volume.zero(range(100 * HUGE - 5, 2 * HUGE)).unwrap();
        assert_eq!(volume.extents(all(&volume)).unwrap(), before);
        let mut back = vec![1; 4 * PAGE as usize];
        volume.read(0, &mut back).unwrap();
        let start = PAGE as usize;
        assert!(back[..start].iter().all(|&byte| byte == 0));
        assert!(back[start..start + 10].iter().all(|&byte| byte == 9));
        assert!(back[start + 10..3 * start + 10].iter().all(|&byte| byte == 0));
        assert!(back[3 * start + 10..].iter().all(|&byte| byte == 9));
        let guard = volume.map(range(PAGE, 1)).unwrap();
        assert!(matches!(volume.zero(range(0, 2 * PAGE)), Err(Error::Busy { .. })));
        drop(guard);
        pool.check();
    }
}

#[test]
fn a_patient_handle_waits_for_guards_and_no_longer_than_it_says() {
    let pool = Pool::in_memory(64 << 20).unwrap();
    let volume = pool.create_volume("v", 1 << 30).unwrap();
    volume.write(0, &[1; 100]).unwrap();
    let patient = volume.with_patience(Duration::from_millis(20));
    let guard = volume.map(range(0, 10)).unwrap();
    let start = Instant::now();
    let calls: [fn(&Volume) -> daxite_core::Result<()>; 4] = [
        |volume| volume.punch(LogicalRange::new(0, HUGE)),
        |volume| volume.zero(LogicalRange::new(5, 1)),
        |volume| volume.set_len(5),
        |volume| volume.map_mut(LogicalRange::new(9, 1)).map(drop),
    ];
    for call in calls {
        assert!(matches!(call(&patient), Err(Error::Busy { .. })));
        assert!(matches!(call(&volume), Err(Error::Busy { .. })));
    }
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(80), "{waited:?} for four times 20 ms");
    assert_eq!(volume.len_bytes(), 1 << 30);
    std::thread::scope(|scope| {
        let patient = volume.with_patience(Duration::from_secs(60));
        let punched = scope.spawn(move || patient.punch(range(0, HUGE)));
        // The break-layout rule: a punch that waits for this guard holds nothing that this needs.
        while volume.map_mut(range(HUGE - 1, 2)).is_err() {}
        std::thread::sleep(Duration::from_millis(5));
        let other = volume.map_mut(range(5 * HUGE, HUGE)).unwrap();
        drop((other, guard));
        punched.join().unwrap().unwrap();
    });
    assert!(volume.map(range(0, 10)).unwrap().is_hole());
    pool.check();
}
