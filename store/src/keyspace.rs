//! The keyspace handle: reads go to the index and the segments, writes are commits.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use daxite_core::pin;

#[cfg(doc)]
use crate::Error;
use crate::catalog::{KeyspaceCore, encode_id};
use crate::commit::{Lost, Op, Scope, Verdict};
use crate::error::{CasError, Result};
use crate::iter;
use crate::range::{Bounds, KeyRange};
use crate::store::Shared;
use crate::{Iter, Key, KeyspaceStats, Value};

/// A handle to a keyspace: a map from keys to values, ordered by key. Cloning it is cheap; it can be
/// sent to and shared by threads, and holds the database open.
///
/// Keys and values are bytes; both may be empty. Keys have up to
/// [`MAX_KEY_LEN`](crate::MAX_KEY_LEN) bytes, values up to [`MAX_VALUE_LEN`](crate::MAX_VALUE_LEN).
///
/// # Errors
/// Reads answer [`Error::Closed`] after [`Database::close`](crate::Database::close), and
/// [`Error::Corruption`] if a record is damaged, [`Error::MediaError`] if it cannot be read. What writes may answer is told at
/// [`Keyspace::insert`].
///
/// # Durability
/// A write is durable when it returns, whatever that means on the medium
/// ([`Database::persistence`](crate::Database::persistence)), and visible only then.
#[derive(Clone)]
pub struct Keyspace {
    store: Shared,
    core: Arc<KeyspaceCore>,
}

impl Keyspace {
    pub(crate) fn new(store: Shared, core: Arc<KeyspaceCore>) -> Self {
        Self { store, core }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Number of keys: exact, and no matter how many there are, it takes the same time.
    pub fn len(&self) -> u64 {
        self.core.index.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the keyspace holds. Looks at every place in the index, at one record in a thousand.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub fn stats(&self) -> Result<KeyspaceStats> {
        self.store.check_open()?;
        let index = &self.core.index;
        let mut stats = KeyspaceStats { index_bytes: index.bytes(), ..KeyspaceStats::default() };
        let pin = pin();
        index.for_each_location(&self.store.records(&pin), |location| {
            stats.records += 1;
            stats.record_bytes += location.len_bytes();
        })?;
        Ok(stats)
    }

    /// The value of `key`, without a copy. `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.store.get(&self.core, key.as_ref())
    }

    /// Calls `read` with the value of `key`, and answers what it does. `None` if the key is absent.
    ///
    /// The cheapest way to read. Space is not reclaimed while `read` runs: keep it short.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    ///
    /// ```
    /// # fn main() -> Result<(), daxite::Error> {
    /// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
    /// # let words = db.keyspace("words")?;
    /// words.insert("dax", "direct access")?;
    /// let spaces = words.get_with("dax", |value| value.iter().filter(|b| **b == b' ').count())?;
    /// assert_eq!(spaces, Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.store.read(&self.core, key.as_ref(), read)
    }

    /// The values of `keys`, in their order; `None` for those that are absent.
    ///
    /// Looks for many keys side by side, so that none waits for the memory of another: several times
    /// faster than one after the other when the data is larger than the caches. Each value is what
    /// [`Keyspace::get`] could have answered; they need not be of the same moment.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`], of the first key that has one.
    ///
    /// ```
    /// # fn main() -> Result<(), daxite::Error> {
    /// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
    /// let fruit = db.keyspace("fruit")?;
    /// fruit.insert("cherry", "red")?;
    /// let found = fruit.get_many(&["cherry", "stone"])?;
    /// assert_eq!(found[0].as_deref(), Some(&b"red"[..]));
    /// assert!(found[1].is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.store.get_many(&self.core, keys)
    }

    /// Whether the key is there.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_with(key, |_| ())?.is_some())
    }

    /// Length of the value of `key` in bytes. `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub fn size_of(&self, key: impl AsRef<[u8]>) -> Result<Option<usize>> {
        self.get_with(key, <[u8]>::len)
    }

    /// Puts `value` under `key`, over what was there.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing was changed, and removing still works. [`Error::KeyTooLong`],
    /// [`Error::ValueTooLarge`], [`Error::KeyspaceDropped`], [`Error::ReadOnly`],
    /// [`Error::Closed`]. [`Error::Io`]: the write is not visible, but a later opening may find it.
    /// [`Error::Corruption`] if a damaged record is met when room is made.
    ///
    /// # Durability
    /// Durable when it returns: one fence.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write(key.as_ref(), Some(value.as_ref()), || Ok(Verdict::Write(())))
    }

    /// Puts `value` under `key`, and answers what was there.
    ///
    /// # Errors
    /// Those of [`Keyspace::insert`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn replace(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        let old = || Ok(Verdict::Write(self.store.get(&self.core, key)?));
        self.write(key, Some(value.as_ref()), old)
    }

    /// Removes `key`. False if it is absent; then nothing is written.
    ///
    /// # Errors
    /// Those of [`Keyspace::insert`]. [`Error::Full`] only if readers hold values in so many
    /// segments that no space can be gained.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.write(key, None, || match self.store.locate(&self.core, key)? {
            Some(_) => Ok(Verdict::Write(true)),
            None => Ok(Verdict::Leave(false)),
        })
    }

    /// Removes `key`, whose record cannot be read: [`Keyspace::get`] answers [`Error::MediaError`], and
    /// so do writes. False if that is not so; then nothing is written. From then on the key is absent, and
    /// can be written again; space that only it kept is reclaimed.
    ///
    /// The caller says that it is the record of `key`. The index has no copies of keys, so it cannot tell a
    /// key that is lost from one that never was and is like it up to where other keys differ.
    ///
    /// # Errors
    /// Those of [`Keyspace::remove`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn remove_lost(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        let op = Op { lost: Lost::Remove, ..Op::new(&self.core, key, None) };
        let is_lost = || match self.store.locate(&self.core, key) {
            Err(error) if error.is_media_error() => Ok(Verdict::Write(true)),
            found => found.map(|_| Verdict::Leave(false)),
        };
        Ok(self.store.commit(Scope::Keys, &[op], is_lost, || ())?.0)
    }

    /// Removes `key`, and answers what was there.
    ///
    /// # Errors
    /// Those of [`Keyspace::remove`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        self.write(key, None, || match self.store.get(&self.core, key)? {
            None => Ok(Verdict::Leave(None)),
            old => Ok(Verdict::Write(old)),
        })
    }

    /// Puts `new` under `key` if `old` is there; `None` stands for absence in both.
    ///
    /// # Errors
    /// Those of [`Keyspace::insert`]. The inner error, [`CasError`], says what is there instead of
    /// `old`; nothing was changed then.
    ///
    /// # Durability
    /// Durable when it returns.
    ///
    /// ```
    /// # fn main() -> Result<(), daxite::Error> {
    /// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
    /// # let locks = db.keyspace("locks")?;
    /// assert!(locks.compare_and_swap("door", None, Some(b"anna"))?.is_ok());
    /// let lost = locks.compare_and_swap("door", None, Some(b"bert"))?.unwrap_err();
    /// assert_eq!(lost.current.as_deref(), Some(&b"anna"[..]));
    /// assert!(locks.compare_and_swap("door", Some(b"anna"), None)?.is_ok());
    /// assert!(locks.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasError>> {
        let key = key.as_ref();
        self.write(key, new, || {
            let current = self.store.get(&self.core, key)?;
            if current.as_deref() != old {
                return Ok(Verdict::Leave(Err(CasError { current })));
            }
            Ok(Verdict::Write(Ok(())))
        })
    }

    /// Removes all keys at once, by one small write.
    ///
    /// # Errors
    /// Those of [`Keyspace::insert`].
    ///
    /// # Durability
    /// The keyspace is empty, durably, when this returns; after a crash it is empty or untouched.
    pub fn clear(&self) -> Result<()> {
        self.store.check_writable()?;
        self.store.check_open()?;
        let catalog = &self.store.catalog;
        let mut next_id = catalog.changing.lock();
        self.core.check_alive()?;
        // The name gets a new number, and what has the old one is dead.
        let id = next_id.take()?;
        let value = encode_id(id);
        let op = Op::new(&catalog.names, self.name().as_bytes(), Some(&value));
        let mut dead = None;
        self.store.commit(
            Scope::All,
            &[op],
            || Ok(Verdict::Write(())),
            || {
                catalog.renumber(&self.core, id);
                dead = Some(self.store.take_out(&self.core));
            },
        )?;
        self.store.bury(&self.core, dead.expect("the keyspace was cleared"));
        Ok(())
    }

    /// All pairs in key order. See [`Iter`] for what it shows while others write.
    ///
    /// ```
    /// # fn main() -> Result<(), daxite::Error> {
    /// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
    /// # let fruit = db.keyspace("fruit")?;
    /// fruit.insert("cherry", "red")?;
    /// fruit.insert("banana", "yellow")?;
    /// for pair in fruit.iter() {
    ///     let (name, color) = pair?;
    ///     println!("{} is {}", name.escape_ascii(), color.escape_ascii());
    /// }
    /// let (last, _) = fruit.iter().next_back().expect("there are two")?;
    /// assert_eq!(last, b"cherry");
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    /// The pairs whose keys are in `range`, in key order.
    pub fn range(&self, range: impl KeyRange) -> Iter {
        self.bounded(range.into_bounds())
    }

    /// The pairs whose keys start with `prefix`, in key order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.bounded(Bounds::prefix(prefix.as_ref()))
    }

    /// Calls `visit` with the pairs whose keys are in `range`, in key order, until it breaks or there are
    /// no more. Answers what it broke with.
    ///
    /// The cheapest way to scan: nothing is kept, so nothing is counted. Space is not reclaimed while
    /// `visit` looks at a few dozen pairs: keep it short. What it sees while others write is what [`Iter`]
    /// shows.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`]: `visit` saw the pairs before it.
    ///
    /// ```
    /// # fn main() -> Result<(), daxite::Error> {
    /// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
    /// use std::ops::ControlFlow;
    ///
    /// let stock = db.keyspace("stock")?;
    /// stock.insert("apple", "3")?;
    /// stock.insert("banana", "0")?;
    /// stock.insert("cherry", "9")?;
    /// let mut fruits = 0;
    /// let sold_out = stock.range_with("a".., |name, count| {
    ///     fruits += 1;
    ///     if count == b"0" { ControlFlow::Break(name.to_vec()) } else { ControlFlow::Continue(()) }
    /// })?;
    /// assert_eq!(sold_out, ControlFlow::Break(b"banana".to_vec()));
    /// assert_eq!(fruits, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn range_with<B>(
        &self,
        range: impl KeyRange,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        iter::visit(&self.store, &self.core, range.into_bounds(), visit)
    }

    /// The pair with the lowest key. `None` if the keyspace is empty.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub fn first(&self) -> Result<Option<(Key, Value)>> {
        self.iter().next().transpose()
    }

    /// The pair with the highest key. `None` if the keyspace is empty.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub fn last(&self) -> Result<Option<(Key, Value)>> {
        self.iter().next_back().transpose()
    }

    pub(crate) fn core(&self) -> &Arc<KeyspaceCore> {
        &self.core
    }

    pub(crate) fn store(&self) -> &Shared {
        &self.store
    }

    fn bounded(&self, bounds: Bounds) -> Iter {
        Iter::new(Arc::clone(&self.store), Arc::clone(&self.core), bounds)
    }

    fn write<T>(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        decide: impl FnMut() -> Result<Verdict<T>>,
    ) -> Result<T> {
        let op = Op::new(&self.core, key, value);
        let (answer, _) = self.store.commit(Scope::Keys, &[op], decide, || ())?;
        Ok(answer)
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("name", &self.name()).finish_non_exhaustive()
    }
}
