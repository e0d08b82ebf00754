//! Iterators: pairs in key order, from both ends, a chunk at a time.
//!
//! 1. The places of a chunk are gathered under a pin, and their segments kept before it goes.
//! 2. What either end still has to fetch lies strictly between the last keys that the two ends
//!    fetched, so no pair comes twice and the order is strict.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::ops::Bound;
use std::sync::Arc;

use daxite_core::pin;

use crate::catalog::KeyspaceCore;
use crate::error::Result;
use crate::index::{End, Records, is_behind};
use crate::range::Bounds;
use crate::store::Shared;
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
/// It is not a snapshot. It looks at the keyspace in chunks of up to 64 pairs. A key that is there all
/// the while comes exactly once. One that is inserted, replaced or removed while the iterator is under way comes
/// as it was before or as it is after. Keys come in strictly ascending order from the front, and
/// strictly descending from the back, each at most once.
///
/// # Errors
/// An item is an error if the record is damaged or the database was closed. It is the last, unless it is
/// [`Error::MediaError`](crate::Error::MediaError): that stands in the place of the key that cannot be
/// read, and the iterator goes on behind it.
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
        let records = self.store.records(&pin);
        let (near, far) = match end {
            End::Front => (&self.rest.low, &self.rest.high),
            End::Back => (&self.rest.high, &self.rest.low),
        };
        let near = near.as_ref().map(Vec::as_slice);
        let far = far.as_ref().map(Vec::as_slice);
        let (mut places, mut count) = (Vec::new(), self.chunk);
        while !self.rest.is_empty() {
            places.clear();
            self.keyspace.index.gather(near, end, count, &records, &mut places)?;
            let last = places.get(count - 1).map(|last| records.record(*last));
            if !matches!(last, Some(Err(error)) if error.is_media_error()) {
                break;
            }
            // The next chunk starts behind a key that can be read.
            count *= 2;
        }
        let mut exhausted = places.len() < count;
        let mut last = None;
        let items = match end {
            End::Front => &mut self.front,
            End::Back => &mut self.back,
        };
        places.iter().for_each(|place| records.prefetch(*place));
        for place in places {
            let found = match records.record(place) {
                Ok(found) => found,
                Err(error) if error.is_media_error() => {
                    items.push_back(Err(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            // What is gone was moved meanwhile: it is met again behind the last key.
            let kept = found.and_then(|found| Some((self.store.keep(&found, &pin)?, found)));
            let Some((pair, found)) = kept else {
                exhausted = false;
                break;
            };
            if !is_behind(found.record.key, far, end.opposite()) {
                exhausted = true;
                break;
            }
            last = Some(found.record.key);
            items.push_back(Ok(pair));
        }
        self.exhausted = exhausted;
        self.chunk = (self.chunk * 2).min(CHUNK_MAX);
        if let Some(key) = last {
            let behind = Bound::Excluded(key.to_vec());
            match end {
                End::Front => self.rest.low = behind,
                End::Back => self.rest.high = behind,
            }
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
        while !self.exhausted {
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
