//! What is the same for all contestants and rounds.

use std::time::Duration;

use crate::draw::Zipf;
use crate::record::key;

/// The most records that a workload touches, however fast the contestant is.
pub(crate) const RECORDS: u32 = 200_000;
/// Room for the keys that workloads add: D and E, with one and two threads, 5 % of their steps and a little.
const INSERTS: u32 = 6 * RECORDS / 16;

/// Keys, time, and the order of the keys.
pub(crate) struct Plan {
    /// How many keys there are.
    pub(crate) keys: u32,
    /// How long a workload runs, unless it ends before.
    pub(crate) slice: Duration,
    /// Draws from the keys.
    pub(crate) zipf: Zipf,
    /// All numbers in the order of their keys.
    pub(crate) order: Vec<u32>,
    /// Where each number stands in `order`.
    pub(crate) rank: Vec<u32>,
}

impl Plan {
    /// For so many keys.
    pub(crate) fn new(keys: u32, slice: Duration) -> Self {
        let mut order: Vec<u32> = (0..keys).collect();
        order.sort_unstable_by_key(|number| key(*number));
        let mut rank = vec![0; keys as usize];
        for (at, number) in (0..).zip(&order) {
            rank[*number as usize] = at;
        }
        Self { keys, slice, zipf: Zipf::new(keys), order, rank }
    }

    /// How many keys a store must have room for.
    pub(crate) fn room(&self) -> u32 {
        self.keys + INSERTS
    }
}
