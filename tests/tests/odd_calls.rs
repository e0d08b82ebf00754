//! Promise: no order of safe calls, however odd, breaks a volume: it is refused, or it does what
//! the documentation says.
//!
//! Method: each test is a case that once went wrong, or that is easy to get wrong. A failure means
//! that bytes got two owners, or that a call panicked or hung.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daxite_core::sim::Recorder;
use daxite_core::{
    CreateOptions, Error, ExtentSize, HUGE, LogicalRange, OpenOptions, PAGE, Pool, Volume,
};

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn volume_in_memory(pool_bytes: u64) -> (Pool, Volume) {
    let pool = Pool::in_memory(pool_bytes).unwrap();
    let volume = pool.create_volume("v", 1 << 48).unwrap();
    (pool, volume)
}

#[test]
fn writers_that_share_only_the_page_between_them_lose_nothing() {
    // A pool without a whole huge page, so that both writers allocate pages. Each of them wants
    // the page in the middle; their bytes do not overlap.
    let (_pool, volume) = volume_in_memory(4 << 20);
    let border = 7 * PAGE + 2048;
    for round in 0..2_000u64 {
        let slot = round % 8 * HUGE;
        std::thread::scope(|scope| {
            let before = scope.spawn(|| write_all(&volume, slot, border, 1));
            let behind = scope.spawn(|| write_all(&volume, slot + border, 3 * PAGE, 2));
            before.join().unwrap();
            behind.join().unwrap();
        });
        let mut bytes = vec![0; (border + 3 * PAGE) as usize];
        volume.read(slot, &mut bytes).unwrap();
        assert!(bytes[..border as usize].iter().all(|&byte| byte == 1), "round {round}");
        assert!(bytes[border as usize..].iter().all(|&byte| byte == 2), "round {round}");
        volume.punch(range(slot, HUGE)).unwrap();
    }
    volume.check();
}

/// Fills a range through guards.
fn write_all(volume: &Volume, start: u64, len_bytes: u64, value: u8) {
    let mut done = 0;
    while done < len_bytes {
        let mut guard = volume.map_mut(range(start + done, len_bytes - done)).unwrap();
        guard.fill(value);
        done += guard.len() as u64;
    }
}

#[test]
fn a_short_append_on_a_huge_page_of_an_earlier_life_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 16 << 20, ..CreateOptions::default() };
    let pool = Pool::create(&path, &options).unwrap();
    pool.create_volume("v", 1 << 30).unwrap().write(0, &[5; 100]).unwrap();
    pool.close().unwrap();
    drop(pool);
    let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
    let volume = pool.volume("v").unwrap().unwrap();
    let short = volume.map_append(range(0, 4 * PAGE), 1);
    assert!(matches!(short, Err(Error::InvalidArgument(_))));
    let guard = volume.map_mut(range(0, HUGE)).unwrap();
    assert_eq!(guard.size(), ExtentSize::Huge, "no 4 KiB entry was left in the way");
    assert_eq!(guard[..100], [5; 100]);
}

#[test]
fn a_token_of_an_earlier_mapping_freezes_nothing() {
    // What is frozen is lent out as bytes that nobody stores to; the appender of the new mapping
    // would.
    let (pool, volume) = volume_in_memory(16 << 20);
    let (mut appender, extent) = volume.map_append(range(0, HUGE), 1).unwrap();
    let flushed = appender.append(&[1; 64]).unwrap();
    let [stale] = pool.fence([flushed]).unwrap();
    let first = extent.physical();
    drop((appender, extent));
    let (appender, extent) = volume.map_existing(range(0, HUGE)).unwrap().unwrap();
    assert_eq!(extent.physical(), first);
    let frozen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| extent.freeze(stale)));
    assert!(frozen.is_err());
    assert_eq!(extent.frozen_bytes(), 0);
    assert_eq!(appender.position(), 0);
}

#[test]
fn impossible_appends_are_refused() {
    let (_pool, volume) = volume_in_memory(16 << 20);
    for pages_min in [513, u64::MAX] {
        let error = volume.map_append(range(0, 4 * PAGE), pages_min).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Full { .. } | Error::InvalidArgument(_)), "{error}");
    }
    volume.write(0, &[1; 8192]).unwrap();
    let unaligned = volume.map_existing(range(7, PAGE)).map(|_| ());
    assert!(matches!(unaligned, Err(Error::InvalidArgument(_))));
    volume.check();
}

#[test]
fn files_of_any_length_and_any_head_are_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 4 << 20, ..CreateOptions::default() };
    drop(Pool::create(&path, &options).unwrap());
    let whole = std::fs::read(&path).unwrap();
    let ends = [0, 1, 7, 8, 100, 4095, 4096, 4097, HUGE + 7, HUGE + PAGE, 2 * HUGE - 1];
    for len_bytes in ends {
        for read_only in [false, true] {
            std::fs::write(&path, &whole[..len_bytes as usize]).unwrap();
            let options = OpenOptions { read_only, ..OpenOptions::default() };
            let error = Pool::open(&path, &options).map(|_| ()).unwrap_err();
            let is_told = matches!(error, Error::NotAPool { .. } | Error::Truncated { .. });
            assert!(is_told, "{len_bytes} bytes: {error}");
        }
    }
    std::fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    assert_eq!(Pool::open(&path, &OpenOptions::default()).unwrap().info().len_bytes, 4 << 20);
}

#[test]
fn what_a_guard_stores_during_a_sync_is_synced_by_the_next() {
    let recorder = Arc::new(Recorder::default());
    let pool = Pool::recorded(16 << 20, &recorder).unwrap();
    let volume = pool.create_volume("v", 1 << 30).unwrap();
    let guard = Mutex::new(Some(volume.map_mut(range(0, 100)).unwrap()));
    recorder.on_fence(move |_| {
        // The lines are flushed by now.
        if let Some(mut guard) = guard.lock().unwrap().take() {
            guard[0] = 1;
        }
    });
    volume.sync(range(0, HUGE)).unwrap();
    let fences = recorder.fences();
    volume.sync(range(0, HUGE)).unwrap();
    assert_eq!(recorder.fences(), fences + 1, "the entry stayed dirty");
    volume.sync(range(0, HUGE)).unwrap();
    assert_eq!(recorder.fences(), fences + 1, "and is clean now");
}

#[test]
fn punching_a_large_hole_costs_no_memory() {
    let (pool, volume) = volume_in_memory(16 << 20);
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE
    };
    volume.write((1 << 44) - 5, &[1; 10]).unwrap();
    let before = resident();
    volume.punch(range(0, 1 << 44)).unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    assert_eq!(&*volume.map(range((1 << 44) - 1, 1)).unwrap(), [0]);
    assert_eq!(&*volume.map(range(1 << 44, 5)).unwrap(), [1; 5]);
    assert_eq!(pool.space().reserved_pages, 0);
}

#[test]
fn guards_faults_punches_syncs_and_appends_of_few_slots_race_and_end() {
    for pool_bytes in [4 << 20, 10 << 20] {
        let (pool, volume) = volume_in_memory(pool_bytes);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (1..5u64)
                .map(|seed| {
                    let volume = &volume;
                    scope.spawn(move || act_randomly(volume, seed))
                })
                .collect();
            let syncer = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    volume.sync(range(0, 4 * HUGE)).unwrap();
                }
            });
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            stop.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok));
            syncer.join().unwrap();
        });
        volume.punch(range(0, 4 * HUGE)).unwrap();
        volume.check();
        assert_eq!(volume.extents(range(0, volume.len_bytes())).unwrap(), []);
        assert_eq!(pool.space().reserved_pages, 0);
    }
}

/// Random requests of every kind on two slots. Whoever has a write guard is alone on its bytes.
fn act_randomly(volume: &Volume, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..30_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let slot = random >> 8 & 1;
        let start = slot * HUGE + (random >> 16) % (16 * PAGE);
        let len_bytes = 1 + (random >> 32) % (5 * PAGE);
        let done = match random % 8 {
            0..=2 => volume.map_mut(range(start, len_bytes)).map(|mut guard| {
                guard.fill(seed as u8);
                std::hint::spin_loop();
                assert!(guard.iter().all(|&byte| byte == seed as u8), "seed {seed}");
            }),
            3 | 4 => volume.map(range(start, len_bytes)).map(|guard| {
                let before = guard.to_vec();
                assert!(*guard == *before, "seed {seed}");
            }),
            5 => volume.punch(range(start, len_bytes)),
            6 => volume.punch(range(slot * HUGE, HUGE)),
            _ => volume.map_append(range(slot * HUGE, 3 * PAGE), 1).map(|_| ()),
        };
        match done {
            Ok(()) | Err(Error::Busy { .. } | Error::InvalidArgument(_)) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
}

#[test]
fn a_punch_up_to_the_end_spares_what_is_written_behind_it_once_the_volume_has_grown() {
    let (_pool, volume) = volume_in_memory(16 << 20);
    volume.set_len(2 * PAGE).unwrap();
    volume.write(0, &[1; 2 * PAGE as usize]).unwrap();
    let guard = volume.map(range(0, 10)).unwrap();
    std::thread::scope(|scope| {
        let patient = volume.with_patience(Duration::from_secs(60));
        let punched = scope.spawn(move || patient.punch(range(0, 2 * PAGE)));
        std::thread::sleep(Duration::from_millis(50));
        let grown = scope.spawn(|| {
            volume.set_len(3 * PAGE).unwrap();
            volume.write(2 * PAGE, &[2; PAGE as usize]).unwrap();
        });
        std::thread::sleep(Duration::from_millis(50));
        drop(guard);
        punched.join().unwrap().unwrap();
        grown.join().unwrap();
    });
    assert!(volume.map(range(0, 2 * PAGE)).unwrap().iter().all(|&byte| byte == 0));
    assert!(volume.map(range(2 * PAGE, PAGE)).unwrap().iter().all(|&byte| byte == 2));
    volume.check();
}

#[test]
fn a_cut_that_waits_in_vain_hides_nothing_meanwhile() {
    let (_pool, volume) = volume_in_memory(16 << 20);
    volume.set_len(4 * HUGE).unwrap();
    volume.write(0, &[1; 100]).unwrap();
    let guard = volume.map(range(0, 100)).unwrap();
    std::thread::scope(|scope| {
        let patient = volume.with_patience(Duration::from_millis(200));
        let cut = scope.spawn(move || patient.set_len(50));
        while !cut.is_finished() {
            volume.write(3 * HUGE, &[3; 10]).unwrap();
        }
        assert!(matches!(cut.join().unwrap(), Err(Error::Busy { .. })));
    });
    drop(guard);
    volume.check();
}

#[test]
fn the_longest_patience_is_no_overflow() {
    let (_pool, volume) = volume_in_memory(16 << 20);
    let patient = volume.with_patience(Duration::MAX);
    let guard = patient.map_mut(range(0, 10)).unwrap();
    std::thread::scope(|scope| {
        let punched = scope.spawn(|| patient.punch(range(0, HUGE)));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!punched.is_finished());
        drop(guard);
        punched.join().unwrap().unwrap();
    });
    patient.upgrade(range(0, HUGE), 1).unwrap();
}
