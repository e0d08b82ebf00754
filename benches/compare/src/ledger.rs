//! What each key must hold: the judge of every read, also while others write.
//!
//! 1. A key has one writer at a time, so its versions become durable in order.
//! 2. `acknowledged <= issued`; a read between the two moments at which they are looked at finds a version
//!    that is neither older than what was acknowledged before it, nor newer than what was issued after it.
//! 3. Version 0 is an absent key. Removals are not in here: who removes a key puts it back.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::Outcome;
use crate::record::{Key, Value, key, number_of, value, version_of};

/// Versions of one key.
#[derive(Default)]
struct Versions {
    issued: AtomicU32,
    acknowledged: AtomicU32,
}

/// The versions of all keys.
pub(crate) struct Ledger(Vec<Versions>);

impl Ledger {
    /// No key is there. Those whose numbers are not below `keys` will never be.
    pub(crate) fn new(keys: u32) -> Self {
        Self((0..keys).map(|_| Versions::default()).collect())
    }

    /// The next record of a key, to be written now.
    pub(crate) fn issue(&self, number: u32) -> (Key, Value) {
        let issued = &self.0[number as usize].issued;
        let version = issued.load(Ordering::Relaxed) + 1;
        // ORDERING: Release; pairs with the Acquire in `judge`.
        issued.store(version, Ordering::Release);
        (key(number), value(number, version))
    }

    /// What was issued last has been written.
    pub(crate) fn acknowledge(&self, number: u32) {
        let Versions { issued, acknowledged } = &self.0[number as usize];
        // ORDERING: Release; pairs with the Acquire in `acknowledged`.
        acknowledged.store(issued.load(Ordering::Relaxed), Ordering::Release);
    }

    /// What a read that begins now finds at least.
    pub(crate) fn acknowledged(&self, number: u32) -> u32 {
        let versions = self.0.get(number as usize);
        // ORDERING: Acquire; pairs with the Release in `acknowledge`.
        versions.map_or(0, |versions| versions.acknowledged.load(Ordering::Acquire))
    }

    /// Whether what a read has found can be, given what was `acknowledged` before it.
    pub(crate) fn judge(&self, number: u32, acknowledged: u32, found: Found) -> Outcome<()> {
        let versions = self.0.get(number as usize);
        // ORDERING: Acquire; pairs with the Release in `issue`.
        let issued = versions.map_or(0, |versions| versions.issued.load(Ordering::Acquire));
        match found {
            Found::Version(version) if (acknowledged..=issued).contains(&version) => Ok(()),
            found => Err(format!(
                "a read of key {number} found {found:?}, not version {acknowledged} to {issued}"
            )
            .into()),
        }
    }
}

/// What a read has found under a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// The value as it was written for the so manieth time, 0 for none.
    Version(u32),
    /// Bytes that were never written.
    Garbage,
}

impl Found {
    /// What a value of the key `number` is.
    pub(crate) fn of(bytes: &[u8], number: u32) -> Self {
        version_of(bytes, number).map_or(Self::Garbage, Self::Version)
    }

    /// What a pair of a scan is, and the number of its key.
    pub(crate) fn of_pair(key: &[u8], value: &[u8]) -> Option<(u32, Self)> {
        number_of(key).map(|number| (number, Self::of(value, number)))
    }
}
