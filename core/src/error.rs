//! What can go wrong in the DAX layer, as one matchable enum.
//!
//! Absence (a hole, a missing volume) is an `Option` or a zero, never an error. Falling back from
//! 2 MiB to 4 KiB is a value ([`crate::FallbackReason`]), never an error.

use std::io;
use std::path::{Path, PathBuf};

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that an operation on a pool or volume can answer with instead of success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was attempted, for example `open`.
        op: &'static str,
        /// The file or device.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path holds something else than a pool. It was left untouched.
    #[error("{}: not a daxite pool: {reason}", path.display())]
    NotAPool {
        /// The file or device.
        path: PathBuf,
        /// What was found instead.
        reason: &'static str,
    },
    /// A pool cannot be created here because something is there already.
    #[error("{}: already exists{}", path.display(), if *is_pool { " and holds a pool" } else { "" })]
    AlreadyExists {
        /// The file or device.
        path: PathBuf,
        /// Whether it holds a pool.
        is_pool: bool,
    },
    /// The pool was written by another version of the format.
    #[error("format version {found} is not supported, this build reads version {supported}")]
    UnsupportedVersion {
        /// The version on the medium.
        found: u32,
        /// The version that this build reads and writes.
        supported: u32,
    },
    /// The pool uses format features that this build does not know.
    #[error("unknown incompatible format features {incompat:#x}")]
    UnsupportedFeature {
        /// The unknown feature bits.
        incompat: u64,
    },
    /// Another process, or another handle in this one, has the pool open.
    #[error("{}: already open elsewhere", path.display())]
    Locked {
        /// The file or device.
        path: PathBuf,
    },
    /// The file shows no write permission, or the pool was opened read-only.
    #[error("{}: read-only", path.display())]
    ReadOnly {
        /// The file or device.
        path: PathBuf,
    },
    /// The medium is smaller than the pool on it.
    #[error("{}: truncated: the pool is {expected_bytes} bytes long, the medium {found_bytes}", path.display())]
    Truncated {
        /// The file or device.
        path: PathBuf,
        /// Length of the pool by its superblock.
        expected_bytes: u64,
        /// Length of the medium.
        found_bytes: u64,
    },
    /// Persistent memory was required and the medium is none.
    #[error("{}: not persistent memory: {reason}", path.display())]
    NotPersistentMemory {
        /// The file or device.
        path: PathBuf,
        /// Why the medium does not qualify.
        reason: &'static str,
    },
    /// Bytes on the medium contradict each other.
    #[error("{what} at offset {offset:#x} is damaged: {detail}")]
    Corrupt {
        /// Which structure.
        what: &'static str,
        /// Where, in bytes from the start of the pool.
        offset: u64,
        /// What contradicts what.
        detail: String,
    },
    /// Bytes of the medium cannot be reached any more. Nobody else gets the page from now on.
    #[error("{}: media error in {len_bytes} bytes at offset {offset:#x}", path.display())]
    MediaError {
        /// The file or device.
        path: PathBuf,
        /// Where, in bytes from the start of the pool.
        offset: u64,
        /// How many bytes are lost.
        len_bytes: u64,
    },
    /// No room for the extent that was asked for. Nothing was changed.
    #[error("pool is full: {needed_bytes} bytes needed, {free_bytes} bytes free")]
    Full {
        /// Bytes that the operation needed in one piece.
        needed_bytes: u64,
        /// Bytes that are free, in whatever pieces.
        free_bytes: u64,
    },
    /// The range reaches past the end of its volume, or is empty.
    #[error(
        "range of {len_bytes} bytes at {start:#x} does not fit a volume of {volume_bytes} bytes"
    )]
    OutOfRange {
        /// First byte of the range.
        start: u64,
        /// Length of the range.
        len_bytes: u64,
        /// Length of the volume.
        volume_bytes: u64,
    },
    /// A guard that is alive covers part of the range, and one of the two writes.
    #[error("range of {len_bytes} bytes at {start:#x} is in use by a guard")]
    Busy {
        /// First byte of the range.
        start: u64,
        /// Length of the range.
        len_bytes: u64,
    },
    /// An argument that no pool could accept.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// This system has no such thing.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The pool was closed.
    #[error("pool is closed")]
    Closed,
    /// This process was forked from the one that opened the pool, and has no part in it.
    #[error("{}: opened by the process that this one was forked from", path.display())]
    Forked {
        /// The file or device.
        path: PathBuf,
    },
}

/// What becomes of the system's answers to `op` on `path`.
pub(crate) fn io_error(op: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::Io { op, path: path.clone(), source }
}
