//! The stores that are compared, behind one trait; an adapter each.
//!
//! 1. A call to [`Peer`] is one operation as a user of that store would write it, transaction included.
//! 2. What [`Durability::Durable`] writes is durable when the call returns. What [`Durability::Relaxed`]
//!    writes may be lost; its `promise` says when.
//! 3. Each has a cache that holds everything. All else is at the store's defaults.

mod daxite;
mod fjall;
mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;

use std::path::Path;

use crate::Outcome;
use crate::record::{Key, Value};

/// What a peer may keep in its cache.
const CACHE_BYTES: u64 = 1 << 30;

/// A store that is open. Threads share it.
pub(crate) trait Peer: Sync {
    /// Calls `read` with the value of `key`, and answers whether there is one.
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool>;

    /// The same for each of `keys` in turn, in one transaction where the store has that.
    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()>;

    /// Writes one record, new or not.
    fn put(&self, key: &Key, value: &Value) -> Outcome<()>;

    /// Removes one record.
    fn remove(&self, key: &Key) -> Outcome<()>;

    /// Writes all of `pairs`, whose keys differ, or none.
    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()>;

    /// Visits the `limit` records from `from` on, in order of their keys.
    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()>;

    /// Bytes of its files that it has taken ahead of need, and that are free.
    fn spare_bytes(&self) -> u64 {
        0
    }

    /// Closes it in the way that the store calls clean.
    fn close(self: Box<Self>) -> Outcome<()>;
}

/// When a write is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    /// When it returns.
    Durable,
    /// At some later time: the fastest that the store has.
    Relaxed,
}

/// A store in one of its modes: a row of the report.
pub(crate) struct Contestant {
    /// Of the store and its mode, without the durability.
    pub(crate) name: &'static str,
    /// The package that it is made of.
    pub(crate) package: &'static str,
    /// When its writes are durable.
    pub(crate) durability: Durability,
    /// How that is asked for.
    pub(crate) promise: &'static str,
    /// Opens what is in a folder, or begins it, with room for so many keys.
    pub(crate) open: fn(&Path, Durability, u32) -> Outcome<Box<dyn Peer>>,
}

impl Contestant {
    /// As the report calls it.
    pub(crate) fn title(&self) -> String {
        match self.durability {
            Durability::Durable => self.name.to_owned(),
            Durability::Relaxed => format!("{} (relaxed)", self.name),
        }
    }
}

/// All of them. The first is Daxite.
pub(crate) fn contestants() -> Vec<Contestant> {
    let mut all = Vec::from(daxite::CONTESTANTS);
    all.extend(redb::CONTESTANTS);
    all.extend(fjall::CONTESTANTS);
    all.extend(sled::CONTESTANTS);
    all.extend(lmdb::CONTESTANTS);
    #[cfg(feature = "rocksdb")]
    all.extend(rocksdb::CONTESTANTS);
    all
}
