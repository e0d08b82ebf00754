//! Frames and records as bytes. Sees slices only, never media.
//!
//! A frame is the unit of atomicity, a record the unit of indexing. A frame is valid or it is not:
//!
//! 1. It starts and ends on a line; every bit of its lines is under its checksum.
//! 2. The checksum is seeded with the pool, the segment, its birth and the position in it. Bytes
//!    that are stale, moved or foreign never verify, so nothing needs to be zeroed.
//! 3. Any bytes at all may be decoded: the answer is a frame or a [`Flaw`], never a panic.
//! 4. A frame that decodes holds exactly `record_count` records, one behind the other, and no
//!    record brings a number that is not below that of the frame.

use bytemuck::{bytes_of, pod_read_unaligned};
use daxite_core::LINE;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::SeqNo;
use crate::layout::{FLAG_MOVED, FrameHeader, KIND_PUT, KIND_TOMBSTONE, RecordHeader};

/// Bytes of a frame before its first record.
pub(crate) const FRAME_HEADER_BYTES: usize = size_of::<FrameHeader>();
const RECORD_HEADER_BYTES: usize = size_of::<RecordHeader>();
const RECORD_ALIGN: usize = 8;

/// Ties the checksums of a segment to pool, segment number and birth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seed(pub u64);

impl Seed {
    /// The seed for bytes at position `at` of the segment.
    pub(crate) fn at(self, at: u64) -> u64 {
        // An odd factor is a bijection, so no two positions share a seed.
        self.0 ^ (at.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Put,
    Tombstone,
}

/// One record, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    pub keyspace: u32,
    pub kind: Kind,
    /// The sequence number that a moved record brings along.
    pub moved: Option<SeqNo>,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Length in the log, padding included.
    pub(crate) fn len_bytes(&self) -> usize {
        record_len(self.moved.is_some(), self.key.len(), self.value.len())
    }

    /// Length of a put or tombstone that was not moved.
    pub(crate) fn len_of(key_len: usize, value_len: usize) -> usize {
        record_len(false, key_len, value_len)
    }

    /// Where the key starts, from the start of the record. The value follows it.
    pub(crate) fn key_at(&self) -> usize {
        RECORD_HEADER_BYTES + if self.moved.is_some() { size_of::<u64>() } else { 0 }
    }

    /// The record at the start of `bytes`. `None` if there is none.
    #[inline]
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let header: RecordHeader = pod_read_unaligned(bytes.get(..RECORD_HEADER_BYTES)?);
        let kind = match header.kind {
            KIND_PUT => Kind::Put,
            KIND_TOMBSTONE if header.value_len == 0 => Kind::Tombstone,
            _ => return None,
        };
        if header.flags & !FLAG_MOVED != 0 {
            return None;
        }
        let mut rest = &bytes[RECORD_HEADER_BYTES..];
        let mut moved = None;
        if header.flags & FLAG_MOVED != 0 {
            let (seqno, behind) = rest.split_first_chunk()?;
            moved = Some(SeqNo(u64::from_le_bytes(*seqno)));
            rest = behind;
        }
        let (key, rest) = rest.split_at_checked(usize::from(header.key_len))?;
        let value = rest.get(..usize::try_from(header.value_len).ok()?)?;
        Some(Self { keyspace: header.keyspace, kind, moved, key, value })
    }
}

fn record_len(moved: bool, key_len: usize, value_len: usize) -> usize {
    let optional = if moved { size_of::<u64>() } else { 0 };
    (RECORD_HEADER_BYTES + optional + key_len + value_len).next_multiple_of(RECORD_ALIGN)
}

/// Length of the frame that holds `record_bytes` of records, in whole lines.
pub(crate) fn frame_len(record_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + record_bytes).next_multiple_of(LINE as usize)
}

/// Builds a frame in a buffer that is used again and again.
pub(crate) struct Encoder<'b> {
    buffer: &'b mut Vec<u8>,
    record_count: u16,
}

impl<'b> Encoder<'b> {
    pub(crate) fn new(buffer: &'b mut Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(FRAME_HEADER_BYTES, 0);
        Self { buffer, record_count: 0 }
    }

    /// Appends `record`, and answers its position in the frame.
    pub(crate) fn push(&mut self, record: &Record<'_>) -> usize {
        let at = self.buffer.len();
        let header = RecordHeader {
            keyspace: record.keyspace,
            value_len: u32::try_from(record.value.len()).expect("values are limited"),
            key_len: u16::try_from(record.key.len()).expect("keys are limited"),
            kind: match record.kind {
                Kind::Put => KIND_PUT,
                Kind::Tombstone => KIND_TOMBSTONE,
            },
            flags: if record.moved.is_some() { FLAG_MOVED } else { 0 },
        };
        self.buffer.extend_from_slice(bytes_of(&header));
        if let Some(seqno) = record.moved {
            self.buffer.extend_from_slice(&seqno.0.to_le_bytes());
        }
        self.buffer.extend_from_slice(record.key);
        self.buffer.extend_from_slice(record.value);
        self.buffer.resize(self.buffer.len().next_multiple_of(RECORD_ALIGN), 0);
        self.record_count = self.record_count.checked_add(1).expect("frames are limited");
        at
    }

    /// Completes the frame for position `at` of the segment with `seed`: pads it to whole lines
    /// and writes its header.
    pub(crate) fn finish(self, seqno: SeqNo, at: u64, seed: Seed) {
        let mut header = FrameHeader {
            checksum: 0,
            seqno: seqno.0,
            len_bytes: u32::try_from(self.buffer.len()).expect("frames are limited"),
            record_count: self.record_count,
            check: 0,
        };
        header.check = header_check(&header, at, seed);
        self.buffer.resize(self.buffer.len().next_multiple_of(LINE as usize), 0);
        self.buffer[..FRAME_HEADER_BYTES].copy_from_slice(bytes_of(&header));
        let checksum = frame_checksum(self.buffer, at, seed);
        self.buffer[..size_of::<u64>()].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    /// Not even the header of one.
    NoHeader,
    /// The header of a frame of so many bytes, whose checksum does not match.
    Checksum { len_bytes: usize },
    /// The checksum matches, the records don't: written wrong, not damaged.
    Records,
}

/// A valid frame, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub seqno: SeqNo,
    pub record_count: u16,
    /// The used bytes, header included.
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, which stand at position `at` of the segment with `seed`.
    ///
    /// # Errors
    /// A [`Flaw`] if there is none.
    pub(crate) fn decode(bytes: &'a [u8], at: u64, seed: Seed) -> Result<Self, Flaw> {
        let (header, lines) = frame_header(bytes).ok_or(Flaw::NoHeader)?;
        if header.check != header_check(&header, at, seed) {
            return Err(Flaw::NoHeader);
        }
        if header.checksum != frame_checksum(lines, at, seed) {
            return Err(Flaw::Checksum { len_bytes: lines.len() });
        }
        let frame = Self::of(&header, lines);
        let mut records = frame.records();
        let known = |(_, record): &(usize, Record<'_>)| {
            record.moved.is_none_or(|moved| moved < frame.seqno)
        };
        let count = records.by_ref().take_while(known).count();
        let complete = records.at == frame.bytes.len();
        if complete && count == usize::from(frame.record_count) {
            Ok(frame)
        } else {
            Err(Flaw::Records)
        }
    }

    /// The frame at the start of `bytes`, of which it is known that [`Frame::decode`] accepts
    /// them. `None` if they are not even like a frame.
    pub(crate) fn decode_trusted(bytes: &'a [u8]) -> Option<Self> {
        let (header, lines) = frame_header(bytes)?;
        Some(Self::of(&header, lines))
    }

    fn of(header: &FrameHeader, lines: &'a [u8]) -> Self {
        Self {
            seqno: SeqNo(header.seqno),
            record_count: header.record_count,
            bytes: &lines[..header.len_bytes as usize],
        }
    }

    /// Length in whole lines.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len().next_multiple_of(LINE as usize)
    }

    /// The records with their positions in the frame.
    pub(crate) fn records(&self) -> Records<'a> {
        Records { bytes: self.bytes, at: FRAME_HEADER_BYTES }
    }
}

/// The records of a frame with their positions in it; ends early where there is none.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = (usize, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let record = Record::decode(self.bytes.get(self.at..)?)?;
        let at = self.at;
        let end = at + record.len_bytes();
        if end > self.bytes.len() {
            return None;
        }
        self.at = end;
        Some((at, record))
    }
}

/// The header at the start of `bytes` and the lines of the frame, if its lengths make sense.
fn frame_header(bytes: &[u8]) -> Option<(FrameHeader, &[u8])> {
    let header: FrameHeader = pod_read_unaligned(bytes.get(..FRAME_HEADER_BYTES)?);
    let len_bytes = header.len_bytes as usize;
    let sensible = len_bytes >= FRAME_HEADER_BYTES + RECORD_HEADER_BYTES
        && len_bytes.is_multiple_of(RECORD_ALIGN)
        && header.record_count > 0;
    let lines = bytes.get(..len_bytes.checked_next_multiple_of(LINE as usize)?)?;
    sensible.then_some((header, lines))
}

pub(crate) fn header_check(header: &FrameHeader, at: u64, seed: Seed) -> u16 {
    let fields = FrameHeader { checksum: 0, check: 0, ..*header };
    xxh3_64_with_seed(bytes_of(&fields), seed.at(at)) as u16
}

pub(crate) fn frame_checksum(lines: &[u8], at: u64, seed: Seed) -> u64 {
    xxh3_64_with_seed(&lines[size_of::<u64>()..], seed.at(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: Seed = Seed(0x5eed);

    fn encode(records: &[Record<'_>], seqno: u64, at: u64) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut encoder = Encoder::new(&mut buffer);
        for record in records {
            encoder.push(record);
        }
        encoder.finish(SeqNo(seqno), at, SEED);
        buffer
    }

    type Owned = (u32, bool, Option<u64>, Vec<u8>, Vec<u8>);

    fn records() -> impl Strategy<Value = Vec<Owned>> {
        let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
        let record = (
            any::<u32>(),
            any::<bool>(),
            proptest::option::of(0..1u64 << 63),
            bytes(40),
            bytes(200),
        );
        proptest::collection::vec(record, 1..8)
    }

    fn borrow(owned: &[Owned]) -> Vec<Record<'_>> {
        owned
            .iter()
            .map(|(keyspace, put, moved, key, value)| Record {
                keyspace: *keyspace,
                kind: if *put { Kind::Put } else { Kind::Tombstone },
                moved: moved.map(SeqNo),
                key,
                value: if *put { value } else { &[] },
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(owned in records(), seqno: u64, line in 0u64..32768) {
            let seqno = seqno | 1 << 63;
            let records = borrow(&owned);
            let bytes = encode(&records, seqno, line * LINE);
            prop_assert_eq!(bytes.len() % LINE as usize, 0);
            let used: usize = records.iter().map(Record::len_bytes).sum();
            prop_assert_eq!(bytes.len(), frame_len(used));
            let frame = Frame::decode(&bytes, line * LINE, SEED).unwrap();
            prop_assert_eq!(frame.seqno, SeqNo(seqno));
            prop_assert_eq!(frame.len_bytes(), bytes.len());
            let back: Vec<_> = frame.records().map(|(_, record)| record).collect();
            prop_assert_eq!(back, records.clone());
            for (at, record) in frame.records() {
                prop_assert_eq!(Record::decode(&bytes[at..]), Some(record));
            }
        }

        #[test]
        fn any_bytes_decode_to_a_frame_or_a_flaw(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Frame::decode(&bytes, 64, SEED);
            let _ = Frame::decode_trusted(&bytes).map(|frame| frame.records().count());
            let _ = Record::decode(&bytes);
        }

        #[test]
        fn bytes_with_valid_checksums_decode_to_a_frame_or_a_flaw(
            mut bytes in proptest::collection::vec(any::<u8>(), 64..400),
            len_bytes in 0u32..500,
        ) {
            bytes.truncate(bytes.len() / 64 * 64);
            let mut header: FrameHeader = pod_read_unaligned(&bytes[..FRAME_HEADER_BYTES]);
            header.len_bytes = len_bytes;
            header.check = header_check(&header, 64, SEED);
            bytes[..FRAME_HEADER_BYTES].copy_from_slice(bytes_of(&header));
            if let Some((_, lines)) = frame_header(&bytes) {
                let checksum = frame_checksum(lines, 64, SEED);
                bytes[..8].copy_from_slice(&checksum.to_le_bytes());
            }
            let _ = Frame::decode(&bytes, 64, SEED);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let put =
            Record { keyspace: 1, kind: Kind::Put, moved: None, key: b"alpha", value: &[7; 100] };
        let gone = Record {
            keyspace: 2,
            kind: Kind::Tombstone,
            moved: Some(SeqNo(9)),
            key: b"beta",
            value: b"",
        };
        let bytes = encode(&[put, gone], 4711, 64);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::decode(&flipped, 64, SEED).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_valid_in_its_place_only() {
        let record = Record { keyspace: 1, kind: Kind::Put, moved: None, key: b"k", value: b"v" };
        let bytes = encode(&[record], 1, 64);
        assert!(Frame::decode(&bytes, 64, SEED).is_ok());
        assert!(Frame::decode(&bytes, 128, SEED).is_err());
        assert!(Frame::decode(&bytes, 64, Seed(0x5eee)).is_err());
        assert_eq!(Frame::decode(&[0; 256], 64, SEED).unwrap_err(), Flaw::NoHeader);
    }

    #[test]
    fn a_moved_record_is_older_than_its_frame() {
        let record = |moved| Record {
            keyspace: 1,
            kind: Kind::Put,
            moved: Some(SeqNo(moved)),
            key: b"k",
            value: b"v",
        };
        assert!(Frame::decode(&encode(&[record(6)], 7, 64), 64, SEED).is_ok());
        let bytes = encode(&[record(6), record(7)], 7, 64);
        assert_eq!(Frame::decode(&bytes, 64, SEED).unwrap_err(), Flaw::Records);
    }

    #[test]
    fn a_torn_frame_is_told_from_chance() {
        let record =
            Record { keyspace: 1, kind: Kind::Put, moved: None, key: b"k", value: &[1; 300] };
        let mut bytes = encode(&[record], 1, 64);
        let len_bytes = bytes.len();
        bytes[128..192].fill(0);
        assert_eq!(Frame::decode(&bytes, 64, SEED).unwrap_err(), Flaw::Checksum { len_bytes });
    }
}
