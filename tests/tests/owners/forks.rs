//! Owners that fork: the child has no part in the pool, and is told so.
//!
//! Each part forks in a process of its own, whose other threads hold no lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use daxite::daxite_core::{self, LogicalRange};
use daxite::{Database, Error, Keyspace};
use daxite_tests::{Ledger, test_folder};

use crate::{PATIENCE, attempt, attempt_elsewhere, create, said, say, start};

/// What a child exits with when all was as it should be, and when not.
const GOOD: i32 = 0;
const BAD: i32 = 101;
/// MiB that a child asks for: more than were mapped for the pool.
const CHILD_MIB: usize = 16;

/// Forks: the number of the child, and `None` in the child.
fn fork() -> Option<i32> {
    // SAFETY: the other threads of this process wait, and hold no lock that the child needs.
    match unsafe { libc::fork() } {
        -1 => panic!("no fork: {}", std::io::Error::last_os_error()),
        0 => None,
        child => Some(child),
    }
}

/// Does `body` and ends this process, without what its parent does at its own end.
fn end_after(body: impl FnOnce()) -> ! {
    let code = if catch_unwind(AssertUnwindSafe(body)).is_ok() { GOOD } else { BAD };
    // SAFETY: ends the process, and touches nothing of it.
    unsafe { libc::_exit(code) }
}

/// Waits for `child`: its exit code, or the signal that ended it.
fn wait(child: i32) -> Result<i32, i32> {
    let mut status = 0;
    // SAFETY: writes to `status` alone.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "{}", std::io::Error::last_os_error());
    match libc::WIFEXITED(status) {
        true => Ok(libc::WEXITSTATUS(status)),
        false => Err(libc::WTERMSIG(status)),
    }
}

/// Everything that reaches the pool must say that it is not this process's.
fn is_refused_everywhere(database: &Database, keyspace: &Keyspace) {
    let mut batch = database.batch();
    batch.insert(keyspace, "key", "child");
    let pool = database.pool();
    for (call, answer) in [
        ("get", keyspace.get("key").map(drop)),
        ("get_with", keyspace.get_with("key", |_| ()).map(drop)),
        ("insert", keyspace.insert("key", "child")),
        ("remove", keyspace.remove("key").map(drop)),
        ("swap", keyspace.compare_and_swap("key", None, None).map(drop)),
        ("clear", keyspace.clear()),
        ("iter", keyspace.iter().next().expect("an error").map(drop)),
        ("first", keyspace.first().map(drop)),
        ("batch", batch.commit().map(drop)),
        ("keyspace", database.keyspace("another").map(drop)),
        ("get_keyspace", database.get_keyspace("k").map(drop)),
        ("drop_keyspace", database.drop_keyspace("k").map(drop)),
        ("reclaim", database.reclaim().map(drop)),
        ("close", database.clone().close()),
        ("pool.close", pool.close().map_err(Error::from)),
        ("pool.volumes", pool.volumes().map(drop).map_err(Error::from)),
        ("pool.occupancy", pool.occupancy().map(drop).map_err(Error::from)),
        ("pool.volume", pool.volume("log").map(drop).map_err(Error::from)),
        ("pool.create_volume", pool.create_volume("v", 4096).map(drop).map_err(Error::from)),
        ("pool.remove_volume", pool.remove_volume("log").map(drop).map_err(Error::from)),
    ] {
        assert!(matches!(answer, Err(Error::Forked { .. })), "{call} in a child: {answer:?}");
    }
}

fn volume_is_refused_everywhere(volume: &daxite_core::Volume) {
    let range = LogicalRange::new(0, 6);
    for (call, answer) in [
        ("map", volume.map(range).map(drop)),
        ("map_mut", volume.map_mut(range).map(drop)),
        ("write", volume.write(0, b"child!")),
        ("read", volume.read(0, &mut [0; 6])),
        ("punch", volume.punch(range)),
        ("zero", volume.zero(range)),
        ("sync", volume.sync(range)),
        ("upgrade", volume.upgrade(range, 1).map(drop)),
        ("slots", volume.slots(range).map(drop)),
        ("extents", volume.extents(range).map(drop)),
        ("set_len", volume.set_len(4096)),
        ("stats", volume.stats().map(drop)),
    ] {
        let is_forked = matches!(answer, Err(daxite_core::Error::Forked { .. }));
        assert!(is_forked, "{call} in a child: {answer:?}");
    }
}

/// A child that tries everything, and ends first; the owner goes on.
pub(crate) fn fork_and_go_on(path: &Path, ledger: &Ledger) {
    let (database, keyspace) = create(path);
    let volume = database.pool().create_volume("matrix", 1 << 30).unwrap();
    volume.write(0, b"parent").unwrap();
    let child = fork().unwrap_or_else(|| {
        end_after(|| {
            is_refused_everywhere(&database, &keyspace);
            volume_is_refused_everywhere(&volume);
            assert_eq!(attempt(path), "locked", "by the parent");
            // A pool of its own is none of its parent's business.
            let own = path.with_extension("child");
            drop(create(&own));
            assert_eq!(attempt(&own), "open");
        })
    });
    assert_eq!(wait(child), Ok(GOOD));
    keyspace.insert("after", "the fork").unwrap();
    let mut bytes = [0; 6];
    volume.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"parent");
    assert_eq!(attempt(path), "locked", "the child took the lock along");
    drop(volume);
    database.close().unwrap();
    drop(keyspace);
    let database = Database::open(path).unwrap();
    let keyspace = database.get_keyspace("k").unwrap().unwrap();
    assert_eq!(keyspace.get("key").unwrap().unwrap(), b"value");
    assert_eq!(keyspace.get("after").unwrap().unwrap(), b"the fork");
    assert!(database.recovery_report().was_clean, "the child changed the pool");
    say(ledger, "good");
}

/// A child that drops what it inherited, while it has memory where the pool was mapped.
pub(crate) fn fork_and_drop(path: &Path, ledger: &Ledger) {
    let (database, keyspace) = create(path);
    let value = keyspace.get("key").unwrap().unwrap();
    let Some(child) = fork() else {
        end_after(move || {
            let own: Vec<Vec<u8>> = (0..CHILD_MIB).map(|n| vec![n as u8 + 1; 1 << 20]).collect();
            drop((value, keyspace, database));
            for (n, bytes) in own.iter().enumerate() {
                assert!(bytes.iter().all(|byte| *byte == n as u8 + 1), "MiB {n} of the child");
            }
        })
    };
    assert_eq!(wait(child), Ok(GOOD));
    assert_eq!(value, b"value");
    assert_eq!(attempt(path), "locked", "the child gave the lock back");
    drop((database, keyspace, value));
    assert_eq!(attempt(path), "open");
    say(ledger, "good");
}

/// A child that looks at a value that its parent read.
pub(crate) fn fork_and_touch(path: &Path, ledger: &Ledger) {
    let (_database, keyspace) = create(path);
    let value = keyspace.get("key").unwrap().unwrap();
    let Some(child) = fork() else { end_after(|| assert_ne!(value, b"VALUE")) };
    assert_eq!(wait(child), Err(libc::SIGSEGV));
    assert_eq!(value, b"value");
    say(ledger, "good");
}

/// A child that lives on while its parent gives the pool back.
pub(crate) fn fork_and_close(path: &Path, ledger: &Ledger) {
    let (database, keyspace) = create(path);
    let Some(child) = fork() else {
        // With all handles, which it does not touch.
        end_after(|| thread::sleep(PATIENCE))
    };
    assert_eq!(attempt(path), "locked");
    drop((database, keyspace));
    assert_eq!(attempt(path), "open", "the child keeps the lock");
    // SAFETY: kills the process that this one forked, and that it has not waited for yet.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    assert_eq!(wait(child), Err(libc::SIGKILL));
    say(ledger, "good");
}

/// A child that lives on.
pub(crate) fn fork_and_wait(path: &Path, ledger: &Ledger) {
    let (_database, _keyspace) = create(path);
    let child = fork().unwrap_or_else(|| end_after(|| thread::sleep(PATIENCE)));
    say(ledger, child.to_string());
    thread::sleep(PATIENCE);
}

fn is_good(role: &str) {
    let folder = test_folder("daxite-owners-");
    let mut owner = start(role, &folder.path().join("pool"));
    assert_eq!(said(&owner), "good");
    assert!(owner.wait().success());
}

#[test]
fn a_forked_child_is_refused_and_its_parent_goes_on() {
    is_good("fork-and-go-on");
}

#[test]
fn a_forked_child_that_drops_its_handles_keeps_its_own_memory() {
    is_good("fork-and-drop");
}

#[test]
fn a_forked_child_does_not_keep_what_its_parent_gives_back() {
    is_good("fork-and-close");
}

#[test]
fn a_value_that_is_looked_at_in_a_forked_child_ends_the_child() {
    is_good("fork-and-touch");
}

#[test]
fn a_forked_child_of_an_owner_that_was_killed_holds_the_lock_until_it_is_gone() {
    let folder = test_folder("daxite-owners-");
    let path = folder.path().join("pool");
    let mut owner = start("fork-and-wait", &path);
    let child: i32 = said(&owner).parse().expect("the number of a process");
    owner.kill();
    owner.wait();
    assert_eq!(attempt_elsewhere(&path), "locked", "the child is alive");
    // SAFETY: kills the process that the owner forked, which lives as long as the lock is held.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    let late = Instant::now() + PATIENCE;
    while attempt(&path) == "locked" && Instant::now() < late {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(attempt(&path), "open");
}
