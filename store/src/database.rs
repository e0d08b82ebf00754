//! The database handle. It only delegates: keyspaces to the catalog, figures to the segments.

use std::path::Path;
use std::sync::Arc;

use daxite_core::{MediumKind, PAGE, Persistence, Pool};

#[cfg(doc)]
use crate::Error;
use crate::catalog::{KeyspaceCore, check_name, encode_id};
use crate::checkup::{self, Checkup};
use crate::commit::{Op, Scope, Verdict};
use crate::error::Result;
use crate::index::Index;
use crate::reclaim::dead_bytes;
use crate::segment::State;
use crate::store::Shared;
use crate::{Batch, Keyspace, Options, ReclaimReport, RecoveryReport, ScrubReport, Stats};

/// A handle to an open database. Cloning it is cheap, and all clones share everything.
///
/// A database that is dropped without [`Database::close`] is, as far as the pool can know, one
/// that crashed. That is safe: every write that returned is there when it is opened again. Closing
/// reports errors, and makes the next opening a little faster.
///
/// The pool stays open, and locked, until the last clone, [`Keyspace`], [`Batch`],
/// [`Iter`](crate::Iter) and [`Value`](crate::Value) is gone, even after closing: the bytes that
/// values show must not change.
#[derive(Clone)]
pub struct Database {
    store: Shared,
}

impl Database {
    pub(crate) fn new(store: Shared) -> Self {
        Self { store }
    }

    /// Opens the database at `path` with default [`Options`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// Looks at everything that opening the database at `path` would look at, and names all damage
    /// instead of stopping at the first. Changes nothing, and is no obstacle to readers.
    ///
    /// # Errors
    /// Those of [`Options::open_read_only`] that leave nothing to look at: [`Error::NotAPool`],
    /// [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`], [`Error::Locked`],
    /// [`Error::Truncated`], [`Error::Io`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.pool");
    /// use daxite::{Database, Options};
    ///
    /// Options::new().capacity(8 << 20).create(&path)?.close()?;
    /// let checkup = Database::examine(&path)?;
    /// assert!(!checkup.is_damaged());
    /// assert_eq!(checkup.pool.superblocks, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn examine(path: impl AsRef<Path>) -> Result<Checkup> {
        checkup::examine(path.as_ref())
    }

    /// The keyspace `name`, which is created if there is none.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the name has 1 to 255 bytes; to create it, those of
    /// [`Keyspace::insert`].
    ///
    /// # Durability
    /// A new keyspace is durable when this returns.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        if let Some(keyspace) = self.get_keyspace(name)? {
            return Ok(keyspace);
        }
        check_name(name)?;
        let catalog = &self.store.catalog;
        let mut next_id = catalog.changing.lock();
        if let Some(keyspace) = catalog.by_name(name) {
            return Ok(self.handle(keyspace));
        }
        self.store.check_writable()?;
        let id = next_id.take()?;
        let keyspace = Arc::new(KeyspaceCore::new(name.to_string(), id, Index::new()?));
        let value = encode_id(id);
        let op = Op::new(&catalog.names, name.as_bytes(), Some(&value));
        self.store.commit(
            Scope::Keys,
            &[op],
            || Ok(Verdict::Write(())),
            || catalog.add(Arc::clone(&keyspace)),
        )?;
        Ok(self.handle(keyspace))
    }

    /// The keyspace `name`, if there is one.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn get_keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        self.store.check_open()?;
        Ok(self.store.catalog.by_name(name).map(|keyspace| self.handle(keyspace)))
    }

    /// The names of all keyspaces, in order.
    pub fn keyspaces(&self) -> Vec<String> {
        self.store.catalog.all().iter().map(|keyspace| keyspace.name.clone()).collect()
    }

    /// Drops the keyspace `name` and all its pairs. False if there is none. Handles that are left
    /// find nothing, and their writes answer [`Error::KeyspaceDropped`].
    ///
    /// # Errors
    /// Those of [`Keyspace::remove`].
    ///
    /// # Durability
    /// The keyspace is gone, durably and as a whole, when this returns.
    pub fn drop_keyspace(&self, name: &str) -> Result<bool> {
        self.store.check_writable()?;
        self.store.check_open()?;
        let catalog = &self.store.catalog;
        let _changing = catalog.changing.lock();
        let Some(keyspace) = catalog.by_name(name) else { return Ok(false) };
        let op = Op::new(&catalog.names, name.as_bytes(), None);
        let mut dead = None;
        self.store.commit(
            Scope::All,
            &[op],
            || Ok(Verdict::Write(())),
            || {
                catalog.forget(&keyspace);
                dead = Some(self.store.take_out(&keyspace));
            },
        )?;
        self.store.bury(&keyspace, dead.expect("the keyspace was dropped"));
        Ok(true)
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.store))
    }

    /// How full the database is and what it holds. Looks at every segment, at no record.
    pub fn stats(&self) -> Stats {
        let space = &self.store.space;
        let pages = self.pool().space();
        let waiting = space.waiting();
        let mut stats = Stats {
            capacity_bytes: pages.total_pages * PAGE,
            free_bytes: pages.free_pages * PAGE,
            reserve_bytes: space.reserve_pages() * PAGE,
            retired_segments: waiting.huge + waiting.page,
            huge_segments: waiting.huge,
            page_segments: waiting.page,
            lanes: self.store.lanes.count() as u64,
            keyspaces: self.store.catalog.all().len() as u64,
            seqno: self.store.stripes.clock(),
            ..Stats::default()
        };
        for segment in space.segments() {
            stats.log_bytes += segment.len_bytes();
            stats.live_bytes += segment.live_bytes();
            stats.live_records += segment.live_puts();
            stats.dead_bytes += dead_bytes(&segment);
            stats.tombstones += segment.tombstones();
            *(if segment.is_huge() {
                &mut stats.huge_segments
            } else {
                &mut stats.page_segments
            }) += 1;
            match segment.state() {
                State::Open => stats.open_segments += 1,
                State::Sealed => stats.sealed_segments += 1,
                State::Retired => stats.retired_segments += 1,
            }
        }
        stats
    }

    /// What opening the database found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.store.recovery
    }

    /// What makes a write durable on this medium, and what it survives.
    pub fn persistence(&self) -> Persistence {
        self.pool().info().persistence
    }

    /// The file or device; `None` for a database in memory.
    pub fn path(&self) -> Option<&Path> {
        let anonymous = self.pool().info().kind == MediumKind::Anonymous;
        (!anonymous).then(|| self.store.path())
    }

    /// Whether the database was opened read-only.
    pub fn is_read_only(&self) -> bool {
        self.store.is_read_only()
    }

    /// Gives dead space back to the pool now, as far as that is worth the copying. Writers do the
    /// same when they find no space, so nobody has to call this; it moves that work to a quiet
    /// moment.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Corruption`] if a record that should be
    /// moved is damaged, [`Error::Io`].
    pub fn reclaim(&self) -> Result<ReclaimReport> {
        self.store.reclaim()
    }

    /// Reads all of the log and verifies it, in search of what went bad since it was opened, and asks
    /// pages that are listed as bad whether they can be read again. Nothing on the medium is changed but
    /// the list of bad pages, and reads and writes go on meanwhile.
    ///
    /// Bad pages that the kernel knows of are found without a signal. One that it does not know of ends the
    /// process, unless media errors are handled ([`install_sigbus_handler`](crate::install_sigbus_handler)).
    ///
    /// # Errors
    /// [`Error::Closed`]. What is found is no error, but in the report.
    ///
    /// ```
    /// # fn main() -> Result<(), daxite::Error> {
    /// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
    /// db.keyspace("words")?.insert("dax", "direct access")?;
    /// let report = db.scrub()?;
    /// assert!(report.is_sound());
    /// assert_eq!(report.frames, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scrub(&self) -> Result<ScrubReport> {
        self.store.check_open()?;
        self.store.scrub()
    }

    /// The pool that the database is on, for inspection. Its space also serves volumes of yours;
    /// leave the volume `log` alone.
    pub fn pool(&self) -> &Pool {
        self.store.pool()
    }

    /// Waits for writes that are under way, and marks the pool as closed in good order. All
    /// handles answer [`Error::Closed`] afterwards; values stay readable. The file can be opened again
    /// when the last handle and value is dropped.
    ///
    /// # Errors
    /// [`Error::Closed`] if it is closed already; [`Error::Io`]: then the next opening recovers.
    pub fn close(self) -> Result<()> {
        self.store.close()
    }

    fn handle(&self, keyspace: Arc<KeyspaceCore>) -> Keyspace {
        Keyspace::new(Arc::clone(&self.store), keyspace)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.store.path()).finish_non_exhaustive()
    }
}
