//! Scrubbing: reading all of the log while it is in use, in search of what went bad since it was opened.
//!
//! 1. Nothing on the medium is changed but the list of bad pages: one that turns out bad is put there.
//!    One that reads well again is told, and stays there.
//! 2. A segment is held while it is looked at, so reclaim may wait for it, and nobody else.
//! 3. Of a segment the pages that cannot be read are told; if there is none, its first damaged frame.

use daxite_core::{Offset, Severity};

use crate::checkup::LogFinding;
use crate::error::Result;
use crate::frame::Frame;
use crate::layout::HEAD_BYTES;
use crate::segment::Segment;
use crate::store::Store;

/// What [`Database::scrub`](crate::Database::scrub) looked at, and what it found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Segments.
    pub segments: u64,
    /// Frames that verified.
    pub frames: u64,
    /// Bytes of segments, as far as they hold frames.
    pub bytes: u64,
    /// Bad pages, in the order of segments.
    pub media_errors: Vec<LogFinding>,
    /// Frames that do not verify, in the order of segments.
    pub damaged: Vec<LogFinding>,
    /// Pages of the pool that are listed as bad and can be read again, ascending. They stay listed until
    /// [`Pool::forget_bad_page`](daxite_core::Pool::forget_bad_page) is called for them.
    pub healed: Vec<Offset>,
}

impl ScrubReport {
    /// Whether nothing was found.
    pub fn is_sound(&self) -> bool {
        self.media_errors.is_empty() && self.damaged.is_empty()
    }
}

impl Store {
    /// Reads and verifies every frame.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub(crate) fn scrub(&self) -> Result<ScrubReport> {
        let mut report = ScrubReport::default();
        for segment in self.space.segments() {
            self.check_open()?;
            scrub_segment(&segment, &mut report)?;
        }
        report.healed = self.pool().healed_pages()?;
        Ok(report)
    }
}

fn scrub_segment(segment: &Segment, report: &mut ScrubReport) -> Result<()> {
    report.segments += 1;
    let unreadable = segment.unreadable();
    if !unreadable.is_empty() {
        for error in unreadable {
            report.media_errors.push(LogFinding::of(Severity::Damage, error)?);
        }
        return Ok(());
    }
    // Once: what is appended from now on has just been written.
    let bytes = segment.bytes();
    report.bytes += bytes.len() as u64;
    let mut at = HEAD_BYTES as usize;
    while at < bytes.len() {
        let Ok(frame) = Frame::decode(&bytes[at..], at as u64, segment.seed) else {
            report.damaged.push(LogFinding {
                severity: Severity::Damage,
                what: segment.no.to_string(),
                offset: Offset(segment.extent().physical().0 + at as u64),
                detail: "the frame does not verify".to_string(),
            });
            return Ok(());
        };
        at += frame.len_bytes();
        report.frames += 1;
    }
    Ok(())
}
