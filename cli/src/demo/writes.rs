//! What the writer writes and its killer looks for: both can work it out from a seed.
//!
//! Write number `seq` puts a key that depends on the seed and `seq`, one of few enough that keys
//! are written again and again, and a value that starts with `seq` and goes on with bytes that
//! depend on both. So a value tells which write it came from, and whether it is whole.

/// The keyspace of these writes.
pub(crate) const KEYSPACE: &str = "writes";
/// Different keys.
const KEYS: u64 = 5_000;

/// Numbers that look random: xorshift64*, by Vigna.
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

fn numbers(seed: u64, seq: u64) -> Random {
    Random::new(seed ^ seq.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

/// The key of write `seq`.
pub(crate) fn key(seed: u64, seq: u64) -> String {
    format!("key-{:04}", numbers(seed, seq).below(KEYS))
}

/// The value of write `seq`: 16 to 400 bytes.
pub(crate) fn value(seed: u64, seq: u64) -> Vec<u8> {
    let mut random = numbers(seed, seq);
    let len = 16 + random.below(385) as usize;
    let mut value = seq.to_le_bytes().to_vec();
    while value.len() < len {
        value.extend(random.next().to_le_bytes());
    }
    value.truncate(len);
    value
}

/// The number of the write that `found` is the whole value of; `None` if it is of none.
pub(crate) fn seq_of(seed: u64, found: &[u8]) -> Option<u64> {
    let seq = u64::from_le_bytes(*found.first_chunk::<8>()?);
    (value(seed, seq) == found).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_which_write_it_came_from() {
        for seq in [0, 1, 77, u64::MAX] {
            let mut bytes = value(3, seq);
            assert_eq!(seq_of(3, &bytes), Some(seq));
            assert_eq!(seq_of(4, &bytes), None);
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            assert_eq!(seq_of(3, &bytes), None);
            assert_eq!(seq_of(3, &bytes[..last]), None);
        }
    }

    #[test]
    fn keys_are_written_again() {
        let keys: std::collections::HashSet<String> = (0..20_000).map(|seq| key(1, seq)).collect();
        assert!(keys.len() > 4_500 && keys.len() <= 5_000, "{}", keys.len());
    }
}
