//! What can be read of a segment of which a page may be bad, and the frames in that.
//!
//! 1. Bytes of a bad page are never looked at.
//! 2. Of a segment without bad pages all frames are there, one behind the other, or it is damaged.
//! 3. Behind a bad page the next frame is looked for, line by line: frames start on lines, and a checksum
//!    that is seeded with the position verifies nowhere else. What does not verify there is left out: the
//!    bad page has the rest of it.
//!
//! Knows nothing of what lives.

use std::ops::Range;

use daxite_core::{LINE, PAGE};

use crate::error::Result;
use crate::frame::{Frame, Kind};
use crate::layout::HEAD_BYTES;
use crate::segment::Segment;

/// The readable parts of a segment's frames.
pub(crate) struct Readable<'s> {
    segment: &'s Segment,
    /// Bytes of the segment, ascending; more than one, or less than all, if there are bad pages.
    parts: Vec<Range<usize>>,
    is_whole: bool,
}

impl<'s> Readable<'s> {
    /// Asks for the bad pages of `segment`, which takes no more frames.
    pub(crate) fn of(segment: &'s Segment) -> Self {
        let end = segment.extent().frozen_bytes() as usize;
        let (mut parts, mut start) = (Vec::new(), HEAD_BYTES as usize);
        let bad = segment.bad_pages();
        for page in &bad {
            parts.push(start..*page as usize);
            start = (page + PAGE) as usize;
        }
        parts.push(start..end);
        parts.retain(|part| part.start < part.end);
        Self { segment, parts, is_whole: bad.is_empty() }
    }

    /// Whether all of it can be read.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The frames, each with its position.
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption) for a frame that does not verify, if no bad page
    /// explains that.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Result<(usize, Frame<'s>)>> {
        self.parts.iter().flat_map(|part| self.frames_of(part.clone()))
    }

    fn frames_of(&self, part: Range<usize>) -> impl Iterator<Item = Result<(usize, Frame<'s>)>> {
        let (start, len_bytes) = (part.start as u64, part.len() as u64);
        let bytes = self.segment.range(start, len_bytes).expect("frozen bytes can be read");
        let (segment, is_whole) = (self.segment, self.is_whole);
        let mut at = part.start;
        std::iter::from_fn(move || {
            while at < part.end {
                match Frame::decode(&bytes[at - part.start..], at as u64, segment.seed) {
                    Ok(frame) => {
                        let found = (at, frame);
                        at += frame.len_bytes();
                        return Some(Ok(found));
                    }
                    Err(_) if is_whole => {
                        let damaged = "frame does not verify".to_string();
                        let error = segment.damaged(at as u64, damaged);
                        at = part.end;
                        return Some(Err(error));
                    }
                    Err(_) => at += LINE as usize,
                }
            }
            None
        })
    }

    /// Tombstones in the frames that can be read.
    ///
    /// # Errors
    /// As [`Readable::frames`].
    pub(crate) fn tombstones(&self) -> Result<u64> {
        let is_tombstone = |kind| u64::from(kind == Kind::Tombstone);
        let of_frame = |frame: Frame<'_>| {
            frame.records().map(|(_, record)| is_tombstone(record.kind)).sum::<u64>()
        };
        self.frames().map(|found| found.map(|(_, frame)| of_frame(frame))).sum()
    }
}
