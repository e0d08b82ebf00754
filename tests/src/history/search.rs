//! Looking for an order of operations that explains what was seen.
//!
//! Goes through the orders that respect real time, depth first, and never twice through the same
//! position.
//!
//! Source: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); that positions are
//! remembered is of Lowe, "Testing for Linearizability" (2017).

use std::collections::HashSet;

use super::{Content, Met, Operation, Register};

/// Bits of [`Position::done`].
const OPERATIONS_MAX: usize = u64::BITS as usize;

/// How far an order got.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Position {
    /// Operations that happened, by bit.
    done: u64,
    /// Writes of several registers that are half visible: number, and which registers, by bit.
    half: Vec<(usize, u64)>,
    contents: Vec<Content>,
}

/// Whether some order of `operations`, all that returned and any that did not, is as the answers say,
/// and leaves `found`.
pub(super) fn is_possible(
    before: &[Content],
    operations: &[Operation],
    found: Option<&[Content]>,
) -> bool {
    assert!(operations.len() <= OPERATIONS_MAX, "a history that is too long");
    let start = Position { done: 0, half: Vec::new(), contents: before.to_vec() };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(position) = open.pop() {
        if position.is_end(operations, found) {
            return true;
        }
        // The last is looked at first, so the one that was called first is pushed last.
        for nth in (0..operations.len()).rev().filter(|nth| position.done & 1 << nth == 0) {
            for next in position.after(nth, operations) {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}

impl Position {
    fn is_end(&self, operations: &[Operation], found: Option<&[Content]>) -> bool {
        let mut left = operations.iter().enumerate().filter(|(nth, _)| self.done & 1 << nth == 0);
        self.half.is_empty()
            && left.all(|(_, operation)| operation.returned.is_none())
            && found.is_none_or(|found| found == self.contents)
    }

    /// Where it goes on if `nth`, which is not done, is next.
    fn after(&self, nth: usize, operations: &[Operation]) -> Vec<Self> {
        let left = &operations[nth].effect.left;
        let place = self.half.iter().position(|(half, _)| *half == nth);
        if place.is_none() && !self.may_happen(nth, operations) {
            return Vec::new();
        }
        if left.is_empty() {
            return vec![Self { done: self.done | 1 << nth, ..self.clone() }];
        }
        let visible = place.map_or(0, |place| self.half[place].1);
        let hidden = (0..left.len()).filter(|bit| visible & 1 << bit == 0);
        hidden
            .map(|bit| {
                let mut next = self.clone();
                let (Register(register), content) = left[bit];
                next.contents[register] = content;
                next.half.retain(|(half, _)| *half != nth);
                match visible | 1 << bit {
                    all if all.count_ones() as usize == left.len() => next.done |= 1 << nth,
                    some => next.half.push((nth, some)),
                }
                next.half.sort_unstable();
                next
            })
            .collect()
    }

    fn may_happen(&self, nth: usize, operations: &[Operation]) -> bool {
        let operation = &operations[nth];
        let comes_before = |(other, earlier): (usize, &Operation)| {
            self.done & 1 << other == 0
                && earlier.returned.is_some_and(|returned| returned < operation.called)
        };
        if operations.iter().enumerate().any(comes_before) {
            return false;
        }
        let effect = &operation.effect;
        let is_alone = effect.glances
            || !self.half.iter().any(|(half, _)| operations[*half].effect.touches(effect));
        is_alone
            && effect.met.iter().all(|(Register(register), met)| match met {
                Met::Exactly(content) => self.contents[*register] == *content,
                Met::Something => self.contents[*register].is_some(),
            })
    }
}
