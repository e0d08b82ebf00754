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
