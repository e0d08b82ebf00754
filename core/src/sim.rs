//! The crash simulator: what could be on the medium if the power failed now?
//!
//! Feature `sim`. `persist` reports every store, write-back and fence of the production code path
//! to a [`Recorder`]; from them it knows which images a power failure could leave behind.
//!
//! The machine model (docs/DURABILITY.md, M1-M5):
//! 1. A line holds a prefix of the stores that were made to it since it was last durable. Lines are
//!    independent of each other.
//! 2. A word of 8 bytes is whole. Words of one bulk store (whole lines past the cache, zeroing, and
//!    whatever a write guard stored) may be there in any subset.
//! 3. What a thread flushed is certain once that thread fences; non-temporal stores count as
//!    flushed.
//!
//! Between two fences the set of possible images only grows, so it is enough to look just before
//! each fence ([`Recorder::on_fence`]) and wherever the expectation changes
//! ([`Recorder::crash_point`]).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::thread::{self, ThreadId};

use parking_lot::{Mutex, RwLock};

use crate::error::Result;
use crate::medium::Medium;
use crate::persist::{load_image, load_word};
use crate::pool::Pool;
use crate::units::{ByteRange, LINE, Offset, lines};

/// Words in a line.
const WORDS: usize = (LINE / 8) as usize;

type Hook = Box<dyn Fn(&CrashPoint<'_>) + Send + Sync>;

/// Follows everything that is stored to one medium.
#[derive(Default)]
pub struct Recorder {
    shadow: Mutex<Shadow>,
    hook: RwLock<Option<Hook>>,
}

#[derive(Default)]
struct Shadow {
    /// What is certainly on the medium.
    floor: Vec<u8>,
    /// Stores since, by line. Only lines with at least one.
    lines: BTreeMap<u64, Vec<Store>>,
    /// How many stores of a line a thread has flushed but not fenced.
    flushed: HashMap<ThreadId, HashMap<u64, usize>>,
    fences: u64,
}

/// One store to one line: the words it wrote.
#[derive(Clone)]
struct Store {
    words: [Option<u64>; WORDS],
}

/// A moment at which the power may fail.
pub struct CrashPoint<'a> {
    shadow: &'a Shadow,
}

/// Which stores of each line survived: a replayable choice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice(Vec<LineChoice>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LineChoice {
    /// So many stores are there whole.
    whole: usize,
    /// And these words of the next one.
    words: u8,
}

impl Recorder {
    /// Calls `hook` before every fence, until it is replaced.
    pub fn on_fence(&self, hook: impl Fn(&CrashPoint<'_>) + Send + Sync + 'static) {
        *self.hook.write() = Some(Box::new(hook));
    }

    /// Calls the hook for this moment too.
    pub fn crash_point(&self) {
        if let Some(hook) = &*self.hook.read() {
            hook(&CrashPoint { shadow: &self.shadow.lock() });
        }
    }

    /// Fences so far.
    pub fn fences(&self) -> u64 {
        self.shadow.lock().fences
    }

    /// Takes what the medium holds now as certain.
    fn start(&self, medium: &Medium) {
        let mut shadow = self.shadow.lock();
        shadow.floor = vec![0; medium.len_bytes() as usize];
        for (index, word) in shadow.floor.chunks_exact_mut(8).enumerate() {
            let visible = load_word(medium, Offset(index as u64 * 8)).expect("memory is readable");
            word.copy_from_slice(&visible.to_le_bytes());
        }
    }

    /// An aligned word was stored.
    pub(crate) fn stored_word(&self, offset: Offset, word: u64) {
        let mut words = [None; WORDS];
        words[(offset.0 % LINE / 8) as usize] = Some(word);
        self.shadow.lock().push(offset.0 / LINE, Store { words });
    }

    /// Bytes were stored in bulk; what they are is read back from the visible state.
    pub(crate) fn stored_bulk(&self, medium: &Medium, range: ByteRange) {
        let mut shadow = self.shadow.lock();
        lines(range).for_each(|line| shadow.catch_up(medium, line));
    }

    /// Lines were written back, or stored past the cache.
    pub(crate) fn flushed(&self, medium: &Medium, range: ByteRange) {
        let mut shadow = self.shadow.lock();
        for line in lines(range) {
            shadow.catch_up(medium, line);
            let stores = shadow.lines.get(&line).map_or(0, Vec::len);
            shadow.flushed.entry(thread::current().id()).or_default().insert(line, stores);
        }
    }

    /// This thread fences.
    pub(crate) fn fenced(&self) {
        self.crash_point();
        let mut shadow = self.shadow.lock();
        shadow.fences += 1;
        let flushed = shadow.flushed.remove(&thread::current().id()).unwrap_or_default();
        for (line, stores) in flushed {
            shadow.settle(line, stores);
        }
    }
}

impl Shadow {
    fn push(&mut self, line: u64, store: Store) {
        self.lines.entry(line).or_default().push(store);
    }

    /// Notes as one bulk store what the line holds beyond all that was recorded.
    fn catch_up(&mut self, medium: &Medium, line: u64) {
        let known = self.line(line, usize::MAX);
        let mut words = [None; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            let offset = Offset(line * LINE + index as u64 * 8);
            let visible = load_word(medium, offset).expect("memory is readable");
            if visible != known[index] {
                *word = Some(visible);
            }
        }
        if words.iter().any(Option::is_some) {
            self.push(line, Store { words });
        }
    }

    /// The line after its first `stores` stores.
    fn line(&self, line: u64, stores: usize) -> [u64; WORDS] {
        let start = (line * LINE) as usize;
        let mut words: [u64; WORDS] = std::array::from_fn(|index| {
            let word = &self.floor[start + index * 8..][..8];
            u64::from_le_bytes(word.try_into().expect("eight bytes"))
        });
        for store in self.lines.get(&line).into_iter().flatten().take(stores) {
            store.apply(&mut words, u8::MAX);
        }
        words
    }

    /// The first `stores` stores of `line` are on the medium for certain.
    fn settle(&mut self, line: u64, stores: usize) {
        let words = self.line(line, stores);
        let start = (line * LINE) as usize;
        self.floor[start..start + LINE as usize].copy_from_slice(bytemuck::cast_slice(&words));
        if let Some(rest) = self.lines.get_mut(&line) {
            rest.drain(..stores.min(rest.len()));
            if rest.is_empty() {
                self.lines.remove(&line);
            }
        }
        for flushed in self.flushed.values_mut() {
            if let Some(others) = flushed.get_mut(&line) {
                *others = others.saturating_sub(stores);
            }
        }
    }
}

impl Store {
    /// Writes those of its words that `mask` names.
    fn apply(&self, line: &mut [u64; WORDS], mask: u8) {
        for (index, word) in self.words.iter().enumerate() {
            if let Some(word) = word.filter(|_| mask & 1 << index != 0) {
                line[index] = word;
            }
        }
    }

    fn mask(&self) -> u8 {
        (0..WORDS).filter(|&index| self.words[index].is_some()).fold(0, |mask, n| mask | 1 << n)
    }
}

impl CrashPoint<'_> {
    /// Lines that may or may not be on the medium.
    pub fn open_lines(&self) -> usize {
        self.shadow.lines.len()
    }

    /// Fences before this moment.
    pub fn fences(&self) -> u64 {
        self.shadow.fences
    }

    /// How many images are possible, as far as that can be counted.
    pub fn images(&self) -> u64 {
        let of_line = |stores: &Vec<Store>| {
            let of_store = |store: &Store| (1u64 << store.mask().count_ones()) - 1;
            1 + stores.iter().map(of_store).sum::<u64>()
        };
        self.shadow.lines.values().map(of_line).fold(1, u64::saturating_mul)
    }

    /// At most `budget` choices: all there are, or else the extremes (everything, nothing, all but
    /// one line, one line alone) and random ones from `seed`.
    pub fn choices(&self, budget: usize, seed: u64) -> Vec<Choice> {
        let options: Vec<Vec<LineChoice>> =
            self.shadow.lines.values().map(|stores| options_of(stores)).collect();
        let mut choices = Vec::new();
        if self.images() <= budget as u64 {
            let mut at = vec![0; options.len()];
            loop {
                choices.push(pick(&options, &at));
                if !advance(&mut at, &options) {
                    return choices;
                }
            }
        }
        let all: Vec<usize> = options.iter().map(|options| options.len() - 1).collect();
        let none = vec![0; options.len()];
        choices.extend([pick(&options, &all), pick(&options, &none)]);
        for line in 0..options.len().min(budget / 4) {
            for (base, other) in [(&all, &none), (&none, &all)] {
                let mut one = base.clone();
                one[line] = other[line];
                choices.push(pick(&options, &one));
            }
        }
        let mut random = seed | 1;
        while choices.len() < budget {
            let at: Vec<usize> = options
                .iter()
                .map(|options| (next_random(&mut random) % options.len() as u64) as usize)
                .collect();
            choices.push(pick(&options, &at));
        }
        choices.truncate(budget);
        choices
    }

    /// The bytes of the medium if `choice` is what survived.
    pub fn image(&self, choice: &Choice) -> Vec<u8> {
        let mut image = self.shadow.floor.clone();
        for ((&line, stores), choice) in self.shadow.lines.iter().zip(&choice.0) {
            let mut words = self.shadow.line(line, choice.whole);
            if let Some(torn) = stores.get(choice.whole) {
                torn.apply(&mut words, choice.words);
            }
            let start = (line * LINE) as usize;
            image[start..start + LINE as usize].copy_from_slice(bytemuck::cast_slice(&words));
        }
        image
    }

    /// The bytes if only the process dies: everything stored is there.
    pub fn killed(&self) -> Vec<u8> {
        let options: Vec<Vec<LineChoice>> =
            self.shadow.lines.values().map(|stores| options_of(stores)).collect();
        let all: Vec<usize> = options.iter().map(|options| options.len() - 1).collect();
        self.image(&pick(&options, &all))
    }
}

impl CrashPoint<'_> {
    /// Opens the pool as after the process alone died here: all that was stored is visible, and
    /// what was not yet on the medium still is not. The recorder goes on from there, so that the
    /// power can fail later.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub fn restart(&self) -> Result<(Pool, Arc<Recorder>)> {
        let image = self.killed();
        let mut medium = Medium::anonymous(image.len() as u64)?;
        load_image(&medium, &image);
        let (floor, lines) = (self.shadow.floor.clone(), self.shadow.lines.clone());
        let shadow = Shadow { floor, lines, fences: self.shadow.fences, ..Shadow::default() };
        let recorder = Arc::new(Recorder { shadow: Mutex::new(shadow), hook: RwLock::default() });
        medium.follow(Arc::clone(&recorder));
        Ok((Pool::load(medium)?, recorder))
    }
}

/// What may be left of a line, from nothing to everything.
fn options_of(stores: &[Store]) -> Vec<LineChoice> {
    let mut options = vec![LineChoice { whole: 0, words: 0 }];
    for (whole, store) in stores.iter().enumerate() {
        let mask = store.mask();
        // Every non-empty subset of its words; the full one last, as the whole store.
        let subsets = (1..=u8::MAX).filter(|subset| subset & !mask == 0 && *subset != mask);
        options.extend(subsets.map(|words| LineChoice { whole, words }));
        options.push(LineChoice { whole: whole + 1, words: 0 });
    }
    options
}

fn pick(options: &[Vec<LineChoice>], at: &[usize]) -> Choice {
    Choice(options.iter().zip(at).map(|(options, &at)| options[at]).collect())
}

/// Counts `at` up like the digits of a number; false after the last.
fn advance(at: &mut [usize], options: &[Vec<LineChoice>]) -> bool {
    for (at, options) in at.iter_mut().zip(options) {
        *at += 1;
        if *at < options.len() {
            return true;
        }
        *at = 0;
    }
    false
}

fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().map(|line| format!("{}.{:02x}", line.whole, line.words));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

impl Pool {
    /// A new pool in memory whose stores are followed from the first one on, those of its creation
    /// included, by the recorder that is given back.
    ///
    /// # Errors
    /// As [`Pool::in_memory`].
    pub fn recorded(len_bytes: u64, recorder: &Arc<Recorder>) -> Result<Self> {
        let mut medium = Medium::anonymous(len_bytes)?;
        recorder.start(&medium);
        medium.follow(Arc::clone(recorder));
        Self::initialize(medium)
    }

    /// Opens the pool that `image` holds, as after a restart; its stores go to `recorder`.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub fn from_image(image: &[u8], recorder: Option<&Arc<Recorder>>) -> Result<Self> {
        let mut medium = Medium::anonymous(image.len() as u64)?;
        load_image(&medium, image);
        if let Some(recorder) = recorder {
            recorder.start(&medium);
            medium.follow(Arc::clone(recorder));
        }
        Self::load(medium)
    }
}
