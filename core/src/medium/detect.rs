//! Finding out what a path is: device-dax, a file and on which file system, and what that promises.
//!
//! 1. Nothing is written, and nothing is created unless the caller creates.
//! 2. The size of a device comes from sysfs, since `stat` and `lseek` answer 0.
//! 3. What is locked is what the path names: a lock on a file that was replaced or removed meanwhile
//!    would keep nobody out.
//! 4. Whether a regular file is on DAX is decided by the mapping itself (`MAP_SYNC`), not here.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatfs};

use super::mapping::Mapping;
use super::{MediumKind, Mode, Persistence};
use crate::error::{Error, Result, io_error};
use crate::layout::{MAGIC, SUPERBLOCK_OFFSETS};
use crate::units::{HUGE, PAGE};

/// `f_type` of tmpfs and hugetlbfs, from `linux/magic.h`.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const HUGETLBFS_MAGIC: u64 = 0x958458f6;

/// A path that was opened and locked, and what it turned out to be.
pub(crate) struct Target {
    pub path: PathBuf,
    pub file: File,
    pub kind: MediumKind,
    /// Bytes that are there: the length of a file, the size of a device.
    pub len_bytes: u64,
}

impl Target {
    /// Opens and locks what `path` names.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be opened, [`Error::NotAPool`] for what no pool can live on,
    /// [`Error::ReadOnly`] for a file without write permission, [`Error::Locked`].
    pub(crate) fn open(path: &Path, mode: Mode) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(io_error("open", path))?;
        let file_type = metadata.file_type();
        let not_a_pool = |reason| Err(Error::NotAPool { path: path.to_path_buf(), reason });
        if file_type.is_dir() {
            return not_a_pool("it is a directory");
        }
        if !file_type.is_file() && !file_type.is_char_device() {
            return not_a_pool("it is neither a file nor a device-dax device");
        }
        let writes = mode == Mode::ReadWrite;
        if writes && metadata.permissions().readonly() {
            return Err(Error::ReadOnly { path: path.to_path_buf() });
        }
        let device = if file_type.is_char_device() {
            Some(dax_device(path, metadata.rdev())?)
        } else {
            None
        };
        let opened = OpenOptions::new().read(true).write(writes).open(path);
        let file = opened.map_err(io_error("open", path))?;
        Self::lock(&file, path, mode)?;
        match device {
            Some(len_bytes) => {
                Ok(Self { path: path.to_path_buf(), file, kind: MediumKind::DeviceDax, len_bytes })
            }
            None => Self::of_file(path, file),
        }
    }

    /// Creates the file `path`, which must not exist, and locks it.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Io`].
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let created = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = created.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::AlreadyExists { path: path.to_path_buf(), is_pool: false }
            }
            _ => io_error("create", path)(source),
        })?;
        Self::lock(&file, path, Mode::ReadWrite)?;
        sync_folder_of(path)?;
        Self::of_file(path, file)
    }

    /// Makes a file `len_bytes` long with space behind every byte of it, so that no store can
    /// meet a full file system. Length and space are durable then. A device is left as it is.
    ///
    /// # Errors
    /// [`Error::Io`], for example when the file system is full.
    pub(crate) fn reserve_space(&mut self, len_bytes: u64) -> Result<()> {
        if self.kind == MediumKind::DeviceDax {
            return Ok(());
        }
        let error = io_error("reserve space in", &self.path);
        if self.kind == MediumKind::Tmpfs {
            self.file.set_len(len_bytes).map_err(&error)?;
            Mapping::fill_with_huge_pages(&self.path, &self.file, len_bytes)?;
        }
        fallocate(&self.file, FallocateFlags::empty(), 0, len_bytes)
            .map_err(io::Error::from)
            .and_then(|()| self.file.set_len(len_bytes))
            .and_then(|()| self.file.sync_all())
            .map_err(error)?;
        self.len_bytes = len_bytes;
        Ok(())
    }

    /// An error unless the file carries the magic of a superblock, found without mapping it.
    /// Devices cannot be read without mapping them, and pass.
    ///
    /// # Errors
    /// [`Error::NotAPool`], [`Error::Io`].
    pub(crate) fn require_superblock(&self) -> Result<()> {
        if self.kind == MediumKind::DeviceDax {
            return Ok(());
        }
        let not_a_pool = |reason| Err(Error::NotAPool { path: self.path.clone(), reason });
        if self.len_bytes == 0 {
            return not_a_pool("it is empty");
        }
        if self.len_bytes < PAGE {
            return not_a_pool("it is shorter than a superblock");
        }
        let mut unread = None;
        for offset in SUPERBLOCK_OFFSETS {
            let mut magic = [0; MAGIC.len()];
            match self.file.read_exact_at(&mut magic, offset) {
                Ok(()) if magic == MAGIC => return Ok(()),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                // A media error, maybe; the other copy will do.
                Err(error) => unread = Some(error),
            }
        }
        match unread {
            Some(error) => Err(io_error("read", &self.path)(error)),
            None => not_a_pool("it has no superblock"),
        }
    }

    fn of_file(path: &Path, file: File) -> Result<Self> {
        let len_bytes = file.metadata().map_err(io_error("stat", path))?.len();
        let system = fstatfs(&file).map_err(|errno| io_error("statfs", path)(errno.into()))?;
        let kind = match system.f_type as u64 {
            TMPFS_MAGIC => MediumKind::Tmpfs,
            HUGETLBFS_MAGIC => MediumKind::Hugetlbfs,
            _ => MediumKind::File,
        };
        if kind == MediumKind::Hugetlbfs && system.f_bsize as u64 != HUGE {
            let reason = "the huge pages of its file system are not of 2 MiB";
            return Err(Error::NotAPool { path: path.to_path_buf(), reason });
        }
        Ok(Self { path: path.to_path_buf(), file, kind, len_bytes })
    }

    /// Another handle of the lock, which ends with the last of them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn share_lock(&self) -> Result<File> {
        self.file.try_clone().map_err(io_error("lock", &self.path))
    }

    /// One writer or several readers. The lock belongs to the open file, so a second handle in
    /// this process meets it too. It ends with the process, however that ends; but children that it
    /// forked share it, until they are gone or have called `exec`.
    fn lock(file: &File, path: &Path, mode: Mode) -> Result<()> {
        let locked = match mode {
            Mode::ReadWrite => file.try_lock(),
            Mode::ReadOnly => file.try_lock_shared(),
        };
        locked.map_err(|error| match error {
            TryLockError::WouldBlock => Error::Locked { path: path.to_path_buf() },
            TryLockError::Error(source) => io_error("lock", path)(source),
        })?;
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let locked = file.metadata().map(id).map_err(io_error("stat", path))?;
        if locked != fs::metadata(path).map(id).map_err(io_error("open", path))? {
            return Err(io_error("open", path)(io::Error::other("it was replaced meanwhile")));
        }
        Ok(())
    }
}

/// Makes the name of a new file durable: without it, everything in the file is lost with the power.
fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_error("sync the folder of", path))
}

/// Puts space behind the first `len_bytes` bytes of `file`, if it seems to lack some.
pub(crate) fn fill_holes(file: &File, len_bytes: u64) -> io::Result<()> {
    if file.metadata()?.blocks() * 512 >= len_bytes {
        return Ok(());
    }
    Ok(fallocate(file, FallocateFlags::empty(), 0, len_bytes)?)
}

/// What a flushed and fenced store is worth on a medium of `kind`.
pub(crate) fn persistence_of(kind: MediumKind) -> Persistence {
    match kind {
        MediumKind::DeviceDax | MediumKind::DaxFile => {
            if caches_are_persistent() {
                Persistence::Eadr
            } else {
                Persistence::CacheFlush
            }
        }
        MediumKind::File => Persistence::Msync,
        MediumKind::Tmpfs | MediumKind::Hugetlbfs | MediumKind::Anonymous => Persistence::Volatile,
    }
}

/// True if every persistent-memory region says that CPU caches are in its persistence domain.
/// No region, or one that says less, means that flushing is needed.
fn caches_are_persistent() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/nd/devices") else { return false };
    let mut domains = devices.flatten().filter_map(|device| {
        let is_region = device.file_name().to_string_lossy().starts_with("region");
        is_region.then(|| fs::read_to_string(device.path().join("persistence_domain")))
    });
    let is_cpu_cache =
        |domain: io::Result<String>| domain.is_ok_and(|domain| domain.trim() == "cpu_cache");
    match domains.next() {
        None => false,
        Some(first) => is_cpu_cache(first) && domains.all(is_cpu_cache),
    }
}

/// The size in bytes of the device-dax device `path` with device number `rdev`.
fn dax_device(path: &Path, rdev: u64) -> Result<u64> {
    let sysfs = PathBuf::from(format!(
        "/sys/dev/char/{}:{}",
        rustix::fs::major(rdev),
        rustix::fs::minor(rdev)
    ));
    let subsystem = fs::canonicalize(sysfs.join("subsystem")).unwrap_or_default();
    if subsystem.file_name().is_none_or(|name| name != "dax") {
        let reason = "it is a character device, but not device-dax";
        return Err(Error::NotAPool { path: path.to_path_buf(), reason });
    }
    let size = read_number(&sysfs.join("size"), path)?;
    let align = read_number(&sysfs.join("align"), path)
        .or_else(|_| read_number(&sysfs.join("../dax_region/align"), path))?;
    if align > HUGE {
        let reason = "its alignment is above 2 MiB; reconfigure it with daxctl or ndctl";
        return Err(Error::NotAPool { path: path.to_path_buf(), reason });
    }
    Ok(size)
}

fn read_number(file: &Path, path: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).map_err(io_error("read the size of", path))?;
    text.trim()
        .parse()
        .map_err(|_| io_error("read the size of", path)(io::Error::other("sysfs holds no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_between_opening_and_locking_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let old = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let gone = Target::lock(&old, &path, Mode::ReadWrite).unwrap_err();
        assert!(gone.to_string().contains("No such file"), "{gone}");
        let new = File::create(&path).unwrap();
        let replaced = Target::lock(&old, &path, Mode::ReadWrite).unwrap_err();
        assert!(replaced.to_string().contains("replaced"), "{replaced}");
        Target::lock(&new, &path, Mode::ReadWrite).unwrap();
    }
}
