//! Which key is next: the distributions of YCSB.

use daxite_benches::Random;

use crate::record::mix;

/// The skew that YCSB uses.
const THETA: f64 = 0.99;

/// Ranks below `count`, of which the lower ones are drawn more often.
///
/// Source: Gray et al., Quickly Generating Billion-Record Synthetic Databases, SIGMOD 1994, as in YCSB.
pub(crate) struct Zipf {
    count: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Takes time in proportion to `count`.
    pub(crate) fn new(count: u32) -> Self {
        let zeta = |count: u32| (1..=count).map(|rank| f64::from(rank).powf(-THETA)).sum::<f64>();
        let (zeta_two, zeta) = (zeta(2), zeta(count));
        let count = f64::from(count);
        let eta = (1.0 - (2.0 / count).powf(1.0 - THETA)) / (1.0 - zeta_two / zeta);
        Self { count, zeta, eta }
    }

    /// A rank; 0 is the most frequent.
    pub(crate) fn rank(&self, random: &mut Random) -> u32 {
        let uniform = random.below(1 << 53) as f64 / (1u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1;
        }
        let spread = (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        ((self.count * spread) as u32).min(self.count as u32 - 1)
    }

    /// A number below `count`, with the frequent ones anywhere among the others.
    pub(crate) fn scrambled(&self, random: &mut Random) -> u32 {
        (mix(u64::from(self.rank(random))) % self.count as u64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_frequent_as_zipf_says() {
        let (zipf, mut random) = (Zipf::new(1000), Random::new(1));
        let mut drawn = [0u32; 1000];
        for _ in 0..1_000_000 {
            drawn[zipf.rank(&mut random) as usize] += 1;
        }
        for rank in [0, 1, 9, 99] {
            let expected = 1e6 * f64::from(rank + 1).powf(-THETA) / zipf.zeta;
            let ratio = f64::from(drawn[rank as usize]) / expected;
            assert!((0.8..1.25).contains(&ratio), "rank {rank}: {ratio} times as often");
        }
    }
}
