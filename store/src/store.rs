//! The parts of an open database, which all handles share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daxite_core::primitives::atomic::{AtomicBool, Ordering};
use daxite_core::primitives::{Mutex, cores};
use daxite_core::{Pin, Pool, pin};

use crate::catalog::{Catalog, KeyspaceCore};
use crate::error::{Error, Result};
use crate::frame::Record;
use crate::index::{Detached, Keyed, Records, TOGETHER};
use crate::lane::{Lane, Lanes};
use crate::location::Location;
use crate::reclaim::Reclaimer;
use crate::recovery::{self, Recovered};
use crate::segment::{PoolSeed, State};
use crate::space::Space;
use crate::stats::RecoveryReport;
use crate::stripes::Stripes;
use crate::table::SegmentTable;
use crate::{Key, Value};

/// The name of the volume that holds the log.
pub(crate) const LOG_VOLUME: &str = "log";
/// Its logical length: what a volume can have. It is sparse. A model checker's huge pages are small,
/// and it opens many stores.
pub(crate) const LOG_BYTES: u64 = if cfg!(shuttle) { 1 << 24 } else { 1 << 48 };
/// A lane for so many segments of the pool, so that open ones don't fill a small pool.
const SEGMENTS_PER_LANE: u64 = 16;

pub(crate) struct Store {
    pub space: Space,
    pub lanes: Lanes,
    pub stripes: Stripes,
    pub catalog: Catalog,
    /// Held by the one who makes room.
    pub reclaimer: Mutex<Reclaimer>,
    pub recovery: RecoveryReport,
    path: PathBuf,
    read_only: bool,
    closed: AtomicBool,
}

impl Store {
    /// Recovers the log of `pool`, or starts one.
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::Io`], [`Error::Full`] if not even the empty log fits.
    pub(crate) fn open(pool: Pool, lanes: Option<usize>) -> Result<Self> {
        let info = pool.info();
        let read_only = pool.is_read_only();
        let volume = match pool.volume(LOG_VOLUME)? {
            Some(volume) => Some(volume),
            // A log that is started now would not be the one that was closed.
            None if info.owner_digest != 0 => {
                let detail = "its volume is missing, though the database was closed".to_string();
                return Err(Error::Corruption { what: "the log".to_string(), offset: 0, detail });
            }
            // Created, but for its log: the creator crashed.
            None if read_only => None,
            None => Some(pool.create_volume(LOG_VOLUME, LOG_BYTES)?),
        };
        let pool_seed = PoolSeed::new(&info.uuid);
        let not_ours = |reason| Error::NotAPool { path: info.path.clone(), reason };
        let volume = volume.ok_or_else(|| not_ours("it is a pool without a log"))?;
        if volume.len_bytes() != LOG_BYTES {
            return Err(not_ours("its volume `log` is none of a database"));
        }
        let recovered = recovery::recover(&pool, &volume, pool_seed)?;
        let Recovered { table, segments, surplus, names, keyspaces, next_id, clock, seqno, report } =
            recovered;
        let space = Space::new(pool, volume, pool_seed, table, segments, clock);
        surplus.into_iter().for_each(|no| space.note_dying(no));
        let lanes = lane_count(lanes, &space);
        Ok(Self {
            space,
            lanes: Lanes::new(lanes, seqno),
            reclaimer: Mutex::new(Reclaimer::new(Lane::new(lanes, seqno))),
            stripes: Stripes::new(seqno),
            catalog: Catalog::new(names, keyspaces, next_id),
            recovery: report,
            path: info.path,
            read_only,
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.space.pool
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`].
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        Ok(self.pool().require_own_process()?)
    }

    /// Asked before any lock is taken: in a forked process nobody may be left to give it back.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Forked`].
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.pool().require_own_process()?;
        if self.read_only {
            return Err(Error::ReadOnly { path: self.path.clone() });
        }
        Ok(())
    }

    /// Calls `read` with the value of `key`. `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub(crate) fn read<R>(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.check_open()?;
        let pin = pin();
        Ok(self.find(keyspace, key, &pin)?.map(|found| read(found.record.value)))
    }

    /// The value of `key`, to be kept. `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Corruption`], [`Error::MediaError`].
    pub(crate) fn get(&self, keyspace: &KeyspaceCore, key: &[u8]) -> Result<Option<Value>> {
        self.check_open()?;
        self.get_pinned(keyspace, key, &pin())
    }

    fn get_pinned(&self, keyspace: &KeyspaceCore, key: &[u8], pin: &Pin) -> Result<Option<Value>> {
        loop {
            let Some(found) = self.find(keyspace, key, pin)? else { return Ok(None) };
            if let Some((_, value)) = self.keep(&found, pin) {
                return Ok(Some(value));
            }
        }
    }

    /// The values of `keys`, as [`Store::get`] gives them.
    ///
    /// # Errors
    /// Those of [`Store::get`], of the first key that has one.
    pub(crate) fn get_many<K: AsRef<[u8]>>(
        &self,
        keyspace: &KeyspaceCore,
        keys: &[K],
    ) -> Result<Vec<Option<Value>>> {
        self.check_open()?;
        let mut values = Vec::with_capacity(keys.len());
        for together in keys.chunks(TOGETHER) {
            let pin = pin();
            let records = self.records(&pin);
            let mut places = [None; TOGETHER];
            let of_all = together.iter().map(AsRef::as_ref);
            keyspace.index.approach(of_all, &records, |nth, place| places[nth] = Some(place));
            for (key, place) in together.iter().zip(places) {
                let key = key.as_ref();
                let found = place.and_then(|place| records.record(place).ok().flatten());
                let found = found.filter(|found| found.record.key == key);
                values.push(match found.and_then(|found| self.keep(&found, &pin)) {
                    Some((_, value)) => Some(value),
                    // Absent, moved meanwhile, or not to be read: what is said then is certain.
                    None => self.get_pinned(keyspace, key, &pin)?,
                });
            }
        }
        Ok(values)
    }

    /// Where `key` is, if it is there.
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::MediaError`].
    pub(crate) fn locate(&self, keyspace: &KeyspaceCore, key: &[u8]) -> Result<Option<Location>> {
        Ok(self.find(keyspace, key, &pin())?.map(|found| found.location))
    }

    #[inline]
    fn find<'p>(
        &'p self,
        keyspace: &KeyspaceCore,
        key: &[u8],
        pin: &'p Pin,
    ) -> Result<Option<Found<'p>>> {
        let found = keyspace.index.find(key, &self.records(pin));
        let found = found.map_err(|error| hitting_key(error, key))?;
        Ok(found.map(|(_, found)| found))
    }

    /// What the places in an index stand for, for whoever pinned before asking the index.
    #[inline]
    pub(crate) fn records<'p>(&'p self, pin: &'p Pin) -> Pinned<'p> {
        Pinned::new(&self.space.table, pin)
    }

    /// The key and the value of what was `found`, to be kept. `None` if its segment is gone by now: then
    /// it was moved, and is to be found again.
    #[inline]
    pub(crate) fn keep(&self, found: &Found<'_>, pin: &Pin) -> Option<(Key, Value)> {
        let segment = self.space.table.get_arc(found.location.segment(), pin)?;
        let record = &found.record;
        let key_at = found.location.offset() + record.key_at() as u64;
        let value_at = key_at + record.key.len() as u64;
        let key = Value::new(Arc::clone(&segment), key_at, record.key.len());
        Some((key, Value::new(segment, value_at, record.value.len())))
    }

    /// Counts the record at `location` as dead. `pin` was made before it left its index.
    pub(crate) fn account_dead(&self, location: Location, pin: &Pin) {
        // If it is not in the table any more, it was retired, and nobody counts.
        if let Some(segment) = self.space.table.get(location.segment(), pin)
            && segment.subtract(location.len_bytes())
        {
            self.space.note_dying(segment.no);
        }
    }

    /// Takes everything out of the index of `keyspace`. The caller holds all stripes.
    pub(crate) fn take_out(&self, keyspace: &KeyspaceCore) -> Dead {
        // First the pin, so that no segment number comes back before the records are counted.
        let pin = pin();
        Dead { records: keyspace.index.detach(), pin }
    }

    /// Counts records as dead that were taken out of the index of `keyspace`.
    pub(crate) fn bury(&self, keyspace: &KeyspaceCore, dead: Dead) {
        let Dead { records, pin } = dead;
        keyspace.index.dismantle(records, |location| self.account_dead(location, &pin));
    }

    /// Waits for writes that are under way, refuses later ones, and marks the pool clean.
    ///
    /// # Errors
    /// [`Error::Closed`] the second time; [`Error::Forked`]; [`Error::Io`].
    pub(crate) fn close(&self) -> Result<()> {
        self.pool().require_own_process()?;
        let mut reclaimer = self.reclaimer.lock();
        let _held = self.stripes.lock_all();
        if self.closed.swap(true, Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        if !self.read_only {
            // A seal makes any later damage detectable, and spares the next opening the work.
            self.lanes.for_each(|lane| lane.seal(&self.space))?;
            reclaimer.lane.seal(&self.space)?;
        }
        // A segment whose seal met a bad page is one that was not closed in good order.
        let all_sealed =
            self.space.segments().iter().all(|segment| segment.state() == State::Sealed);
        let digest = if all_sealed { recovery::log_digest(self.space.unpunched()) } else { 0 };
        Ok(self.pool().close_with(digest)?)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Otherwise a segment that was just taken out of the table would keep the pool locked
        // until some other thread moves the epoch on.
        if self.pool().require_own_process().is_ok() {
            self.space.let_go();
        }
    }
}

/// Records that are in no index any more, but still counted as live.
pub(crate) struct Dead {
    records: Detached,
    pin: Pin,
}

/// The records of the segments in the table, for as long as a pin lives.
pub(crate) struct Pinned<'p> {
    table: &'p SegmentTable,
    pin: &'p Pin,
}

impl<'p> Pinned<'p> {
    pub(crate) fn new(table: &'p SegmentTable, pin: &'p Pin) -> Self {
        Self { table, pin }
    }
}

/// A record, and where it is.
pub(crate) struct Found<'p> {
    pub location: Location,
    pub record: Record<'p>,
}

impl Keyed for Found<'_> {
    #[inline]
    fn key(&self) -> &[u8] {
        self.record.key
    }
}

impl<'p> Records for Pinned<'p> {
    type Record = Found<'p>;

    #[inline]
    fn record(&self, location: Location) -> Result<Option<Found<'p>>> {
        let Some(segment) = self.table.get(location.segment(), self.pin) else { return Ok(None) };
        let record = segment.record(location).map_err(|error| error.hitting(segment.no))?;
        Ok(Some(Found { location, record }))
    }

    fn prefetch(&self, location: Location) {
        if let Some(segment) = self.table.get(location.segment(), self.pin) {
            segment.prefetch(location);
        }
    }
}

/// `error`, which was met when `key` was looked for.
#[cold]
fn hitting_key(error: Error, key: &[u8]) -> Error {
    match &error {
        Error::MediaError { what, .. } => {
            let what = format!("key \"{}\" in {what}", key.escape_ascii());
            error.hitting(what)
        }
        _ => error,
    }
}

/// The number of lanes: as `asked`, else one per core, but few in a small pool.
fn lane_count(asked: Option<usize>, space: &Space) -> u16 {
    let room = usize::try_from(space.segments_max() / SEGMENTS_PER_LANE).unwrap_or(usize::MAX);
    let lanes = asked.unwrap_or_else(cores).min(room).clamp(1, usize::from(u16::MAX - 1));
    lanes as u16
}

/// A store that is shared.
pub(crate) type Shared = Arc<Store>;
