//! Limits of a process: its address space, the length of its files, its open files, its mappings.
//!
//! Each is set in a process of its own, and raised again where that is part of the test.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::ptr;

use daxite::{Database, Error, Options};
use daxite_tests::test_folder;

use crate::{in_own_process, require_io};

const MIB: u64 = 1 << 20;
const POOL_BYTES: u64 = 8 * MIB;
const PAGE: usize = 4096;
const KEYSPACE: &str = "k";
/// Mappings that somebody else in the process has.
const FOREIGN: usize = 60_000;
/// What a pool may have of them.
const OWN_MAX: usize = 24;

#[test]
fn of_the_address_space() {
    in_own_process("limits address-space");
}

#[test]
fn of_the_length_of_files() {
    in_own_process("limits file-length");
}

#[test]
fn of_open_files() {
    in_own_process("limits open-files");
}

#[test]
fn of_mappings() {
    in_own_process("limits mappings");
}

/// The part of a process.
pub(crate) fn play(of: &str) {
    let folder = test_folder("daxite-host-faults-");
    match of {
        "address-space" => address_space(folder.path()),
        "file-length" => file_length(folder.path()),
        "open-files" => open_files(folder.path()),
        "mappings" => mappings(folder.path()),
        other => panic!("{other}?"),
    }
}

fn options() -> Options {
    Options::new().capacity(POOL_BYTES)
}

fn use_it(database: &Database) -> Result<(), Error> {
    let keyspace = database.keyspace(KEYSPACE)?;
    (0..100_u8).try_for_each(|n| keyspace.insert([n], vec![n; 5000]))?;
    let mut batch = database.batch();
    batch.insert(&keyspace, "both", "1").insert(&keyspace, "of them", "1");
    batch.commit()?;
    database.reclaim()?;
    for n in 0..100_u8 {
        assert!(keyspace.get([n])?.expect("a pair") == vec![n; 5000][..], "{n}");
    }
    Ok(())
}

/// Everything that opens a pool. `require` judges the errors.
fn attempt_all(path: &Path, require: impl Fn(&Error)) -> Result<(), Error> {
    let new = path.with_extension("new");
    let created = options().create(&new).inspect_err(|error| {
        require(error);
        assert!(!new.exists(), "half of a pool is left");
    });
    if created.is_ok() {
        fs::remove_file(&new).expect("it was created");
    }
    let opened = Database::open(path).inspect_err(&require);
    drop(opened?);
    let examined = Database::examine(path).inspect_err(&require);
    assert!(!examined?.is_damaged());
    drop(Options::new().open_read_only(path).inspect_err(&require)?);
    created.map(drop)
}

#[track_caller]
fn require_errno(error: &Error, errno: i32) {
    let source = match error {
        Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    };
    assert_eq!(source, Some(errno), "{error}");
}

fn set_limit(resource: libc::__rlimit_resource_t, limit: u64) {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a place for the answer.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut now) }, 0);
    now.rlim_cur = limit.min(now.rlim_max);
    // SAFETY: `now` is a limit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const now) }, 0);
}

/// Lets the allocator take what a test needs from the space that it has reserved already: where it
/// finds nothing, a Rust program ends, whatever the library does.
fn keep_memory_for_the_allocator() {
    #[cfg(target_env = "gnu")]
    for option in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
        // SAFETY: options of the allocator, which other threads do not change meanwhile.
        assert_eq!(unsafe { libc::mallopt(option, 32 << 20) }, 1);
    }
    drop(vec![1_u8; 24 << 20]);
}

fn address_space(folder: &Path) {
    let path = folder.join("pool");
    drop(options().create(&path).unwrap());
    let large = folder.join("large");
    File::create(&large).unwrap();
    keep_memory_for_the_allocator();
    set_limit(libc::RLIMIT_AS, 256 * MIB);
    let error = Options::new().capacity(1024 * MIB).create(&large).expect_err("1 GiB in 256 MiB");
    require_io(&error, &large, io::ErrorKind::OutOfMemory);
    assert_eq!(fs::metadata(&large).unwrap().len(), 0, "what was empty is not");
    // From nothing to enough, in steps that are shorter than what is asked for.
    let in_use_pages = fs::read_to_string("/proc/self/statm").unwrap();
    let in_use: u64 = in_use_pages.split(' ').next().unwrap().parse::<u64>().unwrap() * PAGE as u64;
    let mut refused = 0;
    for more in (0..).map(|step| step * MIB / 2) {
        set_limit(libc::RLIMIT_AS, in_use + more);
        let require = |error: &Error| {
            assert!(
                matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory),
                "{error}"
            );
        };
        match attempt_all(&path, require) {
            Ok(()) => break,
            Err(_) => refused += 1,
        }
        assert!(more < 64 * MIB, "{more} bytes are not enough for a pool of {POOL_BYTES}");
    }
    assert!(refused > 10, "refused {refused} times");
    set_limit(libc::RLIMIT_AS, u64::MAX);
    use_it(&Database::open(&path).unwrap()).unwrap();
}

fn file_length(folder: &Path) {
    let (path, new) = (folder.join("pool"), folder.join("new"));
    let database = options().create(&path).unwrap();
    set_limit(libc::RLIMIT_FSIZE, POOL_BYTES - 1);
    let error = options().create(&new).expect_err("longer than files may be");
    require_io(&error, &new, io::ErrorKind::FileTooLarge);
    assert!(!new.exists());
    options().capacity(POOL_BYTES / 2).create(&new).unwrap();
    // One that is there is used as before.
    use_it(&database).unwrap();
    database.close().unwrap();
    use_it(&Database::open(&path).unwrap()).unwrap();
}

fn open_files(folder: &Path) {
    let path = folder.join("pool");
    let database = options().create(&path).unwrap();
    set_limit(libc::RLIMIT_NOFILE, 64);
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // Who has one open needs no more files.
    use_it(&database).unwrap();
    database.close().unwrap();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    let mut refused = 0;
    while attempt_all(&path, |error| require_errno(error, libc::EMFILE)).is_err() {
        refused += 1;
        files.pop().expect("it takes all files that there are");
    }
    assert!((1..10).contains(&refused), "it takes {refused} files");
    use_it(&Database::open(&path).unwrap()).unwrap();
}

/// Mappings of this process.
fn count_mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// A page that somebody mapped, and that stays mapped until it is given back.
struct Foreign(*mut libc::c_void);

/// At most `count` pages; the kernel cannot make one mapping of many of them.
fn map_foreign(count: usize) -> Vec<Foreign> {
    let map = |nth: usize| {
        let protection = if nth.is_multiple_of(2) { libc::PROT_READ } else { libc::PROT_NONE };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) };
        (page != libc::MAP_FAILED).then_some(Foreign(page))
    };
    (0..count).map_while(map).collect()
}

/// Gives one back. That takes another mapping for a page amid others of its kind, which stays.
fn give_back(foreign: &mut Vec<Foreign>) {
    while let Some(Foreign(page)) = foreign.pop() {
        // SAFETY: nobody else knows the page.
        if unsafe { libc::munmap(page, PAGE) } == 0 {
            return;
        }
    }
    panic!("it takes all mappings that there are");
}

fn mappings(folder: &Path) {
    keep_memory_for_the_allocator();
    let path = folder.join("pool");
    let mut foreign = map_foreign(FOREIGN);
    assert_eq!(foreign.len(), FOREIGN, "mappings that the system allows");
    let before = count_mappings();
    let database = options().create(&path).unwrap();
    use_it(&database).unwrap();
    let own = count_mappings() - before;
    assert!(own <= OWN_MAX, "a pool has {own} mappings");
    database.close().unwrap();
    // All that there are: whoever opens needs some, who has opened none.
    let database = Database::open(&path).unwrap();
    foreign.extend(map_foreign(usize::MAX));
    use_it(&database).unwrap();
    database.close().unwrap();
    foreign.extend(map_foreign(usize::MAX));
    let mut refused = 0;
    while attempt_all(&path, |error| require_errno(error, libc::ENOMEM)).is_err() {
        refused += 1;
        give_back(&mut foreign);
    }
    assert!((1..OWN_MAX).contains(&refused), "it takes {refused} mappings");
}
