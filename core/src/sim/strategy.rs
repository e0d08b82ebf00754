//! How it is decided what is left of a line.

use super::shadow::{Left, Store};

/// One decision: the way that was chosen, of how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    pub way: u64,
    pub ways: u64,
}

/// Which of its ways to survive a line takes.
#[derive(Clone, Debug)]
pub(super) enum Strategy {
    /// By the number of the decision; everything survives behind the last.
    Digits(Vec<u64>),
    /// Nothing survives.
    Nothing,
    /// The first `stores` stores of one line survive, and no other.
    Only { line: u64, stores: usize },
    /// Everything survives but what follows the first `stores` stores of one line.
    AllBut { line: u64, stores: usize },
    /// By chance.
    Random(Chance),
}

impl Strategy {
    /// The way of the decision `nth`, about `line`, of `ways` many.
    pub(super) fn choose(&mut self, nth: usize, line: u64, stores: &[Store], ways: u64) -> u64 {
        const ALL: u64 = 0;
        const NONE: u64 = 1;
        match self {
            Self::Digits(digits) => digits.get(nth).copied().unwrap_or(ALL).min(ways - 1),
            Self::Nothing => NONE,
            Self::Only { line: one, stores: kept } if *one == line => prefix(stores, *kept, ways),
            Self::Only { .. } => NONE,
            Self::AllBut { line: one, stores: kept } if *one == line => prefix(stores, *kept, ways),
            Self::AllBut { .. } => ALL,
            Self::Random(chance) => chance.way(ways),
        }
    }
}

/// The way in which the first `kept` stores survive.
fn prefix(stores: &[Store], kept: usize, ways: u64) -> u64 {
    let wanted = Left { whole: kept, words: 0 };
    (0..ways).find(|&way| Left::nth(stores, way) == wanted).expect("a prefix is one of the ways")
}

/// Random ways, of which many states keep nearly everything or nearly nothing: bugs need few lines.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    state: u64,
    /// Of 100 lines so many survive whole, and so many not at all.
    all: u64,
    none: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance =
            Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, all: 0, none: 0 };
        for _ in 0..3 {
            chance.next();
        }
        let shares = [(45, 45), (90, 5), (5, 90), (98, 1), (1, 98), (0, 0), (50, 0), (0, 50)];
        (chance.all, chance.none) = shares[chance.next() as usize % shares.len()];
        chance
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }

    fn way(&mut self, ways: u64) -> u64 {
        let draw = self.next() % 100;
        if draw < self.all {
            0
        } else if draw < self.all + self.none {
            1
        } else {
            self.next() % ways
        }
    }
}

/// The next digits after `decisions`, the last of which counts fastest; `None` after the last.
pub(super) fn next_digits(decisions: &[Decision]) -> Option<Vec<u64>> {
    let last = decisions.iter().rposition(|decision| decision.way + 1 < decision.ways)?;
    let mut digits: Vec<u64> = decisions[..=last].iter().map(|decision| decision.way).collect();
    digits[last] += 1;
    Some(digits)
}
