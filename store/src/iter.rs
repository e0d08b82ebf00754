//! Iterators: pairs in key order, from both ends, a chunk at a time.
//!
//! 1. A chunk is fetched while the index is held, and its pairs are pinned at once.
//! 2. What either end still has to fetch lies strictly between the last keys that the two ends
//!    fetched, so no pair comes twice and the order is strict.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::ops::Bound;
use std::sync::Arc;

use daxite_core::pin;

use crate::catalog::KeyspaceCore;
use crate::error::Result;
use crate::index::End;
use crate::location::Location;
use crate::range::Bounds;
use crate::store::{Shared, Store, lost};
use crate::{Key, Value};

/// Pairs of the first chunk; each further one is twice as long.
const CHUNK_MIN: usize = 8;
/// Pairs of the longest chunk.
const CHUNK_MAX: usize = 64;

/// What comes of a key: its pair, or that it cannot be read.
type Item = Result<(Key, Value)>;

/// The pairs of a keyspace or of a range of it in key order, from both ends.
///
/// An iterator holds the database open, and can be kept and sent to other threads.
///
/// # Consistency
/// It is not a snapshot. It looks at the keyspace in chunks of up to 64 pairs; a chunk is the state
/// of one moment, between its first and its last pair. A pair that is there all the while comes
/// exactly once. One that is inserted, replaced or removed while the iterator is under way comes
/// as it was before or as it is after. Keys come in strictly ascending order from the front, and
/// strictly descending from the back, each at most once.
///
/// # Errors
/// An item is an error if the record is damaged or the database was closed. It is the last, unless it is
/// [`Error::MediaError`](crate::Error::MediaError): that stands in the place of the key that it names,
/// and the iterator goes on behind it.
pub struct Iter {
    store: Shared,
    keyspace: Arc<KeyspaceCore>,
    /// What is not fetched yet.
    rest: Bounds,
    front: VecDeque<Item>,
    /// From the back: the next to come is the first.
    back: VecDeque<Item>,
    chunk: usize,
    /// Nothing is left to fetch.
    exhausted: bool,
}

impl Iter {
    pub(crate) fn new(store: Shared, keyspace: Arc<KeyspaceCore>, rest: Bounds) -> Self {
        Self {
            store,
            keyspace,
            rest,
            front: VecDeque::new(),
            back: VecDeque::new(),
            chunk: CHUNK_MIN,
            exhausted: false,
        }
    }

    /// Only the keys.
    pub fn keys(self) -> impl DoubleEndedIterator<Item = Result<Key>> + Send + 'static {
        self.map(|pair| pair.map(|(key, _)| key))
    }

    /// Fetches the next chunk from `end` on.
    fn fetch(&mut self, end: End) -> Result<()> {
        self.store.check_open()?;
        let pin = pin();
        let mut items = Vec::with_capacity(self.chunk);
        let mut last = None;
        let mut failed = None;
        self.keyspace.index.visit(&self.rest, end, self.chunk, |key, location| {
            match pair(&self.store, key, location, &pin) {
                Err(error) if !error.is_media_error() => failed = Some(error),
                item => items.push(item),
            }
            if items.len() == self.chunk {
                last = Some(key.to_vec());
            }
            failed.is_none()
        });
        if let Some(error) = failed {
            return Err(error);
        }
        self.exhausted = items.len() < self.chunk;
        self.chunk = (self.chunk * 2).min(CHUNK_MAX);
        if let Some(key) = last {
            let behind = Bound::Excluded(key);
            match end {
                End::Front => self.rest.low = behind,
                End::Back => self.rest.high = behind,
            }
        }
        match end {
            End::Front => self.front.extend(items),
            End::Back => self.back.extend(items),
        }
        Ok(())
    }

    fn advance(&mut self, end: End) -> Option<Item> {
        let fetched = match end {
            End::Front => self.front.pop_front(),
            End::Back => self.back.pop_front(),
        };
        if fetched.is_some() {
            return fetched;
        }
        if !self.exhausted {
            if let Err(error) = self.fetch(end) {
                self.end();
                return Some(Err(error));
            }
            let fetched = match end {
                End::Front => self.front.pop_front(),
                End::Back => self.back.pop_front(),
            };
            if fetched.is_some() {
                return fetched;
            }
        }
        // What is left was fetched from the other end.
        match end {
            End::Front => self.back.pop_back(),
            End::Back => self.front.pop_back(),
        }
    }

    fn end(&mut self) {
        self.exhausted = true;
        self.front.clear();
        self.back.clear();
    }
}

/// The record of `key` at `location` as key and value. The caller holds the index.
fn pair(store: &Store, key: &[u8], location: Location, pin: &daxite_core::Pin) -> Item {
    let segment = store
        .space
        .table
        .get_arc(location.segment(), pin)
        .expect("what the index says while it is held is in the table");
    let record = segment.record(location).map_err(|error| lost(error, &segment, key))?;
    let (key_len, value_len) = (record.key.len(), record.value.len());
    let key_at = location.offset() + record.key_at() as u64;
    let value_at = key_at + key_len as u64;
    let key = Value::new(Arc::clone(&segment), key_at, key_len);
    Ok((key, Value::new(segment, value_at, value_len)))
}

impl Iterator for Iter {
    type Item = Result<(Key, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(End::Front)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.advance(End::Back)
    }
}

impl FusedIterator for Iter {}
