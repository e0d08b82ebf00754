//! The n-th system call fails, with each error that it can give, once and from then on.

mod errors;
mod ledger;
mod operations;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use std::{fs, io};

use daxite_tests::traced::{self, End, Fault};
use daxite_tests::{in_own_process, say, skip};

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
    /// A file in memory.
    Memory,
}

fn folder(on: On) -> Option<tempfile::TempDir> {
    let parent = match on {
        On::Disk => Path::new(env!("CARGO_TARGET_TMPDIR")),
        On::Memory => Path::new("/dev/shm"),
    };
    parent.is_dir().then(|| tempfile::tempdir_in(parent).expect("a folder for the test"))
}

/// Runs `operation` once without a fault, then with each. Answers how many calls failed on purpose.
fn explore(operation: &Operation) -> io::Result<u64> {
    let Some(folder) = folder(operation.on) else {
        skip(operation.name, "there is no /dev/shm");
        return Ok(0);
    };
    let start = Instant::now();
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
    let mut injected = 0;
    let mut failures = Vec::new();
    for (call, number) in plain.calls.iter().copied().enumerate() {
        for fault in
            errors::of(number).into_iter().map(|(errno, lasts)| Fault { call, errno, lasts })
        {
            let run = run(Some(fault))?;
            let name = errors::name(number);
            assert_eq!(run.calls.get(call), Some(&number), "{}, {fault:?}", operation.name);
            injected += run.injected;
            if run.end != End::Done {
                let error = io::Error::from_raw_os_error(fault.errno);
                let Fault { lasts, .. } = fault;
                failures.push(format!("call {call}, {name}: {error}, {lasts:?}: {:?}", run.end));
            }
        }
    }
    let mut kinds = BTreeMap::<String, u64>::new();
    plain.calls.iter().for_each(|number| *kinds.entry(errors::name(*number)).or_default() += 1);
    println!("{}: {injected} faults in {:?}; {kinds:?}", operation.name, start.elapsed());
    assert!(failures.is_empty(), "{}:\n{}", operation.name, failures.join("\n"));
    Ok(injected)
}

fn explore_all(test: &str, operations: &[Operation]) {
    in_own_process(&format!("calls::{test}"), || {
        let mut injected = 0;
        for operation in operations {
            match explore(operation) {
                Ok(faults) => injected += faults,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return skip("system calls that fail", error);
                }
                Err(error) => panic!("{}: {error}", operation.name),
            }
        }
        say(format!("{test}: {injected} system calls failed on purpose"));
    });
}

/// Nothing is there before.
fn nothing(_: &Path) {}

#[test]
fn creating() {
    explore_all("creating", &operations::CREATING);
}

#[test]
fn opening() {
    explore_all("opening", &operations::OPENING);
}

#[test]
fn using() {
    explore_all("using", &operations::USING);
}
