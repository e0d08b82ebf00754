//! What each request does to a slot in each state, as a table: `table.txt`.
//!
//! The kernel's table is spread over `fs/dax.c` of Linux commit 642261ac995e; ours is one line per
//! case, and this test is what reads it. Each case is run three times: with nobody else there, with
//! another thread in the lock of the entry, and with another thread in the lock of the slot.
//! 1. Every state meets every request, once.
//! 2. What a line says is written down, never computed from what the code does.
//! 3. A sleeper is seen asleep before its lock is given back, and must get on after that; the entry
//!    that it waits for is as it was until then.
//!
//! A failure prints the lines of the table beside what happened.

mod look;
mod request;
mod stage;

use std::collections::BTreeSet;

use look::Seen;
use request::Request;
use stage::{Lock, STATES, Stage};

/// The words for it; docs/decisions/0006-differences-from-the-kernel.md explains them.
const UNLIKE_THE_KERNEL: [&str; 11] = [
    "append",
    "cleans",
    "copy-faults",
    "huge-stays",
    "kept",
    "no-wait",
    "pages-stay",
    "runs",
    "upgrade",
    "zero-entry",
    "zero-serves",
];

/// A line of the table.
struct Case {
    line: &'static str,
    state: &'static str,
    request: Request,
    expected: Seen,
    /// The same where the answer is not found by a lookup, since something was locked.
    expected_if_it_waits: Seen,
    /// What becomes of the request while the entry, or the slot, is locked.
    locked: [&'static str; 2],
}

impl Case {
    fn all() -> Vec<Self> {
        let mut request = None;
        let mut cases = Vec::new();
        for line in include_str!("table.txt").lines() {
            match line.strip_prefix("== ") {
                Some(name) => request = Some(Request::named(name)),
                None if line.is_empty() || line.starts_with('#') => {}
                None if line.starts_with("  if it waits") => {
                    let last: &mut Self = cases.last_mut().expect("a case above");
                    let columns = columns(line);
                    assert_eq!(columns.len(), 6, "{line}");
                    last.expected_if_it_waits = Seen::of(&columns[1..]);
                }
                None => cases.push(Self::parse(line, request.expect("a request above"))),
            }
        }
        cases
    }

    fn parse(line: &'static str, request: Request) -> Self {
        let columns = columns(line);
        assert!((8..=9).contains(&columns.len()), "{line}");
        assert!(columns.get(8).is_none_or(|word| UNLIKE_THE_KERNEL.contains(word)), "{line}");
        let mut expected = Seen::of(&columns[1..6]);
        let mut expected_if_it_waits = expected.clone();
        if let Some(counted) = columns[5].strip_prefix('(').and_then(|rest| rest.strip_suffix(')'))
        {
            expected.counted = "-".to_string();
            expected_if_it_waits.counted = counted.to_string();
        }
        let (state, locked) = (columns[0], [columns[6], columns[7]]);
        Self { line, state, request, expected, expected_if_it_waits, locked }
    }

    /// What differs from the line, if anything does.
    fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let seen = Stage::build(self.state).run(self.request);
        if seen != self.expected {
            differences.push(format!("alone: {seen}"));
        }
        for (lock, expected) in [Lock::Entry, Lock::Slot].into_iter().zip(self.locked) {
            let Some((became, seen)) = Stage::build(self.state).run_locked(self.request, lock)
            else {
                if expected != "-" {
                    differences.push(format!("{lock:?}: there is no such lock"));
                }
                continue;
            };
            let allowed = match expected {
                "gives up" => self.unchanged_but_refused(),
                _ => self.expected_if_it_waits.clone(),
            };
            if became != expected || seen != allowed {
                differences.push(format!("{lock:?} locked: {became}, {seen}"));
            }
        }
        differences
    }

    fn unchanged_but_refused(&self) -> Seen {
        let before = Stage::build(self.state).look("refused in-use".to_string());
        Seen { counted: before.result.clone(), ..before }
    }
}

fn columns(line: &'static str) -> Vec<&'static str> {
    line.split('|').map(str::trim).collect()
}

#[test]
fn every_request_does_in_every_state_what_the_table_says() {
    let mut wrong = Vec::new();
    for case in Case::all() {
        for difference in case.differences() {
            wrong.push(format!("{:?} {}\n    {difference}", case.request, case.line));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_state_meets_every_request_once() {
    let met: Vec<_> = Case::all().iter().map(|case| (case.state, case.request)).collect();
    let unique: BTreeSet<_> = met.iter().copied().collect();
    assert_eq!(met.len(), unique.len(), "a case stands there twice");
    let all = STATES.iter().flat_map(|state| Request::ALL.map(|request| (*state, request)));
    assert_eq!(unique, all.collect(), "a case is missing, or unknown");
}
