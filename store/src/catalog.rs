//! The catalog: which keyspaces there are.
//!
//! 1. The catalog is itself a keyspace, number 0: key = name, value = number and options.
//! 2. A number is in the catalog, durably, before the first record with it is written. A record
//!    whose number the catalog does not know is dead.
//! 3. A number is never given out again while a record with it may exist.
//! 4. The number of a keyspace changes only under all stripes (`clear`); whoever holds a stripe of
//!    it sees the number that its record must have.

use std::collections::HashMap;
use std::sync::Arc;

use daxite_core::primitives::atomic::{AtomicBool, AtomicU32, Ordering};
use daxite_core::primitives::{Mutex, RwLock};

use crate::error::{Error, Result};
use crate::index::Index;
use crate::stripes::StripeNo;

/// The number of the catalog's own keyspace.
pub(crate) const CATALOG: u32 = 0;
/// The longest name in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// What all handles of a keyspace share.
pub(crate) struct KeyspaceCore {
    pub name: String,
    pub index: Index,
    id: AtomicU32,
    dropped: AtomicBool,
    /// Spreads the keys over the stripes; unlike the number it stays.
    salt: u64,
}

impl KeyspaceCore {
    pub(crate) fn new(name: String, id: u32, index: Index) -> Self {
        Self {
            name,
            index,
            id: AtomicU32::new(id),
            dropped: AtomicBool::new(false),
            salt: u64::from(id),
        }
    }

    pub(crate) fn stripe(&self, key: &[u8]) -> StripeNo {
        StripeNo::of(self.salt, key)
    }

    /// The number that records have; stable while a stripe is held.
    pub(crate) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`Error::KeyspaceDropped`].
    pub(crate) fn check_alive(&self) -> Result<()> {
        if self.dropped.load(Ordering::Relaxed) {
            return Err(Error::KeyspaceDropped { name: self.name.clone() });
        }
        Ok(())
    }
}

/// All keyspaces.
pub(crate) struct Catalog {
    /// Keyspace 0, the names.
    pub names: Arc<KeyspaceCore>,
    /// Guards the making, clearing and dropping of keyspaces, and the next number.
    pub changing: Mutex<NextId>,
    /// Guards the table of numbers. A leaf in the lock order.
    by_id: RwLock<HashMap<u32, Arc<KeyspaceCore>>>,
}

/// The lowest number that was never given out.
pub(crate) struct NextId(u32);

impl NextId {
    /// # Errors
    /// [`Error::InvalidArgument`] after four billion.
    pub(crate) fn take(&mut self) -> Result<u32> {
        let id = self.0;
        self.0 = id.checked_add(1).ok_or(Error::InvalidArgument("keyspace numbers are used up"))?;
        Ok(id)
    }
}

impl Catalog {
    /// The catalog with the `keyspaces` that recovery found; `next` is above every number seen.
    pub(crate) fn new(names: Index, keyspaces: Vec<KeyspaceCore>, next: u32) -> Self {
        let by_id =
            keyspaces.into_iter().map(|keyspace| (keyspace.id(), Arc::new(keyspace))).collect();
        Self {
            names: Arc::new(KeyspaceCore::new(String::new(), CATALOG, names)),
            changing: Mutex::new(NextId(next)),
            by_id: RwLock::new(by_id),
        }
    }

    /// The keyspace with number `id`, the catalog's own included.
    pub(crate) fn by_id(&self, id: u32) -> Option<Arc<KeyspaceCore>> {
        if id == CATALOG {
            return Some(Arc::clone(&self.names));
        }
        self.by_id.read().get(&id).cloned()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<KeyspaceCore>> {
        self.by_id.read().values().find(|keyspace| keyspace.name == name).cloned()
    }

    /// All keyspaces but the catalog's own, by name.
    pub(crate) fn all(&self) -> Vec<Arc<KeyspaceCore>> {
        let mut all: Vec<_> = self.by_id.read().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Adds a keyspace whose name is durable.
    pub(crate) fn add(&self, keyspace: Arc<KeyspaceCore>) {
        self.by_id.write().insert(keyspace.id(), keyspace);
    }

    /// Forgets a keyspace whose name is durably gone. The caller holds all stripes.
    pub(crate) fn forget(&self, keyspace: &KeyspaceCore) {
        keyspace.dropped.store(true, Ordering::Relaxed);
        self.by_id.write().remove(&keyspace.id());
    }

    /// Gives a keyspace the number `id`, which is durably that of its name. The caller holds all
    /// stripes.
    pub(crate) fn renumber(&self, keyspace: &Arc<KeyspaceCore>, id: u32) {
        let mut by_id = self.by_id.write();
        by_id.remove(&keyspace.id());
        keyspace.id.store(id, Ordering::Relaxed);
        by_id.insert(id, Arc::clone(keyspace));
    }
}

/// The value of a name: the number, and the options, of which there are none yet.
pub(crate) fn encode_id(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_le_bytes();
    [a, b, c, d, 0]
}

/// The number in the value of a name. `None` if the value is none of ours.
pub(crate) fn decode_id(value: &[u8]) -> Option<u32> {
    match *value {
        [a, b, c, d, 0] => Some(u32::from_le_bytes([a, b, c, d])).filter(|&id| id != CATALOG),
        _ => None,
    }
}

/// # Errors
/// [`Error::InvalidArgument`] unless `name` can be that of a keyspace.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::InvalidArgument("the name of a keyspace has at least one byte"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::InvalidArgument("the name of a keyspace has at most 255 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_names_round_trip() {
        assert_eq!(decode_id(&encode_id(0x0102_0304)), Some(0x0102_0304));
        assert_eq!(decode_id(&encode_id(0)), None, "0 is the catalog's own");
        assert_eq!(decode_id(&[1, 0, 0, 0]), None);
        assert_eq!(decode_id(&[1, 0, 0, 0, 1]), None, "unknown options");
    }

    #[test]
    fn names_have_a_length() {
        assert!(check_name("").is_err());
        assert!(check_name(&"x".repeat(255)).is_ok());
        assert!(check_name(&"x".repeat(256)).is_err());
    }
}
