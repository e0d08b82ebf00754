//! LMDB, through heed: a copy-on-write B-tree in a mapped file, which is written with `pwrite`, or in place.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use super::{Contestant, Durability, Peer};
use crate::Outcome;
use crate::record::{Key, RECORD_BYTES, Value};

const PLAIN: Contestant = Contestant {
    name: "LMDB",
    package: "heed",
    durability: Durability::Durable,
    promise: "the default: fdatasync in each commit",
    open: |folder, durability, keys| open(folder, keys, flags(durability)),
};

const MAPPED: Contestant = Contestant {
    name: "LMDB, writemap",
    promise: "`WRITE_MAP`: msync in each commit",
    open: |folder, durability, keys| open(folder, keys, flags(durability) | EnvFlags::WRITE_MAP),
    ..PLAIN
};

pub(super) const CONTESTANTS: [Contestant; 4] = [
    PLAIN,
    MAPPED,
    Contestant {
        durability: Durability::Relaxed,
        promise: "`NO_SYNC`: lost with the kernel, and the store perhaps damaged",
        ..PLAIN
    },
    Contestant {
        durability: Durability::Relaxed,
        promise: "`WRITE_MAP` and `NO_SYNC`: lost with the kernel, and the store perhaps damaged",
        ..MAPPED
    },
];

struct Lmdb {
    env: Env,
    database: Database<'static, Bytes, Bytes>,
}

fn flags(durability: Durability) -> EnvFlags {
    match durability {
        Durability::Durable => EnvFlags::empty(),
        Durability::Relaxed => EnvFlags::NO_SYNC,
    }
}

fn open(folder: &Path, keys: u32, flags: EnvFlags) -> Outcome<Box<dyn Peer>> {
    // Address space only: the file grows as it is written.
    let map_bytes = (u64::from(keys) * RECORD_BYTES * 8).next_multiple_of(1 << 30);
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes as usize);
    // SAFETY: what a relaxed contestant writes is given up with its folder if the kernel stops.
    unsafe { options.flags(flags) };
    // SAFETY: the folder is ours alone, and nobody changes the file behind LMDB's back.
    let env = unsafe { options.open(folder) }?;
    let database = env
        .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    Ok(Box::new(Lmdb { env, database }))
}

impl Peer for Lmdb {
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let transaction = self.env.read_txn()?;
        let value = self.database.get(&transaction, key)?;
        Ok(value.map(read).is_some())
    }

    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()> {
        let transaction = self.env.read_txn()?;
        for (at, key) in keys.iter().enumerate() {
            if let Some(value) = self.database.get(&transaction, key)? {
                read(at, value);
            }
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &Value) -> Outcome<()> {
        let mut transaction = self.env.write_txn()?;
        self.database.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn remove(&self, key: &Key) -> Outcome<()> {
        let mut transaction = self.env.write_txn()?;
        self.database.delete(&mut transaction, key)?;
        Ok(transaction.commit()?)
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in pairs {
            self.database.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let transaction = self.env.read_txn()?;
        let range = (Bound::Included(&from[..]), Bound::Unbounded);
        for pair in self.database.range(&transaction, &range)?.take(limit) {
            let (key, value) = pair?;
            visit(key, value);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
