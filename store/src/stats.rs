//! Figures about a database, for people and monitoring. Plain data, with units in the names.

use std::fmt;
use std::time::Duration;

/// The order of writes: of two writes to one key, the later has the higher number.
///
/// Numbers of different keys are comparable only where one write saw the other. They may be reused
/// after a reopening by which every trace of them has left the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SeqNo(pub u64);

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How full a database is and what it holds. All figures are of one moment, but not of the same
/// one while others write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of the pool, everything included.
    pub capacity_bytes: u64,
    /// Bytes that nothing owns. A part is kept back for removals and reclaim.
    pub free_bytes: u64,
    /// Bytes kept back: a put leaves so many free.
    pub reserve_bytes: u64,
    /// Bytes of the log's segments, whatever is in them.
    pub log_bytes: u64,
    /// Bytes of records that a reader can find: header, key and value.
    pub live_bytes: u64,
    /// Bytes of the log that are neither live nor still to be written: what reclaim can gain.
    pub dead_bytes: u64,
    /// Records that a reader can find, keyspace names included.
    pub live_records: u64,
    /// Tombstones in the log.
    pub tombstones: u64,
    /// Segments that take records.
    pub open_segments: u64,
    /// Segments that take no more records.
    pub sealed_segments: u64,
    /// Segments without live records that wait for readers to let go.
    pub retired_segments: u64,
    /// Segments (of any state) that are one huge page.
    pub huge_segments: u64,
    /// Segments (of any state) made of 4 KiB pages.
    pub page_segments: u64,
    /// Writers that append without waiting for each other.
    pub lanes: u64,
    /// Keyspaces.
    pub keyspaces: u64,
    /// The highest sequence number given out or found.
    pub seqno: SeqNo,
}

/// What a keyspace holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct KeyspaceStats {
    /// Number of keys.
    pub records: u64,
    /// Bytes of their records in the log: header, key and value.
    pub record_bytes: u64,
    /// Bytes of memory that the index takes, room for new keys included.
    pub index_bytes: u64,
}

/// What opening a database found and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the pool had been closed; otherwise its last user crashed.
    pub was_clean: bool,
    /// Segments found with a valid header.
    pub segments: u64,
    /// Segments among them that had been sealed.
    pub sealed: u64,
    /// Segments whose header was taken from its copy, since the first was damaged.
    pub headers_from_copy: u64,
    /// Segments that were being opened or given back at the crash, and were given back.
    pub discarded: u64,
    /// Writes that were under way at the crash, never acknowledged, and dropped.
    pub torn_tails: u64,
    /// Bytes of those writes.
    pub dropped_bytes: u64,
    /// Frames read: writes and batches.
    pub frames: u64,
    /// Records read.
    pub records: u64,
    /// Records among them that a reader can find now, keyspace names included.
    pub live: u64,
    /// Bytes of segments read.
    pub bytes: u64,
    /// Time that it took.
    pub duration: Duration,
}

/// What a call of [`Database::reclaim`](crate::Database::reclaim) did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ReclaimReport {
    /// Segments whose live records were moved elsewhere.
    pub compacted_segments: u64,
    /// Segments given back to the pool.
    pub punched_segments: u64,
    /// Segments without live records that a reader still holds.
    pub retired_segments: u64,
    /// Records moved.
    pub moved_records: u64,
    /// Bytes of those records.
    pub moved_bytes: u64,
    /// Free bytes of the pool before.
    pub free_bytes_before: u64,
    /// Free bytes of the pool after.
    pub free_bytes_after: u64,
}
