//! A pool that a command has open: its path for messages, and what it answers as failures.
//!
//! Most commands work on the store ([`Session`]). Those that show the DAX layer take the pool below
//! it ([`Layer`]), which may be without a log, or have one that is damaged.

use std::path::{Path, PathBuf};

use daxite::daxite_core::{self, OpenOptions, Pool};
use daxite::{Database, Error, Keyspace, Options};

use crate::failure::{Failure, Outcome};

/// A pool that is open.
pub(crate) struct Session {
    /// As the user wrote it.
    pub(crate) path: PathBuf,
    /// The handle.
    pub(crate) db: Database,
}

/// What a command wants to do with a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Leave it as it is, byte for byte.
    Read,
    /// Change it.
    Write,
}

impl Session {
    /// Opens the pool at `path`, runs `command` on it, and closes it however the command ended.
    pub(crate) fn run<T>(
        path: &Path,
        access: Access,
        command: impl FnOnce(&Self) -> Outcome<T>,
    ) -> Outcome<T> {
        let session = Self::open(path, access)?;
        let answer = command(&session);
        let closed = session.close();
        answer.and_then(|answer| closed.map(|()| answer))
    }

    /// Opens the pool at `path`.
    pub(crate) fn open(path: &Path, access: Access) -> Outcome<Self> {
        let opened = match access {
            Access::Read => Options::new().open_read_only(path),
            Access::Write => Options::new().open(path),
        };
        let db = opened.map_err(|error| Failure::store(path, error))?;
        Ok(Self { path: path.to_path_buf(), db })
    }

    /// The layer below the store.
    pub(crate) fn layer(&self) -> Layer {
        Layer { path: self.path.clone(), pool: self.db.pool().clone() }
    }

    /// Closes the pool.
    pub(crate) fn close(self) -> Outcome<()> {
        let Self { path, db } = self;
        db.close().map_err(|error| Failure::store(&path, error))
    }

    /// `error` as a failure of this pool.
    pub(crate) fn fail(&self, error: Error) -> Failure {
        Failure::store(&self.path, error)
    }

    /// The keyspace `name`, which must be there.
    pub(crate) fn keyspace(&self, name: &str) -> Outcome<Keyspace> {
        let found = self.db.get_keyspace(name).map_err(|error| self.fail(error))?;
        found.ok_or_else(|| {
            let known = self.db.keyspaces();
            let known = match known.len() {
                0 => "the pool has none yet".to_string(),
                1..=8 => format!("there are: {}", known.join(", ")),
                many => format!("{many} others, see `daxite keyspaces`"),
            };
            Failure::negative("KeyspaceNotFound", format!("no keyspace {name:?}"))
                .at(&self.path)
                .hint(known)
        })
    }

    /// The keyspace `name`, made if it is not there.
    pub(crate) fn keyspace_or_new(&self, name: &str) -> Outcome<Keyspace> {
        self.db.keyspace(name).map_err(|error| self.fail(error))
    }
}

/// The DAX layer of a pool that is open.
pub(crate) struct Layer {
    path: PathBuf,
    /// The handle.
    pub(crate) pool: Pool,
}

impl Layer {
    /// Opens the pool at `path` for reading, whatever is in its volumes.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let pool = Pool::open(path, &options);
        let pool = pool.map_err(|error| Failure::store(path, error.into()))?;
        Ok(Self { path: path.to_path_buf(), pool })
    }

    /// `error` as a failure of this pool.
    pub(crate) fn fail(&self, error: daxite_core::Error) -> Failure {
        Failure::store(&self.path, error.into())
    }
}
