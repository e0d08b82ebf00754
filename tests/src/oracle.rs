//! What a store may hold after its process was killed, told from what threads asked and were told.
//!
//! A [`History`] has operations, each with the moments at which it began and, unless the kill came
//! first, ended. Threads share keys, so the order of two operations that overlap is open. What was
//! found is right if there is *one* order of operations
//!
//! 1. that holds every operation that was acknowledged, every one whose value was found or was shown to
//!    a reader, and of the others that were under way as many as needed;
//! 2. in which an operation that ended before another began is before it, and one that was seen by
//!    another is before that one;
//! 3. after which every key holds what was found. A batch is one operation, so it is whole or not there.
//!
//! The order is built from its end: an operation can be the last of those left if none of them began
//! after its end, and if it writes what was found to each key whose last write is not placed yet. One
//! that can be last now can be last later, so it does not matter which is taken first, and there is no
//! search.
//!
//! Knows nothing of pools, processes and files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::Stamp;

/// A key, by number.
pub type KeyNo = u16;

/// What a store holds.
pub type Holdings = BTreeMap<KeyNo, Stamp>;

/// A moment of a history: later ones are higher.
type Moment = u64;

/// The moment at the end of what was never acknowledged.
const NEVER: Moment = Moment::MAX;

/// An operation of a history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OperationNo(usize);

/// What happens to a key; `None` removes it.
pub type Change = (KeyNo, Option<Stamp>);

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It did nothing.
    Refused,
}

struct Operation {
    begin: Moment,
    /// [`NEVER`] until it ended.
    end: Moment,
    outcome: Option<Outcome>,
    changes: Vec<Change>,
    /// The value that it replaces, if it takes effect.
    replaces: Option<(KeyNo, Stamp)>,
}

/// What threads asked of a store, and what they were told.
pub struct History {
    now: Moment,
    initial: Holdings,
    operations: Vec<Operation>,
    /// Which operation has the right to put a value.
    writers: HashMap<Stamp, (OperationNo, KeyNo)>,
    /// Values that were shown to readers, and when at the latest.
    sightings: Vec<(KeyNo, Stamp, Moment)>,
}

/// Why no order of operations leads to what was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A key holds, or was shown with, a value that nobody put there.
    Foreign {
        /// The key.
        key: KeyNo,
        /// Its value.
        stamp: Stamp,
    },
    /// These operations took effect, and whichever was the last of them, a key would hold another value
    /// than was found: it is lost, or older, or there in part, or back from the dead.
    Contradiction(Vec<Conflict>),
    /// A key that nobody changed has changed.
    Changed {
        /// The key.
        key: KeyNo,
        /// What it held before.
        before: Option<Stamp>,
        /// What it holds.
        found: Option<Stamp>,
    },
}

/// Why an operation cannot be the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// A key that it changes.
    pub key: KeyNo,
    /// What it makes of the key.
    pub written: Option<Stamp>,
    /// What was found.
    pub found: Option<Stamp>,
    /// Whether it was acknowledged.
    pub outcome: Option<Outcome>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { key, stamp } => write!(f, "nobody put {stamp:?} to key {key}"),
            Self::Changed { key, before, found } => {
                write!(f, "key {key} held {before:?}, nobody changed it, and it holds {found:?}")
            }
            Self::Contradiction(conflicts) => {
                writeln!(f, "no order of operations leads to what was found; the last may be")?;
                conflicts.iter().try_for_each(|conflict| writeln!(f, "  {conflict:?}"))
            }
        }
    }
}

impl History {
    /// The history of a store that holds `initial`.
    pub fn new(initial: Holdings) -> Self {
        Self {
            now: 0,
            initial,
            operations: Vec::new(),
            writers: HashMap::new(),
            sightings: Vec::new(),
        }
    }

    /// An operation begins that makes `changes`, all or none.
    pub fn begin(&mut self, changes: Vec<Change>) -> OperationNo {
        let no = OperationNo(self.operations.len());
        for (key, stamp) in &changes {
            if let Some(stamp) = stamp {
                let another = self.writers.insert(*stamp, (no, *key));
                assert!(another.is_none(), "{stamp:?} is written twice");
            }
        }
        let begin = self.tick();
        let (end, outcome, replaces) = (NEVER, None, None);
        self.operations.push(Operation { begin, end, outcome, changes, replaces });
        no
    }

    /// If `no` takes effect, `stamp` stood under `key` right before.
    pub fn replaces(&mut self, no: OperationNo, key: KeyNo, stamp: Stamp) {
        self.operations[no.0].replaces = Some((key, stamp));
    }

    /// An operation ended.
    pub fn end(&mut self, no: OperationNo, outcome: Outcome) {
        let now = self.tick();
        let operation = &mut self.operations[no.0];
        assert_eq!(operation.outcome, None, "an operation ends once");
        (operation.end, operation.outcome) = (now, Some(outcome));
    }

    /// A reader was shown `stamp` under `key` by now.
    pub fn saw(&mut self, key: KeyNo, stamp: Stamp) {
        let now = self.tick();
        self.sightings.push((key, stamp, now));
    }

    /// Number of operations that were acknowledged as done.
    pub fn acknowledged(&self) -> usize {
        let done = |operation: &&Operation| operation.outcome == Some(Outcome::Done);
        self.operations.iter().filter(done).count()
    }

    /// Whether `found` is what the history may have led to.
    ///
    /// # Errors
    /// What contradicts it.
    pub fn explain(&self, found: &Holdings) -> Result<(), Violation> {
        let mut order = Order::new(self, found);
        for no in 0..self.operations.len() {
            if self.operations[no].outcome == Some(Outcome::Done) {
                order.took_effect(OperationNo(no), NEVER)?;
            }
        }
        for (key, stamp) in found {
            order.was_there(*key, *stamp, NEVER)?;
        }
        for (key, stamp, moment) in &self.sightings {
            order.was_there(*key, *stamp, *moment)?;
        }
        order.build()?;
        let keys = self.initial.keys().chain(found.keys());
        for key in keys.filter(|key| !order.settled.contains(key)) {
            let (before, found) = (self.initial.get(key).copied(), found.get(key).copied());
            if before != found {
                return Err(Violation::Changed { key: *key, before, found });
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }
}

/// The order that is looked for.
struct Order<'h> {
    history: &'h History,
    found: &'h Holdings,
    /// When an operation was over at the latest. `None` if it need not have happened.
    ends: Vec<Option<Moment>>,
    /// How many operations that are not placed yet have replaced a value of this one.
    successors: Vec<usize>,
    /// Keys whose last write is placed.
    settled: HashSet<KeyNo>,
}

impl<'h> Order<'h> {
    fn new(history: &'h History, found: &'h Holdings) -> Self {
        let count = history.operations.len();
        let (ends, successors) = (vec![None; count], vec![0; count]);
        Self { history, found, ends, successors, settled: HashSet::new() }
    }

    /// `stamp` stood under `key` at some moment until `by`.
    fn was_there(&mut self, key: KeyNo, stamp: Stamp, by: Moment) -> Result<(), Violation> {
        if self.history.initial.get(&key) == Some(&stamp) {
            return Ok(());
        }
        match self.history.writers.get(&stamp) {
            Some((no, of)) if *of == key && !self.is_refused(*no) => self.took_effect(*no, by),
            _ => Err(Violation::Foreign { key, stamp }),
        }
    }

    fn is_refused(&self, no: OperationNo) -> bool {
        self.history.operations[no.0].outcome == Some(Outcome::Refused)
    }

    /// `no` took effect until `by`, and so did what it replaced.
    fn took_effect(&mut self, no: OperationNo, by: Moment) -> Result<(), Violation> {
        let operation = &self.history.operations[no.0];
        let known = self.ends[no.0];
        let end = known.unwrap_or(operation.end).min(by);
        self.ends[no.0] = Some(end);
        let Some((key, stamp)) = operation.replaces else { return Ok(()) };
        if known.is_none()
            && let Some((before, _)) = self.history.writers.get(&stamp)
        {
            self.successors[before.0] += 1;
        }
        if known != Some(end) { self.was_there(key, stamp, end) } else { Ok(()) }
    }

    /// Places all operations that took effect, from the last to the first.
    fn build(&mut self) -> Result<(), Violation> {
        let needed = (0..self.ends.len()).filter(|no| self.ends[*no].is_some());
        let mut by_begin: Vec<usize> = needed.collect();
        let mut by_end = by_begin.clone();
        by_end.sort_by_key(|no| self.ends[*no]);
        // They are numbered in the order in which they began; the last of each list comes first.
        let mut placed = vec![false; self.ends.len()];
        let mut candidates: Vec<usize> = Vec::new();
        let mut ends_min = NEVER;
        let open =
            |no: &usize| self.ends[*no].is_none() && self.history.operations[*no].outcome.is_none();
        let optional: Vec<usize> = (0..self.ends.len()).filter(open).collect();
        loop {
            self.place_optional(&optional, ends_min);
            while by_begin.pop_if(|no| placed[*no]).is_some() {}
            let Some(&last) = by_begin.last() else { return Ok(()) };
            let begin_max = self.history.operations[last].begin;
            while let Some(no) = by_end.pop_if(|no| self.ends[*no] >= Some(begin_max)) {
                candidates.push(no);
            }
            // The one that began last may have ended at any moment since: it is always among them.
            let fits = candidates.iter().position(|no| self.obstacle(*no).is_none());
            let Some(fits) = fits else { return Err(self.contradiction(&candidates)) };
            let no = candidates.swap_remove(fits);
            placed[no] = true;
            ends_min = ends_min.min(self.ends[no].expect("it took effect"));
            self.place(no);
        }
    }

    fn place(&mut self, no: usize) {
        let operation = &self.history.operations[no];
        self.settled.extend(operation.changes.iter().map(|(key, _)| *key));
        if let Some((_, stamp)) = operation.replaces
            && let Some((before, _)) = self.history.writers.get(&stamp)
        {
            self.successors[before.0] -= 1;
        }
    }

    /// Takes in those of `optional` that explain why a key is absent. Each was under way to the end,
    /// so anything may come before it; but what is placed already, the first of which ended at
    /// `ends_min`, comes after it, and must not have ended before it began.
    fn place_optional(&mut self, optional: &[usize], ends_min: Moment) {
        let operations = &self.history.operations;
        while let Some(no) = optional.iter().find(|no| {
            let operation = &operations[**no];
            operation.begin <= ends_min
                && operation.changes.iter().any(|(key, _)| !self.settled.contains(key))
                && self.misfit(**no).is_none()
        }) {
            self.settled.extend(operations[*no].changes.iter().map(|(key, _)| *key));
        }
    }

    /// Why operation `no` cannot be the last of those that are not placed.
    fn obstacle(&self, no: usize) -> Option<Change> {
        if self.successors[no] > 0 {
            return self.history.operations[no].changes.first().copied();
        }
        self.misfit(no)
    }

    /// A change of operation `no` that is not what was found, though no later one hides it.
    fn misfit(&self, no: usize) -> Option<Change> {
        let changes = &self.history.operations[no].changes;
        let open = changes.iter().filter(|(key, _)| !self.settled.contains(key));
        open.copied().find(|(key, stamp)| self.found.get(key) != stamp.as_ref())
    }

    fn contradiction(&self, candidates: &[usize]) -> Violation {
        let conflict = |no: &usize| {
            let (key, written) = self.obstacle(*no).expect("it cannot be the last");
            let outcome = self.history.operations[*no].outcome;
            Conflict { key, written, found: self.found.get(&key).copied(), outcome }
        };
        Violation::Contradiction(candidates.iter().map(conflict).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(operation: u32) -> Stamp {
        Stamp { cycle: 1, thread: 0, operation, nth: 0, len_bytes: 100 }
    }

    fn holding(pairs: &[(KeyNo, u32)]) -> Holdings {
        pairs.iter().map(|(key, operation)| (*key, stamp(*operation))).collect()
    }

    /// A history over `initial`.
    fn over(initial: &[(KeyNo, u32)]) -> History {
        History::new(holding(initial))
    }

    impl History {
        fn begin_put(&mut self, key: KeyNo, value: u32) -> OperationNo {
            self.begin(vec![(key, Some(stamp(value)))])
        }

        fn put(&mut self, key: KeyNo, value: u32) {
            let no = self.begin_put(key, value);
            self.end(no, Outcome::Done);
        }

        fn remove(&mut self, key: KeyNo) {
            let no = self.begin(vec![(key, None)]);
            self.end(no, Outcome::Done);
        }

        fn begin_swap(&mut self, key: KeyNo, old: u32, new: u32) -> OperationNo {
            let no = self.begin_put(key, new);
            self.replaces(no, key, stamp(old));
            no
        }

        fn begin_batch(&mut self, values: &[(KeyNo, u32)]) -> OperationNo {
            self.begin(values.iter().map(|(key, value)| (*key, Some(stamp(*value)))).collect())
        }

        #[track_caller]
        fn accepts(&self, found: &[(KeyNo, u32)]) {
            if let Err(violation) = self.explain(&holding(found)) {
                panic!("{found:?}: {violation}");
            }
        }

        #[track_caller]
        fn contradicts(&self, found: &[(KeyNo, u32)]) {
            let explained = self.explain(&holding(found));
            let is_contradiction = matches!(explained, Err(Violation::Contradiction(_)));
            assert!(is_contradiction, "{found:?}: {explained:?}");
        }

        #[track_caller]
        fn calls_foreign(&self, found: &[(KeyNo, u32)]) {
            let explained = self.explain(&holding(found));
            assert!(
                matches!(explained, Err(Violation::Foreign { .. })),
                "{found:?}: {explained:?}"
            );
        }
    }

    #[test]
    fn a_lost_put_is_rejected() {
        let mut history = over(&[]);
        history.put(1, 10);
        history.accepts(&[(1, 10)]);
        history.contradicts(&[]);
    }

    #[test]
    fn an_older_value_is_rejected() {
        let mut history = over(&[(1, 9)]);
        history.put(1, 10);
        history.put(1, 11);
        history.accepts(&[(1, 11)]);
        history.contradicts(&[(1, 10)]);
        history.contradicts(&[(1, 9)]);
    }

    #[test]
    fn a_foreign_value_is_rejected() {
        let mut history = over(&[(3, 9)]);
        history.put(1, 10);
        history.put(2, 11);
        history.calls_foreign(&[(1, 10), (2, 12), (3, 9)]);
        history.calls_foreign(&[(1, 11), (2, 11), (3, 9)]);
        history.calls_foreign(&[(1, 9), (2, 11), (3, 9)]);
        history.calls_foreign(&[(1, 10), (2, 11), (3, 9), (4, 9)]);
        let refused = history.begin_put(1, 20);
        history.end(refused, Outcome::Refused);
        history.accepts(&[(1, 10), (2, 11), (3, 9)]);
        history.calls_foreign(&[(1, 20), (2, 11), (3, 9)]);
    }

    #[test]
    fn a_resurrected_key_is_rejected() {
        let mut history = over(&[(1, 9), (2, 8)]);
        history.remove(1);
        history.put(2, 10);
        history.remove(2);
        history.accepts(&[]);
        history.contradicts(&[(1, 9)]);
        history.contradicts(&[(2, 10)]);
        history.contradicts(&[(2, 8)]);
    }

    #[test]
    fn a_key_that_nobody_touched_stays() {
        let mut history = over(&[(1, 9), (2, 8)]);
        history.put(1, 10);
        history.accepts(&[(1, 10), (2, 8)]);
        let lost = history.explain(&holding(&[(1, 10)]));
        let before = Some(stamp(8));
        assert_eq!(lost, Err(Violation::Changed { key: 2, before, found: None }));
    }

    #[test]
    fn what_was_under_way_is_there_or_not() {
        let mut history = over(&[(1, 9), (2, 8)]);
        history.begin_put(1, 10);
        history.begin(vec![(2, None)]);
        for found in [&[(1, 9), (2, 8)][..], &[(1, 10), (2, 8)], &[(1, 9)], &[(1, 10)]] {
            history.accepts(found);
        }
    }

    #[test]
    fn half_a_batch_that_was_acknowledged_is_rejected() {
        let mut history = over(&[(1, 8), (2, 9)]);
        let batch = history.begin_batch(&[(1, 10), (2, 11), (3, 12)]);
        history.end(batch, Outcome::Done);
        history.accepts(&[(1, 10), (2, 11), (3, 12)]);
        history.contradicts(&[(1, 10), (2, 11)]);
        history.contradicts(&[(1, 8), (2, 11), (3, 12)]);
    }

    #[test]
    fn half_a_batch_that_was_under_way_is_rejected() {
        let mut history = over(&[(1, 8), (2, 9)]);
        history.begin(vec![(1, Some(stamp(10))), (2, None), (3, Some(stamp(12)))]);
        history.accepts(&[(1, 8), (2, 9)]);
        history.accepts(&[(1, 10), (3, 12)]);
        history.contradicts(&[(1, 10), (2, 9), (3, 12)]);
        history.contradicts(&[(1, 8), (3, 12)]);
        history.contradicts(&[(1, 10)]);
        // A removal proves nothing alone, but it does not come without the rest.
        let removed_alone = history.explain(&holding(&[(1, 8)]));
        assert!(matches!(removed_alone, Err(Violation::Changed { key: 2, .. })));
    }

    #[test]
    fn two_batches_have_one_order_for_all_their_keys() {
        let mut history = over(&[]);
        let first = history.begin_batch(&[(1, 10), (2, 11)]);
        let second = history.begin_batch(&[(1, 20), (2, 21)]);
        for both_acknowledged in [false, true] {
            if both_acknowledged {
                history.end(first, Outcome::Done);
                history.end(second, Outcome::Done);
            }
            history.accepts(&[(1, 10), (2, 11)]);
            history.accepts(&[(1, 20), (2, 21)]);
            history.contradicts(&[(1, 10), (2, 21)]);
            history.contradicts(&[(1, 20), (2, 11)]);
        }
    }

    #[test]
    fn operations_that_overlap_come_in_any_order() {
        let mut history = over(&[]);
        let first = history.begin_put(1, 10);
        let second = history.begin_put(1, 11);
        history.end(second, Outcome::Done);
        history.end(first, Outcome::Done);
        history.accepts(&[(1, 10)]);
        history.accepts(&[(1, 11)]);
        // Whoever began after both is later than both.
        history.put(1, 12);
        history.accepts(&[(1, 12)]);
        history.contradicts(&[(1, 10)]);
        history.contradicts(&[(1, 11)]);
    }

    #[test]
    fn what_was_under_way_may_be_the_last() {
        let mut history = over(&[]);
        history.begin_put(1, 10);
        history.put(1, 11);
        history.accepts(&[(1, 10)]);
        history.accepts(&[(1, 11)]);
        history.begin(vec![(1, None), (2, None)]);
        history.accepts(&[]);
        history.put(2, 12);
        history.accepts(&[(2, 12)]);
        history.accepts(&[]);
        history.put(1, 13);
        history.accepts(&[(1, 13), (2, 12)]);
        history.contradicts(&[(2, 12), (1, 11)]);
    }

    #[test]
    fn a_removal_under_way_does_not_reach_back() {
        let mut history = over(&[(1, 9)]);
        let removal = history.begin(vec![(1, None), (2, None)]);
        history.put(2, 10);
        history.put(3, 11);
        // The batch may be between or behind the puts.
        history.accepts(&[(2, 10), (3, 11)]);
        history.accepts(&[(3, 11)]);
        history.end(removal, Outcome::Refused);
        let refused = history.explain(&holding(&[(2, 10), (3, 11)]));
        assert!(matches!(refused, Err(Violation::Changed { key: 1, .. })), "{refused:?}");
    }

    #[test]
    fn what_was_shown_is_not_lost() {
        let mut history = over(&[(1, 9)]);
        history.begin_put(1, 10);
        history.accepts(&[(1, 9)]);
        history.saw(1, stamp(10));
        history.accepts(&[(1, 10)]);
        history.contradicts(&[(1, 9)]);
        // It was there before this began, so it is not the last any more.
        history.put(1, 11);
        history.accepts(&[(1, 11)]);
        history.contradicts(&[(1, 10)]);
        history.saw(1, stamp(77));
        history.calls_foreign(&[(1, 11)]);
    }

    #[test]
    fn a_swap_comes_after_what_it_replaced() {
        let mut history = over(&[]);
        let put = history.begin_put(1, 10);
        let swap = history.begin_swap(1, 10, 11);
        history.accepts(&[]);
        history.accepts(&[(1, 10)]);
        history.accepts(&[(1, 11)]);
        history.end(swap, Outcome::Done);
        history.end(put, Outcome::Done);
        history.accepts(&[(1, 11)]);
        // They overlapped; but 10 was there first, for it was replaced.
        history.contradicts(&[(1, 10)]);
        history.contradicts(&[]);
    }

    #[test]
    fn swaps_under_way_vouch_for_each_other() {
        let mut history = over(&[]);
        history.begin_batch(&[(1, 10), (2, 20)]);
        history.begin_swap(1, 10, 11);
        history.begin_swap(1, 11, 12);
        history.accepts(&[(1, 12), (2, 20)]);
        history.contradicts(&[(1, 12)]);
        history.contradicts(&[(1, 11)]);
    }

    /// Whether some order of operations leads from `now` to `found`: all of those left that were
    /// acknowledged, and any of those under way.
    fn some_order_leads(
        history: &History,
        left: &[usize],
        now: &Holdings,
        found: &Holdings,
    ) -> bool {
        let operations = &history.operations;
        let is_needed = |no: &usize| operations[*no].outcome == Some(Outcome::Done);
        if now == found && !left.iter().any(is_needed) {
            return true;
        }
        left.iter().any(|next| {
            let began = operations[*next].begin;
            if left.iter().filter(|no| is_needed(no)).any(|no| operations[*no].end < began) {
                return false;
            }
            let mut then = now.clone();
            for (key, stamp) in &operations[*next].changes {
                match stamp {
                    Some(stamp) => then.insert(*key, *stamp),
                    None => then.remove(key),
                };
            }
            let rest: Vec<usize> = left.iter().copied().filter(|no| no != next).collect();
            some_order_leads(history, &rest, &then, found)
        })
    }

    #[test]
    fn it_agrees_with_trying_every_order() {
        let (mut explained, mut rejected) = (0, 0);
        for seed in 0..3000 {
            let random = &mut crate::Random::new(seed);
            let mut history = over(&[(1, 100)]);
            let mut values = [Vec::new(), vec![100], Vec::new()];
            let mut open = Vec::new();
            for _ in 0..2 + random.below(9) {
                if open.is_empty() || (history.operations.len() < 5 && random.below(2) == 0) {
                    let keys = random.pick(&[&[1][..], &[2], &[1, 2]]);
                    let changes = keys.iter().map(|key| {
                        let value = (history.operations.len() as u32 + 1) * 10 + u32::from(*key);
                        let put = random.below(3) > 0;
                        if put {
                            values[usize::from(*key)].push(value);
                        }
                        (*key, put.then(|| stamp(value)))
                    });
                    let changes = changes.collect();
                    open.push(history.begin(changes));
                } else {
                    let no = open.swap_remove(random.below(open.len() as u64) as usize);
                    let outcome = random.pick(&[Outcome::Done, Outcome::Done, Outcome::Refused]);
                    history.end(no, outcome);
                }
            }
            let taking_part =
                |no: &usize| history.operations[*no].outcome != Some(Outcome::Refused);
            let all: Vec<usize> = (0..history.operations.len()).filter(taking_part).collect();
            let choices = |key: usize| {
                let values = values[key].iter().map(|value| Some(stamp(*value)));
                std::iter::once(None).chain(values).collect::<Vec<_>>()
            };
            for (first, second) in choices(1)
                .into_iter()
                .flat_map(|first| choices(2).into_iter().map(move |second| (first, second)))
            {
                let pairs = [(1, first), (2, second)];
                let found: Holdings =
                    pairs.into_iter().filter_map(|(key, stamp)| Some((key, stamp?))).collect();
                let expected = some_order_leads(&history, &all, &history.initial, &found);
                let answer = history.explain(&found);
                assert_eq!(answer.is_ok(), expected, "seed {seed}, {found:?}: {answer:?}");
                *(if expected { &mut explained } else { &mut rejected }) += 1;
            }
        }
        assert!(explained > 1000 && rejected > 1000, "{explained} explained, {rejected} rejected");
    }
}
