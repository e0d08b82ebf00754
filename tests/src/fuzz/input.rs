//! Bytes as a stream of decisions; zeros follow where they end.

/// What is left of an input.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// So many bytes, or what is left.
    pub(super) fn take(&mut self, len_bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len_bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number of so many bytes, eight at most.
    pub(super) fn number(&mut self, len_bytes: usize) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(len_bytes);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// A number from 0 to `end`, without `end`, which is at least 1. Takes no more bytes than needed.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let len_bytes = (usize::BITS - (end - 1).leading_zeros()).div_ceil(8) as usize;
        self.number(len_bytes) as usize % end
    }

    /// One of `choices`, of which there is at least one.
    pub(super) fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }
}
