//! RocksDB: an LSM tree.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, Options, WriteBatch, WriteOptions};

use super::{CACHE_BYTES, Contestant, Durability, Peer};
use crate::Outcome;
use crate::record::{Key, Value};

const DURABLE: Contestant = Contestant {
    name: "RocksDB",
    package: "rocksdb",
    durability: Durability::Durable,
    promise: "`set_sync`: fdatasync of its log in each write",
    open,
};

pub(super) const CONTESTANTS: [Contestant; 2] = [
    DURABLE,
    Contestant {
        durability: Durability::Relaxed,
        promise: "`disable_wal`: lost with the process",
        ..DURABLE
    },
];

struct Rocks {
    database: DB,
    write: WriteOptions,
}

fn open(folder: &Path, durability: Durability, _: u32) -> Outcome<Box<dyn Peer>> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES as usize));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    let database = DB::open(&options, folder.join("rocksdb"))?;
    let mut write = WriteOptions::default();
    match durability {
        Durability::Durable => write.set_sync(true),
        Durability::Relaxed => write.disable_wal(true),
    }
    Ok(Box::new(Rocks { database, write }))
}

impl Peer for Rocks {
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let value = self.database.get_pinned(key)?;
        Ok(value.map(|value| read(&value)).is_some())
    }

    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()> {
        let snapshot = self.database.snapshot();
        for (at, key) in keys.iter().enumerate() {
            if let Some(value) = snapshot.get_pinned(key)? {
                read(at, &value);
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &Value) -> Outcome<()> {
        Ok(self.database.put_opt(key, value, &self.write)?)
    }

    fn remove(&self, key: &Key) -> Outcome<()> {
        Ok(self.database.delete_opt(key, &self.write)?)
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in pairs {
            batch.put(key, value);
        }
        Ok(self.database.write_opt(batch, &self.write)?)
    }

    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let mut iterator = self.database.raw_iterator();
        iterator.seek(from);
        for _ in 0..limit {
            let Some((key, value)) = iterator.item() else { break };
            visit(key, value);
            iterator.next();
        }
        iterator.status()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.database.flush()?)
    }
}
