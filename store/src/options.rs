//! How a database is created and opened.

use std::io;
use std::path::Path;
use std::sync::Arc;

use daxite_core::{CreateOptions, OpenOptions, Pool};

use crate::Database;
use crate::error::{Error, Result};
use crate::store::Store;

/// How a database is created and opened.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.pool");
/// use daxite::Options;
///
/// let db = Options::new().capacity(8 << 20).create(&path)?;
/// db.keyspace("settings")?.insert("color", "blue")?;
/// db.close()?;
///
/// let db = Options::new().open_read_only(&path)?;
/// let settings = db.get_keyspace("settings")?.expect("it was just created");
/// assert_eq!(settings.get("color")?.as_deref(), Some(&b"blue"[..]));
/// assert!(settings.insert("color", "red").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    capacity: u64,
    require_dax: bool,
    force: bool,
    lanes: Option<usize>,
}

impl Options {
    /// The defaults: any medium, nothing is overwritten, one lane per core.
    pub fn new() -> Self {
        Self::default()
    }

    /// Size of a new pool in bytes. Not needed where the path has a size: on a device, or on a
    /// file that is there already. Opening ignores it.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// Refuses to create or open on anything but persistent memory, where a write is durable when
    /// its cache lines are flushed. Without it, ordinary files work, slowly, and files in RAM are
    /// durable only until the machine stops: see [`Database::persistence`].
    #[must_use]
    pub fn require_dax(mut self, require: bool) -> Self {
        self.require_dax = require;
        self
    }

    /// Lets [`Options::create`] overwrite what is there.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// How many writers append at once without waiting for each other; the default is the number
    /// of cores. Each lane keeps a segment open, so a small pool has fewer: one per 16 segments.
    #[must_use]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Creates a database on a new file, or on a device or file that is there and holds nothing.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if something is there, unless [`Options::force`];
    /// [`Error::InvalidArgument`] without a usable capacity; [`Error::NotPersistentMemory`] by
    /// [`Options::require_dax`]; [`Error::Locked`]; [`Error::Io`]. A file that this call created is
    /// removed again.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Database> {
        let options = CreateOptions {
            len_bytes: self.capacity,
            overwrite: self.force,
            require_dax: self.require_dax,
        };
        Pool::create_with(path.as_ref(), &options, |pool| self.start(pool))
    }

    /// Opens the database at `path`, and recovers it if its last user crashed.
    ///
    /// # Errors
    /// [`Error::NotAPool`], [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`],
    /// [`Error::Truncated`], [`Error::Corruption`], [`Error::Locked`], [`Error::ReadOnly`] without
    /// permission to write, [`Error::NotPersistentMemory`], [`Error::Io`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Database> {
        let options = OpenOptions { read_only: false, require_dax: self.require_dax };
        self.start(Pool::open(path.as_ref(), &options)?)
    }

    /// Opens the database at `path`, or creates one where nothing is.
    ///
    /// # Errors
    /// As [`Options::open`] if something is there, else as [`Options::create`].
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Database> {
        match self.open(&path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.create(path)
            }
            // A device, or an empty file, is there before its pool is. What holds something else
            // is not overwritten, and the first answer is the better one.
            Err(not_a_pool @ Error::NotAPool { .. }) => match self.create(path) {
                Err(Error::AlreadyExists { .. }) => Err(not_a_pool),
                created => created,
            },
            opened => opened,
        }
    }

    /// Opens the database at `path` without ever writing to it: writes answer
    /// [`Error::ReadOnly`]. After a crash it shows what a recovery would, and leaves the recovery to
    /// the next [`Options::open`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_read_only(&self, path: impl AsRef<Path>) -> Result<Database> {
        let options = OpenOptions { read_only: true, require_dax: self.require_dax };
        self.start(Pool::open(path.as_ref(), &options)?)
    }

    /// Creates a database of [`Options::capacity`] bytes in the memory of this process. It is gone
    /// with its last handle.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without a usable capacity; [`Error::Io`].
    pub fn in_memory(&self) -> Result<Database> {
        self.start(Pool::in_memory(self.capacity)?)
    }

    /// Opens the database on a pool that is open, or starts one there: a pool has room for a
    /// database beside volumes of yours. Of the options only [`Options::lanes`] matters.
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::Full`] if the pool has no room for an empty log,
    /// [`Error::Io`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use daxite::{Options, daxite_core::Pool};
    ///
    /// let pool = Pool::in_memory(8 << 20)?;
    /// let matrix = pool.create_volume("matrix", 1 << 40)?;
    /// let db = Options::new().on_pool(pool)?;
    /// matrix.write(0, &[7; 4096])?;
    /// db.keyspace("shapes")?.insert("matrix", "64 x 64")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_pool(&self, pool: Pool) -> Result<Database> {
        self.start(pool)
    }

    fn start(&self, pool: Pool) -> Result<Database> {
        if self.lanes == Some(0) {
            return Err(Error::InvalidArgument("a database has at least one lane"));
        }
        Ok(Database::new(Arc::new(Store::open(pool, self.lanes)?)))
    }
}
