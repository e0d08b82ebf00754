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
    /// Which part of the time a workload waited for a CPU.
    Waited,
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

    /// The mean of all rounds and contestants.
    pub(crate) fn mean(&self, measure: Measure) -> f64 {
        let all = self.0.iter().filter(|((of, _), _)| *of == measure);
        let all: Vec<f64> = all.flat_map(|(_, rounds)| rounds).copied().collect();
        all.iter().sum::<f64>() / all.len() as f64
    }

    /// How many times the smallest of the rounds of a rate the largest is, as a median over all rates.
    pub(crate) fn spread(&self) -> f64 {
        let spread = |rounds: &Vec<f64>| {
            let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
            rounds.iter().copied().fold(0.0, f64::max) / least
        };
        let rates = self.0.iter().filter(|((measure, _), _)| matches!(measure, Measure::Rate(..)));
        median(rates.map(|(_, rounds)| spread(rounds)).collect())
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
