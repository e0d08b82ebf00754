//! What opening costs after a clean close and after a kill, and what the records take on the medium.
//!
//! A child process writes all keys, and some again one by one. It closes the store, or is killed with it
//! open. Both leave the same records, and the time until the first of them is read is measured.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::arena::Arena;
use crate::clock::Clock;
use crate::ledger::{Found, Ledger};
use crate::peers::{Contestant, contestants};
use crate::plan::Plan;
use crate::record::{RECORD_BYTES, key};
use crate::scan_check::ScanCheck;

/// The first argument of the child; the contestant, the folder and the end follow.
pub(crate) const FILL: &str = "--fill";
/// What the child says when everything is written.
const WRITTEN: &str = "written";
/// How many keys it writes again.
const AGAIN: u32 = 1000;

/// How the child ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Closed,
    Killed,
}

/// What was found after that.
pub(crate) struct Reopened {
    /// Until the first record has been read, in milliseconds.
    pub(crate) open_ms: f64,
    /// Bytes on the medium for each byte of a key or a value, before opening.
    pub(crate) space: f64,
    /// The same without what the store has taken ahead of need.
    pub(crate) in_use: f64,
}

/// The child: writes, and closes or waits for its end.
pub(crate) fn fill(plan: &Plan, mut args: impl Iterator<Item = String>) -> Outcome<()> {
    let (Some(contestant), Some(folder), Some(end)) = (args.next(), args.next(), args.next())
    else {
        return Err("a child without its arguments".into());
    };
    let Contestant { open, durability, .. } = contestants()[contestant.parse::<usize>()?];
    let peer = open(folder.as_ref(), durability, plan.room())?;
    Arena::new(plan, &*peer).fill(AGAIN.min(plan.keys))?;
    if end == format!("{:?}", End::Closed) {
        return peer.close();
    }
    println!("{WRITTEN}");
    // Returns when the parent is gone.
    io::stdin().read_line(&mut String::new())?;
    Err("the parent did not kill its child".into())
}

/// Has a child fill `folder` for the contestant of this number, and opens it after its end.
pub(crate) fn reopen(plan: &Plan, number: usize, folder: &Path, end: End) -> Outcome<Reopened> {
    run_child(number, folder, end)?;
    let allocated = allocated_bytes(folder)?;
    let ledger = expected(plan);
    let Contestant { open, durability, .. } = contestants()[number];
    let clock = Clock::start();
    let peer = open(folder, durability, plan.room())?;
    let mut found = Found::Version(0);
    peer.get(&key(0), &mut |value| found = Found::of(value, 0))?;
    let open_ms = clock.stop().own().as_secs_f64() * 1e3;
    ledger.judge(0, ledger.acknowledged(0), found)?;
    ScanCheck::everything(plan, &ledger, &*peer, 0)?;
    let user_bytes = (u64::from(plan.keys) * RECORD_BYTES) as f64;
    let space = allocated as f64 / user_bytes;
    let in_use = (allocated - peer.spare_bytes()) as f64 / user_bytes;
    peer.close()?;
    Ok(Reopened { open_ms, space, in_use })
}

fn run_child(number: usize, folder: &Path, end: End) -> Outcome<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([FILL, &number.to_string()])
        .arg(folder)
        .arg(format!("{end:?}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("a child without output")?;
    let said = BufReader::new(stdout).lines().next().transpose()?;
    if end == End::Killed {
        child.kill()?;
    }
    let status = child.wait()?;
    match end {
        End::Closed if status.success() => Ok(()),
        End::Killed if said.as_deref() == Some(WRITTEN) => Ok(()),
        _ => Err(format!("the child that fills a store: {status}").into()),
    }
}

/// What the child has written.
fn expected(plan: &Plan) -> Ledger {
    let ledger = Ledger::new(plan.room());
    for number in (0..plan.keys).chain(0..AGAIN.min(plan.keys)) {
        ledger.issue(number);
        ledger.acknowledge(number);
    }
    ledger
}

fn allocated_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            allocated_bytes(&entry.path())?
        } else {
            // The unit of `st_blocks`, whatever the file system's blocks are.
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
