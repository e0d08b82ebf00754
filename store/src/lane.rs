//! Lanes: writers that append without waiting for each other.
//!
//! 1. A lane's lock is held from choosing the position to the fence, so a lane has at most one
//!    frame that is not durable, and it is the last (`writer.rs` needs that).
//! 2. Sequence numbers of a lane strictly increase, over all its segments.
//! 3. A lane gets its next segment before it seals the last: if there is none, what room is left
//!    stays usable for shorter frames.
//! 4. Puts do not go into a segment that was opened out of the reserve while space is short.

use daxite_core::primitives::{Mutex, MutexGuard, thread_number};

use crate::SeqNo;
use crate::error::Result;
use crate::frame::Encoder;
use crate::segment::{Segment, SegmentNo, Tally};
use crate::space::{Purpose, Space};
use crate::writer::Writer;

/// A frame to be appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRequest {
    pub purpose: Purpose,
    /// Length in whole lines.
    pub len_bytes: u64,
    /// The frame comes after this.
    pub after: SeqNo,
    pub tally: Tally,
}

/// A durable frame, not yet published. Not `Copy`: to be published once.
#[must_use]
#[derive(Debug)]
pub(crate) struct Appended {
    pub segment: SegmentNo,
    /// Where the frame starts, in bytes from the start of the segment.
    pub at: u64,
    pub seqno: SeqNo,
}

/// A lane that is held.
pub(crate) struct Lane {
    no: u16,
    clock: SeqNo,
    open: Option<Writer>,
    buffer: Vec<u8>,
}

impl Lane {
    /// Lane `no`, whose clock starts at `clock`.
    pub(crate) fn new(no: u16, clock: SeqNo) -> Self {
        Self { no, clock, open: None, buffer: Vec::new() }
    }

    /// Room for a frame in the open segment.
    pub(crate) fn room_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, Writer::room_bytes)
    }

    /// The segment that is open.
    pub(crate) fn open_segment(&self) -> Option<&Segment> {
        self.open.as_ref().map(|writer| &*writer.segment)
    }

    /// Appends the frame that `encode` fills with records, and counts them. `None` if there is no
    /// space for it; nothing was changed then.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io): the frame may or may not be durable, and will not be
    /// published. The segment is sealed in front of it. A bad page is no error: the frame goes to
    /// another segment.
    pub(crate) fn append(
        &mut self,
        space: &Space,
        request: &FrameRequest,
        encode: impl Fn(&mut Encoder<'_>),
    ) -> Result<Option<Appended>> {
        while self.make_ready(space, request)? {
            let writer = self.open.as_mut().expect("the lane is ready");
            self.clock = SeqNo(self.clock.max(request.after).0 + 1);
            let (at, seqno) = (writer.position(), self.clock);
            let mut encoder = Encoder::new(&mut self.buffer);
            encode(&mut encoder);
            encoder.finish(seqno, at, writer.segment.seed);
            debug_assert_eq!(self.buffer.len() as u64, request.len_bytes);
            let Err(error) = writer.append(&space.pool, &self.buffer, seqno) else {
                writer.segment.add(&request.tally);
                return Ok(Some(Appended { segment: writer.segment.no, at, seqno }));
            };
            // Nothing may follow the frame. The first error is the one to report.
            let _ = self.seal(space);
            if !error.is_media_error() {
                return Err(error);
            }
        }
        Ok(None)
    }

    /// Seals the open segment, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub(crate) fn seal(&mut self, space: &Space) -> Result<()> {
        self.open.take().map_or(Ok(()), |writer| space.seal(writer, space.now()))
    }

    /// Sees to it that the open segment has room for the frame. False if that cannot be.
    fn make_ready(&mut self, space: &Space, request: &FrameRequest) -> Result<bool> {
        if let Some(writer) = &mut self.open
            && writer.room_bytes() >= request.len_bytes
        {
            if writer.from_reserve && request.purpose == Purpose::Put {
                if !space.fits(Purpose::Put, request.len_bytes) {
                    return Ok(false);
                }
                writer.from_reserve = false;
            }
            return Ok(true);
        }
        // Taken first, so that the full segment is sealed before the next is born: `reclaim.rs`.
        let sealed_at = space.now();
        let next = space.open(request.purpose, request.len_bytes, self.no, self.clock)?;
        let Some(next) = next else { return Ok(false) };
        if let Some(full) = self.open.replace(next) {
            space.seal(full, sealed_at)?;
        }
        Ok(true)
    }
}

/// A lane alone in its lines.
#[repr(align(128))]
struct Padded(Mutex<Lane>);

/// The lanes of the writers. That of reclaim is where reclaim is, guarded by the same lock.
pub(crate) struct Lanes {
    lanes: Box<[Padded]>,
}

impl Lanes {
    /// `count` lanes whose clocks start at `clock`.
    pub(crate) fn new(count: u16, clock: SeqNo) -> Self {
        Self { lanes: (0..count).map(|no| Padded(Mutex::new(Lane::new(no, clock)))).collect() }
    }

    pub(crate) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// A lane for this thread: its own if nobody is in it, else any that is free, else its own.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Lane> {
        let home = thread_number() % self.lanes.len();
        let (before, from_home) = self.lanes.split_at(home);
        from_home
            .iter()
            .chain(before)
            .find_map(|lane| lane.0.try_lock())
            .unwrap_or_else(|| self.lanes[home].0.lock())
    }

    /// Calls `visit` with every lane in turn.
    ///
    /// # Errors
    /// The first that `visit` answers; all lanes are visited.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&mut Lane) -> Result<()>) -> Result<()> {
        let mut result = Ok(());
        for lane in &self.lanes {
            let visited = visit(&mut lane.0.lock());
            result = result.and(visited);
        }
        result
    }
}
