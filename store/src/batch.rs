//! Batches: several writes as one frame.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::KeyspaceCore;
use crate::commit::{Op, Scope, Verdict};
use crate::error::{Error, Result};
use crate::frame::{Record, frame_len};
use crate::store::Shared;
use crate::{Keyspace, SeqNo};

/// One write, owned.
struct Write {
    keyspace: Arc<KeyspaceCore>,
    key: Vec<u8>,
    /// `None` removes.
    value: Option<Vec<u8>>,
}

/// Writes to any keyspaces of one database that become durable together or not at all.
///
/// Of several writes to one key the last wins. Nothing happens before [`Batch::commit`].
///
/// ```
/// # fn main() -> Result<(), daxite::Error> {
/// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
/// let (accounts, journal) = (db.keyspace("accounts")?, db.keyspace("journal")?);
/// let mut batch = db.batch();
/// batch.insert(&accounts, "anna", "90").insert(&accounts, "bert", "110");
/// batch.insert(&journal, "2026-11-22", "anna gives bert 10");
/// batch.commit()?;
/// assert_eq!(accounts.len() + journal.len(), 3);
/// # Ok(())
/// # }
/// ```
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    store: Shared,
    writes: Vec<Write>,
    record_bytes: usize,
    /// A keyspace of another database was named.
    is_foreign: bool,
}

impl Batch {
    pub(crate) fn new(store: Shared) -> Self {
        Self { store, writes: Vec::new(), record_bytes: 0, is_foreign: false }
    }

    /// Adds a put.
    pub fn insert(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(keyspace, key.as_ref(), Some(value.as_ref()))
    }

    /// Adds a removal. It is no error if the key is absent.
    pub fn remove(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(keyspace, key.as_ref(), None)
    }

    /// Number of writes added.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes that the batch takes in the log if no key comes twice; to be compared with
    /// [`MAX_BATCH_LEN`](crate::MAX_BATCH_LEN).
    pub fn len_bytes(&self) -> usize {
        frame_len(self.record_bytes)
    }

    /// Writes all or nothing. Answers with the number of the write; all its records have it.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`]; [`Error::InvalidArgument`] if a keyspace belongs to another
    /// database; those of [`Keyspace::insert`]. Nothing was changed, but for [`Error::Io`]: a later
    /// opening may find all of the batch, or nothing.
    ///
    /// # Durability
    /// All of it is durable when this returns, by one fence; after a crash all of it is there or
    /// nothing. Readers may see one key before another for a moment, but none of it before all of
    /// it is durable.
    pub fn commit(self) -> Result<SeqNo> {
        if self.is_foreign {
            return Err(Error::InvalidArgument("a keyspace of the batch is of another database"));
        }
        let mut last = HashMap::new();
        for (at, write) in self.writes.iter().enumerate() {
            last.insert((Arc::as_ptr(&write.keyspace), write.key.as_slice()), at);
        }
        let ops: Vec<Op<'_>> = self
            .writes
            .iter()
            .enumerate()
            .filter(|(at, write)| {
                last[&(Arc::as_ptr(&write.keyspace), write.key.as_slice())] == *at
            })
            .map(|(_, Write { keyspace, key, value })| Op::new(keyspace, key, value.as_deref()))
            .collect();
        let ((), seqno) = self.store.commit(Scope::Keys, &ops, || Ok(Verdict::Write(())), || ())?;
        Ok(seqno)
    }

    fn push(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        self.is_foreign |= !Arc::ptr_eq(keyspace.store(), &self.store);
        self.record_bytes += Record::len_of(key.len(), value.map_or(0, <[u8]>::len));
        self.writes.push(Write {
            keyspace: Arc::clone(keyspace.core()),
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        });
        self
    }
}
