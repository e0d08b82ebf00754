//! A volume with one slot in a given state, and requests to it, alone or beside another thread.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::look::Seen;
use super::request::Request;
use crate::counters::{Access, FaultCounts};
use crate::entry::Entry;
use crate::extent_map::Word;
use crate::fault;
use crate::guard::Pinned;
use crate::index::{LockedEntries, LockedHuge, LockedPage, LockedSlot};
use crate::pool::Pool;
use crate::units::{HUGE, LogicalPage, LogicalRange, PAGE, PAGES_PER_HUGE, SlotNo};
use crate::volume::Volume;

/// All states: entry, extent map, and what is special. `*` is dirty. The map is `-`, a hole, the
/// page of interest alone, a `run` of 512 pages that fill an aligned 2 MiB, or a `huge` page. In a
/// `cut` slot the volume ends after eight pages, and `past` is a slot that starts where it ends; in a
/// `small` pool no huge page is free.
pub(super) const STATES: [&str; 27] = [
    "N   -",
    "N   5",
    "N   run",
    "N   huge",
    "E4  -",
    "E4  5",
    "Z4  -",
    "M4  5",
    "M4* 5",
    "M4  run",
    "M4* run",
    "E2  -",
    "E2  5",
    "E2  huge",
    "Z2  -",
    "M2  huge",
    "M2* huge",
    "N   -    small",
    "Z2  -    small",
    "N   -    cut",
    "N   5    cut",
    "N   huge cut",
    "Z4  -    cut",
    "M4* 5    cut",
    "Z2  -    cut",
    "M2* huge cut",
    "N   -    past",
];
/// The slot under test.
pub(super) const TESTED: SlotNo = SlotNo(1);
/// The page under test, by its position in the slot: not the first, so that what falls back at the
/// head of the slot does not meet it by chance.
pub(super) const PAGE_OF_INTEREST: u64 = 5;
/// A page that only a huge page maps.
pub(super) const OTHER_PAGE: u64 = 300;
const CUT_PAGES: u64 = 8;
/// What the page of interest is filled with, or all of a slot that has every page.
const PAGE_FILL: u8 = 0x55;
const SLOT_FILL: u8 = 0x22;
/// A request that takes longer is stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Which lock another thread holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lock {
    Entry,
    Slot,
}

pub(super) struct Stage {
    pub pool: Pool,
    pub volume: Volume,
    /// As they were when the state was reached.
    pub counts: FaultCounts,
    state: &'static str,
}

/// The lock that another thread holds; each kind is given back by its own drop.
enum Held<'a> {
    Huge(LockedHuge<'a>),
    Page(LockedEntries<'a>),
    Slot(#[expect(dead_code, reason = "held, and looked at by nobody")] LockedSlot<'a>),
}

impl Stage {
    pub(super) fn page_range(page: u64) -> LogicalRange {
        LogicalRange::new((TESTED.first_page().0 + page) * PAGE, PAGE)
    }

    /// What the volume has of the slot; all of it, if that is nothing.
    pub(super) fn slot_range(volume: &Volume) -> LogicalRange {
        let slot = TESTED.range();
        match volume.len_bytes() - slot.start {
            0 => slot,
            has_bytes => LogicalRange::new(slot.start, HUGE.min(has_bytes)),
        }
    }

    pub(super) fn build(state: &'static str) -> Self {
        let words: Vec<&str> = state.split_whitespace().collect();
        let is = |word: &str| words[2..].contains(&word);
        let pool = Pool::in_memory(if is("small") { 4 << 20 } else { 16 << 20 }).unwrap();
        let volume = pool.create_volume("v", 3 * HUGE).unwrap();
        let start = TESTED.range().start;
        match words[1] {
            "-" => {}
            "5" => {
                let range = Self::page_range(PAGE_OF_INTEREST);
                let access = Access::Write;
                let request = fault::Request { range, access, huge_allowed: false, pages_min: 1 };
                drop(Pinned::fault(&volume.shared, request, None).unwrap());
                volume.write(range.start, &[PAGE_FILL; PAGE as usize]).unwrap();
            }
            "run" => {
                // A slot that the volume does not have whole gets pages, side by side.
                let last = HUGE - PAGE;
                volume.set_len(start + last).unwrap();
                volume.write(start, &[SLOT_FILL; (HUGE - PAGE) as usize]).unwrap();
                volume.set_len(3 * HUGE).unwrap();
                volume.write(start + last, &[SLOT_FILL; PAGE as usize]).unwrap();
            }
            "huge" => volume.write(start, &[SLOT_FILL; HUGE as usize]).unwrap(),
            map => panic!("no extent map {map}"),
        }
        if is("cut") {
            volume.set_len(start + CUT_PAGES * PAGE).unwrap();
        }
        if is("past") {
            volume.set_len(start).unwrap();
        }
        volume.shared.index.lock_slot(TESTED).delete(0..PAGES_PER_HUGE as usize);
        make_entry(&volume, words[0]);
        pool.check();
        let counts = pool.fault_counts();
        Self { pool, volume, counts, state }
    }

    /// Runs `request` with nobody else there.
    pub(super) fn run(&self, request: Request) -> Seen {
        let result = request.act(&self.volume);
        let counts = self.pool.fault_counts();
        assert_eq!((counts.waits, counts.wakes), (0, 0), "nobody to wait for");
        self.look(result)
    }

    /// Runs `request` while another thread holds `lock`: what became of it, and what was there in
    /// the end. `None` if the state has no such lock.
    pub(super) fn run_locked(&self, request: Request, lock: Lock) -> Option<(&'static str, Seen)> {
        let held = self.hold(lock)?;
        let before = held.entry();
        let (volume, index) = (self.volume.clone(), &self.volume.shared.index);
        let (send, ended) = mpsc::channel();
        // Not a scoped thread: one that never ends would take the test's failure with it.
        thread::spawn(move || send.send(request.act(&volume)));
        let started = Instant::now();
        let early = loop {
            if let Ok(result) = ended.try_recv() {
                break Some(result);
            }
            // An upgrade gives up by itself, and is not to be helped.
            if index.has_sleepers(TESTED) && request != Request::Upgrade {
                break None;
            }
            assert!(started.elapsed() < STUCK, "{request:?} in {}: stuck", self.state);
            thread::yield_now();
        };
        assert_eq!(held.entry(), before, "{request:?}: changed by someone else than its holder");
        drop(held);
        let is_early = early.is_some();
        let result = early.unwrap_or_else(|| {
            let late = ended.recv_timeout(STUCK);
            late.unwrap_or_else(|_| panic!("{request:?} in {}: never woken", self.state))
        });
        let counts = self.pool.fault_counts();
        let became = match (is_early, counts.waits, counts.wakes) {
            (true, 0, 0) => "passes",
            (true, 1, 0) => "gives up",
            (false, 1, 1) => "waits",
            _ => panic!("{request:?} in {}: {counts:?}", self.state),
        };
        Some((became, self.look(result)))
    }

    fn hold(&self, lock: Lock) -> Option<Held<'_>> {
        let index = &self.volume.shared.index;
        let entry = self.state.split_whitespace().next()?;
        Some(match (lock, entry) {
            (Lock::Slot, _) => Held::Slot(index.lock_slot(TESTED)),
            (Lock::Entry, "N") => return None,
            (Lock::Entry, "E2" | "Z2" | "M2" | "M2*") => {
                Held::Huge(index.lock_huge(TESTED).expect("a 2 MiB entry"))
            }
            (Lock::Entry, _) => match index.lock_page(page_of_interest()) {
                LockedPage::Page(locked) => Held::Page(locked),
                LockedPage::Huge(_) => panic!("a 2 MiB mapping"),
            },
        })
    }
}

impl Held<'_> {
    fn entry(&self) -> Option<Entry> {
        match self {
            Self::Huge(locked) => Some(locked.entry()),
            Self::Page(locked) => Some(locked.entry(0)),
            Self::Slot(_) => None,
        }
    }
}

fn page_of_interest() -> LogicalPage {
    LogicalPage(TESTED.first_page().0 + PAGE_OF_INTEREST)
}

/// Makes the entry of the page of interest, or of the slot, as a fault would have left it.
fn make_entry(volume: &Volume, entry: &str) {
    let (index, map) = (&volume.shared.index, &volume.shared.map);
    if entry == "N" {
        return;
    }
    if entry.contains('2') {
        let mut locked = index.lock_huge(TESTED).expect("nothing is there yet");
        match (entry, map.slot(TESTED).unwrap()) {
            ("E2", _) => {}
            ("Z2", Word::Hole) => locked.set(Entry::Zero),
            ("M2" | "M2*", Word::Huge(first)) => locked.set(Entry::Mapping(first)),
            (_, word) => panic!("no {entry} over {word:?}"),
        }
        if entry.ends_with('*') {
            locked.set_dirty();
        }
        return;
    }
    let LockedPage::Page(mut locked) = index.lock_page(page_of_interest()) else {
        panic!("a 2 MiB mapping")
    };
    match (entry, map.page(page_of_interest()).unwrap()) {
        ("E4", _) => {}
        ("Z4", Word::Hole) => locked.set(0, Entry::Zero),
        ("M4" | "M4*", Word::Page(page)) => locked.set(0, Entry::Mapping(page)),
        (_, word) => panic!("no {entry} over {word:?}"),
    }
    if entry.ends_with('*') {
        locked.set_dirty(0);
    }
}
