//! Promise: whatever is asked of a volume, in whatever order, it holds the bytes that a plain array
//! would, maps what was written and no more, and no page of the pool gets lost.
//!
//! Method: random operations on a volume, compared with [`Model`] as they go, in roomy and in nearly
//! full pools, on every kind of medium that is at hand. A failure means that bytes, extents or space
//! are wrong; it prints the operations before it, and what replays them. The idea is that of fsx, the
//! file system exerciser.

use std::path::Path;

use daxite_core::{
    Error, ExtentSize, HUGE, LogicalRange, OpenOptions, PAGE, PAGES_PER_HUGE, Pool, ReadGuard,
    Refusal, Volume, WriteGuard,
};
use daxite_tests::{Model, Place, Random, Shape, check_space, for_seeds, written_until_full};

/// Operations of one sequence: enough for a slot to go through everything a few times.
const OPERATIONS: u64 = 300;
/// Everything is compared after so many operations.
const OPERATIONS_BETWEEN_CHECKS: u64 = 40;
/// So many of the last operations are printed with a failure.
const OPERATIONS_SHOWN: usize = 40;
const GUARDS_MAX: usize = 6;

const ROOMY_POOL_BYTES: u64 = 40 << 20;
const CROWDED_POOL_BYTES: u64 = 12 << 20;
/// Lengths that a volume does not grow over.
const VOLUME_BYTES_MAX: [u64; 2] = [5 * HUGE, 3 << 30];

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

fn end(range: LogicalRange) -> u64 {
    range.start + range.len_bytes
}

fn overlap(one: LogicalRange, other: LogicalRange) -> bool {
    one.start < end(other) && other.start < end(one)
}

/// The part of `range` that the first map call is for.
fn in_first_slot(of: LogicalRange) -> LogicalRange {
    range(of.start, of.len_bytes.min(HUGE - of.start % HUGE))
}

enum Held {
    /// A view of zeros from before.
    Hole(ReadGuard),
    Read(ReadGuard, LogicalRange),
    Write(WriteGuard, LogicalRange),
}

impl Held {
    fn pinned(&self) -> Option<LogicalRange> {
        match self {
            Self::Hole(_) => None,
            Self::Read(_, range) | Self::Write(_, range) => Some(*range),
        }
    }

    fn written(&self) -> Option<LogicalRange> {
        if let Self::Write(_, range) = self { Some(*range) } else { None }
    }

    fn check(&self, model: &Model) {
        match self {
            Self::Hole(guard) => assert!(guard.iter().all(|&byte| byte == 0), "a view of zeros"),
            Self::Read(guard, range) => assert!(**guard == *model.read(*range), "read {range:?}"),
            Self::Write(guard, range) => assert!(**guard == *model.read(*range), "write {range:?}"),
        }
    }
}

/// The pool with the volume under test, and another volume that takes up space.
struct Opened {
    pool: Pool,
    volume: Volume,
    other: Volume,
}

impl Opened {
    fn new(pool: Pool) -> Self {
        let volume = pool.volume("v").unwrap().unwrap();
        let other = pool.volume("other").unwrap().unwrap();
        Self { pool, volume, other }
    }
}

/// One sequence. When it fails it says what it did last.
struct Sequence<'a> {
    place: &'a Place,
    /// None only while the pool is reopened.
    opened: Option<Opened>,
    model: Model,
    guards: Vec<Held>,
    /// Whether nothing was asked for that may change the pool since it was closed: it stays clean.
    is_clean: bool,
    /// Slots of the other volume that were written.
    crowd: Vec<u64>,
    len_max: u64,
    random: Random,
    log: Vec<String>,
    seen: Seen,
}

/// What sequences must have met, or they tested little.
#[derive(Default, Debug)]
struct Seen {
    allocated_huge: u64,
    allocated_pages: u64,
    upgraded_in_place: u64,
    relocated: u64,
    full: u64,
    busy: u64,
    no_huge_page: u64,
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let skipped = self.log.len().saturating_sub(OPERATIONS_SHOWN);
            println!("after {skipped} operations:\n{}", self.log[skipped..].join("\n"));
        }
    }
}

impl<'a> Sequence<'a> {
    fn start(seed: u64, place: &'a Place) -> Self {
        let mut random = Random::new(seed);
        let pool_bytes = random.pick(&[ROOMY_POOL_BYTES, CROWDED_POOL_BYTES]);
        let len_max = random.pick(&VOLUME_BYTES_MAX);
        let pool = place.create(pool_bytes);
        let len_bytes = random.pick(&[len_max, len_max / 2 + 5 * PAGE + 7]);
        pool.create_volume("v", len_bytes).unwrap();
        pool.create_volume("other", 1 << 40).unwrap();
        let mut sequence = Self {
            place,
            opened: Some(Opened::new(pool)),
            model: Model::new(len_bytes),
            guards: Vec::new(),
            is_clean: false,
            crowd: Vec::new(),
            len_max,
            random,
            log: Vec::new(),
            seen: Seen::default(),
        };
        sequence.note(format!("a volume of {len_bytes:#x} in a pool of {pool_bytes:#x}"));
        if pool_bytes == CROWDED_POOL_BYTES {
            sequence.crowd();
        }
        sequence
    }

    fn run(mut self) -> Seen {
        for nth in 1..=OPERATIONS {
            self.one_operation();
            if nth % OPERATIONS_BETWEEN_CHECKS == 0 {
                self.check();
            }
        }
        self.reopen();
        self.check();
        self.drop_guards();
        let pool = self.opened.take().expect("an open pool").pool;
        for name in ["v", "other"] {
            assert!(pool.remove_volume(name).unwrap());
        }
        check_space(&pool);
        assert_eq!(
            pool.space().mapped_pages,
            4,
            "only superblocks and lists of bad pages are left"
        );
        std::mem::take(&mut self.seen)
    }

    fn one_operation(&mut self) {
        let before = self.pool().fault_counts();
        match self.random.below(40) {
            0..=7 => self.write(),
            8..=11 => self.map_mut(),
            12..=14 => self.map(),
            15..=17 => self.read(),
            18..=20 => self.drop_guard(),
            21..=24 => self.punch(),
            25..=26 => self.zero(),
            27..=29 => self.set_len(),
            30..=31 => self.fill_the_last_slot(),
            32..=34 => self.upgrade(),
            35..=36 => self.sync(),
            37 => self.crowd(),
            38 => self.make_room(),
            _ => self.reopen(),
        }
        let extents = self.volume().extents(self.all()).unwrap();
        let learned =
            self.model.settle(&extents).unwrap_or_else(|difference| panic!("{difference}"));
        let after = self.pool().fault_counts();
        let in_place = after.upgraded_in_place.saturating_sub(before.upgraded_in_place);
        let relocated = after.relocated.saturating_sub(before.relocated);
        assert_eq!(learned.upgraded, in_place + relocated, "slots that were upgraded");
        self.seen.upgraded_in_place += in_place;
        self.seen.relocated += relocated;
        self.seen.allocated_huge += learned.allocated_huge;
        self.seen.allocated_pages += after.allocated_pages.saturating_sub(before.allocated_pages);
    }

    fn pool(&self) -> &Pool {
        &self.opened.as_ref().expect("an open pool").pool
    }

    fn volume(&self) -> &Volume {
        &self.opened.as_ref().expect("an open pool").volume
    }

    /// The volume, for a call that needs the right to change it.
    fn volume_to_change(&mut self) -> &Volume {
        self.is_clean = false;
        self.volume()
    }

    fn other_to_change(&mut self) -> &Volume {
        self.is_clean = false;
        &self.opened.as_ref().expect("an open pool").other
    }

    fn all(&self) -> LogicalRange {
        range(0, self.model.len_bytes())
    }

    fn note(&mut self, operation: String) {
        self.log.push(operation);
    }

    /// A range of the volume: near few places, so that operations meet, and often at a border.
    fn pick(&mut self) -> LogicalRange {
        let len_bytes = self.model.len_bytes();
        let last_slot = (len_bytes - 1) / HUGE;
        let slot = match self.random.below(8) {
            0..=2 => self.random.below(3),
            3 => self.random.pick(&[510, 511, 512]),
            4 => self.random.below(last_slot + 1),
            _ => last_slot - self.random.below(2).min(last_slot),
        };
        let page = self.random.pick(&[0, 1, 2, 3, 255, 510, 511]);
        let byte = match self.random.below(3) {
            0 => 0,
            1 => PAGE - 1 - self.random.below(64),
            _ => self.random.below(PAGE),
        };
        let start = (slot.min(last_slot) * HUGE + page * PAGE + byte).min(len_bytes - 1);
        let len = match self.random.below(8) {
            0..=1 => 1 + self.random.below(100),
            2..=3 => PAGE * (1 + self.random.below(3)),
            4..=5 => 1 + self.random.below(4 * PAGE),
            6 => HUGE - start % HUGE,
            _ => 1 + self.random.below(2 * HUGE),
        };
        let aligned_end =
            start + len - if self.random.below(3) == 0 { (start + len) % PAGE } else { 0 };
        let wanted_end = if aligned_end > start { aligned_end } else { start + len };
        range(start, wanted_end.min(len_bytes) - start)
    }

    fn is_pinned(&self, range: LogicalRange) -> bool {
        self.guards.iter().filter_map(Held::pinned).any(|pinned| overlap(pinned, range))
    }

    fn is_written(&self, range: LogicalRange) -> bool {
        self.guards.iter().filter_map(Held::written).any(|written| overlap(written, range))
    }

    /// Whether the call was refused, as it must be exactly if `in_the_way`.
    fn was_busy(&mut self, result: daxite_core::Result<()>, in_the_way: bool) -> bool {
        self.seen.busy += u64::from(in_the_way);
        match result {
            Ok(()) => assert!(!in_the_way, "a guard was passed over"),
            Err(Error::Busy { .. }) => assert!(in_the_way, "busy without a guard"),
            Err(error) => panic!("{error}"),
        }
        in_the_way
    }

    /// There is too little space for `len_bytes` more with their tables.
    fn check_full(&mut self, error: &Error, len_bytes: u64) {
        assert!(matches!(error, Error::Full { .. }), "{error}");
        let pages_max = len_bytes.div_ceil(PAGE) + 1;
        let free = self.pool().space().free_pages;
        assert!(free < pages_max + 3, "full with {free} pages free for {pages_max}");
        self.seen.full += 1;
    }

    fn write(&mut self) {
        let range = self.pick();
        let bytes = self.random.bytes(range.len_bytes);
        self.note(format!("write {range:x?}"));
        self.write_there(range, &bytes);
    }

    fn write_there(&mut self, to: LogicalRange, bytes: &[u8]) {
        // Slot by slot: what comes before the first slot with a guard in the way is written.
        let mut free = 0;
        while free < to.len_bytes {
            let part = in_first_slot(range(to.start + free, to.len_bytes - free));
            if self.is_pinned(part) {
                break;
            }
            free += part.len_bytes;
        }
        let written = match self.volume_to_change().write(to.start, bytes) {
            Ok(()) => {
                assert_eq!(free, to.len_bytes, "a guard was passed over");
                free
            }
            Err(Error::Busy { .. }) => {
                assert!(free < to.len_bytes, "busy without a guard");
                self.seen.busy += 1;
                free
            }
            Err(error) => {
                self.check_full(&error, to.len_bytes);
                let within = range(to.start, free);
                let (volume, old) = (self.volume(), self.model.read(within));
                written_until_full(volume, to.start, &old, bytes)
            }
        };
        self.model.write(to.start, &bytes[..written as usize]);
    }

    fn map_mut(&mut self) {
        let wanted = self.pick();
        let part = in_first_slot(wanted);
        self.note(format!("map_mut {part:x?}"));
        let mut guard = match self.volume_to_change().map_mut(wanted) {
            Ok(guard) => guard,
            Err(Error::Busy { .. }) => {
                assert!(self.is_pinned(part), "busy without a guard");
                self.seen.busy += 1;
                return;
            }
            Err(error) => return self.check_full(&error, part.len_bytes),
        };
        assert!(!self.is_pinned(part), "a guard was passed over");
        let mapped = range(part.start, guard.len() as u64);
        assert!((1..=part.len_bytes).contains(&mapped.len_bytes));
        self.model.map(mapped);
        if matches!(self.model.shape(mapped.start / HUGE), Some(Shape::Huge)) {
            assert_eq!((guard.size(), mapped), (ExtentSize::Huge, part));
        }
        let at = self.random.below(mapped.len_bytes);
        let stored = self.random.below((mapped.len_bytes - at).min(3 * PAGE)) + 1;
        let bytes = self.random.bytes(stored.min(mapped.len_bytes - at));
        guard[at as usize..][..bytes.len()].copy_from_slice(&bytes);
        self.model.write(mapped.start + at, &bytes);
        if self.random.below(2) == 0 {
            guard.persist().unwrap();
        }
        self.hold(Held::Write(guard, mapped));
    }

    fn map(&mut self) {
        let wanted = self.pick();
        let part = in_first_slot(wanted);
        self.note(format!("map {part:x?}"));
        let guard = match self.volume().map(wanted) {
            Ok(guard) => guard,
            Err(Error::Busy { .. }) => {
                assert!(self.is_written(part), "busy without a guard");
                self.seen.busy += 1;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let mapped = range(part.start, guard.len() as u64);
        assert!((1..=part.len_bytes).contains(&mapped.len_bytes));
        assert!(!self.is_written(mapped), "a guard was passed over");
        assert!(*guard == *self.model.read(mapped), "mapped {mapped:x?}");
        assert_eq!(guard.is_hole(), !self.model.is_mapped(mapped.start / PAGE));
        match guard.is_hole() {
            true => self.hold(Held::Hole(guard)),
            false => self.hold(Held::Read(guard, mapped)),
        }
    }

    fn hold(&mut self, held: Held) {
        if self.guards.len() == GUARDS_MAX {
            self.drop_guard();
        }
        self.guards.push(held);
    }

    fn drop_guard(&mut self) {
        if !self.guards.is_empty() {
            let at = self.random.below(self.guards.len() as u64) as usize;
            let held = self.guards.swap_remove(at);
            self.note(format!("drop the guard of {:x?}", held.pinned()));
            held.check(&self.model);
        }
    }

    fn drop_guards(&mut self) {
        self.guards.drain(..).for_each(|held| held.check(&self.model));
    }

    fn read(&mut self) {
        let range = self.pick();
        self.note(format!("read {range:x?}"));
        let mut bytes = vec![0xa5; range.len_bytes as usize];
        let result = self.volume().read(range.start, &mut bytes);
        if !self.was_busy(result, self.is_written(range)) {
            assert!(bytes == self.model.read(range), "read {range:x?}");
        }
    }

    fn punch(&mut self) {
        let mut hit = self.pick();
        match self.random.below(4) {
            0 => hit.start -= hit.start % HUGE,
            1 => hit.len_bytes = self.model.len_bytes() - hit.start,
            _ => {}
        }
        self.note(format!("punch {hit:x?}"));
        let result = self.volume_to_change().punch(hit);
        if !self.was_busy(result, self.is_pinned(hit)) {
            self.model.punch(hit);
        }
    }

    fn zero(&mut self) {
        let range = self.pick();
        self.note(format!("zero {range:x?}"));
        let result = self.volume_to_change().zero(range);
        if !self.was_busy(result, self.is_pinned(range)) {
            self.model.zero(range);
        }
    }

    fn set_len(&mut self) {
        let old = self.model.len_bytes();
        let near = self.pick().start;
        let new = match self.random.below(5) {
            0 => near.next_multiple_of(HUGE),
            1 => near.next_multiple_of(PAGE),
            2 => near,
            3 => old + self.random.below(2 * HUGE),
            _ => self.len_max,
        };
        self.set_len_to(new.clamp(1, self.len_max));
    }

    fn set_len_to(&mut self, new: u64) -> bool {
        let old = self.model.len_bytes();
        self.note(format!("set_len {new:#x}"));
        let result = self.volume_to_change().set_len(new);
        let is_cut = new < old && self.is_pinned(range(new, old - new));
        let was_busy = self.was_busy(result, is_cut);
        if !was_busy {
            self.model.set_len(new);
        }
        assert_eq!(self.volume().len_bytes(), self.model.len_bytes());
        !was_busy
    }

    /// What a file does that grows: its last slot fills up in pages, and is whole then.
    fn fill_the_last_slot(&mut self) {
        let len_bytes = self.model.len_bytes();
        let slot = (len_bytes - 1) / HUGE;
        let (start, slot_end) = (slot * HUGE, (slot + 1) * HUGE);
        let bytes = self.random.bytes(HUGE);
        let head = range(start, len_bytes - start);
        self.note(format!("fill {head:x?}, and the slot"));
        self.write_there(head, &bytes[..head.len_bytes as usize]);
        let tail = range(len_bytes, slot_end - len_bytes);
        if tail.len_bytes > 0 && slot_end < self.len_max && self.set_len_to(slot_end + 1) {
            self.write_there(tail, &bytes[head.len_bytes as usize..]);
        }
    }

    fn upgrade(&mut self) {
        let part = if self.random.below(2) == 0 { self.all() } else { self.pick() };
        let pages_min = self.random.pick(&[1, 2, 256, PAGES_PER_HUGE]);
        self.note(format!("upgrade {part:x?}, {pages_min} pages or more"));
        let slots = part.start / HUGE..end(part).div_ceil(HUGE);
        let touched: Vec<u64> =
            self.model.slots().into_iter().filter(|slot| slots.contains(slot)).collect();
        let is_huge = |slot: &&u64| matches!(self.model.shape(**slot), Some(Shape::Huge));
        let huge = touched.iter().filter(is_huge).count() as u64;
        let report = self.volume_to_change().upgrade(part, pages_min).unwrap();
        let refused: u64 = Refusal::ALL.iter().map(|&reason| report.refusals(reason)).sum();
        self.seen.no_huge_page += report.refusals(Refusal::NoHugePage);
        assert_eq!(report.already_huge, huge, "{report:?}");
        let answered = huge + report.in_place + report.relocated + refused;
        assert_eq!(answered, touched.len() as u64, "{report:?}");
        assert_eq!(report.refusals(Refusal::InUse), 0, "nobody else is there");
    }

    fn sync(&mut self) {
        let part = if self.random.below(2) == 0 { self.all() } else { self.pick() };
        self.note(format!("sync {part:x?}"));
        self.volume().sync(part).unwrap();
        if part == self.all() && !self.is_written(part) {
            assert_eq!(self.volume().stats().unwrap().dirty_bytes, 0);
        }
    }

    /// The other volume takes all whole huge pages, and some of the rest.
    fn crowd(&mut self) {
        self.note("crowd".to_string());
        let mut slot = self.crowd.last().map_or(0, |last| last + 1);
        while self.pool().space().free_huge_pages > 0 {
            self.other_to_change().write(slot * HUGE, &[1]).unwrap();
            self.crowd.push(slot);
            slot += 1;
        }
        let bytes = vec![2; (self.random.below(200) * PAGE + 1) as usize];
        match self.other_to_change().write(slot * HUGE, &bytes) {
            Ok(()) => {}
            Err(error) => self.check_full(&error, bytes.len() as u64),
        }
        self.crowd.push(slot);
    }

    fn make_room(&mut self) {
        self.note("make room".to_string());
        for _ in 0..2 {
            if !self.crowd.is_empty() {
                let at = self.random.below(self.crowd.len() as u64) as usize;
                let slot = self.crowd.remove(at);
                self.other_to_change().punch(range(slot * HUGE, HUGE)).unwrap();
            }
        }
    }

    /// Closes or just drops the pool, and opens it again, where it can be found again.
    fn reopen(&mut self) {
        let Some(path) = self.place.path() else { return };
        let is_closed = self.random.below(2) == 0;
        self.note(format!("reopen, {} closing", if is_closed { "after" } else { "without" }));
        self.drop_guards();
        let opened = self.opened.take().expect("an open pool");
        if is_closed {
            opened.pool.close().unwrap();
        }
        drop(opened);
        let pool = Pool::open(&path, &OpenOptions::default()).unwrap();
        self.is_clean |= is_closed;
        assert_eq!(pool.info().was_clean, self.is_clean);
        self.opened = Some(Opened::new(pool));
        assert_eq!(self.volume().len_bytes(), self.model.len_bytes());
    }

    /// Compares everything.
    fn check(&self) {
        let pool = self.pool();
        pool.check();
        check_space(pool);
        let pins = self.guards.iter().filter_map(Held::pinned).count() as u64;
        assert_eq!(self.volume().stats().unwrap().pins, pins);
        self.guards.iter().for_each(|held| held.check(&self.model));
        let len_bytes = self.model.len_bytes();
        for slot in self.model.slots().into_iter().chain([0, 511, (len_bytes - 1) / HUGE]) {
            if slot * HUGE < len_bytes {
                self.check_slot(range(slot * HUGE, HUGE.min(len_bytes - slot * HUGE)));
            }
        }
    }

    /// Compares the bytes of a slot but for those that write guards keep others from.
    fn check_slot(&self, slot: LogicalRange) {
        let mut written: Vec<LogicalRange> = self.guards.iter().filter_map(Held::written).collect();
        written.sort_by_key(|range| range.start);
        let mut start = slot.start;
        for guard in written.into_iter().chain([range(end(slot), 0)]) {
            let stop = guard.start.min(end(slot));
            if start < stop {
                let part = range(start, stop - start);
                let mut bytes = vec![0xa5; part.len_bytes as usize];
                self.volume().read(start, &mut bytes).unwrap();
                assert!(bytes == self.model.read(part), "the bytes of {part:x?}");
            }
            start = start.max(end(guard));
        }
    }
}

/// Runs sequences in `place`, and says what all of them met.
fn run_sequences(place: &Place, sequences_min: u64) -> Seen {
    let mut seen = Seen::default();
    for_seeds(sequences_min, |seed| {
        let one = Sequence::start(seed, place).run();
        seen.allocated_huge += one.allocated_huge;
        seen.allocated_pages += one.allocated_pages;
        seen.upgraded_in_place += one.upgraded_in_place;
        seen.relocated += one.relocated;
        seen.full += one.full;
        seen.busy += one.busy;
        seen.no_huge_page += one.no_huge_page;
    });
    println!("{seen:?}");
    seen
}

#[test]
fn a_volume_in_memory_is_a_byte_array() {
    let seen = run_sequences(&Place::Memory, 4);
    assert!(seen.allocated_huge > 0 && seen.allocated_pages > 0, "{seen:?}");
    assert!(seen.upgraded_in_place > 0 && seen.relocated > 0, "{seen:?}");
    assert!(seen.full > 0 && seen.busy > 0 && seen.no_huge_page > 0, "{seen:?}");
}

#[test]
fn a_volume_on_tmpfs_is_a_byte_array() {
    let folder = Path::new("/dev/shm");
    if folder.is_dir() {
        run_sequences(&Place::in_folder(folder), 1);
    }
}

#[test]
fn a_volume_in_an_ordinary_file_is_a_byte_array() {
    let place = Place::in_folder(&std::env::temp_dir());
    run_sequences(&place, 1);
}
