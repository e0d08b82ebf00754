//! Promise: whatever the operating system refuses, at whichever call, the library answers with a
//! success or with an error that says what failed and where; what was acknowledged is there
//! afterwards, and nothing stands in the way of trying again.
//!
//! Method: `calls` lets the n-th system call of each operation fail, with each error that it can
//! give; `space` fills real file systems; `limits` takes away address space, file length, files and
//! mappings; `paths` gives what is no pool. A failure of a test prints the operation, the call and the
//! error. What a machine does not allow to be tested is said in a line with `SKIPPED`.

#[cfg(target_arch = "x86_64")]
mod calls;
mod limits;
mod namespace;
mod paths;
mod space;

use std::path::Path;
use std::{fmt, io};

use daxite::Error;
use daxite_tests::{Process, my_part};

/// Lets a process play `part`, which nothing else happens in.
fn in_own_process(part: &str) {
    let ended = Process::start(part).wait();
    assert!(ended.success(), "{part}: {ended}; what it said is above");
}

/// Panics unless `error` is the answer `kind` of the system, and says what failed and where.
#[track_caller]
fn require_io(error: &Error, path: &Path, kind: io::ErrorKind) {
    let text = error.to_string();
    let Error::Io { op, path: of, source } = error else {
        panic!("no answer of the system: {text}")
    };
    assert_eq!(of, path, "{text}");
    assert!(text.starts_with(op) && text.contains(&path.display().to_string()), "{text}");
    assert_eq!(source.kind(), kind, "{text}");
}

/// Says what is to be seen though the test passes: of the processes that play a part nothing is captured.
fn say(what: impl fmt::Display) {
    eprintln!("host faults: {what}");
}

/// Says that this machine lacks what it takes to test `what`.
fn skip(what: &str, why: impl fmt::Display) {
    say(format!("SKIPPED {what}: {why}"));
}

#[test]
#[ignore = "a part that the other tests start processes for"]
fn part() {
    let Some((part, _)) = my_part() else { return };
    match part.split_once(' ').expect("a part and what it is about") {
        #[cfg(target_arch = "x86_64")]
        ("calls", of) => calls::explore_all(of),
        ("limits", of) => limits::play(of),
        ("paths", of) => paths::play(of),
        ("space", of) => space::play(of),
        #[cfg(not(target_arch = "x86_64"))]
        ("skip", what) => skip(what, "not written for this processor"),
        (other, _) => panic!("{other}?"),
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn calls_fail() {
    // Past the capture of output.
    in_own_process("skip system calls that fail");
}
