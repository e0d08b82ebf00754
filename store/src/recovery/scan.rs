//! What the bytes of a slot say: pure, from bytes to a verdict.
//!
//! # Damage, or merely a crash?
//!
//! The writer (`writer.rs`) persists the header, then its copy, then one frame after the other,
//! then the seal; and the first and the last lines of a slot are zero when it is mapped. So a
//! crash leaves exactly this:
//!
//! 1. No valid header and no valid copy, and a first line that is zero or part of a header, while
//!    nothing in the slot speaks of acknowledged frames: the segment was being opened.
//! 2. A valid header, frames one behind the other up to a torn one, and behind it no frame that
//!    verifies: a torn tail, never acknowledged.
//! 3. A valid seal: then all frames up to the sealed end verify.
//!
//! Anything else is [`Damage`]. One damaged line of header and copy is made up for by the other.
//! What damage can't be told from a crash: that of the last frame of a segment that was not
//! sealed (it looks torn), and that which makes the first line zero or part of a header, and
//! destroys copy and seal as well.
//!
//! Any bytes at all may be examined. Time is bounded by a constant times their number.

use daxite_core::{LINE, PAGE};

use crate::SeqNo;
use crate::frame::{Flaw, Frame, Seed};
use crate::layout::{HEAD_BYTES, HEADER_MAGIC, KIND_RECLAIM, Seal, SegmentHeader, TAIL_BYTES};
use crate::segment::{Birth, PoolSeed, SegmentNo};

/// Bytes hashed behind a tear in search of a frame, as a multiple of the segment's length. Stale
/// frames take about one; more is bytes made to look like frames.
const SEARCH_FACTOR: usize = 16;
/// Numbers from here on are never reached: 2^62 writes.
const SEQNO_END: u64 = 1 << 62;

/// Bytes that no crash leaves behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Damage {
    /// From the start of the segment.
    pub offset: u64,
    pub detail: &'static str,
}

/// What a slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Finding {
    /// A segment that was being opened; nothing was ever acknowledged in it.
    Unopened,
    Segment(Found),
}

/// A segment, all of whose frames verify.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub birth: Birth,
    /// Whether reclaim wrote it.
    pub is_moved: bool,
    /// The header was damaged; this is from its copy.
    pub from_copy: bool,
    pub sealed: bool,
    /// Where the last valid frame ends.
    pub frames_end: u64,
    pub frames: u64,
    pub records: u64,
    /// That of the last frame, or the header's clock.
    pub last_seqno: SeqNo,
    /// Length of the torn frame behind the last valid one, as far as its header tells.
    pub torn_bytes: Option<u64>,
}

impl Found {
    /// The seal of the segment as it stands.
    pub(crate) fn seal(&self) -> Seal {
        Seal {
            birth: self.birth.0,
            frames_end: self.frames_end,
            last_seqno: self.last_seqno.0,
            frames: self.frames,
            ..bytemuck::Zeroable::zeroed()
        }
    }
}

/// Examines `bytes`, all that is mapped at the head of the slot `no`.
///
/// # Errors
/// [`Damage`], if no crash explains the bytes.
pub(crate) fn examine(bytes: &[u8], seed: PoolSeed, no: SegmentNo) -> Result<Finding, Damage> {
    let lines = Lines::of(bytes);
    let copy_at = (bytes.len() - TAIL_BYTES as usize) as u64;
    let seal_at = copy_at + LINE;
    let head = seed.read_header(lines.head, 0, no);
    let copy = seed.read_header(lines.copy, copy_at, no);
    let seal = seed.read_seal(lines.seal, seal_at, no);
    let header = match (head, copy) {
        (Some(head), Some(copy)) if !same_segment(&head, &copy) => {
            return damage(copy_at, "header and its copy differ");
        }
        (Some(header), _) | (None, Some(header)) => header,
        (None, None) if was_being_opened(&lines, seal.as_ref(), bytes, seed, no) => {
            return Ok(Finding::Unopened);
        }
        (None, None) => return damage(0, "neither the header nor its copy verifies"),
    };
    if u64::from(header.pages) * PAGE != bytes.len() as u64 {
        return damage(0, "the segment is mapped at another length than its header says");
    }
    let birth = Birth(header.birth);
    let seal = seal.filter(|seal| seal.birth == header.birth);
    // What is behind the sealed end was never acknowledged, whatever it looks like.
    let end = match &seal {
        Some(seal) if !(HEAD_BYTES..=copy_at).contains(&seal.frames_end) => {
            return damage(seal_at, "the seal's end is out of bounds");
        }
        Some(seal) => seal.frames_end,
        None => copy_at,
    };
    let area = Area { bytes: &bytes[..end as usize], seed: seed.frames(no, birth) };
    let walk = area.walk(SeqNo(header.clock))?;
    let torn_bytes = match &seal {
        Some(seal) => {
            walk.agree(seal)?;
            None
        }
        None => area.behind(&walk)?,
    };
    Ok(Finding::Segment(Found {
        birth,
        is_moved: header.kind == KIND_RECLAIM,
        from_copy: head.is_none(),
        sealed: seal.is_some(),
        frames_end: walk.end as u64,
        frames: walk.frames,
        records: walk.records,
        last_seqno: walk.last_seqno,
        torn_bytes,
    }))
}

/// The lines of a segment that are no frames.
struct Lines<'a> {
    head: &'a [u8],
    copy: &'a [u8],
    seal: &'a [u8],
}

impl<'a> Lines<'a> {
    /// `bytes` are whole pages, at least one.
    fn of(bytes: &'a [u8]) -> Self {
        let (rest, seal) = bytes.split_at(bytes.len() - LINE as usize);
        let (_, copy) = rest.split_at(rest.len() - LINE as usize);
        Self { head: &bytes[..LINE as usize], copy, seal }
    }
}

/// Whether two headers that verify in their places say the same.
fn same_segment(head: &SegmentHeader, copy: &SegmentHeader) -> bool {
    SegmentHeader { checksum: head.checksum, ..*copy } == *head
}

/// Whether a crash while the segment was opened explains that neither header verifies: the first
/// line is zero, or was reached by some of the header's words, and nothing behind speaks against.
fn was_being_opened(
    lines: &Lines<'_>,
    seal: Option<&Seal>,
    bytes: &[u8],
    seed: PoolSeed,
    no: SegmentNo,
) -> bool {
    let zero_or = |word: &[u8], expected: &[u8]| word.iter().all(|&b| b == 0) || word == expected;
    let pages = (bytes.len() as u64 / PAGE) as u32;
    let [no_bytes, pages_bytes] = [no.0.to_le_bytes(), pages.to_le_bytes()];
    let shape = zero_or(&lines.head[..8], &HEADER_MAGIC)
        && zero_or(&lines.head[32..40], &[no_bytes, pages_bytes].concat())
        && lines.head[44..].iter().all(|&byte| byte == 0);
    // A birth that a damaged header or copy may still tell: does the first frame verify with it?
    let births = [&lines.head[16..24], &lines.copy[16..24]]
        .map(|word| Birth(u64::from_le_bytes(word.try_into().expect("a word has 8 bytes"))));
    let has_frame = births.iter().any(|&birth| {
        let end = bytes.len() - TAIL_BYTES as usize;
        Frame::decode(&bytes[HEAD_BYTES as usize..end], HEAD_BYTES, seed.frames(no, birth)).is_ok()
    });
    shape && seal.is_none() && !has_frame
}

/// The frames of a segment.
struct Area<'a> {
    /// From the start of the segment to where frames end at the latest.
    bytes: &'a [u8],
    seed: Seed,
}

/// The valid frames from the first on.
struct Walk {
    end: usize,
    frames: u64,
    records: u64,
    last_seqno: SeqNo,
    /// Why there is no further frame; `None` if there is no room for one.
    flaw: Option<Flaw>,
}

impl Area<'_> {
    fn decode(&self, at: usize) -> Result<Frame<'_>, Flaw> {
        Frame::decode(&self.bytes[at..], at as u64, self.seed)
    }

    fn walk(&self, clock: SeqNo) -> Result<Walk, Damage> {
        let at = HEAD_BYTES as usize;
        let mut walk = Walk { end: at, frames: 0, records: 0, last_seqno: clock, flaw: None };
        while walk.end < self.bytes.len() {
            match self.decode(walk.end) {
                Ok(frame) if frame.seqno <= walk.last_seqno || frame.seqno.0 >= SEQNO_END => {
                    return damage(walk.end as u64, "the frame's sequence number is out of order");
                }
                Ok(frame) => {
                    walk.end += frame.len_bytes();
                    walk.frames += 1;
                    walk.records += u64::from(frame.record_count);
                    walk.last_seqno = frame.seqno;
                }
                Err(Flaw::Records) => {
                    return damage(walk.end as u64, "the frame's records make no sense");
                }
                Err(flaw) => {
                    walk.flaw = Some(flaw);
                    break;
                }
            }
        }
        Ok(walk)
    }

    /// Makes sure that no frame is behind the tear at the end of `walk`, and answers with the
    /// length of the torn frame if its header is there.
    fn behind(&self, walk: &Walk) -> Result<Option<u64>, Damage> {
        let torn = match walk.flaw {
            Some(Flaw::Checksum { len_bytes }) => Some(len_bytes as u64),
            _ => None,
        };
        let mut budget = self.bytes.len() * SEARCH_FACTOR;
        for at in (walk.end..self.bytes.len()).step_by(LINE as usize).skip(1) {
            match self.decode(at) {
                Ok(_) | Err(Flaw::Records) => {
                    let detail = "the frame does not verify, but one behind it does";
                    return damage(walk.end as u64, detail);
                }
                Err(Flaw::Checksum { len_bytes }) if len_bytes > budget => {
                    return damage(at as u64, "too much looks like frames and is none");
                }
                Err(Flaw::Checksum { len_bytes }) => budget -= len_bytes,
                Err(Flaw::NoHeader) => {}
            }
        }
        Ok(torn)
    }
}

impl Walk {
    /// Whether what was found is what was sealed.
    fn agree(&self, seal: &Seal) -> Result<(), Damage> {
        if self.flaw.is_some() {
            return damage(self.end as u64, "the frame does not verify in a sealed segment");
        }
        if self.frames != seal.frames || self.last_seqno.0 != seal.last_seqno {
            return damage(seal.frames_end, "the seal contradicts the frames");
        }
        Ok(())
    }
}

fn damage<T>(offset: u64, detail: &'static str) -> Result<T, Damage> {
    Err(Damage { offset, detail })
}
