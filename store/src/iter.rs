//! Iterators: pairs in key order, from both ends, a chunk at a time.
//!
//! 1. The places of a chunk are gathered under a pin, and their segments kept before it goes.
//! 2. What either end still has to fetch lies strictly between the last keys that the two ends
//!    fetched, so no pair comes twice and the order is strict.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use daxite_core::{Pin, pin};

use crate::catalog::KeyspaceCore;
use crate::error::Result;
use crate::index::{End, Records, is_behind};
use crate::range::Bounds;
use crate::store::{Found, Shared, Store};
use crate::{Key, Value};

/// Pairs of the first chunk.
const CHUNK_MIN: usize = 16;
/// How much longer each further one is.
const GROWTH: usize = 4;
/// Pairs of the longest chunk.
const CHUNK_MAX: usize = 64;
/// Records that are on their way while one is looked at.
const AHEAD: usize = 12;

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
        let items = match end {
            End::Front => &mut self.front,
            End::Back => &mut self.back,
        };
        let (store, pin) = (&self.store, pin());
        let look = Look { store, keyspace: &self.keyspace, end, count: self.chunk };
        self.exhausted = look.at(&mut self.rest, &pin, |found| {
            match found {
                Err(error) => items.push_back(Err(error)),
                // Its segment may be gone by now: then it was moved, and is met again.
                Ok(found) => match store.keep(&found, &pin) {
                    Some(pair) => items.push_back(Ok(pair)),
                    None => return Next::Again,
                },
            }
            Next::GoOn
        })?;
        self.chunk = (self.chunk * GROWTH).min(CHUNK_MAX);
        Ok(())
    }

    fn advance(&mut self, end: End) -> Option<Item> {
        loop {
            let fetched = self.fetched(end).pop_front();
            if fetched.is_some() {
                return fetched;
            }
            if self.exhausted {
                // What is left was fetched from the other end.
                return self.fetched(end.opposite()).pop_back();
            }
            if let Err(error) = self.fetch(end) {
                self.end();
                return Some(Err(error));
            }
        }
    }

    fn fetched(&mut self, end: End) -> &mut VecDeque<Item> {
        match end {
            End::Front => &mut self.front,
            End::Back => &mut self.back,
        }
    }

    fn end(&mut self) {
        self.exhausted = true;
        self.front.clear();
        self.back.clear();
    }
}

/// Calls `visit` with the pairs of `range`, in order, until it breaks or fails, or there are no more.
///
/// # Errors
/// Those of an item of [`Iter`], and whatever stops it there, stops it here.
pub(crate) fn visit<B>(
    store: &Shared,
    keyspace: &KeyspaceCore,
    mut range: Bounds,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
) -> Result<ControlFlow<B>> {
    let mut count = CHUNK_MIN;
    loop {
        let mut ended = None;
        let look = Look { store, keyspace, end: End::Front, count };
        let exhausted = look.at(&mut range, &pin(), |found| match found {
            Ok(found) => match visit(found.record.key, found.record.value) {
                ControlFlow::Continue(()) => Next::GoOn,
                ControlFlow::Break(with) => {
                    ended = Some(Ok(ControlFlow::Break(with)));
                    Next::Stop
                }
            },
            Err(error) => {
                ended = Some(Err(error));
                Next::Stop
            }
        })?;
        match ended {
            Some(ended) => return ended,
            None if exhausted => return Ok(ControlFlow::Continue(())),
            None => count = (count * GROWTH).min(CHUNK_MAX),
        }
    }
}

/// What is to become of a look, after a pair.
enum Next {
    GoOn,
    Stop,
    /// The pair is to be met again.
    Again,
}

/// A look at the next pairs of a range.
struct Look<'s> {
    store: &'s Store,
    keyspace: &'s KeyspaceCore,
    /// From where.
    end: End,
    /// At how many.
    count: usize,
}

impl Look<'_> {
    /// Calls `visit` with each pair of `rest` or what stands in the way of it, and takes what was met off
    /// `rest`. True if nothing is left.
    fn at(
        &self,
        rest: &mut Bounds,
        pin: &Pin,
        mut visit: impl FnMut(Result<Found<'_>>) -> Next,
    ) -> Result<bool> {
        self.store.check_open()?;
        if rest.is_empty() {
            return Ok(true);
        }
        let (records, end) = (self.store.records(pin), self.end);
        let (near, far) = match end {
            End::Front => (&mut rest.low, &rest.high),
            End::Back => (&mut rest.high, &rest.low),
        };
        let mut count = self.count;
        let places = loop {
            let mut places = Vec::with_capacity(count);
            let from = near.as_ref().map(Vec::as_slice);
            self.keyspace.index.gather(from, end, count, &records, &mut places)?;
            places.iter().take(AHEAD).for_each(|place| records.prefetch(*place));
            let last = places.get(count - 1).map(|last| records.record(*last));
            if !matches!(last, Some(Err(error)) if error.is_media_error()) {
                break places;
            }
            // The next look starts behind a key that can be read.
            count *= 2;
        };
        let far = far.as_ref().map(Vec::as_slice);
        let mut last = None;
        let mut exhausted = places.len() < count;
        for (nth, place) in places.iter().enumerate() {
            if let Some(ahead) = places.get(nth + AHEAD) {
                records.prefetch(*ahead);
            }
            match records.record(*place) {
                Ok(Some(found)) if is_behind(found.record.key, far, end.opposite()) => {
                    let key = found.record.key;
                    match visit(Ok(found)) {
                        Next::GoOn => last = Some(key),
                        Next::Stop => return Ok(false),
                        Next::Again => {
                            exhausted = false;
                            break;
                        }
                    }
                }
                Ok(Some(_)) => {
                    exhausted = true;
                    break;
                }
                // Moved meanwhile: it is met again behind the last key.
                Ok(None) => {
                    exhausted = false;
                    break;
                }
                Err(error) if error.is_media_error() => {
                    if let Next::Stop = visit(Err(error)) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(key) = last {
            *near = Bound::Excluded(key.to_vec());
        }
        Ok(exhausted)
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
