//! What is on the medium, as far as that is certain, and what may be.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::medium::Medium;
use crate::persist::peek_word;
use crate::primitives::thread_number;
use crate::units::{LINE, Offset, PAGE};

/// Words in a line.
pub(super) const WORDS: usize = (LINE / 8) as usize;

pub(super) type Line = [u64; WORDS];

/// Words in a page.
const PAGE_WORDS: usize = (PAGE / 8) as usize;

/// The floor of a whole run, and in which order its lines became what they are, from zeros on: whoever
/// keeps a copy brings it up to date by that.
pub(super) struct Ground {
    /// Pages that were never set are zero.
    pages: Box<[OnceLock<Box<[AtomicU64; PAGE_WORDS]>>]>,
    settled: Mutex<Vec<u64>>,
}

impl Ground {
    pub(super) fn zeros(len_bytes: u64) -> Self {
        let pages = (0..len_bytes / PAGE).map(|_| OnceLock::new()).collect();
        Self { pages, settled: Mutex::default() }
    }

    pub(super) fn of(image: &[u8]) -> Self {
        let ground = Self::zeros(image.len() as u64);
        for (line, bytes) in (0..).zip(image.chunks_exact(LINE as usize)) {
            ground.set_unless_zero(line, &bytemuck::pod_read_unaligned(bytes));
        }
        ground
    }

    /// One of its own that stays as this one is now.
    fn copy(&self) -> Self {
        let copy = Self::zeros(self.len_bytes());
        for (page, _) in (0..).zip(&self.pages).filter(|(_, page)| page.get().is_some()) {
            let lines = page * PAGE / LINE..(page + 1) * PAGE / LINE;
            lines.for_each(|line| copy.set_unless_zero(line, &self.line(line)));
        }
        copy
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    pub(super) fn line(&self, line: u64) -> Line {
        let (page, first) = place_of(line);
        match self.pages[page].get() {
            Some(words) => {
                std::array::from_fn(|index| words[first + index].load(Ordering::Relaxed))
            }
            None => [0; WORDS],
        }
    }

    fn set(&self, line: u64, to: &Line) {
        let (page, first) = place_of(line);
        let zeros = || Box::new([const { AtomicU64::new(0) }; PAGE_WORDS]);
        let words = &self.pages[page].get_or_init(zeros)[first..][..WORDS];
        words.iter().zip(to).for_each(|(word, &to)| word.store(to, Ordering::Relaxed));
        self.settled.lock().push(line);
    }

    fn set_unless_zero(&self, line: u64, to: &Line) {
        if *to != [0; WORDS] {
            self.set(line, to);
        }
    }

    /// The lines that were set since there were `known` of them, and how many there are now.
    pub(super) fn settled_since(&self, known: usize) -> (Vec<u64>, usize) {
        let settled = self.settled.lock();
        (settled[known..].to_vec(), settled.len())
    }
}

/// Something for each of many lines.
pub(super) type LineMap<T> = HashMap<u64, T, BuildHasherDefault<LineHasher>>;

/// Hashes the number of a line, which nobody chose to do harm.
#[derive(Default)]
pub(super) struct LineHasher(u64);

impl Hasher for LineHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("lines have numbers")
    }

    fn write_u64(&mut self, line: u64) {
        let product = line.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The page of a line, and its first word there.
fn place_of(line: u64) -> (usize, usize) {
    ((line * LINE / PAGE) as usize, (line * LINE % PAGE / 8) as usize)
}

/// What is certainly on the medium.
#[derive(Clone)]
pub(super) struct Floor {
    pub ground: Arc<Ground>,
    /// Lines that are not as in the ground, in a run after a crash.
    pub over: Option<LineMap<Line>>,
}

impl Floor {
    /// One on a ground of its own, that stays as this one is now.
    pub(super) fn copy(&self) -> Self {
        let ground = Arc::new(self.ground.copy());
        Self { ground, over: Some(self.over.clone().unwrap_or_default()) }
    }

    pub(super) fn line(&self, line: u64) -> Line {
        let over = self.over.as_ref().and_then(|over| over.get(&line));
        over.copied().unwrap_or_else(|| self.ground.line(line))
    }

    pub(super) fn set(&mut self, line: u64, to: Line) {
        match &mut self.over {
            Some(over) => drop(over.insert(line, to)),
            None => self.ground.set(line, &to),
        }
    }
}

/// One store to one line: the words it wrote.
#[derive(Clone)]
pub(super) struct Store {
    pub words: [Option<u64>; WORDS],
    /// A single word, stored to be seen.
    pub publishes: bool,
}

impl Store {
    /// Which words it wrote.
    pub(super) fn mask(&self) -> u8 {
        (0..WORDS).filter(|&index| self.words[index].is_some()).fold(0, |mask, n| mask | 1 << n)
    }

    /// Writes those of its words that `mask` names.
    fn apply(&self, line: &mut Line, mask: u8) {
        for (index, word) in self.words.iter().enumerate() {
            if let Some(word) = word.filter(|_| mask & 1 << index != 0) {
                line[index] = word;
            }
        }
    }
}

/// Lines with stores that may or may not be on the medium.
pub(super) type OpenLines = BTreeMap<u64, Vec<Store>>;

/// How much of the stores to a line survived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Left {
    /// So many stores are there whole.
    pub whole: usize,
    /// And these words of the next one.
    pub words: u8,
}

impl Left {
    /// What is then in a line that was `line`.
    pub(super) fn apply(self, mut line: Line, stores: &[Store]) -> Line {
        stores.iter().take(self.whole).for_each(|store| store.apply(&mut line, u8::MAX));
        if let Some(torn) = stores.get(self.whole) {
            torn.apply(&mut line, self.words);
        }
        line
    }

    /// In how many ways `stores` can survive.
    pub(super) fn count(stores: &[Store]) -> u64 {
        1 + stores.iter().map(|store| (1u64 << store.mask().count_ones()) - 1).sum::<u64>()
    }

    /// The way `nth`: everything, nothing, then from the last store backwards each subset of its
    /// words, and all of it.
    pub(super) fn nth(stores: &[Store], nth: u64) -> Self {
        if nth < 2 {
            return Self { whole: if nth == 0 { stores.len() } else { 0 }, words: 0 };
        }
        let mut rest = nth - 2;
        for (index, store) in stores.iter().enumerate().rev() {
            let subsets = (1u64 << store.mask().count_ones()) - 2;
            if rest < subsets {
                return Self { whole: index, words: spread(rest as u8 + 1, store.mask()) };
            }
            rest -= subsets;
            if index + 1 < stores.len() {
                if rest == 0 {
                    return Self { whole: index + 1, words: 0 };
                }
                rest -= 1;
            }
        }
        unreachable!("there are not so many ways")
    }
}

/// The bits of `bits`, one after the other, in the places that `mask` has.
fn spread(bits: u8, mask: u8) -> u8 {
    let places = (0..WORDS).filter(|place| mask & 1 << place != 0);
    places.enumerate().fold(0, |spread, (nth, place)| spread | (bits >> nth & 1) << place)
}

/// Everything that was stored, by how certain it is.
pub(super) struct Shadow {
    pub floor: Floor,
    /// Only lines with at least one store.
    pub open: Arc<OpenLines>,
    /// How many stores of a line a thread, by its number, has flushed but not fenced.
    flushed: HashMap<usize, LineMap<usize>>,
    pub fences: u64,
    /// Counts what changes the set of possible states.
    pub changes: u64,
}

impl Shadow {
    pub(super) fn new(floor: Floor, open: Arc<OpenLines>) -> Self {
        Self { floor, open, flushed: HashMap::new(), fences: 0, changes: 0 }
    }

    pub(super) fn push_word(&mut self, offset: Offset, word: u64) {
        let mut words = [None; WORDS];
        words[(offset.0 % LINE / 8) as usize] = Some(word);
        self.push(offset.0 / LINE, Store { words, publishes: true });
    }

    fn push(&mut self, line: u64, store: Store) {
        self.changes += 1;
        Arc::make_mut(&mut self.open).entry(line).or_default().push(store);
    }

    /// Notes as one bulk store what the line holds beyond all that was recorded.
    pub(super) fn catch_up(&mut self, medium: &Medium, line: u64) {
        let known = self.visible(line);
        let mut words = [None; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            let visible = peek_word(medium, Offset(line * LINE + index as u64 * 8));
            *word = (visible != known[index]).then_some(visible);
        }
        if words.iter().any(Option::is_some) {
            self.push(line, Store { words, publishes: false });
        }
    }

    /// The calling thread has written the line back.
    pub(super) fn flush(&mut self, line: u64) {
        let stores = self.open.get(&line).map_or(0, Vec::len);
        self.flushed.entry(thread_number()).or_default().insert(line, stores);
    }

    /// The calling thread has waited for what it wrote back.
    pub(super) fn fence(&mut self) {
        self.fences += 1;
        let flushed = self.flushed.remove(&thread_number()).unwrap_or_default();
        flushed.into_iter().for_each(|(line, stores)| self.settle(line, stores));
    }

    /// What a running program sees.
    pub(super) fn visible(&self, line: u64) -> Line {
        let stores = self.open.get(&line).map_or(&[][..], Vec::as_slice);
        Left { whole: stores.len(), words: 0 }.apply(self.floor.line(line), stores)
    }

    /// The first `whole` stores of `line` are on the medium for certain.
    fn settle(&mut self, line: u64, whole: usize) {
        if whole == 0 {
            return;
        }
        let open = Arc::make_mut(&mut self.open);
        let Some(stores) = open.get_mut(&line) else { return };
        let settled = Left { whole, words: 0 }.apply(self.floor.line(line), stores);
        stores.drain(..whole.min(stores.len()));
        if stores.is_empty() {
            open.remove(&line);
        }
        self.floor.set(line, settled);
        self.changes += 1;
        for flushed in self.flushed.values_mut() {
            if let Some(others) = flushed.get_mut(&line) {
                *others = others.saturating_sub(whole);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn store(mask: u8) -> Store {
        let words = std::array::from_fn(|index| (mask & 1 << index != 0).then_some(index as u64));
        Store { words, publishes: false }
    }

    #[test]
    fn every_way_a_line_can_survive_has_one_number() {
        for stores in [vec![store(0x10)], vec![store(0x81), store(0xff), store(0x03)], vec![]] {
            let count = Left::count(&stores);
            let ways: HashSet<(usize, u8)> = (0..count.max(2))
                .map(|nth| Left::nth(&stores, nth))
                .map(|left| (left.whole, left.words))
                .collect();
            assert_eq!(ways.len() as u64, count);
            for (whole, words) in ways {
                let mask = stores.get(whole).map_or(0, Store::mask);
                assert!(words & !mask == 0, "words that were not stored");
                assert!(words == 0 || words != mask, "a whole store under two numbers");
            }
        }
    }
}
