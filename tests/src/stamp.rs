//! Values that say where they come from.
//!
//! 1. No two writes of a run have the same stamp, so a value names the one write that made it.
//! 2. All bytes of a value follow from its stamp, and a checksum ends it: a bit that is not as it was
//!    written makes it no value at all.

/// Bytes that a stamp takes at the start of its value.
const HEAD_BYTES: usize = 16;
/// Bytes of the checksum at the end.
const TAIL_BYTES: usize = 8;
/// The shortest value.
pub const STAMPED_LEN_MIN: u32 = (HEAD_BYTES + TAIL_BYTES) as u32;

/// Who wrote a value, and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp {
    /// The process, counted from the first of the run.
    pub cycle: u32,
    /// The thread in it.
    pub thread: u16,
    /// The operation of the thread.
    pub operation: u32,
    /// Which write of the operation.
    pub nth: u16,
    /// Length of the value in bytes, at least [`STAMPED_LEN_MIN`].
    pub len_bytes: u32,
}

impl Stamp {
    /// The value with this stamp.
    pub fn value(&self) -> Vec<u8> {
        assert!(self.len_bytes >= STAMPED_LEN_MIN, "a value has room for its stamp");
        let body_end = self.len_bytes as usize - TAIL_BYTES;
        let mut value = Vec::with_capacity(self.len_bytes as usize + TAIL_BYTES);
        value.extend_from_slice(&self.cycle.to_le_bytes());
        value.extend_from_slice(&self.operation.to_le_bytes());
        value.extend_from_slice(&self.thread.to_le_bytes());
        value.extend_from_slice(&self.nth.to_le_bytes());
        value.extend_from_slice(&self.len_bytes.to_le_bytes());
        let mut word = checksum(&value);
        while value.len() < body_end {
            word = word.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            value.extend_from_slice(&word.to_le_bytes());
        }
        value.truncate(body_end);
        let sum = checksum(&value);
        value.extend_from_slice(&sum.to_le_bytes());
        value
    }

    /// The stamp of `value`; `None` unless every byte is as it was written.
    pub fn of(value: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
        let u16_at = |at: usize| Some(u16::from_le_bytes(value.get(at..at + 2)?.try_into().ok()?));
        let stamp = Self {
            cycle: u32_at(0)?,
            operation: u32_at(4)?,
            thread: u16_at(8)?,
            nth: u16_at(10)?,
            len_bytes: u32_at(12)?,
        };
        let has_its_length = stamp.len_bytes as usize == value.len();
        (has_its_length && stamp.len_bytes >= STAMPED_LEN_MIN && stamp.value() == value)
            .then_some(stamp)
    }
}

/// Fowler, Noll and Vo's hash, over words.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_write_and_no_other() {
        for len_bytes in [STAMPED_LEN_MIN, 25, 31, 32, 33, 1000] {
            let stamp = Stamp { cycle: 7, thread: 3, operation: 1 << 20, nth: 2, len_bytes };
            let value = stamp.value();
            assert_eq!(value.len(), len_bytes as usize);
            assert_eq!(Stamp::of(&value), Some(stamp));
            assert_ne!(Stamp { nth: 1, ..stamp }.value(), value);
        }
    }

    #[test]
    fn a_value_with_a_wrong_bit_or_length_is_none() {
        let stamp = Stamp { cycle: 1, thread: 2, operation: 3, nth: 4, len_bytes: 100 };
        let value = stamp.value();
        for bit in 0..value.len() * 8 {
            let mut wrong = value.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::of(&wrong), None, "bit {bit}");
        }
        for len in 0..value.len() {
            assert_eq!(Stamp::of(&value[..len]), None, "cut to {len} bytes");
        }
    }
}
