//! How long things may be.

use daxite_core::HUGE;

use crate::layout::{HEAD_BYTES, TAIL_BYTES};

/// The longest key, in bytes: what the length field of a record holds.
pub const MAX_KEY_LEN: usize = 65_535;

/// The largest value, in bytes: 1 MiB. A record, its key included, fits a segment.
pub const MAX_VALUE_LEN: usize = 1 << 20;

/// The largest batch, in bytes of the log ([`Batch::len_bytes`](crate::Batch::len_bytes)): what a
/// segment of 2 MiB holds.
pub const MAX_BATCH_LEN: usize = (HUGE - HEAD_BYTES - TAIL_BYTES) as usize;

/// The most writes in a batch: what the counter of a frame holds.
pub(crate) const MAX_BATCH_RECORDS: usize = 65_535;
