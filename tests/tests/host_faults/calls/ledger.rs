//! What was asked of a store and what it acknowledged, and so what it may hold.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use daxite::{Database, Error, Keyspace};

/// The keyspace of all tests here.
pub(super) const KEYSPACE: &str = "main";

/// Per key, the values that may be found; `None` is that it is absent. The first one is what was
/// acknowledged last.
#[derive(Default)]
pub(super) struct Ledger(BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>);

impl Ledger {
    /// What [`fill`] writes.
    pub(super) fn of_filled() -> Self {
        let mut ledger = Self::default();
        for (key, value) in first_pairs() {
            ledger.0.insert(key, vec![Some(value)]);
        }
        ledger
    }

    /// It was tried to make `key` hold `value`.
    pub(super) fn note(&mut self, key: &str, value: Option<&[u8]>, is_acknowledged: bool) {
        let may_be = self.0.entry(key.as_bytes().to_vec()).or_insert_with(|| vec![None]);
        if is_acknowledged {
            may_be.clear();
        }
        may_be.push(value.map(<[u8]>::to_vec));
    }

    /// Puts, and notes it.
    pub(super) fn put(&mut self, path: &Path, keyspace: &Keyspace, key: &str, value: &[u8]) {
        let put = keyspace.insert(key, value).map_err(|error| require_telling(&error, path));
        self.note(key, Some(value), put.is_ok());
    }

    /// Panics unless exactly what was acknowledged is visible.
    pub(super) fn require_visible(&self, keyspace: &Keyspace) {
        for (key, may_be) in &self.0 {
            let found = keyspace.get(key).expect("a read").map(|value| value.to_vec());
            assert!(found == may_be[0], "{} is not what was acknowledged", key.escape_ascii());
        }
    }

    /// With nothing failing: panics unless the pool at `path` is sound, opens, holds what it must,
    /// and takes more.
    pub(super) fn require_at(&self, path: &Path) {
        let checkup = Database::examine(path).expect("an examination");
        assert!(!checkup.is_damaged(), "{checkup:?}");
        let database = Database::open(path).expect("opening with nothing failing");
        let keyspace = database.keyspace(KEYSPACE).expect("the keyspace");
        for (key, may_be) in &self.0 {
            let found = keyspace.get(key).expect("a read").map(|value| value.to_vec());
            let key = key.escape_ascii();
            assert!(may_be.contains(&found), "{key} is lost, or not what was written");
        }
        keyspace.insert("afterwards", "1").expect("a put with nothing failing");
        database.pool().check();
        database.close().expect("closing with nothing failing");
    }
}

/// Some pairs.
fn first_pairs() -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    (0..20_u8).map(|at| (vec![b'a' + at], vec![at; 100 * usize::from(at)]))
}

/// Puts some pairs.
pub(super) fn fill(database: &Database) {
    let keyspace = database.keyspace(KEYSPACE).expect("a keyspace");
    for (key, value) in first_pairs() {
        keyspace.insert(key, value).expect("a put");
    }
}

/// Panics unless `error` is one that a call which fails may lead to, and says what failed and where.
pub(super) fn require_telling(error: &Error, path: &Path) {
    let text = error.to_string();
    let is_telling = match error {
        // Who is interrupted tries again.
        Error::Io { op, path: of, source } => {
            of == path && text.starts_with(op) && source.kind() != io::ErrorKind::Interrupted
        }
        Error::Locked { path: of } => of == path,
        // Not found out whether it holds a pool.
        Error::AlreadyExists { path: of, is_pool: false } => of == path,
        // What the kernel says of a page by EFAULT, or by EHWPOISON.
        Error::MediaError { path: of, .. } => of == path,
        _ => false,
    };
    let names_path = text.contains(path.to_str().expect("a path of plain text"));
    assert!(is_telling && names_path, "an error that is wrong, or does not tell: {error:?}");
}
