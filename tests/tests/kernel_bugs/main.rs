//! Promise: what went wrong in the kernel's DAX code after commit 642261ac995e does not go wrong here.
//!
//! Method: one test for each of its bugs that can exist in user space, named after what it guards
//! against; docs/decisions/0007-kernel-dax-bugs.md is the list, and its numbers stand at the tests. A
//! thread is stopped inside a fault by the crash simulator's hook, which runs before the fault's
//! fence, under its locks and before its extent is published. A failure means that bytes, wake-ups or
//! counts are lost in the same way.

mod bytes;
mod durable;
mod guards;
mod waiting;

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use daxite_core::sim::Recorder;
use daxite_core::{HUGE, LogicalRange, PAGE, Pool, Volume};

/// A pool with two huge pages, which the superblocks break: everything goes by pages.
const PAGES_ONLY: u64 = 4 << 20;
/// A pool with six whole huge pages.
const WITH_HUGE: u64 = 16 << 20;
/// States after one power failure that are looked at.
const STATES: u64 = 8;
/// What takes longer will never end.
const STUCK: Duration = Duration::from_secs(30);

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn page(number: u64) -> LogicalRange {
    range(number * PAGE, PAGE)
}

fn slot(number: u64) -> LogicalRange {
    range(number * HUGE, HUGE)
}

fn volume_in_memory(pool_bytes: u64) -> (Pool, Volume) {
    let pool = Pool::in_memory(pool_bytes).unwrap();
    let volume = pool.create_volume("v", 64 * HUGE).unwrap();
    (pool, volume)
}

fn recorded(pool_bytes: u64) -> (Arc<Recorder>, Pool, Volume) {
    let recorder = Arc::new(Recorder::default());
    let pool = Pool::recorded(pool_bytes, &recorder).unwrap();
    let volume = pool.create_volume("v", 64 * HUGE).unwrap();
    (recorder, pool, volume)
}

/// Calls `act` once, inside the next fence of any thread, before it takes effect. What it calls may
/// look and wait, but not store: the recorder is busy with the fence.
fn at_next_fence(recorder: &Recorder, act: impl FnOnce() + Send + 'static) {
    let act = Mutex::new(Some(act));
    recorder.on_fence(move |_| {
        let act = act.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
    });
}

/// Threads that were started beside a fault that was stopped.
struct Beside<T>(Arc<Mutex<Vec<JoinHandle<T>>>>);

/// Stops the next fence, starts a thread for each of `calls`, in order, and lets the fence go on when
/// all of them sleep on a lock.
fn stop_until_all_sleep<T: Send + 'static>(
    recorder: &Recorder,
    pool: &Pool,
    calls: Vec<Box<dyn FnOnce() -> T + Send>>,
) -> Beside<T> {
    let beside = Arc::new(Mutex::new(Vec::new()));
    let (started, pool) = (Arc::clone(&beside), pool.clone());
    at_next_fence(recorder, move || {
        for call in calls {
            // One after the other: a fault sleeps on a slot only once a punch waits to have it alone.
            let waits = pool.fault_counts().waits;
            started.lock().unwrap().push(thread::spawn(call));
            until("it sleeps", || pool.fault_counts().waits > waits);
        }
        let handles = started.lock().unwrap();
        assert!(handles.iter().all(|handle| !handle.is_finished()), "it did not wait");
    });
    Beside(beside)
}

impl<T> Beside<T> {
    /// What they returned; all of them were started, and end.
    fn join(self, count: usize) -> Vec<T> {
        let handles = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(handles.len(), count, "the fault has no fence, and was not stopped");
        join(handles)
    }
}

fn join<T>(handles: Vec<JoinHandle<T>>) -> Vec<T> {
    until("all threads end", || handles.iter().all(JoinHandle::is_finished));
    handles.into_iter().map(|handle| handle.join().unwrap()).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < STUCK, "in vain: {what}");
        thread::yield_now();
    }
}

/// Lets the power fail now, and calls `check` with the volume of each state that may be left.
fn after_power_failure(recorder: &Recorder, check: impl Fn(&Volume) + Send + Sync + 'static) {
    let looked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&looked);
    recorder.on_fence(move |point| {
        *count.lock().unwrap() += point.each_state(STATES, 1, |pool| {
            check(&pool.unwrap().volume("v").unwrap().expect("the volume"));
        });
    });
    recorder.crash_point();
    recorder.on_fence(|_| {});
    assert_ne!(*looked.lock().unwrap(), 0, "no state was looked at");
}

fn bytes_at<const N: usize>(volume: &Volume, start: u64) -> [u8; N] {
    let mut bytes = [0xee; N];
    volume.read(start, &mut bytes).unwrap();
    bytes
}
