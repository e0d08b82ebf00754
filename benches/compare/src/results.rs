//! What was measured, by round.

use std::collections::HashMap;

use crate::workload::Workload;

/// What a number tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Measure {
    /// How many per second, with so many threads.
    Rate(Workload, u32),
    /// Milliseconds.
    OpenClosed,
    /// Milliseconds.
    OpenKilled,
    /// Bytes on the medium for each byte of a user.
    Space,
    /// The same without what is free.
    SpaceInUse,
}

/// Rounds by measure and contestant.
#[derive(Default)]
pub(crate) struct Results(HashMap<(Measure, usize), Vec<f64>>);

impl Results {
    pub(crate) fn add(&mut self, measure: Measure, contestant: usize, number: f64) {
        self.0.entry((measure, contestant)).or_default().push(number);
    }

    /// `None` if it was not measured for that contestant.
    pub(crate) fn median(&self, measure: Measure, contestant: usize) -> Option<f64> {
        self.0.get(&(measure, contestant)).map(|rounds| median(rounds.clone()))
    }

    /// How much the largest of the rounds exceeds the smallest, as a median over everything.
    pub(crate) fn spread(&self) -> f64 {
        let spread = |rounds: &Vec<f64>| {
            let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
            rounds.iter().copied().fold(0.0, f64::max) / least
        };
        median(self.0.values().map(spread).collect())
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
