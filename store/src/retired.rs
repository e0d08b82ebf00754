//! Segments that were taken out of the table and wait for their readers.
//!
//! 1. A segment is punched when nobody holds it any more: no pin that could have seen it in the
//!    table, no value that was read from it.
//! 2. Punches happen oldest birth first, and each is durable before its number is free.

use std::sync::Arc;

use daxite_core::{EpochCell, Volume};

use crate::error::Result;
use crate::numbers::FreeNumbers;
use crate::segment::{Birth, Segment, SegmentNo};

struct Retired {
    no: SegmentNo,
    birth: Birth,
    huge: bool,
    /// Held twice until every pin is gone that could have seen the segment in the table. What
    /// holds the segment then is values.
    seen: Arc<()>,
    /// `None` once its last holder is gone; then only the punch is left to do.
    segment: Option<Arc<Segment>>,
}

/// The retired segments.
pub(crate) struct RetiredSegments {
    waiting: Vec<Retired>,
    /// Where [`Retired::seen`] passes through, right after its segment left the table.
    seen: EpochCell<()>,
    /// Segments punched so far.
    pub punched: u64,
}

/// How many segments wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Waiting {
    pub huge: u64,
    pub page: u64,
}

impl RetiredSegments {
    pub(crate) fn new() -> Self {
        Self { waiting: Vec::new(), seen: EpochCell::empty(), punched: 0 }
    }

    /// Takes `segment`, which just left the table.
    pub(crate) fn push(&mut self, segment: Arc<Segment>) {
        let seen = Arc::new(());
        self.seen.replace(Some(Arc::clone(&seen)));
        self.seen.replace(None);
        self.waiting.push(Retired {
            no: segment.no,
            birth: segment.birth,
            huge: segment.is_huge(),
            seen,
            segment: Some(segment),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a pin may be left that saw one of the segments in the table.
    pub(crate) fn may_be_seen(&self) -> bool {
        self.waiting.iter().any(|retired| Arc::strong_count(&retired.seen) > 1)
    }

    pub(crate) fn births(&self) -> impl Iterator<Item = Birth> {
        self.waiting.iter().map(|retired| retired.birth)
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let huge = self.waiting.iter().filter(|retired| retired.huge).count() as u64;
        Waiting { huge, page: self.waiting.len() as u64 - huge }
    }

    /// Punches what nobody holds any more.
    ///
    /// # Errors
    /// What the volume answers, of the first punch that failed; what is left waits.
    pub(crate) fn punch(&mut self, volume: &Volume, numbers: &mut FreeNumbers) -> Result<()> {
        self.waiting.sort_unstable_by_key(|retired| retired.birth);
        let mut failed = None;
        for mut retired in std::mem::take(&mut self.waiting) {
            retired.segment = retired.segment.and_then(still_held);
            if retired.segment.is_some() || failed.is_some() {
                self.waiting.push(retired);
                continue;
            }
            match volume.punch(retired.no.slot()) {
                Ok(()) => {
                    numbers.release(retired.no);
                    self.punched += 1;
                }
                // Someone looks at the volume through a guard of their own.
                Err(daxite_core::Error::Busy { .. }) => self.waiting.push(retired),
                Err(error) => {
                    self.waiting.push(retired);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// `segment`, if someone else holds it too; otherwise drops it, and with it the pin on its bytes.
fn still_held(segment: Arc<Segment>) -> Option<Arc<Segment>> {
    // It is out of the table: who is its only holder stays so.
    if Arc::strong_count(&segment) > 1 {
        return Some(segment);
    }
    drop(Arc::into_inner(segment));
    None
}
