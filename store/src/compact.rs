//! Compaction: moving what lives in a segment elsewhere, so that it can be retired.
//!
//! 1. A record is moved as it is, with its number. So at any crash the copies are equal, and which
//!    one a recovery takes makes no difference.
//! 2. That a record lives is decided under the stripe of its key, and the stripe is held until the
//!    copy is durable and published. That it is dead is decided without, once all records of the
//!    segment are published: it is sealed, and whoever appended to it holds a stripe until then. Before
//!    that, a record that nobody can find yet looks dead. So what is moved is live, and what was not
//!    moved is dead for good.
//! 3. A frame is verified before its records are moved: damage is never given a new checksum. So of a
//!    batch of which a page is bad all records stay, those that could be read too.
//! 4. Frames are short: no writer waits longer than for one of them.
//! 5. A segment with a bad page is empty when no index points to it any more: what cannot be read was
//!    removed or overwritten by its user. And when its tombstones are not needed, or all could be moved.

use std::sync::Arc;

use daxite_core::pin;

use crate::SeqNo;
use crate::catalog::KeyspaceCore;
use crate::error::Result;
use crate::frame::{FRAME_HEADER_BYTES, Kind, Record, frame_len};
use crate::lane::FrameRequest;
use crate::location::Location;
use crate::readable::Readable;
use crate::reclaim::{Reclaimer, Tombstones};
use crate::segment::{Segment, Tally};
use crate::space::Purpose;
use crate::store::Store;

/// The longest frame of several records, in bytes: microseconds to copy. Fits a segment, which to a
/// model checker is short.
const FRAME_BYTES_MAX: usize = if cfg!(shuttle) { 4 << 10 } else { 64 << 10 };
/// Room at the end of a segment that is worth a short frame. What is left unused is lost, and a
/// segment that is emptied may have little to give.
const ROOM_BYTES_MIN: usize = 256;

/// How a compaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// No index points to the segment any more.
    Empty,
    /// Some records found no room and stayed.
    NoRoom,
    /// Some records cannot be read, and stayed: the segment keeps the names of what is lost.
    Unreadable,
}

/// A record that may have to be moved.
struct Candidate<'v> {
    keyspace: Arc<KeyspaceCore>,
    record: Record<'v>,
    from: Location,
}

impl Candidate<'_> {
    /// Whether the record is still to be moved. Certain while its stripe is held.
    ///
    /// # Errors
    /// Those of [`Store::locate`].
    fn is_needed(&self, store: &Store) -> Result<bool> {
        match self.record.kind {
            Kind::Put => self.keyspace.index.is_at(self.record.key, self.from),
            Kind::Tombstone => match store.locate(&self.keyspace, self.record.key) {
                // What is there may be of another key.
                Err(error) if error.is_media_error() => Ok(true),
                found => Ok(found?.is_none()),
            },
        }
    }
}

/// Candidates for one frame.
#[derive(Default)]
struct Moving<'v> {
    candidates: Vec<Candidate<'v>>,
    record_bytes: usize,
}

impl Store {
    /// Moves the live records of the sealed segment `victim`, and its tombstones if asked, to the
    /// lane of reclaim.
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption) if a frame is damaged,
    /// [`Error::Io`](crate::Error::Io).
    pub(crate) fn compact(
        &self,
        reclaimer: &mut Reclaimer,
        victim: &Segment,
        tombstones: Tombstones,
    ) -> Result<Outcome> {
        self.stripes.wait_for_writes();
        let readable = Readable::of(victim);
        if readable.is_whole() {
            return self.move_records(reclaimer, victim, &readable, tombstones);
        }
        // What cannot be read may keep the segment. Tombstones stay in it then: moved again at each
        // attempt, they would be more and more.
        let moved = self.move_records(reclaimer, victim, &readable, Tombstones::Drop)?;
        match tombstones {
            _ if moved == Outcome::NoRoom => Ok(Outcome::NoRoom),
            _ if victim.live_puts() > 0 => Ok(Outcome::Unreadable),
            Tombstones::Drop => Ok(Outcome::Empty),
            Tombstones::Keep if readable.tombstones()? < victim.tombstones() => {
                Ok(Outcome::Unreadable)
            }
            Tombstones::Keep => self.move_records(reclaimer, victim, &readable, tombstones),
        }
    }

    /// Moves what is needed of the `readable` frames of `victim`, tombstones if asked.
    fn move_records(
        &self,
        reclaimer: &mut Reclaimer,
        victim: &Segment,
        readable: &Readable<'_>,
        tombstones: Tombstones,
    ) -> Result<Outcome> {
        let mut moving = Moving::default();
        let mut limit = frame_limit(reclaimer);
        for found in readable.frames() {
            let (at, frame) = found?;
            for (record_at, record) in frame.records() {
                let offset = (at + record_at) as u64;
                let from = Location::new(victim.no, offset, record.len_bytes() as u64);
                let candidate = self.candidate(&record, frame.seqno, from, tombstones)?;
                let Some(candidate) = candidate else { continue };
                let record_bytes = moving.record_bytes + candidate.record.len_bytes();
                if !moving.candidates.is_empty() && frame_len(record_bytes) > limit {
                    if !self.relocate(reclaimer, victim, &mut moving)? {
                        return Ok(Outcome::NoRoom);
                    }
                    limit = frame_limit(reclaimer);
                }
                moving.record_bytes += candidate.record.len_bytes();
                moving.candidates.push(candidate);
            }
        }
        let done = self.relocate(reclaimer, victim, &mut moving)?;
        Ok(if done { Outcome::Empty } else { Outcome::NoRoom })
    }

    /// `record`, unless it is dead.
    fn candidate<'v>(
        &self,
        record: &Record<'v>,
        seqno: SeqNo,
        from: Location,
        tombstones: Tombstones,
    ) -> Result<Option<Candidate<'v>>> {
        if record.kind == Kind::Tombstone && tombstones == Tombstones::Drop {
            return Ok(None);
        }
        // What belongs to a keyspace that is no more is dead, tombstones included.
        let Some(keyspace) = self.catalog.by_id(record.keyspace) else { return Ok(None) };
        let record = Record { moved: record.moved.or(Some(seqno)), ..*record };
        let candidate = Candidate { keyspace, record, from };
        Ok(candidate.is_needed(self)?.then_some(candidate))
    }

    /// Moves what is still needed of `moving` by one frame, and empties it. False if there is no
    /// room; then nothing was moved.
    fn relocate(
        &self,
        reclaimer: &mut Reclaimer,
        victim: &Segment,
        moving: &mut Moving<'_>,
    ) -> Result<bool> {
        let Moving { candidates, .. } = std::mem::take(moving);
        let stripe = |candidate: &Candidate<'_>| candidate.keyspace.stripe(candidate.record.key);
        let _held = self.stripes.lock_many(candidates.iter().map(stripe));
        let mut needed = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            if candidate.is_needed(self)? {
                needed.push(candidate);
            }
        }
        let candidates = needed;
        if candidates.is_empty() {
            return Ok(true);
        }
        let request = request(&candidates);
        let appended = reclaimer.lane.append(&self.space, &request, |encoder| {
            for candidate in &candidates {
                encoder.push(&candidate.record);
            }
        })?;
        let Some(appended) = appended else { return Ok(false) };
        if request.tally.tombstones > 0 {
            let target = reclaimer.lane.open_segment().expect("it was just appended to");
            target.raise_covers(victim.covers());
        }
        let pin = pin();
        let mut at = appended.at + FRAME_HEADER_BYTES as u64;
        for Candidate { keyspace, record, from } in &candidates {
            let len_bytes = record.len_bytes() as u64;
            if record.kind == Kind::Put {
                let to = Location::new(appended.segment, at, len_bytes);
                let moved = keyspace.index.relocate(record.key, *from, to)?;
                assert!(moved, "{}: a record died under its stripe", victim.no);
                self.account_dead(*from, &pin);
            }
            at += len_bytes;
            reclaimer.moved_records += 1;
            reclaimer.moved_bytes += len_bytes;
        }
        Ok(true)
    }
}

/// The longest frame to build now: what the open segment has room for, if that is something.
fn frame_limit(reclaimer: &Reclaimer) -> usize {
    let room = usize::try_from(reclaimer.lane.room_bytes()).unwrap_or(usize::MAX);
    if room < ROOM_BYTES_MIN { FRAME_BYTES_MAX } else { room.min(FRAME_BYTES_MAX) }
}

fn request(candidates: &[Candidate<'_>]) -> FrameRequest {
    let mut tally = Tally::default();
    let mut record_bytes = 0;
    // The frame is later than all its records, though it orders none of them.
    let mut after = SeqNo::default();
    for Candidate { record, .. } in candidates {
        after = after.max(record.moved.unwrap_or_default());
        record_bytes += record.len_bytes();
        let accounted = Location::accounted(record.len_bytes() as u64);
        match record.kind {
            Kind::Put => tally.put(accounted),
            Kind::Tombstone => tally.tombstone(accounted),
        }
    }
    let len_bytes = frame_len(record_bytes) as u64;
    FrameRequest { purpose: Purpose::Reclaim, len_bytes, after, tally }
}

#[cfg(test)]
mod tests {
    use daxite_core::Pool;
    use daxite_core::sim::{Budget, Explorer, Subject, Tally, Violation};

    use super::*;
    use crate::Database;

    /// Knows whether the key was removed for certain.
    struct Removed;

    impl Subject for Removed {
        type Expected = bool;
        type Recovered = Database;

        fn recover(&self, pool: Pool) -> Result<Database, String> {
            let store = Store::open(pool, Some(1)).map_err(|error| error.to_string())?;
            Ok(Database::new(Arc::new(store)))
        }

        fn check(&self, database: &Database, is_removed: &bool) -> Result<(), String> {
            let keyspace = database.get_keyspace("k").map_err(|error| error.to_string())?;
            let found = keyspace.is_some_and(|keyspace| keyspace.contains_key("key").unwrap());
            if found && *is_removed { Err("it is back".to_string()) } else { Ok(()) }
        }
    }

    /// Compacts a segment whose tombstone is needed, as if the rule of `reclaim.rs` had said
    /// `tombstones`.
    fn compacted(tombstones: Tombstones) -> Result<Tally, Violation> {
        let explorer = Explorer::new(Removed, Budget::default());
        explorer.run(1, 4 << 20, false, |pool, journal| {
            let store = Arc::new(Store::open(pool.clone(), Some(1)).unwrap());
            let seal = || store.lanes.for_each(|lane| lane.seal(&store.space)).unwrap();
            let keyspace = Database::new(Arc::clone(&store)).keyspace("k").unwrap();
            keyspace.insert("key", "value").unwrap();
            keyspace.insert("what keeps the segment", "value").unwrap();
            seal();
            keyspace.remove("key").unwrap();
            journal.end(|is_removed| *is_removed = true);
            keyspace.insert("another", "value").unwrap();
            seal();
            let segments = store.space.segments().into_iter();
            let victim = segments.max_by_key(|segment| segment.tombstones()).unwrap();
            let outcome = store.compact(&mut store.reclaimer.lock(), &victim, tombstones).unwrap();
            assert_eq!(outcome, Outcome::Empty);
            store.space.retire(victim);
            store.space.sweep_patiently(|| false).unwrap();
            assert_eq!(store.space.punched(), 1, "nobody reads");
        })
    }

    #[test]
    fn a_tombstone_that_is_dropped_too_early_is_caught() {
        let violation = compacted(Tombstones::Drop).expect_err("a key that is back");
        assert!(violation.what.contains("it is back"), "{violation}");
        compacted(Tombstones::Keep).expect("a key that stays away");
    }
}
