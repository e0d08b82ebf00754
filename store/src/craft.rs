//! Structures of a log that verify, whatever they say: for tests that must get past checksums.
//!
//! Feature `test-util`. Anyone can compute a checksum, so what stands under one is input all the same.
//! This says where the structures of a segment stand, and signs them again after a change.
//!
//! Knows nothing of what a change should be, and nothing of the pool.

use bytemuck::{bytes_of, pod_read_unaligned};
use daxite_core::craft::Field;

use crate::frame::{Frame, Kind, frame_checksum, header_check};
use crate::layout::{FrameHeader, HEAD_BYTES, RecordHeader, Seal, SegmentHeader};
use crate::recovery::{Finding, examine};
use crate::segment::{Birth, PoolSeed, SegmentNo, line_checksum};

/// The fields of the header of a segment.
pub fn header_fields() -> Vec<Field> {
    Field::list(SegmentHeader::FIELDS, size_of::<SegmentHeader>())
}

/// The fields of a seal.
pub fn seal_fields() -> Vec<Field> {
    Field::list(Seal::FIELDS, size_of::<Seal>())
}

/// The fields of the header of a frame.
pub fn frame_fields() -> Vec<Field> {
    Field::list(FrameHeader::FIELDS, size_of::<FrameHeader>())
}

/// The fields of the header of a record.
pub fn record_fields() -> Vec<Field> {
    Field::list(RecordHeader::FIELDS, size_of::<RecordHeader>())
}

/// The place of a segment, which its checksums are tied to.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pool: PoolSeed,
    no: SegmentNo,
}

/// A segment, as recovery reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentContents {
    /// What its frames are tied to beside its place.
    pub birth: u64,
    /// Whether it has a seal that belongs to it.
    pub is_sealed: bool,
    /// What it holds, in order.
    pub frames: Vec<FrameContents>,
}

/// A frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameContents {
    /// Where it starts, in bytes from the start of the segment.
    pub start: usize,
    /// Its length in whole lines, in bytes.
    pub len_bytes: usize,
    /// What it holds, in order.
    pub records: Vec<RecordContents>,
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordContents {
    /// Where it starts, in bytes from the start of the segment.
    pub start: usize,
    /// The number of its keyspace.
    pub keyspace: u32,
    /// The number by which it is newer or older than others of its key.
    pub seqno: u64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Place {
    /// That of segment `number` in the pool with `uuid`.
    pub fn new(uuid: &[u8; 16], number: u32) -> Self {
        Self { pool: PoolSeed::new(uuid), no: SegmentNo(number) }
    }

    /// What recovery finds in `bytes`, all that is mapped here. `None` for damage, and where a segment
    /// was only being opened.
    pub fn read(self, bytes: &[u8]) -> Option<SegmentContents> {
        let Ok(Finding::Segment(found)) = examine(bytes, self.pool, self.no) else { return None };
        let mut frames = Vec::new();
        let mut start = HEAD_BYTES as usize;
        while start < found.frames_end as usize {
            let frame = Frame::decode_trusted(&bytes[start..]).expect("recovery read it");
            let records = frame.records().map(|(at, record)| RecordContents {
                start: start + at,
                keyspace: record.keyspace,
                seqno: record.moved.unwrap_or(frame.seqno).0,
                key: record.key.to_vec(),
                value: (record.kind == Kind::Put).then(|| record.value.to_vec()),
            });
            let (records, len_bytes) = (records.collect(), frame.len_bytes());
            frames.push(FrameContents { start, len_bytes, records });
            start += len_bytes;
        }
        Some(SegmentContents { birth: found.birth.0, is_sealed: found.sealed, frames })
    }

    /// Gives the header, its copy, or the seal in `line`, which stands `at` bytes from the start of the
    /// segment, the checksum of what it says.
    pub fn sign_line(self, line: &mut [u8], at: u64) {
        let checksum = line_checksum(line, at, self.pool.segment(self.no));
        line[8..16].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Gives the frame in `lines`, which stands `at` bytes from the start of the segment with `birth`,
    /// the checksums of what it says.
    pub fn sign_frame(self, lines: &mut [u8], at: u64, birth: u64) {
        let seed = self.pool.frames(self.no, Birth(birth));
        let (head, _) = lines.split_at_mut(size_of::<FrameHeader>());
        let mut header: FrameHeader = pod_read_unaligned(head);
        header.check = header_check(&header, at, seed);
        head.copy_from_slice(bytes_of(&header));
        let checksum = frame_checksum(lines, at, seed);
        lines[..8].copy_from_slice(&checksum.to_le_bytes());
    }
}
