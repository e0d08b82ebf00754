//! Daxite: a key-value store for persistent memory.
//!
//! A [`Database`] lives in a pool: a `/dev/dax` device, a file on a DAX file system, or, with less
//! to promise, an ordinary file, a file in RAM, or memory of the process. It holds [`Keyspace`]s,
//! which are ordered maps from bytes to bytes.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("app.pool");
//! use daxite::{Database, Options};
//!
//! let db = Options::new().capacity(64 << 20).create(&path)?;
//! let users = db.keyspace("users")?;
//! users.insert("alice", "42")?; // durable when it returns
//! users.insert("bob", "7")?;
//!
//! // Values are borrowed from the medium, not copied.
//! assert_eq!(users.get("alice")?.unwrap(), b"42");
//!
//! // Keys are in order, from both ends.
//! for pair in users.range("a"..="b").rev() {
//!     let (name, age) = pair?;
//!     println!("{}: {}", name.escape_ascii(), age.escape_ascii());
//! }
//!
//! // All or nothing, over keyspaces.
//! let log = db.keyspace("log")?;
//! let mut batch = db.batch();
//! batch.insert(&users, "alice", "43").insert(&log, "2026-11-22", "birthday");
//! batch.commit()?;
//!
//! // Only if nobody was faster.
//! let swapped = users.compare_and_swap("bob", Some(b"7"), Some(b"8"))?;
//! assert!(swapped.is_ok());
//!
//! // The pool is open to others when it is closed and the last handle is gone.
//! db.close()?;
//! drop((users, log));
//! let db = Database::open(&path)?;
//! assert_eq!(db.keyspaces(), ["log", "users"]);
//! # Ok(())
//! # }
//! ```
//!
//! # What a write is worth
//!
//! A write that returned is durable, and only then visible. What durable means is up to the medium,
//! and [`Database::persistence`] says it: on persistent memory a write costs one store fence and
//! survives a power failure; on an ordinary file it waits for `msync`; on tmpfs it survives the
//! process but not the machine. [`Options::require_dax`] insists on persistent memory.
//!
//! After any crash a database holds every write that returned, and of those that did not, each as a
//! whole or not at all. What it shows after a recovery is not lost by the next failure. Bytes that
//! were damaged are [`Error::Corruption`] when the database is opened, never a wrong answer.
//!
//! # Handles
//!
//! [`Database`], [`Keyspace`] and [`Value`] are cheap to clone, can be sent to and shared by
//! threads, and borrow nothing. Writes to different keys go on side by side. There is no background
//! thread. Nothing is asynchronous, because on persistent memory nothing waits: from async code,
//! call reads and writes directly, and only opening in a blocking task.
//!
//! A [`Value`] and an [`Iter`] keep the bytes they show, and what is kept cannot be given back:
//! copy with [`Value::to_vec`] what is to be kept for long.
//!
//! A process that forks stays the owner of its database; in the child every call answers
//! [`Error::Forked`], and values that the parent had read must not be looked at.
//!
//! # Space
//!
//! A pool has a fixed size. When it is full, puts answer [`Error::Full`], and change nothing;
//! removals go on, out of a reserve. Space of dead records comes back by itself, when a write
//! needs it, or by [`Database::reclaim`]. The fuller a pool, the more is moved for each byte gained:
//! overwriting is tested with up to 70 % of a pool live; beyond 87 % a put may answer `Full`, since
//! moving more than eight bytes for one is not done for it.
//!
//! # How it is built
//!
//! The medium holds a log and nothing else; indexes, counters and locks are in DRAM, and are
//! rebuilt from the log at opening. The modules, in reading order:
//!
//! | what | modules |
//! |---|---|
//! | what users hold | `options`, `database`, `keyspace`, `batch`, `value`, `iter`, `range` |
//! | what they share | `store` (the parts of a database), `catalog` (keyspaces), `index` (a radix tree per keyspace) |
//! | bytes | `layout` (structs), `frame` (frames and records), `location` (a place in one word) |
//! | the log | `segment`, `writer` (the end of one), `lane` (who appends), `table`, `space` (coming and going), `numbers`, `retired` |
//! | writing | `stripes` (locks, clocks and the lock order), `commit` |
//! | space | `reclaim` (what may go, and what goes next), `compact` (moving what lives), `readable` (what can be read beside bad pages) |
//! | opening | `recovery` (effects), `recovery::scan` (verdicts), `recovery::replay` (indexes), `recovery::surplus` (what is there twice) |
//! | not opening | `checkup` (all damage, by name) |
//! | tests | `craft` (structures that verify, whatever they say), behind a feature |
//! | rotting | `scrub` (what went bad since opening) |
//!
//! Each opens with its invariants.
#![forbid(unsafe_code)]

mod error;
mod limits;
mod stats;

mod options;

mod database;
mod keyspace;

mod batch;
mod iter;
mod range;
mod value;

mod store;

mod catalog;
mod index;

mod layout;

mod frame;
mod location;

mod segment;
mod writer;

mod lane;
mod numbers;
mod retired;
mod space;
mod table;

mod stripes;

mod commit;

mod reclaim;

mod compact;
mod readable;

mod recovery;

mod checkup;

mod scrub;

#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod craft;
#[cfg(feature = "test-util")]
pub mod test_util;

pub use batch::Batch;
pub use checkup::{Checkup, LogCheckup, LogFinding};
pub use database::Database;
pub use daxite_core::{self, MediumKind, Persistence, install_sigbus_handler};
pub use error::{CasError, Error, Result};
pub use iter::Iter;
pub use keyspace::Keyspace;
pub use limits::{MAX_BATCH_LEN, MAX_KEY_LEN, MAX_VALUE_LEN};
pub use options::Options;
pub use range::KeyRange;
pub use scrub::ScrubReport;
pub use stats::{KeyspaceStats, ReclaimReport, RecoveryReport, SeqNo, Stats};
pub use value::{Key, Value};
