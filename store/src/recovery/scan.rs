//! What the bytes of a slot say: pure, from bytes to a verdict.
//!
//! # Damage, or merely a crash?
//!
//! The first and the last lines of a slot are zero when it is mapped. Then the writer (`writer.rs`)
//! persists the header, then its copy, then one frame after the other, then the seal. So a crash
//! leaves exactly this:
//!
//! 1. Zeros, or some words of a header, where the header belongs; zeros where copy and seal belong:
//!    the segment was being opened, and nothing was ever acknowledged in it.
//! 2. A valid header, zeros or some words where the copy belongs, and no frame.
//! 3. A valid header and copy, frames one behind the other, and maybe a torn one, behind which no
//!    frame verifies: a torn tail, never acknowledged. Zeros where the seal belongs, or some words
//!    of the very seal that belongs to these frames.
//! 4. A valid seal: then all frames up to the sealed end verify.
//!
//! Anything else is [`Damage`], except that the header may be lost if the copy verifies, and the
//! copy if header and seal do. What damage can't be told from a crash: that of the last frame of a
//! segment that was not sealed (it looks torn), and that which leaves nothing but zeros.
//!
//! Any bytes at all may be examined. Time is bounded by a constant times their number.

use bytemuck::{bytes_of, pod_read_unaligned};
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

/// How far [`examine`] reads the frames in `bytes`, of which the first and the last page can be read.
pub(crate) fn reach(bytes: &[u8], seed: PoolSeed, no: SegmentNo) -> u64 {
    let lines = Lines::of(bytes);
    let copy_at = (bytes.len() - TAIL_BYTES as usize) as u64;
    let header = seed.read_header(lines.head, 0, no);
    let header = header.or_else(|| seed.read_header(lines.copy, copy_at, no));
    match (header, seed.read_seal(lines.seal, copy_at + LINE, no)) {
        (Some(header), Some(seal)) if seal.birth == header.birth => seal.frames_end.min(copy_at),
        _ => copy_at,
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
        (None, None) if lines.are_being_opened(no, bytes.len()) => return Ok(Finding::Unopened),
        (None, None) => return damage(0, "neither the header nor its copy verifies"),
    };
    if u64::from(header.pages) * PAGE != bytes.len() as u64 {
        return damage(0, "the segment is mapped at another length than its header says");
    }
    if header.clock >= SEQNO_END {
        return damage(0, "the header's clock is out of bounds");
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
    let mut found = Found {
        birth,
        is_moved: header.kind == KIND_RECLAIM,
        from_copy: head.is_none(),
        sealed: seal.is_some(),
        frames_end: walk.end as u64,
        frames: walk.frames,
        records: walk.records,
        last_seqno: walk.last_seqno,
        torn_bytes: None,
    };
    match &seal {
        Some(seal) => walk.agree(seal)?,
        None => {
            if copy.is_none() && found.frames > 0 {
                return damage(copy_at, "neither the copy of the header nor the seal verifies");
            }
            let expected = seed.sign_seal(found.seal(), seal_at, no);
            if !is_some_of(lines.seal, bytes_of(&expected)) {
                return damage(seal_at, "the seal does not verify");
            }
            found.torn_bytes = area.behind(&walk)?;
        }
    }
    Ok(Finding::Segment(found))
}

/// Whether `line` is zero but for some words of `whole`.
fn is_some_of(line: &[u8], whole: &[u8]) -> bool {
    let words = line.chunks_exact(8).zip(whole.chunks_exact(8));
    words.into_iter().all(|(word, expected)| word == [0; 8] || word == expected)
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

    /// Whether a crash while the segment `no` was opened, `len_bytes` long, leaves these lines.
    fn are_being_opened(&self, no: SegmentNo, len_bytes: usize) -> bool {
        // Some words of a header: what is not known of it may be anything.
        let header: SegmentHeader = pod_read_unaligned(self.head);
        let some = SegmentHeader {
            magic: HEADER_MAGIC,
            segment: no.0,
            pages: (len_bytes as u64 / PAGE) as u32,
            reserved: [0; 20],
            ..header
        };
        let is_zero = |line: &[u8]| line.iter().all(|&byte| byte == 0);
        is_some_of(self.head, bytes_of(&some)) && is_zero(self.copy) && is_zero(self.seal)
    }
}

/// Whether two headers that verify in their places say the same.
fn same_segment(head: &SegmentHeader, copy: &SegmentHeader) -> bool {
    SegmentHeader { checksum: head.checksum, ..*copy } == *head
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoder, Kind, Record};
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    const NO: SegmentNo = SegmentNo(7);
    const LEN: usize = 2 * PAGE as usize;
    const COPY_AT: usize = LEN - TAIL_BYTES as usize;

    fn seed() -> PoolSeed {
        PoolSeed::new(&[3; 16])
    }

    /// A segment with frames of values of the given lengths, as its writer leaves it.
    fn segment(birth: u64, values: &[usize], sealed: bool) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        let header = SegmentHeader {
            birth,
            segment: NO.0,
            pages: (LEN as u64 / PAGE) as u32,
            ..Zeroable::zeroed()
        };
        bytes[..64].copy_from_slice(bytes_of(&seed().sign_header(header, 0)));
        let copy = seed().sign_header(header, COPY_AT as u64);
        bytes[COPY_AT..COPY_AT + 64].copy_from_slice(bytes_of(&copy));
        let mut at = HEAD_BYTES as usize;
        let mut buffer = Vec::new();
        for (nth, len) in values.iter().enumerate() {
            let value = vec![nth as u8; *len];
            let key = &[nth as u8];
            let mut encoder = Encoder::new(&mut buffer);
            encoder.push(&Record { keyspace: 1, kind: Kind::Put, moved: None, key, value: &value });
            let frames = seed().frames(NO, Birth(birth));
            encoder.finish(SeqNo(nth as u64 + 1), at as u64, frames);
            bytes[at..at + buffer.len()].copy_from_slice(&buffer);
            at += buffer.len();
        }
        if sealed {
            let seal = Seal {
                birth,
                frames_end: at as u64,
                last_seqno: values.len() as u64,
                frames: values.len() as u64,
                ..Zeroable::zeroed()
            };
            let seal = seed().sign_seal(seal, LEN as u64 - 64, NO);
            bytes[LEN - 64..].copy_from_slice(bytes_of(&seal));
        }
        bytes
    }

    fn found(bytes: &[u8]) -> Found {
        match examine(bytes, seed(), NO) {
            Ok(Finding::Segment(found)) => found,
            other => panic!("{other:?}"),
        }
    }

    fn damage_of(bytes: &[u8]) -> Damage {
        examine(bytes, seed(), NO).expect_err("it is damaged")
    }

    #[test]
    fn whole_segments_are_found() {
        let open = found(&segment(5, &[10, 900, 0], false));
        assert_eq!((open.frames, open.records, open.sealed), (3, 3, false));
        assert_eq!((open.last_seqno, open.torn_bytes), (SeqNo(3), None));
        let sealed = found(&segment(5, &[10, 900, 0], true));
        assert_eq!(sealed, Found { sealed: true, ..open });
        assert_eq!(found(&segment(5, &[], false)).frames_end, HEAD_BYTES);
        assert_eq!(found(&segment(5, &[], true)).frames, 0);
    }

    #[test]
    fn every_subset_of_a_header_on_a_clean_slot_is_one_being_opened() {
        let header = segment(5, &[], false)[..64].to_vec();
        for words in 0..=255u8 {
            let mut bytes = vec![0; LEN];
            for word in (0..8).filter(|word| words >> word & 1 == 1).map(|word| word * 8) {
                bytes[word..word + 8].copy_from_slice(&header[word..word + 8]);
            }
            // Some words are zero, so that the header may be whole without them.
            let whole = bytes[..64] == header;
            // What stale bytes stand between the ends makes no difference.
            bytes[4096..5000].fill(0xab);
            let finding = examine(&bytes, seed(), NO).unwrap();
            assert_eq!(finding == Finding::Unopened, !whole, "words {words:#b}: {finding:?}");
        }
    }

    #[test]
    fn every_subset_of_the_copy_behind_a_header_is_an_empty_segment() {
        let whole = segment(5, &[], false);
        for words in 0..=255u8 {
            let mut bytes = whole.clone();
            for word in (0..8).filter(|word| words >> word & 1 == 0).map(|word| word * 8) {
                bytes[COPY_AT + word..COPY_AT + word + 8].fill(0);
            }
            assert_eq!(found(&bytes).frames, 0);
        }
    }

    #[test]
    fn every_subset_of_the_words_of_a_last_frame_is_a_torn_tail() {
        let whole = segment(5, &[10, 90], false);
        let before = segment(5, &[10], false);
        let at = found(&before).frames_end as usize;
        let end = found(&whole).frames_end as usize;
        let mut random = 7u64;
        for _ in 0..2000 {
            let mut bytes = before.clone();
            for word in (at..end).step_by(8) {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                if random >> 63 == 1 {
                    bytes[word..word + 8].copy_from_slice(&whole[word..word + 8]);
                }
            }
            let found = found(&bytes);
            assert!(bytes == whole || found.frames == 1);
            assert_eq!(found.frames_end as usize, if found.frames == 1 { at } else { end });
        }
        let mut torn = whole.clone();
        torn[end - 64..end].fill(0);
        assert_eq!(found(&torn).torn_bytes, Some((end - at) as u64));
    }

    #[test]
    fn stale_frames_of_an_earlier_owner_are_nothing() {
        let mut bytes = segment(9, &[10], false);
        let stale = segment(5, &[10; 40], false);
        let end = found(&bytes).frames_end as usize;
        bytes[end..COPY_AT].copy_from_slice(&stale[end..COPY_AT]);
        assert_eq!((found(&bytes).frames, found(&bytes).torn_bytes), (1, None));
    }

    #[test]
    fn damage_in_the_middle_is_told_from_a_torn_tail() {
        let mut bytes = segment(5, &[10, 200, 10], false);
        let second = found(&segment(5, &[10], false)).frames_end;
        bytes[second as usize + 100] ^= 4;
        assert_eq!(damage_of(&bytes).offset, second);
    }

    #[test]
    fn one_line_of_header_and_copy_may_be_lost() {
        let whole = segment(5, &[10, 20], true);
        for at in [0, COPY_AT] {
            for fill in [0, 0xff] {
                let mut bytes = whole.clone();
                bytes[at..at + 64].fill(fill);
                assert_eq!(found(&bytes), Found { from_copy: at == 0, ..found(&whole) });
            }
        }
        let mut bytes = whole;
        bytes[..64].fill(0xff);
        bytes[COPY_AT..COPY_AT + 64].fill(0xff);
        assert_eq!(damage_of(&bytes).offset, 0);
        bytes[..64].fill(0);
        assert_eq!(damage_of(&bytes).offset, 0);
    }

    #[test]
    fn the_last_page_of_a_sealed_segment_is_not_lost_unnoticed() {
        let whole = segment(5, &[3900, 900, 900], true);
        for fill in [0, 0xff] {
            let mut bytes = whole.clone();
            bytes[PAGE as usize..].fill(fill);
            damage_of(&bytes);
        }
    }

    #[test]
    fn every_subset_of_a_seal_is_one_that_was_being_written() {
        let whole = segment(5, &[10, 90], true);
        for words in 0..=255u8 {
            let mut bytes = whole.clone();
            for word in (0..8).filter(|word| words >> word & 1 == 0).map(|word| word * 8) {
                bytes[LEN - 64 + word..LEN - 56 + word].fill(0);
            }
            assert_eq!(found(&bytes), Found { sealed: bytes == whole, ..found(&whole) });
        }
    }

    #[test]
    fn every_flipped_bit_of_a_sealed_segment_is_harmless_or_damage() {
        let whole = segment(5, &[10, 200, 0, 30], true);
        let good = found(&whole);
        for bit in 0..LEN * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let in_frames = (64..good.frames_end as usize).contains(&(bit / 8));
            let in_seal = bit / 8 >= LEN - 64;
            match examine(&bytes, seed(), NO) {
                Ok(Finding::Segment(found)) => {
                    assert!(!in_frames, "bit {bit} went unnoticed");
                    assert_eq!((found.frames, found.frames_end), (good.frames, good.frames_end));
                }
                Ok(Finding::Unopened) => panic!("bit {bit} lost the segment"),
                Err(damage) => assert!(in_frames || in_seal, "bit {bit}: {damage:?}"),
            }
        }
    }

    #[test]
    fn a_frame_behind_the_sealed_end_does_not_count() {
        // Its fence failed, and the segment was sealed in front of it.
        let mut bytes = segment(5, &[10, 20], true);
        let longer = segment(5, &[10, 20, 30], false);
        bytes[64..COPY_AT].copy_from_slice(&longer[64..COPY_AT]);
        assert_eq!(found(&bytes).frames, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_examined(
            values in proptest::collection::vec(0usize..300, 0..12),
            sealed: bool,
            edits in proptest::collection::vec((0..LEN, proptest::collection::vec(any::<u8>(), 1..80)), 0..6),
        ) {
            let mut bytes = segment(5, &values, sealed);
            for (at, edit) in edits {
                let end = LEN.min(at + edit.len());
                bytes[at..end].copy_from_slice(&edit[..end - at]);
            }
            let _ = examine(&bytes, seed(), NO);
        }
    }
}
