//! What creating a pool did to a path, and taking that back if there will be no pool.
//!
//! 1. What was nothing is nothing again, and what was empty is empty again: neither stands in the
//!    way of the next try. Nor does an empty file, where a new one cannot be removed.
//! 2. It is taken back under the lock, while the path names what is locked, and while nobody has the
//!    pool: so it cannot be what somebody else made of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::locked_file::LockedFile;

/// Takes back what was created when it is dropped, unless it is kept. Everything else that has the file
/// must be gone by then.
pub(crate) struct Creation {
    path: PathBuf,
    file: Arc<LockedFile>,
    undo: Undo,
}

/// How to take it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Undo {
    /// The file was created: remove it, or else empty it.
    Remove,
    /// The file was empty.
    Empty,
    /// It is a device, or what was there may be lost.
    Nothing,
}

impl Creation {
    pub(super) fn new(path: &Path, file: Arc<LockedFile>, undo: Undo) -> Self {
        Self { path: path.to_path_buf(), file, undo }
    }

    pub(super) fn file(&self) -> &Arc<LockedFile> {
        &self.file
    }

    /// There is a pool now.
    pub(crate) fn keep(mut self) {
        self.undo = Undo::Nothing;
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        let is_used = Arc::strong_count(&self.file) > 1;
        if is_used || self.undo == Undo::Nothing {
            return;
        }
        let is_removed = self.undo == Undo::Remove
            && self.file.require_name(&self.path).is_ok()
            && fs::remove_file(&self.path).is_ok();
        if !is_removed {
            // An error is on its way to the caller, and says more than one of this would.
            let _ = self.file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{CreateOptions, Error, Pool};

    fn fail_after(pool: Pool, left: &mut Option<Pool>) -> Result<(), Error> {
        left.replace(pool);
        Err(Error::InvalidArgument("on purpose"))
    }

    #[test]
    fn what_a_failed_creation_did_is_taken_back_unless_the_pool_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let (new, empty) = (folder.path().join("new"), folder.path().join("empty"));
        File::create(&empty).unwrap();
        let options = CreateOptions { len_bytes: 4 << 20, ..CreateOptions::default() };
        let len_bytes = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
        for path in [&new, &empty] {
            let before = len_bytes(path);
            let finish = |pool: Pool| fail_after(pool, &mut None);
            Pool::create_with(path, &options, finish).unwrap_err();
            assert_eq!(len_bytes(path), before);
            let mut left = None;
            Pool::create_with(path, &options, |pool| fail_after(pool, &mut left)).unwrap_err();
            assert_eq!(len_bytes(path), Some(options.len_bytes));
            left.expect("a pool").create_volume("v", 1 << 20).unwrap();
        }
    }

    #[test]
    fn a_file_that_took_the_name_of_a_failed_creation_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let options = CreateOptions { len_bytes: 4 << 20, ..CreateOptions::default() };
        let replace = |_| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, "of another").unwrap();
            Err::<(), _>(Error::InvalidArgument("on purpose"))
        };
        Pool::create_with(&path, &options, replace).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"of another");
    }
}
