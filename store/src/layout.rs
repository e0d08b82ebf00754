//! What the log looks like on the medium. `docs/FORMAT.md` draws the picture and tells why.
//!
//! 1. Plain old data, little-endian, fixed width; reserved bytes are zero and checked to be.
//! 2. Bytes are read into owned values; no reference into the medium has a type of this file.

use bytemuck::{Pod, Zeroable};

/// States size and offsets of a struct at compile time: this is the table of the format.
macro_rules! assert_layout {
    ($type:ty, $size:literal, { $($field:ident: $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(std::mem::offset_of!($type, $field) == $offset);)*
        };
        #[cfg(feature = "test-util")]
        impl $type {
            /// Where each field starts.
            pub(crate) const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), $offset)),*];
        }
    };
}

/// First bytes of a segment and of the copy of its header.
pub(crate) const HEADER_MAGIC: [u8; 8] = *b"DAXlogSG";
/// First bytes of the last line of a sealed segment.
pub(crate) const SEAL_MAGIC: [u8; 8] = *b"DAXlogSL";

/// A segment of what writers put and remove.
pub(crate) const KIND_WRITERS: u16 = 0;
/// A segment of what reclaim moved.
pub(crate) const KIND_RECLAIM: u16 = 1;

/// Bytes before the first frame: the header.
pub(crate) const HEAD_BYTES: u64 = 64;
/// Bytes behind the last frame: the copy of the header, the seal.
pub(crate) const TAIL_BYTES: u64 = 128;

/// The header of a segment: its first line, and again its last but one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct SegmentHeader {
    pub magic: [u8; 8],
    /// XXH3-64 of the bytes that follow, seeded with pool, segment number and position.
    pub checksum: u64,
    /// Unique for ever and growing: opening of the pool in the upper half, a counter in the lower.
    pub birth: u64,
    /// Frames of this segment have higher sequence numbers than this.
    pub clock: u64,
    /// Number of the slot of the log volume.
    pub segment: u32,
    /// Length in pages.
    pub pages: u32,
    /// The lane that wrote the segment.
    pub lane: u16,
    /// [`KIND_WRITERS`] or [`KIND_RECLAIM`].
    pub kind: u16,
    pub reserved: [u8; 20],
}

assert_layout!(SegmentHeader, 64, {
    magic: 0, checksum: 8, birth: 16, clock: 24, segment: 32, pages: 36, lane: 40, kind: 42, reserved: 44,
});

/// The last line of a segment that takes no more frames.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct Seal {
    pub magic: [u8; 8],
    /// XXH3-64 of the bytes that follow, seeded with pool, segment number and position.
    pub checksum: u64,
    /// That of the header.
    pub birth: u64,
    /// Where the last frame ends, in bytes from the start of the segment.
    pub frames_end: u64,
    /// Sequence number of the last frame; the header's clock if there is none.
    pub last_seqno: u64,
    /// Number of frames.
    pub frames: u64,
    pub reserved: [u8; 16],
}

assert_layout!(Seal, 64, {
    magic: 0, checksum: 8, birth: 16, frames_end: 24, last_seqno: 32, frames: 40, reserved: 48,
});

/// The header of a frame. A frame starts and ends on a line.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct FrameHeader {
    /// XXH3-64 of the rest of the frame up to the end of its last line, seeded with pool, segment
    /// number, birth and position.
    pub checksum: u64,
    /// Sequence number of all its records that do not bring their own.
    pub seqno: u64,
    /// Length in bytes without the padding of the last line.
    pub len_bytes: u32,
    /// Number of records, at least one.
    pub record_count: u16,
    /// Low half-word of the XXH3-64 of the three fields above, seeded like `checksum`: tells the
    /// header of a torn frame from chance without reading the frame.
    pub check: u16,
}

assert_layout!(FrameHeader, 24, {
    checksum: 0, seqno: 8, len_bytes: 16, record_count: 20, check: 22,
});

/// The header of a record, on a multiple of 8 bytes. Behind it the original sequence number if
/// [`FLAG_MOVED`] says so, then the key, then the value.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct RecordHeader {
    pub keyspace: u32,
    pub value_len: u32,
    pub key_len: u16,
    /// [`KIND_PUT`] or [`KIND_TOMBSTONE`].
    pub kind: u8,
    pub flags: u8,
}

assert_layout!(RecordHeader, 12, { keyspace: 0, value_len: 4, key_len: 8, kind: 10, flags: 11 });

/// A key and its value.
pub(crate) const KIND_PUT: u8 = 1;
/// A key that is no more.
pub(crate) const KIND_TOMBSTONE: u8 = 2;

/// The record was moved by reclaim and brings its sequence number along, 8 bytes.
pub(crate) const FLAG_MOVED: u8 = 1;
