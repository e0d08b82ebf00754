//! Promise: a pool has one owner, or several that only read; and what is done to the file behind an
//! owner's back is an error, never a second owner or a wrong answer.
//!
//! Method: second openers by every name that a file can have, in this process and in others; owners that
//! are killed, that fork, and whose file is shrunk, replaced, or made at the same moment by someone
//! else. A failure means that two could write to one pool, that nobody can open it any more, or that a
//! forked process meets memory that is not its own. docs/DURABILITY.md has the rules as a table.

mod files;
mod forks;
mod names;

use std::path::Path;
use std::time::Duration;

use daxite::{Database, Keyspace, Options};
use daxite_tests::{Event, Ledger, Process, my_part};

/// Time for another process to do its part.
const PATIENCE: Duration = Duration::from_secs(20);

/// A new database at `path`, with a pair in it.
fn create(path: &Path) -> (Database, Keyspace) {
    let database = Options::new().capacity(8 << 20).create(path).unwrap();
    let keyspace = database.keyspace("k").unwrap();
    keyspace.insert("key", "value").unwrap();
    (database, keyspace)
}

/// What opening `path` answers, in words.
fn attempt(path: &Path) -> String {
    match Database::open(path) {
        Ok(database) => {
            let keyspace = database.get_keyspace("k").unwrap().expect("a keyspace");
            assert_eq!(keyspace.get("key").unwrap().unwrap(), b"value");
            "open".to_string()
        }
        Err(daxite::Error::Locked { .. }) => "locked".to_string(),
        Err(error) => error.to_string(),
    }
}

/// Starts another process for `role` on `path`.
fn start(role: &str, path: &Path) -> Process {
    Process::start(&format!("{role} {}", path.to_str().expect("a path of plain text")))
}

/// What another process says of opening `path`.
fn attempt_elsewhere(path: &Path) -> String {
    said(&start("attempt", path))
}

fn said(process: &Process) -> String {
    match process.next(PATIENCE) {
        Event::Said(text) => text,
        event => panic!("it said {event:?}"),
    }
}

fn say(ledger: &Ledger, text: impl Into<String>) {
    ledger.note(&Event::Said(text.into()));
}

#[test]
#[ignore = "a part that the other tests start processes for"]
fn part() {
    let Some((part, ledger)) = my_part() else { return };
    let (role, path) = part.split_once(' ').expect("a role and a path");
    let path = Path::new(path);
    match role {
        "attempt" => say(&ledger, attempt(path)),
        "own" => names::own(path, &ledger),
        "fork-and-go-on" => forks::fork_and_go_on(path, &ledger),
        "fork-and-drop" => forks::fork_and_drop(path, &ledger),
        "fork-and-touch" => forks::fork_and_touch(path, &ledger),
        "fork-and-close" => forks::fork_and_close(path, &ledger),
        "fork-and-wait" => forks::fork_and_wait(path, &ledger),
        "shrink" => files::shrink(path, &ledger),
        _ => panic!("nobody knows the part {role:?}"),
    }
}
