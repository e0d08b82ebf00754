//! Benches: memory on which states after a crash are opened, and which is put back afterwards.
//!
//! 1. At rest a bench holds what the ground holds, up to the settled lines that it has seen.
//! 2. While a pool runs on it, every line that is stored to, or decided, is noted before it changes;
//!    afterwards just these are taken from the ground again.
//! 3. An open line holds what the floor says until somebody looks at it or stores to it; then it is
//!    decided what is left of it, once.
//! 4. Nobody keeps bytes of a pool beyond the call that it is lent to; what the epoch still drops later
//!    touches no memory of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Observer;
use super::recorder::Recorder;
use super::shadow::{Floor, Ground, Left, OpenLines};
use super::strategy::{Decision, Strategy};
use crate::error::Result;
use crate::medium::Medium;
use crate::persist::{load_line, peek_line};
use crate::pool::Pool;
use crate::units::{ByteRange, LINE, lines};

/// Benches that are free: crashes within crashes need more than one at a time.
#[derive(Default)]
pub(super) struct Benches(Mutex<Vec<Bench>>);

impl Benches {
    /// Lends a bench that holds `ground`.
    pub(super) fn with<R>(&self, ground: &Ground, act: impl FnOnce(&mut Bench) -> R) -> R {
        let free = self.0.lock().pop();
        let mut bench = free.unwrap_or_else(|| Bench::of(ground));
        bench.catch_up(ground);
        let result = act(&mut bench);
        self.0.lock().push(bench);
        result
    }
}

/// Memory that holds the ground.
pub(super) struct Bench {
    medium: Medium,
    /// Settled lines of the ground that it has seen.
    known: usize,
}

/// What a crash left.
#[derive(Clone, Copy)]
pub(super) struct Wreck<'a> {
    pub floor: &'a Floor,
    pub open: &'a Arc<OpenLines>,
}

/// How opening a state ended.
pub(super) struct Ended<R> {
    /// A panic is an answer, too: what it says.
    pub answer: std::result::Result<R, String>,
    pub decisions: Vec<Decision>,
}

impl Bench {
    /// A bench that holds `ground`.
    pub(super) fn of(ground: &Ground) -> Self {
        let medium = Medium::anonymous(ground.len_bytes()).expect("memory for a bench");
        let mut bench = Self { medium, known: 0 };
        bench.catch_up(ground);
        bench
    }

    fn catch_up(&mut self, ground: &Ground) {
        let (settled, now) = ground.settled_since(self.known);
        settled.into_iter().for_each(|line| load_line(&self.medium, line, &ground.line(line)));
        self.known = now;
    }

    /// Opens the pool in the state of `wreck` that `strategy` decides on, lends it to `act`, and puts
    /// the memory back.
    pub(super) fn run<R>(
        &mut self,
        wreck: Wreck<'_>,
        strategy: Strategy,
        recorder: Option<Arc<Recorder>>,
        act: impl FnOnce(Result<Pool>) -> R,
    ) -> Ended<R> {
        let trial = Arc::new(Trial::new(self.medium.len_bytes(), wreck.open, strategy));
        for (&line, to) in wreck.floor.over.iter().flatten() {
            trial.note(line);
            load_line(&self.medium, line, to);
        }
        let observer = Observer { recorder, trial: Some(Arc::clone(&trial)) };
        let medium = self.medium.share(observer);
        let answer = catch_unwind(AssertUnwindSafe(|| act(Pool::load(medium))));
        let decisions = trial.end(&self.medium, &wreck.floor.ground);
        Ended { answer: answer.map_err(|panic| words_of(&*panic)), decisions }
    }
}

pub(super) fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", words.unwrap_or("without a word"))
}

/// One state: which lines are not decided yet, and which changed.
pub(crate) struct Trial {
    /// A bit for each line that is open and not decided.
    undecided: Bits,
    /// How many they are; most states decide all of them early.
    undecided_lines: AtomicUsize,
    /// A bit for each line that may not be as in the ground any more.
    changed: Bits,
    decider: Mutex<Decider>,
}

struct Decider {
    open: Arc<OpenLines>,
    strategy: Strategy,
    decisions: Vec<Decision>,
}

impl Trial {
    fn new(len_bytes: u64, open: &Arc<OpenLines>, strategy: Strategy) -> Self {
        let undecided = Bits::new(len_bytes / LINE);
        open.keys().for_each(|&line| undecided.set(line));
        let undecided_lines = AtomicUsize::new(open.len());
        let decider = Decider { open: Arc::clone(open), strategy, decisions: Vec::new() };
        let changed = Bits::new(len_bytes / LINE);
        Self { undecided, undecided_lines, changed, decider: Mutex::new(decider) }
    }

    fn note(&self, line: u64) {
        self.changed.set(line);
    }

    /// Somebody is about to look at `range`.
    #[inline]
    pub(crate) fn before_read(&self, medium: &Medium, range: ByteRange, at: Option<&Recorder>) {
        // ORDERING: Relaxed; whoever decided a line has seen it.
        if self.undecided_lines.load(Ordering::Relaxed) == 0 {
            return;
        }
        for line in lines(range) {
            if self.undecided.has(line) {
                self.decide(medium, line, at);
            }
        }
    }

    /// Somebody is about to store to `range`.
    pub(crate) fn before_store(&self, medium: &Medium, range: ByteRange, at: Option<&Recorder>) {
        self.before_read(medium, range, at);
        lines(range).for_each(|line| self.note(line));
    }

    #[cold]
    fn decide(&self, medium: &Medium, line: u64, recorder: Option<&Recorder>) {
        let mut decider = self.decider.lock();
        if !self.undecided.clear(line) {
            return;
        }
        self.undecided_lines.fetch_sub(1, Ordering::Relaxed);
        let Decider { open, strategy, decisions } = &mut *decider;
        let stores = &open[&line];
        let ways = Left::count(stores);
        let way = strategy.choose(decisions.len(), line, stores, ways);
        decisions.push(Decision { way, ways });
        let before = peek_line(medium, line);
        let after = Left::nth(stores, way).apply(before, stores);
        self.note(line);
        load_line(medium, line, &after);
        if let Some(recorder) = recorder {
            recorder.decided(line, after);
        }
    }

    /// Takes all lines that changed from `ground` again. Answers what was decided.
    fn end(&self, medium: &Medium, ground: &Ground) -> Vec<Decision> {
        self.undecided.clear_all();
        self.undecided_lines.store(0, Ordering::Relaxed);
        self.changed.take_each(|line| load_line(medium, line, &ground.line(line)));
        let mut decider = self.decider.lock();
        decider.open = Arc::default();
        std::mem::take(&mut decider.decisions)
    }
}

/// A set of lines.
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(len: u64) -> Self {
        Self((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, bit: u64) -> (&AtomicU64, u64) {
        (&self.0[bit as usize / 64], 1 << (bit % 64))
    }

    // ORDERING: Relaxed throughout; lines are decided under a lock, and whoever stores to a line is
    // alone there.
    fn has(&self, bit: u64) -> bool {
        let (word, mask) = self.place(bit);
        word.load(Ordering::Relaxed) & mask != 0
    }

    fn set(&self, bit: u64) {
        let (word, mask) = self.place(bit);
        word.fetch_or(mask, Ordering::Relaxed);
    }

    /// Whether it was there.
    fn clear(&self, bit: u64) -> bool {
        let (word, mask) = self.place(bit);
        word.fetch_and(!mask, Ordering::Relaxed) & mask != 0
    }

    fn clear_all(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn take_each(&self, mut act: impl FnMut(u64)) {
        for (index, word) in self.0.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                act(index as u64 * 64 + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
    }
}
