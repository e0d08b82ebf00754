//! redb: a copy-on-write B-tree.

use std::path::Path;

use redb::{Builder, Database, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{CACHE_BYTES, Contestant, Durability, Peer};
use crate::Outcome;
use crate::record::{Key, Value};

const DURABLE: Contestant = Contestant {
    name: "redb",
    package: "redb",
    durability: Durability::Durable,
    promise: "`Durability::Immediate`: fsync in each commit",
    open,
};

pub(super) const CONTESTANTS: [Contestant; 2] = [
    DURABLE,
    Contestant {
        durability: Durability::Relaxed,
        promise: "`Durability::None`: lost with the process",
        ..DURABLE
    },
];

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("bench");

struct Redb {
    database: Database,
    durability: redb::Durability,
}

fn open(folder: &Path, durability: Durability, _: u32) -> Outcome<Box<dyn Peer>> {
    let database =
        Builder::new().set_cache_size(CACHE_BYTES as usize).create(folder.join("redb"))?;
    let durability = match durability {
        Durability::Durable => redb::Durability::Immediate,
        Durability::Relaxed => redb::Durability::None,
    };
    let peer = Redb { database, durability };
    let transaction = peer.write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(Box::new(peer))
}

impl Redb {
    fn write(&self) -> Outcome<WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        Ok(transaction)
    }
}

impl Peer for Redb {
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let value = table.get(&key[..])?;
        Ok(value.map(|value| read(value.value())).is_some())
    }

    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        for (at, key) in keys.iter().enumerate() {
            if let Some(value) = table.get(&key[..])? {
                read(at, value.value());
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &Value) -> Outcome<()> {
        let transaction = self.write()?;
        transaction.open_table(TABLE)?.insert(&key[..], &value[..])?;
        Ok(transaction.commit()?)
    }

    fn remove(&self, key: &Key) -> Outcome<()> {
        let transaction = self.write()?;
        transaction.open_table(TABLE)?.remove(&key[..])?;
        Ok(transaction.commit()?)
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()> {
        let transaction = self.write()?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in pairs {
            table.insert(&key[..], &value[..])?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        for pair in table.range(&from[..]..)?.take(limit) {
            let (key, value) = pair?;
            visit(key.value(), value.value());
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.database.close()?)
    }
}
