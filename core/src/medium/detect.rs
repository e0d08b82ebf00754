//! Finding out what a path is: device-dax, a file and on which file system, and what that promises.
//!
//! 1. Nothing is written, and nothing is created unless the caller creates.
//! 2. The size of a device comes from sysfs, since `stat` and `lseek` answer 0.
//! 3. What is locked is what the path names.
//! 4. Whether a regular file is on DAX is decided by the mapping itself (`MAP_SYNC`), not here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::fstatfs;
use rustix::io::retry_on_intr;

use super::creation::{Creation, Undo};
use super::locked_file::LockedFile;
use super::mapping::Mapping;
use super::{MediumKind, Mode, Persistence, backing};
use crate::error::{Error, Result, io_error};
use crate::layout::{MAGIC, SUPERBLOCK_OFFSETS};
use crate::units::{HUGE, PAGE};

/// `f_type` of tmpfs and hugetlbfs, from `linux/magic.h`.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const HUGETLBFS_MAGIC: u64 = 0x958458f6;

/// A path that was opened and locked, and what it turned out to be.
pub(crate) struct Target {
    pub path: PathBuf,
    pub file: Arc<LockedFile>,
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
        let file = Arc::new(LockedFile::lock(file, path, mode)?);
        file.require_name(path)?;
        match device {
            Some(len_bytes) => {
                Ok(Self { path: path.to_path_buf(), file, kind: MediumKind::DeviceDax, len_bytes })
            }
            None => Self::of_file(path, file),
        }
    }

    /// Opens and locks what is to become a pool, and creates a file where nothing is.
    ///
    /// # Errors
    /// Those of [`Target::open`], and [`Error::AlreadyExists`] unless it is new, empty, or a device,
    /// or may be lost.
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<(Creation, Self)> {
        if !path.try_exists().map_err(io_error("create", path))? {
            return Self::create_file(path);
        }
        let target = Self::open(path, Mode::ReadWrite)?;
        let undo = match target.kind {
            MediumKind::DeviceDax => Undo::Nothing,
            _ if target.len_bytes == 0 => Undo::Empty,
            _ if overwrite => Undo::Nothing,
            _ => {
                let is_pool = target.require_superblock().is_ok();
                return Err(Error::AlreadyExists { path: path.to_path_buf(), is_pool });
            }
        };
        Ok((Creation::new(path, Arc::clone(&target.file), undo), target))
    }

    /// If not even locking it works, the file stays, empty: who locks it first may make a pool of it.
    fn create_file(path: &Path) -> Result<(Creation, Self)> {
        let created = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = created.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::AlreadyExists { path: path.to_path_buf(), is_pool: false }
            }
            _ => io_error("create", path)(source),
        })?;
        let file = LockedFile::lock(file, path, Mode::ReadWrite)?;
        let creation = Creation::new(path, Arc::new(file), Undo::Remove);
        creation.file().require_name(path)?;
        sync_folder_of(path)?;
        let target = Self::of_file(path, Arc::clone(creation.file()))?;
        Ok((creation, target))
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
            backing::require_allowed(len_bytes).map_err(&error)?;
            self.file.set_len(len_bytes).map_err(&error)?;
            Mapping::fill_with_huge_pages(&self.path, &self.file, len_bytes)?;
        }
        backing::reserve(&self.file, len_bytes).map_err(error)?;
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

    fn of_file(path: &Path, file: Arc<LockedFile>) -> Result<Self> {
        let len_bytes = file.metadata().map_err(io_error("stat", path))?.len();
        let system = retry_on_intr(|| fstatfs(&**file));
        let system = system.map_err(|errno| io_error("statfs", path)(errno.into()))?;
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
/// No region, one that says less, or one that cannot be asked, means that flushing is needed.
fn caches_are_persistent() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/nd/devices") else { return false };
    all_are_cpu_cache(devices.filter_map(|device| match device {
        Ok(device) => {
            let is_region = device.file_name().to_string_lossy().starts_with("region");
            is_region.then(|| fs::read_to_string(device.path().join("persistence_domain")))
        }
        Err(error) => Some(Err(error)),
    }))
}

fn all_are_cpu_cache(mut domains: impl Iterator<Item = io::Result<String>>) -> bool {
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
    fn caches_are_persistent_only_if_every_region_says_so() {
        let all = |domains: &[&str]| {
            all_are_cpu_cache(domains.iter().map(|domain| match *domain {
                "" => Err(io::Error::other("on purpose")),
                domain => Ok(format!("{domain}\n")),
            }))
        };
        assert!(all(&["cpu_cache"]) && all(&["cpu_cache", "cpu_cache"]));
        for domains in [&[][..], &["memory_controller"], &["cpu_cache", "unknown"]] {
            assert!(!all(domains), "{domains:?}");
        }
        assert!(!all(&["cpu_cache", ""]) && !all(&["", "cpu_cache"]), "one cannot be asked");
    }
}
