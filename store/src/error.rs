//! What can go wrong in the store, as one matchable enum.
//!
//! Absence is an `Option`, a lost race is a value ([`CasError`]); neither is an error. What the DAX
//! layer answers is lifted into the same enum, so that a caller matches one type.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Value;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that an operation can answer with instead of success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    ///
    /// From a write it means that the outcome is open: nothing is visible now, but a later opening
    /// may find the write.
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
    /// The pool was opened read-only, or the file shows no write permission.
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
    /// Bytes on the medium are damaged. Nothing was changed.
    #[error("{what} at offset {offset:#x}: {detail}")]
    Corruption {
        /// Which structure, for example `segment 17`.
        what: String,
        /// Where, in bytes from the start of the pool.
        offset: u64,
        /// What contradicts what.
        detail: String,
    },
    /// Bytes of the medium cannot be read any more: what stood there is lost, and everything else is
    /// served. Comes in place of a signal that ends the process where that is asked for, by
    /// [`install_sigbus_handler`](crate::install_sigbus_handler), and from opening in any case.
    #[error("{what}: media error in {len_bytes} bytes at offset {offset:#x} of {}", path.display())]
    MediaError {
        /// What is lost, for example `segment 17`, or `key "bob" in segment 17`.
        what: String,
        /// The file or device.
        path: PathBuf,
        /// Where, in bytes from the start of the pool.
        offset: u64,
        /// How many bytes are lost.
        len_bytes: u64,
    },
    /// The write does not fit any more. Nothing was changed; removing still works.
    #[error("pool is full: {needed} bytes needed, {free} bytes free")]
    Full {
        /// Bytes that the operation needed.
        needed: u64,
        /// Bytes that are free, a reserve for removals included.
        free: u64,
    },
    /// A key is longer than [`MAX_KEY_LEN`](crate::MAX_KEY_LEN).
    #[error("key of {len} bytes is too long, the longest has {max}")]
    KeyTooLong {
        /// Length of the key in bytes.
        len: usize,
        /// The longest key in bytes.
        max: usize,
    },
    /// A value is larger than [`MAX_VALUE_LEN`](crate::MAX_VALUE_LEN).
    #[error("value of {len} bytes is too large, the largest has {max}")]
    ValueTooLarge {
        /// Length of the value in bytes.
        len: usize,
        /// The largest value in bytes.
        max: usize,
    },
    /// A batch is larger than [`MAX_BATCH_LEN`](crate::MAX_BATCH_LEN).
    #[error(
        "batch of {len} bytes in {records} records is too large, the largest has {max} bytes in 65535"
    )]
    BatchTooLarge {
        /// Length in the log, in bytes.
        len: usize,
        /// Number of operations.
        records: usize,
        /// The largest length in bytes.
        max: usize,
    },
    /// An argument that no pool could accept.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// This system has no such thing.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The keyspace of this handle was dropped.
    #[error("keyspace {name:?} was dropped")]
    KeyspaceDropped {
        /// Its name.
        name: String,
    },
    /// The database was closed.
    #[error("database is closed")]
    Closed,
    /// This process was forked from the one that opened the database, and has no part in it.
    #[error("{}: opened by the process that this one was forked from", path.display())]
    Forked {
        /// The file or device.
        path: PathBuf,
    },
}

impl Error {
    /// Whether the medium holds damaged bytes.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corruption { .. })
    }

    /// Whether the medium has bytes that cannot be read.
    pub fn is_media_error(&self) -> bool {
        matches!(self, Self::MediaError { .. })
    }

    /// The same error; a media error says that it hit `what`.
    pub(crate) fn hitting(self, what: impl fmt::Display) -> Self {
        match self {
            Self::MediaError { path, offset, len_bytes, .. } => {
                Self::MediaError { what: what.to_string(), path, offset, len_bytes }
            }
            other => other,
        }
    }
}

impl From<daxite_core::Error> for Error {
    fn from(error: daxite_core::Error) -> Self {
        use daxite_core::Error as Core;
        match error {
            Core::Io { op, path, source } => Self::Io { op, path, source },
            Core::NotAPool { path, reason } => Self::NotAPool { path, reason },
            Core::AlreadyExists { path, is_pool } => Self::AlreadyExists { path, is_pool },
            Core::UnsupportedVersion { found, supported } => {
                Self::UnsupportedVersion { found, supported }
            }
            Core::UnsupportedFeature { incompat } => Self::UnsupportedFeature { incompat },
            Core::Locked { path } => Self::Locked { path },
            Core::ReadOnly { path } => Self::ReadOnly { path },
            Core::Truncated { path, expected_bytes, found_bytes } => {
                Self::Truncated { path, expected_bytes, found_bytes }
            }
            Core::NotPersistentMemory { path, reason } => {
                Self::NotPersistentMemory { path, reason }
            }
            Core::Corrupt { what, offset, detail } => {
                Self::Corruption { what: what.to_string(), offset, detail }
            }
            Core::MediaError { path, offset, len_bytes } => {
                Self::MediaError { what: "the pool".to_string(), path, offset, len_bytes }
            }
            Core::Unsupported(what) => Self::Unsupported(what),
            Core::Full { needed_bytes, free_bytes } => {
                Self::Full { needed: needed_bytes, free: free_bytes }
            }
            Core::InvalidArgument(what) => Self::InvalidArgument(what),
            Core::Closed => Self::Closed,
            Core::Forked { path } => Self::Forked { path },
            // The store asks for nothing that is out of place, so someone else is in its place.
            _ => Self::InvalidArgument("the volume `log` of the pool is used for something else"),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, .. } => source,
            other => io::Error::other(other),
        }
    }
}

/// A compare-and-swap met another value than it expected. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key holds another value than expected")]
pub struct CasError {
    /// What the key holds, `None` if it is absent.
    pub current: Option<Value>,
}
