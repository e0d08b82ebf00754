//! Stripes: locks over keys, with the clocks that order writes.
//!
//! # Sequence numbers without a shared counter
//!
//! Every stripe and every lane has a clock. A write that holds its stripes and its lane takes
//!
//! > `seqno = max(clocks of its stripes, clock of its lane) + 1`
//!
//! and stores it back to all of them (Lamport 1978). Therefore
//!
//! 1. per key, numbers strictly increase in the order of publication: a key's stripe is held from
//!    taking the number to publication, and its clock is at least the number of every earlier
//!    write to the key;
//! 2. per lane, numbers strictly increase in the order of the log, so a recovered segment can be
//!    checked for order;
//! 3. two writes may share a number only if they share neither a stripe nor a lane, hence no key.
//!    So recovery may take the highest number per key, and an equal number means a copy that
//!    reclaim made, with the same content;
//! 4. after recovery all clocks start at the highest number found, so 1 holds over openings: what
//!    was not found cannot contradict.
//!
//! No cache line is shared by all writers.
//!
//! # Lock order
//!
//! Catalog changes > reclaim > stripes in ascending order > lane > space > index. Whoever holds a
//! lock takes only those to its right.

use parking_lot::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::SeqNo;

/// Enough that two writers rarely meet; a line each.
const STRIPES: usize = 512;

/// The clock of some keys, guarded by their lock; alone in its line.
#[repr(align(64))]
#[derive(Default)]
struct Stripe(Mutex<SeqNo>);

pub(crate) struct Stripes {
    stripes: Box<[Stripe]>,
}

/// The stripe of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct StripeNo(usize);

impl StripeNo {
    /// The stripe of `key` in the keyspace with `salt`.
    pub(crate) fn of(salt: u64, key: &[u8]) -> Self {
        Self(xxh3_64_with_seed(key, salt) as usize % STRIPES)
    }
}

/// Stripes that are held.
pub(crate) enum Held<'s> {
    One(MutexGuard<'s, SeqNo>),
    Many(Vec<MutexGuard<'s, SeqNo>>),
}

impl Stripes {
    /// All clocks start at `start`.
    pub(crate) fn new(start: SeqNo) -> Self {
        Self { stripes: (0..STRIPES).map(|_| Stripe(Mutex::new(start))).collect() }
    }

    pub(crate) fn lock_one(&self, stripe: StripeNo) -> Held<'_> {
        Held::One(self.stripes[stripe.0].0.lock())
    }

    pub(crate) fn lock_many(&self, stripes: impl Iterator<Item = StripeNo>) -> Held<'_> {
        let mut stripes: Vec<StripeNo> = stripes.collect();
        stripes.sort_unstable();
        stripes.dedup();
        Held::Many(stripes.into_iter().map(|stripe| self.stripes[stripe.0].0.lock()).collect())
    }

    /// Keeps every writer out.
    pub(crate) fn lock_all(&self) -> Held<'_> {
        Held::Many(self.stripes.iter().map(|stripe| stripe.0.lock()).collect())
    }

    /// Waits until every write that is under way now is published, or has failed. Later ones may have
    /// begun meanwhile.
    pub(crate) fn wait_for_writes(&self) {
        self.stripes.iter().for_each(|stripe| drop(stripe.0.lock()));
    }

    /// The highest clock, each read at its own moment.
    pub(crate) fn clock(&self) -> SeqNo {
        self.stripes.iter().map(|stripe| *stripe.0.lock()).max().unwrap_or_default()
    }
}

impl Held<'_> {
    fn clocks(&self) -> &[MutexGuard<'_, SeqNo>] {
        match self {
            Self::One(clock) => std::slice::from_ref(clock),
            Self::Many(clocks) => clocks,
        }
    }

    /// The highest clock of those held.
    pub(crate) fn clock(&self) -> SeqNo {
        self.clocks().iter().map(|clock| **clock).max().unwrap_or_default()
    }

    /// Stores the number of a write to all clocks held.
    pub(crate) fn advance(&mut self, seqno: SeqNo) {
        let clocks = match self {
            Self::One(clock) => std::slice::from_mut(clock),
            Self::Many(clocks) => clocks,
        };
        for clock in clocks {
            debug_assert!(**clock < seqno, "a clock only goes forward");
            **clock = seqno;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_key_strictly_increase() {
        let stripes = Stripes::new(SeqNo(10));
        let of = |key: &[u8]| StripeNo::of(1, key);
        let mut held = stripes.lock_many([of(b"a"), of(b"b"), of(b"a")].into_iter());
        assert_eq!(held.clock(), SeqNo(10));
        held.advance(SeqNo(17));
        drop(held);
        assert_eq!(stripes.lock_one(of(b"a")).clock(), SeqNo(17));
        assert_eq!(stripes.lock_one(of(b"b")).clock(), SeqNo(17));
        assert_eq!(stripes.lock_all().clock(), SeqNo(17));
        assert_eq!(stripes.clock(), SeqNo(17));
    }

    #[test]
    fn the_same_key_of_two_keyspaces_may_have_two_stripes() {
        let differs = (0..100u32)
            .any(|n| StripeNo::of(1, &n.to_le_bytes()) != StripeNo::of(2, &n.to_le_bytes()));
        assert!(differs);
    }
}
