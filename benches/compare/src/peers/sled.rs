//! sled: a lock-free tree over a log.

use std::fs::File;
use std::path::Path;

use sled::{Batch, Config, Db};

use super::{CACHE_BYTES, Contestant, Durability, Peer};
use crate::Outcome;
use crate::record::{Key, Value};

const DURABLE: Contestant = Contestant {
    name: "sled",
    package: "sled",
    durability: Durability::Durable,
    promise: "`flush` after each write, and fdatasync of its file: alone, `flush` is `sync_file_range`, which \
              leaves the cache of a disk",
    open,
};

pub(super) const CONTESTANTS: [Contestant; 2] = [
    DURABLE,
    Contestant {
        durability: Durability::Relaxed,
        promise: "no flush, not even in the background: lost with the process",
        ..DURABLE
    },
];

struct Sled {
    tree: Db,
    /// Its log, if each write is to be durable.
    synced: Option<File>,
}

fn open(folder: &Path, durability: Durability, _: u32) -> Outcome<Box<dyn Peer>> {
    let folder = folder.join("sled");
    let config = Config::new().path(&folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let tree = config.open()?;
    let synced = match durability {
        Durability::Durable => Some(File::open(folder.join("db"))?),
        Durability::Relaxed => None,
    };
    Ok(Box::new(Sled { tree, synced }))
}

impl Sled {
    fn persist(&self) -> Outcome<()> {
        if let Some(log) = &self.synced {
            self.tree.flush()?;
            log.sync_data()?;
        }
        Ok(())
    }
}

impl Peer for Sled {
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let value = self.tree.get(key)?;
        Ok(value.map(|value| read(&value)).is_some())
    }

    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()> {
        for (at, key) in keys.iter().enumerate() {
            if let Some(value) = self.tree.get(key)? {
                read(at, &value);
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &Value) -> Outcome<()> {
        self.tree.insert(key, &value[..])?;
        self.persist()
    }

    fn remove(&self, key: &Key) -> Outcome<()> {
        self.tree.remove(key)?;
        self.persist()
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()> {
        let mut batch = Batch::default();
        for (key, value) in pairs {
            batch.insert(&key[..], &value[..]);
        }
        self.tree.apply_batch(batch)?;
        self.persist()
    }

    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        for pair in self.tree.range(&from[..]..).take(limit) {
            let (key, value) = pair?;
            visit(&key, &value);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        self.tree.flush()?;
        Ok(())
    }
}
