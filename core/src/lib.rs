//! The DAX layer of Daxite: pools of persistent memory, and sparse volumes in them.
//!
//! A [`Pool`] is a file or a `/dev/dax` device, mapped once. In it live [`Volume`]s: named, sparse
//! spaces of bytes. A range of a volume is resolved when it is first used, by a *fault*: into one
//! 2 MiB extent where that is possible, into 4 KiB extents where it is not, and a hole that is only
//! read into the shared zero extent, which costs no space at all.
//!
//! ```
//! # fn main() -> daxite_core::Result<()> {
//! use daxite_core::{CreateOptions, HUGE, LogicalRange, Pool};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let options = CreateOptions { len_bytes: 64 << 20, ..CreateOptions::default() };
//! let pool = Pool::create(&folder.path().join("pool"), &options)?;
//! let volume = pool.create_volume("matrix", 1 << 40)?;
//!
//! let mut row = volume.map_mut(LogicalRange::new(123 * HUGE, HUGE))?;
//! row[..5].copy_from_slice(b"hello");
//! row.persist()?;
//! drop(row);
//!
//! assert_eq!(pool.fault_counts().allocated_huge, 1);
//! pool.close()
//! # }
//! ```
//!
//! # How it is built
//! The modules stand in reading order. [Units and errors](crate::Error) come first, then the way to
//! the medium (`layout`, `medium`, `persist`: the only module that stores), what stands on it
//! (`superblock`, `allocator`, `bad_pages`, `extent_map`), the entry index with its locks (`wait`, `epoch`,
//! `counters`, `entry`, `index`), what is done under them (`zero`, `pins`, `fault`, `sync`, `punch`,
//! `resize`, `upgrade`), and what users hold in their hands (`guard`, `extent`, `volume`, `inspect`,
//! `pool`). Each file opens with its invariants; `docs/DAX.md` has the protocol.
//!
//! The behaviour of faults and entries is that of Linux commit 642261ac995e ("dax: add struct iomap
//! based DAX PMD support"), in user space and without its page tables.
//!
//! # Durability
//! What [`Persistence`] a medium has is found out and reported, never assumed. Stores are durable
//! when the call says so; between a store and that moment any part of it may be on the medium.

mod error;
mod units;

#[doc(hidden)]
pub mod primitives;

mod layout;
mod medium;
mod persist;
mod sigbus;

mod allocator;
mod bad_pages;
mod extent_map;
mod superblock;

mod counters;
mod entry;
mod epoch;
mod index;
mod set_once;
mod wait;
mod words;

mod examine;
mod extent;
mod fault;
mod guard;
mod inspect;
mod pins;
mod pool;
mod punch;
mod resize;
mod sync;
mod upgrade;
mod volume;
mod zero;

#[cfg(feature = "sim")]
pub mod craft;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(test)]
mod state_table;

#[cfg(all(test, shuttle))]
mod mixes;
#[cfg(all(test, loom))]
mod models;

pub use allocator::Space;
pub use bad_pages::BadPages;
pub use counters::{Access, FallbackReason, FaultCounts, FaultOutcome, Refusal};
pub use entry::EntryCounts;
pub use epoch::{EpochCell, Pin, pin};
pub use error::{Error, Result};
pub use examine::{Examination, Finding, Severity};
pub use extent::{Appender, Extent};
pub use guard::{ReadGuard, WriteGuard};
pub use inspect::{SlotExtents, SlotInfo, VolumeStats};
pub use medium::{MediumKind, PageSizes, Persistence};
pub use persist::{Durable, FlushInstruction, Flushed};
pub use pool::{CreateOptions, HugeUse, OpenOptions, Pool, PoolInfo};
pub use set_once::SetOnceArray;
pub use sigbus::install_sigbus_handler;
pub use units::{
    ByteRange, ExtentSize, HUGE, HugeNo, LINE, LogicalPage, LogicalRange, Offset, PAGE,
    PAGES_PER_HUGE, PageNo, PageRun, SlotNo, lines,
};
pub use upgrade::UpgradeReport;
pub use volume::{ExtentInfo, Volume};
pub use words::Words;
