//! The crash simulator: what could be on the medium if the process died or the power failed now?
//!
//! Feature `sim`. `persist` reports every read, store, write-back and fence of the production code
//! path. A [`Recorder`] makes of them what is certainly on the medium (the floor) and what may be (the
//! open lines); at a [`CrashPoint`] the states that a failure can leave are opened one after the
//! other, in memory that is put back in order afterwards, line by line; an [`Explorer`] does so for a
//! whole run, and judges each by what a [`Subject`] expects.
//!
//! The machine model (docs/DURABILITY.md, M1-M5):
//! 1. A line holds a prefix of the stores that were made to it since it was last durable. Lines are
//!    independent of each other.
//! 2. A word of 8 bytes is whole. Words of one bulk store (whole lines past the cache, zeroing, and
//!    whatever a write guard stored) may be there in any subset.
//! 3. What a thread flushed is certain once that thread fences; non-temporal stores count as
//!    flushed.
//!
//! Between two fences the set of possible states only grows, so it is enough to look just before
//! each fence and wherever the expectation gets narrower.
//!
//! What is left of a line is decided when somebody first looks at it (the method of Jaaru, Gorjiara
//! et al., ASPLOS 2021): a state that recovery cannot tell from another is not opened twice.

mod bench;
mod explorer;
mod point;
mod recorder;
mod replay;
mod shadow;
mod site;
mod strategy;

use std::sync::{Arc, OnceLock};

pub use explorer::{Budget, Explorer, Journal, Subject, Tally, Violation};
pub use point::{CrashPoint, Kept};
pub use recorder::{Defect, Recorder};
pub use site::{Act, Site};

pub(crate) use bench::Trial;

use shadow::Ground;

use crate::error::Result;
use crate::medium::Medium;
use crate::persist::{load_image, peek_bytes};
use crate::pool::Pool;
use crate::units::{Offset, PAGE, PageNo};

/// Who watches a medium.
#[derive(Default)]
pub(crate) struct Observer {
    pub recorder: Option<Arc<Recorder>>,
    pub trial: Option<Arc<Trial>>,
}

static ON_MAPPING: OnceLock<fn(usize, usize)> = OnceLock::new();

/// From now on `hook` is called with address and length of each mapping of a file, before anyone reads
/// it: a test may spoil it there. Once per process.
pub fn on_mapping(hook: fn(usize, usize)) {
    assert!(ON_MAPPING.set(hook).is_ok(), "somebody is told of mappings already");
}

/// A file was mapped.
pub(crate) fn mapped(address: usize, len_bytes: usize) {
    if let Some(hook) = ON_MAPPING.get() {
        hook(address, len_bytes);
    }
}

impl Pool {
    /// A new pool in memory whose stores are followed from the first one on, those of its creation
    /// included, by `recorder`, which has followed nothing yet.
    ///
    /// # Errors
    /// As [`Pool::in_memory`].
    pub fn recorded(len_bytes: u64, recorder: &Arc<Recorder>) -> Result<Self> {
        recorder.start(Ground::zeros(len_bytes));
        Self::recorded_on(Medium::anonymous(len_bytes)?, recorder)
    }

    /// As [`Pool::recorded`], in memory that holds `earlier`: a pool that is made over another one.
    ///
    /// # Errors
    /// As [`Pool::in_memory`].
    pub fn recorded_over(earlier: &[u8], recorder: &Arc<Recorder>) -> Result<Self> {
        let medium = Medium::anonymous(earlier.len() as u64)?;
        load_image(&medium, earlier);
        recorder.start(Ground::of(earlier));
        Self::recorded_on(medium, recorder)
    }

    fn recorded_on(mut medium: Medium, recorder: &Arc<Recorder>) -> Result<Self> {
        medium.observe(Observer { recorder: Some(Arc::clone(recorder)), trial: None });
        Self::initialize(medium)
    }

    /// Opens the pool that `image` holds, as after a restart; its stores go to `recorder`.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub fn from_image(image: &[u8], recorder: Option<&Arc<Recorder>>) -> Result<Self> {
        let mut medium = Medium::anonymous(image.len() as u64)?;
        load_image(&medium, image);
        if let Some(recorder) = recorder {
            recorder.start(Ground::of(image));
            medium.observe(Observer { recorder: Some(Arc::clone(recorder)), trial: None });
        }
        Self::load(medium)
    }

    /// What happens when an access meets a bad page at `offset`: memory has none.
    pub fn meet_bad_page(&self, offset: Offset) {
        self.medium().bad_page(PageNo(offset.0 / PAGE));
    }

    /// All bytes of the pool as they stand, without a look at them that an explorer would notice.
    pub fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.medium().len_bytes() as usize];
        self.peek(0, &mut image);
        image
    }

    /// A part of [`Pool::image`]: the bytes from `start` on.
    pub fn peek(&self, start: u64, to: &mut [u8]) {
        peek_bytes(self.medium(), Offset(start), to);
    }
}
