//! Promise: a page of the medium that goes bad costs what stood on it, and nothing else.
//!
//! A pool in a file on tmpfs; each of its pages in turn is poisoned in the mapping of the open pool, by
//! `UFFDIO_POISON`, and what a store does is done. With the handler of SIGBUS the process goes on: a key
//! is answered by its value or by a media error that names it, never by another value, and never by
//! nothing. Without the handler the process dies by SIGBUS, and the pool opens.
//!
//! The poison is the mapping's, not the file's: it is gone when the pool is opened again. Opening is
//! tested with a hook that poisons the new mapping before anyone reads it.
//!
//! Skipped, loudly, where the kernel has no such thing (Linux 6.6) or does not permit it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io};

use daxite::{Database, Error, Options, install_sigbus_handler};
use daxite_core::{PAGE, sim};

const POOL_BYTES: u64 = 4 << 20;
const KEYS: u64 = 160;
/// Set in the child that dies: the file, and the page to poison.
const CHILD: &str = "DAXITE_POISON_CHILD";

/// Pages of a mapping made bad by userfaultfd.
struct Poison(OwnedFd);

// Linux 6.18, include/uapi/linux/userfaultfd.h.
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_POISON: u64 = 0xc020_aa08;
const UFFD_API: u64 = 0xaa;
const FEATURE_POISON: u64 = 1 << 14;
const REGISTER_MISSING: u64 = 1;
const USER_MODE_ONLY: i32 = 1;

impl Poison {
    /// For the mapping of `len_bytes` at `address`, all of whose pages are in the file.
    fn of(address: usize, len_bytes: usize) -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | USER_MODE_ONLY;
        // SAFETY: makes a descriptor, or an error.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and is nobody else's.
        let poison = Self(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        poison.ask(UFFDIO_API, &mut [UFFD_API, FEATURE_POISON, 0])?;
        let register = &mut [address as u64, len_bytes as u64, REGISTER_MISSING, 0];
        poison.ask(UFFDIO_REGISTER, register)?;
        Ok(poison)
    }

    fn ask<const N: usize>(&self, request: u64, argument: &mut [u64; N]) -> io::Result<()> {
        // SAFETY: each request gets the words of its struct.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument.as_mut_ptr()) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes the page at `address` bad: whoever touches it gets SIGBUS.
    fn spoil(&self, address: usize) -> io::Result<()> {
        forget(address);
        self.ask(UFFDIO_POISON, &mut [address as u64, PAGE, 0, 0])
    }
}

/// Takes the page at `address` out of the page table, poisoned or not; its bytes are in the file.
fn forget(address: usize) {
    // SAFETY: a page of a shared mapping of a file, which is mapped in again by who touches it.
    let answer = unsafe { libc::madvise(address as *mut _, PAGE as usize, libc::MADV_DONTNEED) };
    assert_eq!(answer, 0);
}

/// The last mapping of a file, and the page of it to spoil as soon as it is mapped; -1 for none.
static MAPPING: Mutex<(usize, usize)> = Mutex::new((0, 0));
static SPOIL_AT_OPEN: AtomicU64 = AtomicU64::new(NONE);
static AT_OPEN: Mutex<Option<Poison>> = Mutex::new(None);
const NONE: u64 = u64::MAX;

fn mapped(address: usize, len_bytes: usize) {
    *MAPPING.lock().unwrap() = (address, len_bytes);
    let page = SPOIL_AT_OPEN.load(Ordering::Relaxed);
    if page != NONE {
        let poison = Poison::of(address, len_bytes).unwrap();
        poison.spoil(address + (page * PAGE) as usize).unwrap();
        *AT_OPEN.lock().unwrap() = Some(poison);
    }
}

fn key(number: u64) -> String {
    format!("key {number:04}")
}

/// The value of a key; a page is less than two of them.
fn value(number: u64, version: u8) -> Vec<u8> {
    (0..2500).map(|at| (number as u8).wrapping_mul(31).wrapping_add(at as u8) ^ version).collect()
}

/// A store whose keys were all written twice, and the image of it.
fn image(folder: &Path) -> Vec<u8> {
    let path = folder.join("image");
    let database = Options::new().capacity(POOL_BYTES).lanes(1).create(&path).unwrap();
    let keyspace = database.keyspace("k").unwrap();
    for version in 0..2 {
        for number in 0..KEYS {
            keyspace.insert(key(number), value(number, version)).unwrap();
        }
    }
    drop(keyspace);
    database.close().unwrap();
    let image = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    image
}

/// What is allowed of key `number`: its value, or a media error that names it. True for the value.
fn judge(page: u64, number: u64, found: Result<Option<Vec<u8>>, Error>, version: u8) -> bool {
    match found {
        Ok(Some(found)) => {
            assert!(found == value(number, version), "page {page}: another value of {number}");
            true
        }
        Ok(None) => panic!("page {page}: key {number} is not found"),
        Err(Error::MediaError { what, offset, .. }) => {
            assert!(what.contains(&key(number)), "page {page}: {what} in place of {number}");
            assert_eq!(offset, page * PAGE);
            false
        }
        Err(error) => panic!("page {page}: {error}"),
    }
}

/// A folder on tmpfs, if the system can poison pages.
fn place() -> Option<tempfile::TempDir> {
    let probe = || -> io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let path = folder.path().join("probe");
        let database =
            Options::new().capacity(POOL_BYTES).create(&path).map_err(io::Error::from)?;
        let (address, len_bytes) = *MAPPING.lock().unwrap();
        let poison = Poison::of(address, len_bytes)?;
        poison.spoil(address + POOL_BYTES as usize - PAGE as usize)?;
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

/// Opens `image` at `path` and poisons page after page of it; `act` is called for each, with another
/// store each time if it changes what it gets.
fn for_each_page(path: &Path, image: &[u8], fresh: bool, mut act: impl FnMut(u64, &Database)) {
    let start = || {
        fs::write(path, image).unwrap();
        let database = Options::new().lanes(1).open(path).unwrap();
        let (address, len_bytes) = *MAPPING.lock().unwrap();
        let poison = Poison::of(address, len_bytes).unwrap();
        (database, poison, address)
    };
    let mut open = start();
    for page in 0..POOL_BYTES / PAGE {
        let (database, poison, address) = &open;
        let at = address + (page * PAGE) as usize;
        poison.spoil(at).unwrap();
        act(page, database);
        forget(at);
        if fresh {
            drop(open);
            open = start();
        }
    }
}

#[test]
fn every_page_may_go_bad() {
    if let Ok(child) = env::var(CHILD) {
        return die(&child);
    }
    sim::on_mapping(mapped);
    let Some(folder) = place() else { return };
    let (path, image) = (folder.path().join("pool"), image(folder.path()));
    let dead = without_the_handler(&path, &image);
    install_sigbus_handler().unwrap();
    let mut cases = dead;

    let (mut lost, mut served) = (0, 0);
    for_each_page(&path, &image, false, |page, database| {
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        let mut lost_here = Vec::new();
        for number in 0..KEYS {
            let found = keyspace.get(key(number)).map(|value| value.map(|value| value.to_vec()));
            match judge(page, number, found, 1) {
                true => served += 1,
                false => lost_here.push(number),
            }
        }
        assert!(lost_here.len() <= 3, "page {page}: {lost_here:?}");
        // A scan says the same, and comes to its end, from either side.
        for backwards in [false, true] {
            let mut numbers: Vec<u64> = (0..KEYS).collect();
            let mut items: Vec<_> = keyspace.iter().collect();
            if backwards {
                items = keyspace.iter().rev().collect();
                numbers.reverse();
            }
            assert_eq!(items.len() as u64, KEYS);
            for (number, item) in numbers.into_iter().zip(items) {
                let found = item.map(|(found, value)| {
                    assert_eq!(found, key(number).as_bytes());
                    Some(value.to_vec())
                });
                let is_there = judge(page, number, found, 1);
                assert_eq!(is_there, !lost_here.contains(&number), "page {page}, key {number}");
            }
        }
        // So does a scrub: what is lost is on a page that it names.
        let report = database.scrub().unwrap();
        assert_eq!(report.damaged, []);
        assert!(lost_here.is_empty() || report.media_errors.len() == 1, "page {page}: {report:?}");
        assert!(report.media_errors.iter().all(|error| error.offset.0 == page * PAGE));
        lost += lost_here.len();
        cases += 3;
    });
    assert!(lost as u64 >= KEYS, "only {lost} keys were ever hit");
    println!("get, scan, scrub: {lost} keys lost, {served} served");

    let mut refused = 0;
    for_each_page(&path, &image, true, |page, database| {
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        let mut versions = vec![1; KEYS as usize];
        for number in 0..KEYS {
            match keyspace.insert(key(number), value(number, 2)) {
                Ok(()) => versions[number as usize] = 2,
                // Metadata that cannot be read or written refuses; what was there stays.
                Err(Error::MediaError { .. }) => refused += 1,
                Err(error) => panic!("page {page}: {error}"),
            }
        }
        match database.reclaim() {
            Ok(_) | Err(Error::MediaError { .. }) => {}
            Err(error) => panic!("page {page}: {error}"),
        }
        for number in 0..KEYS {
            let found = keyspace.get(key(number)).map(|value| value.map(|value| value.to_vec()));
            judge(page, number, found, versions[number as usize]);
        }
        let space = database.pool().space();
        let sum = space.free_pages + space.mapped_pages + space.bad_pages + space.reserved_pages;
        assert_eq!(sum, space.total_pages);
        cases += 2;
    });
    println!("put, reclaim: {refused} puts refused for pages of metadata");

    let (mut opened, mut named) = (0, 0);
    for page in 0..POOL_BYTES / PAGE {
        fs::write(&path, &image).unwrap();
        SPOIL_AT_OPEN.store(page, Ordering::Relaxed);
        match Options::new().lanes(1).open(&path) {
            Ok(database) => {
                opened += 1;
                let keyspace = database.get_keyspace("k").unwrap().unwrap();
                for number in 0..KEYS {
                    let found = keyspace.get(key(number)).unwrap().map(|value| value.to_vec());
                    assert!(judge(page, number, Ok(found), 1));
                }
            }
            Err(Error::MediaError { offset, .. }) => {
                assert_eq!(offset, page * PAGE);
                named += 1;
            }
            Err(error) => panic!("page {page}: {error}"),
        }
        SPOIL_AT_OPEN.store(NONE, Ordering::Relaxed);
        *AT_OPEN.lock().unwrap() = None;
        cases += 1;
    }
    println!("open: {opened} opened, {named} refused by name");
    assert!(opened > 2 && named > KEYS / 2);
    println!("{cases} cases");
}

/// Without the handler a get of a poisoned value ends a process, whose pool then opens. Answers with
/// the number of cases.
fn without_the_handler(path: &Path, image: &[u8]) -> u64 {
    let mut died = 0;
    let pages = (0..POOL_BYTES / PAGE).step_by(41);
    let cases = pages.clone().count() as u64;
    for page in pages {
        fs::write(path, image).unwrap();
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "every_page_may_go_bad"]);
        let status =
            child.env(CHILD, format!("{page}:{}", path.display())).output().unwrap().status;
        assert!(status.success() || status.signal() == Some(libc::SIGBUS), "page {page}: {status}");
        died += u64::from(!status.success());
        let database = Database::open(path).unwrap();
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        for number in 0..KEYS {
            let found = keyspace.get(key(number)).unwrap().map(|value| value.to_vec());
            assert!(judge(page, number, Ok(found), 1));
        }
    }
    assert!(died > 0, "no child met a bad page");
    println!("without the handler: {died} of {cases} died by SIGBUS");
    cases
}

/// Reads all keys of a pool of which a page is poisoned.
fn die(child: &str) {
    let (page, path) = child.split_once(':').unwrap();
    let path = PathBuf::from(path);
    sim::on_mapping(mapped);
    let database = Database::open(&path).unwrap();
    let (address, len_bytes) = *MAPPING.lock().unwrap();
    let poison = Poison::of(address, len_bytes).unwrap();
    poison.spoil(address + page.parse::<usize>().unwrap() * PAGE as usize).unwrap();
    let keyspace = database.get_keyspace("k").unwrap().unwrap();
    for number in 0..KEYS {
        assert_eq!(keyspace.get(key(number)).unwrap().unwrap(), &value(number, 1)[..]);
    }
}
