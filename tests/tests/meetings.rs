//! Promise: calls that meet half way leave what they leave one after the other.
//!
//! Method: one call is held up where it can be seen to wait, mostly by a guard in its way; others
//! run whole meanwhile; then it goes on. A failure means that it went on with what it had looked at
//! before it waited.

use std::thread;
use std::time::Duration;

use daxite_core::{
    CreateOptions, Error, HUGE, LogicalRange, OpenOptions, PAGE, Pool, Refusal, Volume,
};

/// Long enough for a thread to begin and to wait; a test that is too fast proves less, and passes.
const A_WHILE: Duration = Duration::from_millis(100);
/// Longer than any test lasts.
const PATIENT: Duration = Duration::from_secs(60);

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn in_memory(len_bytes: u64) -> (Pool, Volume) {
    let pool = Pool::in_memory(16 << 20).unwrap();
    let volume = pool.create_volume("v", len_bytes).unwrap();
    (pool, volume)
}

/// The volume is cut while a request for both sides of the new end waits for a guard before it.
#[test]
fn a_request_that_waited_while_the_volume_was_cut_reaches_nothing_behind_the_end() {
    // In the middle of a huge page, and in the middle of a 4 KiB page: both stay mapped.
    for (old, new) in [(HUGE, HUGE / 2), (3 * PAGE, 2 * PAGE + 77)] {
        let (pool, volume) = in_memory(old);
        volume.write(0, &vec![1; old as usize]).unwrap();
        let in_the_way = volume.map(range(new - 9, 9)).unwrap();
        thread::scope(|scope| {
            let patient = volume.with_patience(PATIENT);
            let waiting = scope
                .spawn(move || patient.map_mut(range(new - 9, 20)).map(|mut guard| guard.fill(2)));
            thread::sleep(A_WHILE);
            volume.set_len(new).unwrap();
            drop(in_the_way);
            let result = waiting.join().unwrap();
            assert!(matches!(result, Err(Error::OutOfRange { .. })), "{result:?}");
        });
        volume.set_len(old).unwrap();
        let mut behind = vec![9; (old - new) as usize];
        volume.read(new, &mut behind).unwrap();
        assert!(behind.iter().all(|&byte| byte == 0), "what was behind the end of {new} bytes");
        pool.check();
    }
}

/// A punch up to the end takes the rest of the last slot along, which must not be someone's by then.
#[test]
fn a_punch_up_to_the_end_that_waited_spares_what_came_behind_the_end() {
    let (old, new) = (HUGE / 2 + 77, HUGE);
    let (pool, volume) = in_memory(old);
    volume.write(0, &vec![1; old as usize]).unwrap();
    let in_the_way = volume.map(range(0, 9)).unwrap();
    thread::scope(|scope| {
        let patient = volume.with_patience(PATIENT);
        let punch = scope.spawn(move || patient.punch(range(0, old)));
        thread::sleep(A_WHILE);
        let grower = scope.spawn(|| {
            volume.set_len(new).unwrap();
            volume.write(old, &[2; 99]).unwrap();
        });
        thread::sleep(A_WHILE);
        drop(in_the_way);
        punch.join().unwrap().unwrap();
        grower.join().unwrap();
    });
    let mut behind = [0; 99];
    volume.read(old, &mut behind).unwrap();
    assert_eq!(behind, [2; 99]);
    pool.check();
}

#[test]
fn a_call_that_comes_after_a_close_does_not_open_the_pool_on_the_medium() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 8 << 20, ..Default::default() };
    let pool = Pool::create(&path, &options).unwrap();
    pool.create_volume("v", HUGE).unwrap();
    pool.close().unwrap();
    drop(pool);

    let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
    let volume = pool.volume("v").unwrap().unwrap();
    pool.close().unwrap();
    assert!(matches!(volume.write(0, &[1]), Err(Error::Closed)));
    assert!(matches!(volume.set_len(PAGE), Err(Error::Closed)));
    assert!(matches!(volume.upgrade(range(0, PAGE), 1), Err(Error::Closed)));
    drop((volume, pool));
    let again = Pool::open(&path, &OpenOptions::default()).unwrap();
    assert!(again.info().was_clean);
}

#[test]
fn a_close_beside_the_first_write_leaves_a_pool_that_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let options = CreateOptions { len_bytes: 8 << 20, ..Default::default() };
    let pool = Pool::create(&path, &options).unwrap();
    pool.create_volume("v", HUGE).unwrap();
    pool.close().unwrap();
    drop(pool);
    for round in 0..300 {
        let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
        assert!(pool.info().was_clean, "round {round}");
        let volume = pool.volume("v").unwrap().unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| volume.write(0, &[1]));
            }
            // Not always at the same moment of the write.
            (0..round * 20).for_each(|_| std::hint::spin_loop());
            pool.close().unwrap();
        });
    }
}

#[test]
fn patience_may_be_for_ever() {
    let (pool, volume) = in_memory(HUGE);
    let volume = volume.with_patience(Duration::MAX);
    volume.write(0, &[1; 9]).unwrap();
    volume.punch(range(0, HUGE)).unwrap();
    volume.set_len(HUGE - 1).unwrap();
    volume.write(0, &[1; 9]).unwrap();
    let report = volume.upgrade(range(0, HUGE - 1), 1).unwrap();
    assert_eq!(report.refusals(Refusal::PastEnd), 1);
    pool.check();
}
