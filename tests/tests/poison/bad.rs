//! Pages that are made bad, and what is stored on them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, Once};
use std::{fs, io};

use daxite::Options;
use daxite_core::{PAGE, sim};

pub(crate) const POOL_BYTES: u64 = 4 << 20;

/// Pages of a mapping made bad by userfaultfd.
struct Userfault(OwnedFd);

// Linux 6.18, include/uapi/linux/userfaultfd.h.
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_POISON: u64 = 0xc020_aa08;
const UFFD_API: u64 = 0xaa;
const FEATURE_POISON: u64 = 1 << 14;
const REGISTER_MISSING: u64 = 1;
const USER_MODE_ONLY: i32 = 1;

impl Userfault {
    /// For the mapping of `len_bytes` at `address`, all of whose pages are in the file.
    fn of(address: usize, len_bytes: usize) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | USER_MODE_ONLY;
        // SAFETY: makes a descriptor, or an error.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and is nobody else's.
        let this = Self(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        this.ask(UFFDIO_API, &mut [UFFD_API, FEATURE_POISON, 0])?;
        let register = &mut [address as u64, len_bytes as u64, REGISTER_MISSING, 0];
        this.ask(UFFDIO_REGISTER, register)?;
        Ok(this)
    }

    fn ask<const N: usize>(&self, request: u64, argument: &mut [u64; N]) -> io::Result<()> {
        // SAFETY: each request gets the words of its struct.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument.as_mut_ptr()) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A mapping some of whose pages are bad, until this is dropped or the mapping gone.
pub(crate) struct Poison {
    userfault: Userfault,
    address: usize,
}

impl Poison {
    /// For the mapping of the pool that was opened last.
    pub(crate) fn of_last_opened() -> io::Result<Self> {
        let (address, len_bytes) = WATCH.lock().unwrap().mapping;
        Self::of(address, len_bytes)
    }

    fn of(address: usize, len_bytes: usize) -> io::Result<Self> {
        Ok(Self { userfault: Userfault::of(address, len_bytes)?, address })
    }

    /// Makes `page` bad: whoever touches it gets SIGBUS.
    pub(crate) fn spoil(&self, page: u64) -> io::Result<()> {
        self.heal(page);
        self.userfault.ask(UFFDIO_POISON, &mut [self.at(page) as u64, PAGE, 0, 0])
    }

    /// Makes `page` good: it is taken out of the page table, poisoned or not; its bytes are in the file.
    pub(crate) fn heal(&self, page: u64) {
        let address = self.at(page) as *mut _;
        // SAFETY: a page of a shared mapping of a file, which is mapped in again by who touches it.
        let answer = unsafe { libc::madvise(address, PAGE as usize, libc::MADV_DONTNEED) };
        assert_eq!(answer, 0);
    }

    fn at(&self, page: u64) -> usize {
        self.address + (page * PAGE) as usize
    }
}

/// What is known of mappings, and what is to be done to them.
struct Watch {
    /// Address and length of the last one.
    mapping: (usize, usize),
    /// The page to spoil as soon as one is mapped.
    spoil_at_open: Option<u64>,
    /// What keeps that page bad.
    at_open: Option<Poison>,
}

static WATCH: Mutex<Watch> =
    Mutex::new(Watch { mapping: (0, 0), spoil_at_open: None, at_open: None });

/// The right to open pools: one test at a time, since the hook is told of all mappings of the process.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static HOOK: Once = Once::new();
    HOOK.call_once(|| sim::on_mapping(mapped));
    TURN.lock().unwrap_or_else(|failed| failed.into_inner())
}

fn mapped(address: usize, len_bytes: usize) {
    let mut watch = WATCH.lock().unwrap();
    watch.mapping = (address, len_bytes);
    if let Some(page) = watch.spoil_at_open {
        let poison = Poison::of(address, len_bytes).unwrap();
        poison.spoil(page).unwrap();
        watch.at_open = Some(poison);
    }
}

/// Calls `open` while each new mapping has `page` bad.
pub(crate) fn with_page_bad_at_open<R>(page: u64, open: impl FnOnce() -> R) -> R {
    WATCH.lock().unwrap().spoil_at_open = Some(page);
    let opened = open();
    let mut watch = WATCH.lock().unwrap();
    (watch.spoil_at_open, watch.at_open) = (None, None);
    opened
}

/// A folder on tmpfs, if the system can poison pages.
pub(crate) fn place() -> Option<tempfile::TempDir> {
    let probe = || -> io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let path = folder.path().join("probe");
        let database =
            Options::new().capacity(POOL_BYTES).create(&path).map_err(io::Error::from)?;
        Poison::of_last_opened()?.spoil(POOL_BYTES / PAGE - 1)?;
        drop(database);
        fs::remove_file(&path)?;
        Ok(folder)
    };
    match probe() {
        Ok(folder) => Some(folder),
        Err(error) => {
            println!("SKIPPED: pages cannot be poisoned here (userfaultfd): {error}");
            None
        }
    }
}

pub(crate) fn key(number: u64) -> String {
    format!("key {number:04}")
}

/// The value of a key; a page is less than two of them.
pub(crate) fn value(number: u64, version: u8) -> Vec<u8> {
    (0..2500).map(|at| (number as u8).wrapping_mul(31).wrapping_add(at as u8) ^ version).collect()
}
