//! Daxite. It has no relaxed mode.

use std::ops::ControlFlow;
use std::path::Path;

use daxite::{Database, Keyspace, Options};

use super::{Contestant, Durability, Peer};
use crate::Outcome;
use crate::record::{Key, Value};

pub(super) const CONTESTANTS: [Contestant; 1] = [Contestant {
    name: "Daxite",
    package: "daxite",
    durability: Durability::Durable,
    promise: "the only mode: stores past the cache and one fence",
    open,
}];

/// What a record takes in the log: three lines.
const FRAME_BYTES: u64 = 192;
/// Percent of all keys that there is room for: little more than all, so that the log is soon full, and is
/// reclaimed while it is measured.
const ROOM_PERCENT: u64 = 125;

struct Daxite {
    database: Database,
    keyspace: Keyspace,
}

fn open(folder: &Path, _: Durability, keys: u32) -> Outcome<Box<dyn Peer>> {
    let capacity = (u64::from(keys) * FRAME_BYTES * ROOM_PERCENT / 100).next_multiple_of(2 << 20);
    let database = Options::new().capacity(capacity).open_or_create(folder.join("pool"))?;
    let keyspace = database.keyspace("bench")?;
    Ok(Box::new(Daxite { database, keyspace }))
}

impl Peer for Daxite {
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        Ok(self.keyspace.get_with(key, read)?.is_some())
    }

    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()> {
        for (at, value) in self.keyspace.get_many(keys)?.iter().enumerate() {
            if let Some(value) = value {
                read(at, value);
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &Value) -> Outcome<()> {
        Ok(self.keyspace.insert(key, value)?)
    }

    fn remove(&self, key: &Key) -> Outcome<()> {
        self.keyspace.remove(key)?;
        Ok(())
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()> {
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.insert(&self.keyspace, key, value);
        }
        batch.commit()?;
        Ok(())
    }

    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut left = limit;
        let _ = self.keyspace.range_with(&from[..].., |key, value| {
            visit(key, value);
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(())
    }

    fn spare_bytes(&self) -> u64 {
        self.database.stats().free_bytes
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.database.close()?)
    }
}
