//! Judges what a scan visits.
//!
//! 1. Keys ascend, and each value is one that its key may have.
//! 2. The keys that were loaded come without a gap. Those that were inserted later may come between them:
//!    only a scan of everything, when nobody writes, knows how many there must be.
//! 3. Nobody updates while a scan runs, so that versions can be looked up as they are visited.

use std::slice;

use crate::ledger::{Found, Ledger};
use crate::peers::Peer;
use crate::plan::Plan;
use crate::record::Key;
use crate::{Error, Outcome};

/// A scan under way.
pub(crate) struct ScanCheck<'a> {
    ledger: &'a Ledger,
    /// The keys that were loaded and must still come.
    expected: slice::Iter<'a, u32>,
    keys: u32,
    last: Option<Key>,
    visited: usize,
    inserted: u32,
    wrong: Option<Error>,
}

impl<'a> ScanCheck<'a> {
    /// Of a scan from the key of a number that was loaded.
    pub(crate) fn from_key(plan: &'a Plan, ledger: &'a Ledger, from: u32) -> Self {
        Self::new(plan, ledger, plan.rank[from as usize] as usize)
    }

    /// Scans everything, among it `inserted` keys that were not loaded.
    pub(crate) fn everything(
        plan: &'a Plan,
        ledger: &'a Ledger,
        peer: &dyn Peer,
        inserted: u32,
    ) -> Outcome<()> {
        let mut check = Self::new(plan, ledger, 0);
        peer.scan(&Key::default(), usize::MAX, &mut |key, value| check.visit(key, value))?;
        let found = check.inserted;
        check.end(usize::MAX)?;
        if found != inserted {
            return Err(format!("{found} keys of {inserted} that were inserted").into());
        }
        Ok(())
    }

    fn new(plan: &'a Plan, ledger: &'a Ledger, first: usize) -> Self {
        let expected = plan.order[first..].iter();
        let keys = plan.keys;
        Self { ledger, expected, keys, last: None, visited: 0, inserted: 0, wrong: None }
    }

    /// The next pair. What is wrong with it is told in the end.
    pub(crate) fn visit(&mut self, key: &[u8], value: &[u8]) {
        self.visited += 1;
        if let Err(wrong) = self.judge(key, value) {
            self.wrong.get_or_insert(wrong);
        }
    }

    fn judge(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        let Some((number, found)) = Found::of_pair(key, value) else {
            return Err(format!("a key that was never written: {}", key.escape_ascii()).into());
        };
        if self.last.is_some_and(|last| key <= &last[..]) {
            return Err(format!("key {number} out of order").into());
        }
        self.last = key.try_into().ok();
        self.ledger.judge(number, self.ledger.acknowledged(number), found)?;
        if number >= self.keys {
            self.inserted += 1;
        } else if self.expected.next() != Some(&number) {
            return Err(format!("a key is missing before key {number}").into());
        }
        Ok(())
    }

    /// The scan is over, and was to visit up to `limit` pairs.
    pub(crate) fn end(mut self, limit: usize) -> Outcome<()> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None if self.visited < limit && self.expected.next().is_some() => {
                Err("a scan ended before the last key".into())
            }
            None => Ok(()),
        }
    }
}
