//! Store.
#![forbid(unsafe_code)]

mod batch;
mod database;
mod error;
mod iter;
mod keyspace;
mod options;
mod range;
mod stats;
mod value;

mod catalog;
mod commit;
mod compact;
mod frame;
mod index;
mod lane;
mod layout;
mod location;
mod numbers;
mod reclaim;
mod recovery;
mod segment;
mod space;
mod store;
mod stripes;
mod table;
mod writer;

pub use batch::Batch;
pub use database::Database;
pub use daxite_core::{self, MediumKind, Persistence};
pub use error::{CasError, Error, Result};
pub use iter::Iter;
pub use keyspace::Keyspace;
pub use options::Options;
pub use range::KeyRange;
pub use stats::{KeyspaceStats, ReclaimReport, RecoveryReport, SeqNo, Stats};
pub use value::{Key, Value};

/// The longest key, in bytes.
pub const MAX_KEY_LEN: usize = 65_535;
/// The largest value, in bytes.
pub const MAX_VALUE_LEN: usize = 1 << 20;
/// The largest batch, in bytes of the log.
pub const MAX_BATCH_LEN: usize = (2 << 20) - 192;
