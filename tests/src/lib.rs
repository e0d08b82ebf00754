//! Integration tests of Daxite; one file per promise in `tests/`.
//!
//! The README is a part of them: its example is compiled and run.
#![doc = include_str!("../../README.md")]

mod bed;
pub mod crash;
pub mod fuzz;
pub mod history;
mod ledger;
mod log;
mod model;
pub mod naive;
mod oracle;
mod place;
mod process;
mod random;
mod stamp;
mod subject;
#[cfg(target_arch = "x86_64")]
pub mod traced;

use std::collections::BTreeMap;

use daxite::{Database, Error};

pub use bed::{Bed, assert_honest};
pub use ledger::{Event, Ledger};
pub use log::{Log, LogSegment};
pub use model::{Learned, Model, Shape};
pub use oracle::{Change, Conflict, History, Holdings, KeyNo, OperationNo, Outcome, Violation};
pub use place::{Place, check_space, test_folder, written_until_full};
pub use process::{Heard, PART, Process, my_part};
pub use random::{Random, for_seeds, number};
pub use stamp::{STAMPED_LEN_MIN, Stamp};
pub use subject::{BAD_PAGES, POOL_BYTES, Subject};

/// All that a store holds: value by keyspace and key.
pub type Contents = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// A store as its users see it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// The names of its keyspaces, in order.
    pub keyspaces: Vec<String>,
    /// What is in them.
    pub contents: Contents,
}

/// Reads all that a store shows.
///
/// # Errors
/// What reading answers.
pub fn shown(database: &Database) -> Result<Shown, Error> {
    Ok(Shown { keyspaces: database.keyspaces(), contents: contents(database)? })
}

/// Reads a whole store, and checks that the lengths of its keyspaces agree.
///
/// # Errors
/// What reading answers.
pub fn contents(database: &Database) -> Result<Contents, Error> {
    let mut contents = Contents::new();
    for name in database.keyspaces() {
        let keyspace = database.get_keyspace(&name)?.expect("a keyspace by its name");
        for pair in keyspace.iter() {
            let (key, value) = pair?;
            contents.insert((name.clone(), key.to_vec()), value.to_vec());
        }
        let counted = contents.keys().filter(|(of, _)| *of == name).count();
        assert_eq!(keyspace.len(), counted as u64, "the length of {name}");
    }
    Ok(contents)
}
