//! fjall: an LSM tree.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::{CACHE_BYTES, Contestant, Durability, Peer};
use crate::Outcome;
use crate::record::{Key, Value};

const DURABLE: Contestant = Contestant {
    name: "fjall",
    package: "fjall",
    durability: Durability::Durable,
    promise: "`PersistMode::SyncData` after each write: fdatasync of the journal",
    open,
};

pub(super) const CONTESTANTS: [Contestant; 2] = [
    DURABLE,
    Contestant {
        durability: Durability::Relaxed,
        promise: "`manual_journal_persist`: lost with the process",
        ..DURABLE
    },
];

struct Fjall {
    database: Database,
    keyspace: Keyspace,
    /// What follows each write.
    persist: Option<PersistMode>,
}

fn open(folder: &Path, durability: Durability, _: u32) -> Outcome<Box<dyn Peer>> {
    // Durable: the journal is written out once, by the `persist` that follows, and not before it too.
    let database = Database::builder(folder.join("fjall"))
        .cache_size(CACHE_BYTES)
        .manual_journal_persist(true)
        .open()?;
    let options = || KeyspaceCreateOptions::default().manual_journal_persist(true);
    let keyspace = database.keyspace("bench", options)?;
    let persist = (durability == Durability::Durable).then_some(PersistMode::SyncData);
    Ok(Box::new(Fjall { database, keyspace, persist }))
}

impl Fjall {
    fn persist(&self) -> Outcome<()> {
        self.persist.map_or(Ok(()), |mode| Ok(self.database.persist(mode)?))
    }
}

impl Peer for Fjall {
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let value = self.keyspace.get(key)?;
        Ok(value.map(|value| read(&value)).is_some())
    }

    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()> {
        let snapshot = self.database.snapshot();
        for (at, key) in keys.iter().enumerate() {
            if let Some(value) = snapshot.get(&self.keyspace, key)? {
                read(at, &value);
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &Value) -> Outcome<()> {
        self.keyspace.insert(key, value)?;
        self.persist()
    }

    fn remove(&self, key: &Key) -> Outcome<()> {
        self.keyspace.remove(key)?;
        self.persist()
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()> {
        let mut batch = self.database.batch().durability(self.persist);
        for (key, value) in pairs {
            batch.insert(&self.keyspace, key, value);
        }
        Ok(batch.commit()?)
    }

    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        for pair in self.keyspace.range(&from[..]..).take(limit) {
            let (key, value) = pair.into_inner()?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
