//! Space behind every byte of a file, so that touching one is never a fatal signal.
//!
//! 1. A new pool gets all its space at once. That of an old one may have holes, which a copying
//!    program made of zeros: they are filled before anyone comes near.
//! 2. Not even reading a hole is harmless: tmpfs allocates a page for it, or kills.
//! 3. A file grows no further than the process may grow files, or the system would kill it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use super::mapping::Mapping;
use super::{MediumKind, Mode};

/// Makes `file` exactly `len_bytes` long, all of it backed. Length and space are durable then.
pub(super) fn reserve(file: &File, len_bytes: u64) -> io::Result<()> {
    require_allowed(len_bytes)?;
    // If there is no space after all, what was there is there, and a length can be taken back; one that
    // cannot be set is not left behind by the allocation.
    let is_longer = file.metadata()?.len() > len_bytes;
    if !is_longer {
        file.set_len(len_bytes)?;
    }
    allocate(file, len_bytes)?;
    if is_longer {
        file.set_len(len_bytes)?;
    }
    file.sync_all()
}

/// An error if a file of `len_bytes` is longer than the process may make one.
pub(super) fn require_allowed(len_bytes: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if len_bytes > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// Puts space behind the first `len_bytes` bytes of `file`, which is mapped as `mapping`, if it seems
/// to lack some. Changes no byte and no length.
pub(super) fn fill_holes(
    file: &File,
    mapping: &Mapping,
    kind: MediumKind,
    mode: Mode,
    len_bytes: u64,
) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.blocks() * 512 >= metadata.len() {
        return Ok(());
    }
    match (kind, mode) {
        (MediumKind::Tmpfs, Mode::ReadOnly) => mapping.back(len_bytes),
        // A hole on a disk reads as zeros, without space.
        (MediumKind::File | MediumKind::DaxFile, Mode::ReadOnly) => Ok(()),
        (MediumKind::File | MediumKind::DaxFile | MediumKind::Tmpfs, Mode::ReadWrite) => {
            allocate(file, len_bytes)
        }
        (MediumKind::DeviceDax | MediumKind::Hugetlbfs | MediumKind::Anonymous, _) => Ok(()),
    }
}

fn allocate(file: &File, len_bytes: u64) -> io::Result<()> {
    Ok(retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, len_bytes))?)
}
