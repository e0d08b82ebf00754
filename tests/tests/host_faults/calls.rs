//! The n-th system call fails, with each error that it can give, once and from then on.
//!
//! A failure names the operation, the call, and the error. Time and seed decide how many of these runs
//! there are, see docs/TESTING.md.

mod errors;
mod ledger;
mod operations;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use daxite_tests::traced::{self, End, Fault};
use daxite_tests::{Random, number, test_folder};
use libc::c_long;
use tempfile::TempDir;

use crate::{in_own_process, say, skip};

/// What is done, and checked, in a process of which a call may fail.
struct Operation {
    name: &'static str,
    on: On,
    /// Makes what is there before.
    prepare: fn(&Path),
    /// Panics unless everything is as promised, whichever call between the marks fails.
    run: fn(&Path),
}

/// Where the pool is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// An ordinary file.
    Disk,
    /// A file in memory, where there is any.
    Memory,
}

fn folder(on: On) -> TempDir {
    match on {
        On::Disk => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder"),
        On::Memory => test_folder("daxite-host-faults-"),
    }
}

/// How long each operation is tried, in seconds; default 2.
const SECONDS: &str = "DAXITE_FAULT_SECONDS";
/// Which faults come first.
const SEED: &str = "DAXITE_FAULT_SEED";

/// What came of an operation.
#[derive(Default)]
struct Explored {
    /// Calls that failed on purpose.
    injected: u64,
    /// Runs with a fault, of so many that there are.
    runs: usize,
    faults: usize,
    /// Runs in which the call was not made.
    unmet: usize,
    failures: Vec<String>,
}

/// Runs `operation` without a fault, then with one after the other, in the order of `seed`, until all
/// were tried or the time is over.
fn explore(operation: &Operation, seed: u64, time: Duration) -> io::Result<Explored> {
    let folder = folder(operation.on);
    let before = folder.path().join("before");
    (operation.prepare)(&before);
    let run = |fault| {
        let place = folder.path().join("place");
        fs::create_dir(&place)?;
        let path = place.join("pool");
        if before.exists() {
            fs::copy(&before, &path)?;
        }
        let run = traced::run(fault, || (operation.run)(&path));
        fs::remove_dir_all(&place)?;
        run
    };
    let plain = run(None)?;
    assert_eq!(plain.end, End::Done, "{}, with nothing failing", operation.name);
    let mut kinds = BTreeMap::<c_long, usize>::new();
    let mut faults: Vec<Fault> = Vec::new();
    for number in plain.calls {
        let nth = kinds.entry(number).or_default();
        let of_call = errors::of(number).into_iter();
        faults.extend(of_call.map(|(errno, lasts)| Fault { number, nth: *nth, errno, lasts }));
        *nth += 1;
    }
    let mut random = Random::new(seed);
    for at in (1..faults.len()).rev() {
        faults.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut explored = Explored { faults: faults.len(), ..Explored::default() };
    let start = Instant::now();
    for fault in faults.into_iter().take_while(|_| start.elapsed() < time) {
        let mut tried = run(Some(fault))?;
        if tried.end == End::Hung {
            // The first time the machine may have been busy with something else.
            tried = run(Some(fault))?;
        }
        explored.injected += tried.injected;
        // Where threads share the work, the call may be made by another than the one that is followed.
        explored.runs += usize::from(tried.injected > 0);
        explored.unmet += usize::from(tried.injected == 0);
        if tried.end != End::Done {
            let Fault { number, nth, errno, lasts } = fault;
            let (call, error) = (errors::name(number), io::Error::from_raw_os_error(errno));
            let (name, end) = (operation.name, tried.end);
            let failure = format!("{name}, {call} {nth}, {lasts:?}: {error}: {end:?}");
            explored.failures.push(failure);
        }
    }
    assert!(explored.unmet <= explored.runs, "{}: {} unmet", operation.name, explored.unmet);
    let kinds: Vec<_> = kinds.iter().map(|(kind, n)| (errors::name(*kind), n)).collect();
    println!("{}: {explored} in {:?}; {kinds:?}", operation.name, start.elapsed());
    Ok(explored)
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { injected, runs, faults, .. } = self;
        write!(f, "{injected} calls failed on purpose, in {runs} of {faults} runs")
    }
}

/// The part of a process.
pub(crate) fn explore_all(of: &str) {
    let operations = match of {
        "creating" => operations::CREATING,
        "opening" => operations::OPENING,
        "using" => operations::USING,
        other => panic!("{other}?"),
    };
    let seed = number(SEED).unwrap_or(1);
    let time = Duration::from_secs(number(SECONDS).unwrap_or(2));
    let mut all = Explored::default();
    for operation in &operations {
        let explored = match explore(operation, seed, time) {
            Ok(explored) => explored,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                return skip("system calls that fail", error);
            }
            Err(error) => panic!("{}: {error}", operation.name),
        };
        all.injected += explored.injected;
        all.runs += explored.runs;
        all.faults += explored.faults;
        all.failures.extend(explored.failures);
    }
    assert!(all.failures.is_empty(), "{SEED}={seed}:\n{}", all.failures.join("\n"));
    say(format!("{of}: {all}; {SEED}={seed}"));
}

/// Nothing is there before.
fn nothing(_: &Path) {}

#[test]
fn creating() {
    in_own_process("calls creating");
}

#[test]
fn opening() {
    in_own_process("calls opening");
}

#[test]
fn using() {
    in_own_process("calls using");
}
