//! Models of volumes: every schedule of a few calls, up to a number of preemptions, by loom.
//!
//! The code is that of the library, over a pool in memory with huge pages of 4 pages. A failure means
//! that some schedule breaks an invariant of docs/DAX.md, or never ends. docs/TESTING.md says how to
//! run them, and which mutation each of them catches.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::JoinHandle;

use crate::extent_map::Word;
use crate::index::models::make_cells;
use crate::units::{HUGE, LogicalPage, LogicalRange, PAGE};
use crate::{Error, Pool, Volume};

/// Stack of a thread, in words.
const STACK: usize = 0x8000;

/// What one thread of a model does.
pub(crate) type Actor<T> = fn(&T);

/// Runs `actors` on what `setup` makes, in every schedule with at most `preemptions` preemptions
/// (`LOOM_MAX_PREEMPTIONS` says otherwise), and then `check`.
pub(crate) fn explore<T: Send + Sync + 'static, const N: usize>(
    preemptions: usize,
    setup: fn() -> T,
    actors: [Actor<T>; N],
    check: impl Fn(&T) + Clone + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.max_branches = 20_000;
    let schedules = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&schedules);
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let check = check.clone();
        // Not by loom's first thread, whose stack is too small for a superblock.
        spawn(move || {
            let shared = Arc::new(setup());
            let (here, elsewhere) = actors.split_last().expect("an actor");
            let start = |&actor: &Actor<T>| {
                let shared = Arc::clone(&shared);
                spawn(move || actor(&shared))
            };
            let threads: Vec<_> = elsewhere.iter().map(start).collect();
            here(&shared);
            threads.into_iter().for_each(|thread| thread.join().expect("no actor panics"));
            check(&shared);
        })
        .join()
        .expect("no actor panics");
    });
    println!("{} schedules", schedules.load(Ordering::Relaxed));
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    loom::thread::Builder::new().stack_size(STACK).spawn(run).expect("a thread of loom")
}

/// A pool, one volume, and a place where other threads may come in between.
struct Fixture {
    pool: Pool,
    volume: Volume,
    pause: AtomicBool,
}

impl Fixture {
    fn new(len_bytes: u64) -> Self {
        let pool = Pool::in_memory(8 * HUGE).expect("memory");
        let volume = pool.create_volume("v", len_bytes).expect("room");
        make_cells(&volume.shared.index);
        Self { pool, volume, pause: AtomicBool::new(false) }
    }

    /// Between two operations of the library: with a guard in hand, say.
    fn pause(&self) {
        self.pause.load(Ordering::Relaxed);
    }

    fn check(&self) {
        self.pool.check();
        assert_eq!(self.volume.shared.pins.len(), 0);
    }

    fn byte(&self, at: u64) -> u8 {
        let mut byte = [0];
        self.volume.read(at, &mut byte).expect("inside");
        byte[0]
    }

    /// Stores one byte through a guard that lives for a while.
    fn store(&self, at: u64, byte: u8) -> Result<(), Error> {
        let mut guard = self.volume.map_mut(LogicalRange::new(at, 1))?;
        self.pause();
        guard[0] = byte;
        self.pause();
        Ok(())
    }

    /// Reads a page through a guard, and looks whether the guard keeps it mapped.
    fn read_while_pinned(&self, page: u64) {
        let Ok(guard) = self.volume.map(LogicalRange::new(page * PAGE, PAGE)) else { return };
        let Some(physical) = guard.physical() else { return };
        self.pause();
        let word = self.volume.shared.map.page(LogicalPage(page)).expect("a word that verifies");
        let mapped = match word {
            Word::Page(first) => first.offset().0,
            Word::Huge(first) => first.offset().0 + page * PAGE % HUGE,
            word => panic!("{word:?} under a guard"),
        };
        assert_eq!(mapped, physical.0, "a guard on something else");
    }

    /// Gives slot `slot` pages 0 to 2, with a byte in the first, and no page 3.
    fn with_small_pages(self, slot: u64) -> Self {
        let pages = LogicalRange::new(slot * HUGE, 3 * PAGE);
        drop(self.volume.map_append(pages, 3).expect("room"));
        self.store(slot * HUGE, 7).expect("mapped");
        self
    }
}

fn is_busy<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Busy { .. }))
}

fn expect_done_or_busy(result: Result<(), Error>) {
    assert!(result.is_ok() || is_busy(result));
}

fn expect_done_or_cut_off(result: Result<(), Error>) {
    match result {
        Ok(()) | Err(Error::OutOfRange { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_2_mib_fault_leaves_no_extent_behind_a_new_end() {
    explore(
        3,
        || Fixture::new(2 * HUGE),
        [
            |on: &Fixture| expect_done_or_cut_off(on.store(HUGE, 1)),
            |on: &Fixture| expect_done_or_busy(on.volume.set_len(HUGE)),
        ],
        Fixture::check,
    );
}

#[test]
fn a_4_kib_fault_leaves_no_extent_behind_a_new_end() {
    explore(
        3,
        || Fixture::new(HUGE + 2 * PAGE),
        [
            |on: &Fixture| expect_done_or_cut_off(on.store(HUGE + PAGE, 1)),
            |on: &Fixture| expect_done_or_busy(on.volume.set_len(HUGE)),
        ],
        Fixture::check,
    );
}

#[test]
fn a_punch_up_to_the_end_spares_what_is_stored_behind_it_once_the_volume_has_grown() {
    explore::<Fixture, _>(
        2,
        || {
            let on = Fixture::new(PAGE);
            on.store(0, 7).expect("room");
            on
        },
        [
            |on| on.volume.punch(LogicalRange::new(0, PAGE)).expect("no guard"),
            |on| {
                on.volume.set_len(2 * PAGE).expect("longer");
                on.store(PAGE, 3).expect("inside");
            },
        ],
        |on| {
            assert_eq!((on.byte(0), on.byte(PAGE)), (0, 3));
            on.check();
        },
    );
}

#[test]
fn an_upgrade_leaves_no_huge_page_behind_a_new_end() {
    explore(
        3,
        || Fixture::new(2 * HUGE).with_small_pages(1),
        [
            |on: &Fixture| {
                let report = on.volume.upgrade(LogicalRange::new(HUGE, HUGE), 1);
                assert!(matches!(report, Ok(_) | Err(Error::OutOfRange { .. })));
            },
            |on: &Fixture| on.volume.set_len(HUGE).expect("no guard"),
        ],
        Fixture::check,
    );
}

#[test]
fn a_page_under_a_guard_is_not_punched() {
    explore(
        3,
        || Fixture::new(HUGE).with_small_pages(0),
        [
            |on: &Fixture| on.read_while_pinned(0),
            |on: &Fixture| expect_done_or_busy(on.volume.punch(LogicalRange::new(0, PAGE))),
        ],
        Fixture::check,
    );
}

#[test]
fn a_huge_page_under_a_guard_is_not_punched() {
    explore(
        3,
        || {
            let on = Fixture::new(HUGE);
            on.store(0, 7).expect("room");
            on
        },
        [
            |on: &Fixture| on.read_while_pinned(1),
            |on: &Fixture| expect_done_or_busy(on.volume.punch(LogicalRange::new(0, HUGE))),
        ],
        Fixture::check,
    );
}

#[test]
fn a_patient_punch_waits_for_guards_and_not_for_ever() {
    explore(
        3,
        || Fixture::new(HUGE).with_small_pages(0),
        [
            |on: &Fixture| {
                on.read_while_pinned(0);
                on.read_while_pinned(0);
            },
            |on: &Fixture| {
                let patient = on.volume.with_patience(std::time::Duration::from_secs(1));
                expect_done_or_busy(patient.punch(LogicalRange::new(0, PAGE)));
            },
        ],
        Fixture::check,
    );
}

/// Stores during an upgrade, by `stores`, and looks for them afterwards.
fn upgrade_beside<const N: usize>(preemptions: usize, actors: [Actor<Fixture>; N], bytes: [u8; 3]) {
    let check = move |on: &Fixture| {
        assert_eq!([0, PAGE, 7 * PAGE].map(|at| on.byte(at)), bytes);
        on.check();
    };
    explore(preemptions, || Fixture::new(HUGE).with_small_pages(0), actors, check);
}

fn upgrade(on: &Fixture) {
    on.volume.upgrade(LogicalRange::new(0, HUGE), 1).expect("not damaged");
}

fn store_in_page(on: &Fixture) {
    on.store(PAGE, 1).expect("mapped");
}

fn store_in_hole(on: &Fixture) {
    on.store(7 * PAGE, 3).expect("room");
}

fn sync(on: &Fixture) {
    on.volume.sync(LogicalRange::new(0, HUGE)).expect("a pool in memory");
}

#[test]
fn an_upgrade_loses_no_store_to_a_page() {
    upgrade_beside(2, [store_in_page, upgrade], [7, 1, 0]);
}

#[test]
fn an_upgrade_loses_no_store_to_a_hole() {
    upgrade_beside(2, [store_in_hole, upgrade], [7, 0, 3]);
}

#[test]
#[ignore = "minutes"]
fn an_upgrade_loses_none_of_two_stores() {
    upgrade_beside(1, [store_in_page, store_in_hole, upgrade], [7, 1, 3]);
}

#[test]
fn what_a_write_guard_reaches_stays_dirty() {
    explore(
        3,
        || {
            let on = Fixture::new(HUGE);
            on.store(0, 7).expect("room");
            on
        },
        [
            |on: &Fixture| {
                let guard = on.volume.map_mut(LogicalRange::new(PAGE, 1)).expect("mapped");
                on.pause();
                assert_eq!(on.volume.shared.index.dirty_bytes(), HUGE);
                drop(guard);
            },
            sync,
        ],
        Fixture::check,
    );
}

#[test]
fn a_sync_and_an_upgrade_agree_about_dirt() {
    upgrade_beside(3, [sync, upgrade], [7, 0, 0]);
}

#[test]
#[ignore = "minutes"]
fn a_sync_an_upgrade_and_a_store_agree_about_dirt() {
    upgrade_beside(1, [store_in_page, sync, upgrade], [7, 1, 0]);
}
