//! The writing end of an open segment.
//!
//! 1. The header is durable before its copy is stored, the copy before the first frame. So a
//!    header that does not verify in front of a copy that was never written means that nothing
//!    was ever acknowledged here.
//! 2. A frame is durable before the next is stored: whoever appends holds the writer alone from
//!    [`Writer::append`] to its return. So a frame that verifies behind one that does not is
//!    damage, never a torn tail.
//! 3. The seal is stored after the last frame is durable, and nothing is appended after it.

use std::sync::Arc;

use bytemuck::{Zeroable, bytes_of};
use daxite_core::{Appender, Extent, PAGE, Pool};

use crate::SeqNo;
use crate::error::Result;
use crate::layout::{HEAD_BYTES, KIND_RECLAIM, KIND_WRITERS, Seal, SegmentHeader, TAIL_BYTES};
use crate::segment::{Birth, PoolSeed, Segment, SegmentNo};

/// What a new segment is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSegment {
    pub no: SegmentNo,
    pub birth: Birth,
    /// The lane's clock: every frame will be later.
    pub clock: SeqNo,
    pub lane: u16,
    /// Whether it is for records that reclaim moves.
    pub is_moved: bool,
}

/// The right to append to an open segment.
pub(crate) struct Writer {
    pub segment: Arc<Segment>,
    /// Opened out of the reserve: puts have to wait until there is space again.
    pub from_reserve: bool,
    frames: Appender,
    /// The right to the last line.
    seal: Appender,
    pool_seed: PoolSeed,
    count: u64,
    last_seqno: SeqNo,
}

impl Writer {
    /// Makes a segment of what was just mapped, and persists its header.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub(crate) fn create(
        pool: &Pool,
        pool_seed: PoolSeed,
        new: &NewSegment,
        (mut frames, extent): (Appender, Arc<Extent>),
    ) -> Result<Self> {
        let len_bytes = extent.len_bytes();
        let header = SegmentHeader {
            birth: new.birth.0,
            clock: new.clock.0,
            segment: new.no.0,
            pages: u32::try_from(len_bytes / PAGE).expect("a segment fits a slot"),
            lane: new.lane,
            kind: if new.is_moved { KIND_RECLAIM } else { KIND_WRITERS },
            ..Zeroable::zeroed()
        };
        let mut seal = frames.split_end(TAIL_BYTES)?;

        let line = pool_seed.sign_header(header, 0);
        let flushed = frames.append(bytes_of(&line))?;
        let [durable] = pool.fence([flushed])?;
        extent.freeze(durable);

        let line = pool_seed.sign_header(header, len_bytes - TAIL_BYTES);
        let flushed = seal.append(bytes_of(&line))?;
        let [_] = pool.fence([flushed])?;

        let seed = pool_seed.frames(new.no, new.birth);
        let segment = Segment::new(new.no, new.birth, seed, new.is_moved, extent);
        Ok(Self {
            segment: Arc::new(segment),
            from_reserve: false,
            frames,
            seal,
            pool_seed,
            count: 0,
            last_seqno: new.clock,
        })
    }

    /// Bytes of frames that still fit.
    pub(crate) fn room_bytes(&self) -> u64 {
        self.frames.remaining_bytes()
    }

    /// Where the next frame starts.
    pub(crate) fn position(&self) -> u64 {
        self.frames.position()
    }

    /// Appends `frame`, which is signed for [`Writer::position`]. It is durable and readable when
    /// this returns.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io): whether the frame is durable is unknown. Seal the segment,
    /// which leaves the frame out.
    pub(crate) fn append(&mut self, pool: &Pool, frame: &[u8], seqno: SeqNo) -> Result<()> {
        debug_assert!(seqno > self.last_seqno, "the clock of a lane only goes forward");
        let flushed = self.frames.append(frame)?;
        let [durable] = pool.fence([flushed])?;
        self.segment.extent().freeze(durable);
        self.count += 1;
        self.last_seqno = seqno;
        Ok(())
    }

    /// Seals the segment behind its last durable frame, which was appended before `sealed_at`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io): the segment stays open for ever in this life.
    pub(crate) fn seal(mut self, pool: &Pool, sealed_at: Birth) -> Result<Arc<Segment>> {
        let seal = Seal {
            birth: self.segment.birth.0,
            frames_end: self.segment.extent().frozen_bytes(),
            last_seqno: self.last_seqno.0,
            frames: self.count,
            ..Zeroable::zeroed()
        };
        persist_seal(pool, self.pool_seed, self.segment.no, &mut self.seal, seal)?;
        self.segment.seal(sealed_at);
        Ok(self.segment)
    }
}

/// Writes `seal` to the line that `appender` has the right to.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io).
pub(crate) fn persist_seal(
    pool: &Pool,
    pool_seed: PoolSeed,
    no: SegmentNo,
    appender: &mut Appender,
    seal: Seal,
) -> Result<()> {
    let seal = pool_seed.sign_seal(seal, appender.position(), no);
    let flushed = appender.append(bytes_of(&seal))?;
    let [_] = pool.fence([flushed])?;
    Ok(())
}

/// Pages of the shortest segment that has room for a frame of `frame_bytes`.
pub(crate) fn pages_for(frame_bytes: u64) -> u64 {
    (HEAD_BYTES + frame_bytes + TAIL_BYTES).div_ceil(PAGE)
}

/// Bytes of frames that fit a segment of `len_bytes`.
pub(crate) fn frames_max(len_bytes: u64) -> u64 {
    len_bytes.saturating_sub(HEAD_BYTES + TAIL_BYTES)
}
