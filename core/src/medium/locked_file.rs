//! A file that is open and locked: for one writer, or for several readers.
//!
//! 1. The lock belongs to the open file (`flock`), so a second handle in this process meets it too. It
//!    ends with the process, however that ends; but children that it forked share it, until they are
//!    gone or have called `exec`.
//! 2. It is given back by a call when its last owner here goes: a child that was forked meanwhile keeps
//!    the file open, and would keep the lock. A child gives nothing back, for its parent goes on.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process;

use super::Mode;
use crate::error::{Error, Result, io_error};

pub(crate) struct LockedFile {
    file: File,
    /// The process that locked it.
    owner: u32,
}

impl LockedFile {
    /// Locks `file`, which was opened as `path`.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Io`].
    pub(super) fn lock(file: File, path: &Path, mode: Mode) -> Result<Self> {
        loop {
            let locked = match mode {
                Mode::ReadWrite => file.try_lock(),
                Mode::ReadOnly => file.try_lock_shared(),
            };
            match locked {
                Ok(()) => return Ok(Self { file, owner: process::id() }),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked { path: path.to_path_buf() });
                }
                Err(TryLockError::Error(source)) if source.kind() == ErrorKind::Interrupted => {}
                Err(TryLockError::Error(source)) => return Err(io_error("lock", path)(source)),
            }
        }
    }

    /// An error unless it is what `path` names: a lock on a file that was replaced or removed meanwhile
    /// would keep nobody out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn require_name(&self, path: &Path) -> Result<()> {
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let locked = self.file.metadata().map(id).map_err(io_error("stat", path))?;
        if locked != fs::metadata(path).map(id).map_err(io_error("open", path))? {
            return Err(io_error("open", path)(io::Error::other("it was replaced meanwhile")));
        }
        Ok(())
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.owner == process::id() {
            let _ = self.file.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(file: File, path: &Path) -> Result<LockedFile> {
        let locked = LockedFile::lock(file, path, Mode::ReadWrite)?;
        locked.require_name(path)?;
        Ok(locked)
    }

    #[test]
    fn a_file_that_was_replaced_between_opening_and_locking_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let old = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let gone = lock(old.try_clone().unwrap(), &path).err().expect("it has no name");
        assert!(gone.to_string().contains("No such file"), "{gone}");
        let new = File::create(&path).unwrap();
        let replaced = lock(old, &path).err().expect("another has its name");
        assert!(replaced.to_string().contains("replaced"), "{replaced}");
        lock(new, &path).unwrap();
    }

    #[test]
    fn the_lock_ends_with_its_owner_though_the_file_is_open_elsewhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(file.path()).unwrap();
        let locked = lock(open(), file.path()).unwrap();
        let elsewhere = locked.try_clone().unwrap();
        assert!(matches!(lock(open(), file.path()), Err(Error::Locked { .. })));
        drop(locked);
        lock(open(), file.path()).unwrap();
        drop(elsewhere);
    }
}
