//! Random mixes of calls by four threads in one volume, in random schedules, by shuttle.
//!
//! Each thread owns bytes that nobody else stores to, and knows what they must be. Slots 0 and 1
//! belong to the threads page by page, slot 2 by quarters of each page, and slot 3, which comes and
//! goes with the length, to thread 0. Guards, syncs and upgrades reach everywhere. In the end every
//! byte is looked at, every page is accounted for, and index and extent map must agree.
//!
//! A failure prints a schedule, which `shuttle::replay` runs again. docs/TESTING.md says how to run
//! more of them.

use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::units::{HUGE, LogicalRange, PAGE, PAGES_PER_HUGE};
use crate::{Error, Pool, Volume};

const THREADS: u64 = 4;
const CALLS: usize = 10;
/// Slots of the volume at its longest; the last one is thread 0's.
const SLOTS: u64 = 4;
const LEN_MAX: u64 = SLOTS * HUGE;
const LEN_MIN: u64 = LEN_MAX - HUGE;

/// A thread, and what its bytes must be; those of others are zero here.
struct Owner {
    number: u64,
    bytes: Vec<u8>,
    len_bytes: u64,
}

impl Owner {
    fn new(number: u64) -> Self {
        Self { number, bytes: vec![0; LEN_MAX as usize], len_bytes: LEN_MAX }
    }

    /// Makes some calls, and checks what each must do.
    fn run(mut self, pool: &Pool, volume: &Volume) -> Self {
        for _ in 0..CALLS {
            let patience = [Duration::ZERO, Duration::from_secs(1)][thread_rng().gen_range(0..2)];
            let volume = volume.with_patience(patience);
            match thread_rng().gen_range(0..10) {
                0..=2 => self.write(&volume),
                3 => self.read(&volume),
                4 => self.clear(&volume, Volume::punch),
                5 => self.clear(&volume, Volume::zero),
                6 => require(volume.sync(anywhere()), is_out_of_range),
                7 => {
                    let upgraded = volume.upgrade(anywhere(), thread_rng().gen_range(1..4));
                    require(upgraded.map(drop), is_out_of_range);
                }
                8 => look_at_others(&volume),
                _ if self.number == 0 => self.set_len(&volume),
                _ => drop(pool.space()),
            }
        }
        self
    }

    fn write(&mut self, volume: &Volume) {
        let range = self.some_range();
        match volume.map_mut(range) {
            Ok(mut guard) => {
                assert!(self.is_inside(range), "behind the end");
                let len = guard.len();
                let mine = &mut self.bytes[range.start as usize..][..len];
                assert_eq!(&*guard, &*mine, "before a write");
                thread::yield_now();
                mine.fill(thread_rng().gen_range(1..=255));
                guard.copy_from_slice(mine);
                thread::yield_now();
            }
            Err(error) => assert!(self.may_fail(range, &error), "{error}"),
        }
    }

    fn read(&self, volume: &Volume) {
        let range = self.some_range();
        match volume.map(range) {
            Ok(guard) => {
                assert!(self.is_inside(range), "behind the end");
                thread::yield_now();
                assert_eq!(&*guard, &self.bytes[range.start as usize..][..guard.len()], "read");
            }
            Err(error) => assert!(self.may_fail(range, &error), "{error}"),
        }
    }

    fn clear(&mut self, volume: &Volume, call: fn(&Volume, LogicalRange) -> Result<(), Error>) {
        let range = self.some_range();
        match call(volume, range) {
            Ok(()) => {
                assert!(self.is_inside(range), "behind the end");
                self.bytes[range.start as usize..][..range.len_bytes as usize].fill(0);
            }
            Err(error) => assert!(self.may_fail(range, &error), "{error}"),
        }
    }

    /// Only thread 0 does.
    fn set_len(&mut self, volume: &Volume) {
        let lens = [LEN_MIN, LEN_MIN + 2 * PAGE + 100, LEN_MAX - PAGE, LEN_MAX];
        let len_bytes = lens[thread_rng().gen_range(0..lens.len())];
        match volume.set_len(len_bytes) {
            Ok(()) => {
                self.bytes[len_bytes as usize..].fill(0);
                self.len_bytes = len_bytes;
            }
            Err(error) => assert!(is_busy(&error), "{error}"),
        }
    }

    /// A part of one page's bytes that are this thread's; often all of them.
    fn some_range(&self) -> LogicalRange {
        let mut random = thread_rng();
        let slot = random.gen_range(0..if self.number == 0 { SLOTS } else { SLOTS - 1 });
        let nth = random.gen_range(0..PAGES_PER_HUGE);
        let (page, start, len_bytes) = match slot {
            0 | 1 => (nth / THREADS * THREADS + self.number, 0, PAGE),
            2 => (nth, self.number * PAGE / THREADS, PAGE / THREADS),
            _ => (nth, 0, PAGE),
        };
        let start = slot * HUGE + page * PAGE + start;
        if random.gen_range(0..2) == 0 {
            return LogicalRange::new(start, len_bytes);
        }
        let skipped = random.gen_range(0..len_bytes);
        LogicalRange::new(start + skipped, random.gen_range(1..=len_bytes - skipped))
    }

    fn is_inside(&self, range: LogicalRange) -> bool {
        range.start + range.len_bytes <= self.len_bytes
    }

    /// Whether a call may fail so: guards of others, a full pool, or the end that this thread set.
    fn may_fail(&self, range: LogicalRange, error: &Error) -> bool {
        match error {
            Error::OutOfRange { .. } => !self.is_inside(range),
            Error::Full { .. } => true,
            error => is_busy(error),
        }
    }
}

/// One slot, the one that comes and goes, or all that stay.
fn anywhere() -> LogicalRange {
    match thread_rng().gen_range(0..=SLOTS) {
        SLOTS => LogicalRange::new(0, LEN_MIN),
        slot => LogicalRange::new(slot * HUGE, HUGE),
    }
}

/// Holds a guard on bytes of others, whatever they are.
fn look_at_others(volume: &Volume) {
    let start = thread_rng().gen_range(0..LEN_MAX / PAGE) * PAGE;
    match volume.map(LogicalRange::new(start, 2 * PAGE)) {
        Ok(_guard) => thread::yield_now(),
        Err(error) => assert!(is_busy(&error) || is_out_of_range(&error), "{error}"),
    }
}

fn require(result: Result<(), Error>, may_fail: fn(&Error) -> bool) {
    if let Err(error) = result {
        assert!(may_fail(&error), "{error}");
    }
}

fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Busy { .. })
}

fn is_out_of_range(error: &Error) -> bool {
    matches!(error, Error::OutOfRange { .. })
}

/// Makes a few pages of every other slot 4 KiB extents; the memory of a new pool is zero.
fn begin_with_small_pages(volume: &Volume, slot: u64) {
    let pages = thread_rng().gen_range(0..2 * PAGES_PER_HUGE);
    if (1..PAGES_PER_HUGE).contains(&pages) {
        let range = LogicalRange::new(slot * HUGE, pages * PAGE);
        require(volume.map_append(range, 1).map(drop), |error| matches!(error, Error::Full { .. }));
    }
}

fn mix() {
    // From too small for everything to room for huge pages.
    let pool = Pool::in_memory(thread_rng().gen_range(4..10) * HUGE).expect("memory");
    let volume = pool.create_volume("v", LEN_MAX).expect("room");
    (0..SLOTS).for_each(|slot| begin_with_small_pages(&volume, slot));
    let start = |number: u64| {
        let (pool, volume) = (pool.clone(), volume.clone());
        thread::spawn(move || Owner::new(number).run(&pool, &volume))
    };
    let threads: Vec<_> = (0..THREADS).map(start).collect();
    let owners: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();

    pool.check();
    assert_eq!(volume.stats().expect("open").pins, 0);
    let mut expected = vec![0; owners[0].len_bytes as usize];
    for owner in &owners {
        expected.iter_mut().zip(&owner.bytes).for_each(|(all, of_one)| *all |= of_one);
    }
    let mut bytes = vec![0; expected.len()];
    volume.read(0, &mut bytes).expect("no guard is left");
    let differs = bytes.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(differs, None, "the byte that nobody stored");
}

fn explore(scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(mix);
}

/// How many schedules; `DAXITE_MIXES` says otherwise.
fn iterations() -> usize {
    std::env::var("DAXITE_MIXES").map_or(3000, |text| text.parse().expect("a number"))
}

/// Where the random numbers begin; `DAXITE_MIX_SEED` says otherwise.
fn seed() -> u64 {
    std::env::var("DAXITE_MIX_SEED").map_or(1, |text| text.parse().expect("a number"))
}

#[test]
fn any_thread_may_run_at_any_time() {
    explore(RandomScheduler::new_from_seed(seed(), iterations()));
}

#[test]
fn one_thread_runs_until_it_cannot_or_loses_its_turn() {
    explore(PctScheduler::new_from_seed(seed(), 4, iterations()));
}
